//! The rows of a query that is done, page by page.

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::query_id;
use crate::access::Caller;
use crate::error::Error;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query};
use crate::http::results::{self, Format, Page};
use crate::http::sql::{end_of, negotiate, unreadable};
use crate::queries::Queries;

/// Rows of a page that did not say how many.
const PAGE_ROWS: u64 = 10_000;

/// Rows of a page, at most. Who wants more asks for the next page, and can go on where a connection broke.
const PAGE_ROWS_MAX: u64 = 100_000;

/// Which rows to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct PageOptions {
    /// The first row, from 0.
    start_row: Option<u64>,
    /// At most so many rows, and at least 1. 10,000 unless you say otherwise, and never more than 100,000:
    /// `next_start_row` of the answer tells where to go on.
    max_rows: Option<u64>,
}

/// Read results, page by page.
///
/// A page is the same every time it is read, until the results expire. Formats as for `POST /v1/sql`; JSON is the
/// default. JSON and JSON lines tell `total_rows` and, unless the page is the last one, `next_start_row`; the headers
/// `wasmhouse-total-rows` and `wasmhouse-next-row` say the same in every format.
#[utoipa::path(
    get, path = "/v1/queries/{id}/results", tag = "statements", params(("id" = String, Path), PageOptions),
    responses(
        (status = 200, description = "The rows, in the format of `Accept`", content_type = "application/json"),
        (status = "4XX", body = ErrorBody),
        (status = "5XX", description = "The query was lost, or its rows cannot be had right now", body = ErrorBody),
    )
)]
pub(in super::super) async fn get_results(
    State(queries): State<Queries>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<PageOptions>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = match headers.get(ACCEPT).and_then(|value| value.to_str().ok()) {
        None | Some("*/*") => Format::Json,
        Some(_) => negotiate(&headers)?,
    };
    let start_row = wanted.start_row.unwrap_or(0);
    let max_rows = match wanted.max_rows {
        Some(0) => return Err(Error::InvalidRequest("max_rows is 0; a page has at least 1 row".to_owned()).into()),
        wanted => wanted.unwrap_or(PAGE_ROWS).min(PAGE_ROWS_MAX),
    };
    let accepted = queries.get(&caller, &query_id(&id)?).await?;
    let (reader, manifest) = queries
        .results(&accepted.record)
        .map_err(|error| ApiError::from(error).for_good())?;
    let mut batches = reader.page(start_row, max_rows);
    // Rows that are gone are an error of the request, as long as nothing was said.
    let first = batches.try_next().await.map_err(Error::from)?;

    let rows = reader.rows_of_page(start_row, max_rows);
    let next = start_row.saturating_add(rows);
    let page = Page {
        start_row,
        next_start_row: (next < manifest.rows).then_some(next),
        total_rows: manifest.rows,
    };
    let mut end = end_of(&accepted.record, rows);
    end.page = Some(page.clone());
    let rows = stream::iter(first.map(Ok)).chain(batches).map_err(unreadable).boxed();
    let mut response = Response::new(results::body(format, reader.schema(), rows, move || end));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    results::page_headers(headers, &page);
    Ok(response)
}
