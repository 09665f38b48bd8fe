//! The project's queries that the caller may see, newest first.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::queries::{Filter, QueryState};

use super::body::{QueryBody, body_of};
use super::query_id;
use super::statement::label_of;
use crate::access::Caller;
use crate::error::{Error, Result as UseResult};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Query;
use crate::http::instant;
use crate::queries::Queries;

/// Queries of a page that did not say how many.
const LIST_QUERIES: u32 = 50;

/// Which queries to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQueries {
    /// Only those in this state.
    state: Option<String>,
    /// Only those of this kind: `select`, `insert`, `load`, …
    kind: Option<String>,
    /// Only those with this label, as `key:value`.
    label: Option<String>,
    /// Only those that somebody asked, by his name; `(project)` for the project's own keys.
    asked_by: Option<String>,
    /// Only those created after this instant, RFC 3339.
    created_after: Option<String>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, up to 1000.
    limit: Option<u32>,
}

/// A page of queries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueryList {
    queries: Vec<QueryBody>,
    /// Send it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List queries, newest first.
///
/// Of each statement the first 2,000 characters are shown; `GET /v1/queries/{id}` has all of it.
#[utoipa::path(
    get, path = "/v1/queries", tag = "statements", params(ListQueries),
    responses((status = 200, body = QueryList), (status = 400, body = ErrorBody))
)]
pub(in super::super) async fn list_queries(
    State(queries): State<Queries>,
    caller: Caller,
    Query(wanted): Query<ListQueries>,
) -> Result<Json<QueryList>, ApiError> {
    let limit = wanted.limit.unwrap_or(LIST_QUERIES).clamp(1, 1000);
    let filter = Filter {
        state: wanted.state.as_deref().map(query_state).transpose()?,
        kind: wanted.kind.clone(),
        label: wanted.label.as_deref().map(label_of).transpose()?,
        created_after: wanted.created_after.as_deref().map(instant).transpose()?,
        asked_by: wanted
            .asked_by
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(Error::from)?,
        before: wanted.cursor.as_deref().map(query_id).transpose()?,
        limit,
        ..Filter::default()
    };
    let found = queries.list(&caller, filter).await?;
    let next_cursor = found
        .last()
        .filter(|_| found.len() as u64 == u64::from(limit))
        .map(|record| record.id.to_string());
    let mut listed = Vec::with_capacity(found.len());
    for record in &found {
        let body = body_of(&queries, record, queries.now(&record.id)).await?;
        listed.push(body.listed());
    }
    Ok(Json(QueryList {
        queries: listed,
        next_cursor,
    }))
}

fn query_state(text: &str) -> UseResult<QueryState> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_| {
        Error::InvalidRequest(format!(
            "{text:?} is not a state; use running, done, failed, cancelled or lost"
        ))
    })
}
