//! `POST /v1/sql`: one statement in, its rows out. For people with curl.

use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_compute::task::Planned;
use wasmhouse_storage::queries::QueryRecord;

use super::error::{ApiError, ErrorBody};
use super::extract::{self, Body};
use super::money::CostBody;
use super::queries::{Statement, labels_of};
use super::results::{self, Column, End, Failure, Format};
use crate::access::Caller;
use crate::error::{Error, Result as UseResult};
use crate::queries::{DryRun, Ended, Queries};

/// Options of a statement that is sent as plain text. For one that is sent as JSON they hold where it says nothing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SqlOptions {
    /// Where a name of one part is looked up.
    dataset: Option<String>,
    /// Refuse before running if it would process more bytes.
    max_bytes: Option<u64>,
    /// Refuse before running if it would cost more, such as `0.25`.
    max_cost: Option<String>,
    /// Time it has.
    timeout_ms: Option<u64>,
    /// Say what it would read, and read nothing.
    dry_run: Option<bool>,
    /// `key:value`, for your own accounting; may be repeated by separating with commas.
    labels: Option<String>,
}

/// What a statement would read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunBody {
    dry_run: bool,
    /// The columns that would come out.
    schema: Vec<Column>,
    /// What it would be billed for.
    bytes_processed: u64,
    /// What it would cost: what it does cost, if it is run at these prices and finds the same tables.
    cost: CostBody,
    /// What it may cost.
    max_cost: String,
    /// Whether it costs no more than that; if not, it would be refused.
    is_within_max_cost: bool,
    /// The same by table.
    tables: Vec<DryRunTable>,
}

/// What a statement would read of one table.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunTable {
    name: String,
    columns: Vec<String>,
    /// Files that survive pruning.
    files: u64,
    /// Logical bytes of these columns in these files.
    bytes: u64,
}

/// Run one SQL statement and get its rows.
///
/// The body is SQL, or JSON as for `POST /v1/queries`. An option may stand in the address or in the JSON; if it stands
/// in both, it must be the same.
///
/// The rows come in the format of `Accept`: JSON lines (`application/x-ndjson`, also for `*/*`), `application/json`,
/// `text/csv`, `application/vnd.apache.arrow.stream` or `application/vnd.apache.parquet`. In JSON lines the last line
/// is `{"$end": …}`; in every format the trailer `wasmhouse-status: done` follows a complete answer, and an incomplete
/// one ends in an aborted connection. HTTP/1.0 knows neither, so it gets no rows.
#[utoipa::path(
    post, path = "/v1/sql", tag = "statements", params(SqlOptions),
    request_body(content((String = "text/plain"), (Statement = "application/json"))),
    responses(
        (status = 200, description = "The rows, in the format of `Accept`", content_type = "application/x-ndjson"),
        (status = "4XX", description = "The statement or the request is wrong", body = ErrorBody),
        (status = "5XX", description = "Something of ours is wrong", body = ErrorBody),
    )
)]
pub(super) async fn run_sql(
    State(queries): State<Queries>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let format = negotiate(request.headers())?;
    let statement = read_statement(request).await?;
    let dry_run = statement.dry_run.unwrap_or(false);
    let (parsed, options) = statement.read(&queries)?;
    if dry_run {
        let dry = queries.dry_run(&caller, parsed, options).await?;
        return Ok(axum::Json(dry_run_body(&dry)?).into_response());
    }
    let ended = queries.run(&caller, parsed, options).await?;
    rows(&queries, &ended, format)
}

/// The format that the caller wants.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Format, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    Format::negotiate(accept).map_err(|error| Error::NotAcceptable(error.to_string()).into())
}

async fn read_statement(request: Request) -> Result<Statement, ApiError> {
    let Query(options) = Query::<SqlOptions>::try_from_uri(request.uri())?;
    let content_type = request.headers().get(CONTENT_TYPE);
    let statement = if content_type.and_then(|value| value.to_str().ok()).is_some_and(is_json) {
        Body::<Statement>::from_request(request, &()).await?.0
    } else {
        Statement {
            sql: extract::text(request).await?,
            ..Statement::default()
        }
    };
    Ok(options.complete(statement)?)
}

impl SqlOptions {
    /// The statement, with what only the address says of it.
    fn complete(self, statement: Statement) -> UseResult<Statement> {
        let in_body = Some(statement.labels).filter(|labels| !labels.is_empty());
        let in_address = self.labels.as_deref().map(|text| labels_of(Some(text))).transpose()?;
        Ok(Statement {
            dataset: agreed("dataset", statement.dataset, self.dataset)?,
            max_bytes: agreed("max_bytes", statement.max_bytes, self.max_bytes)?,
            max_cost: agreed("max_cost", statement.max_cost, self.max_cost)?,
            timeout_ms: agreed("timeout_ms", statement.timeout_ms, self.timeout_ms)?,
            dry_run: agreed("dry_run", statement.dry_run, self.dry_run)?,
            labels: agreed("labels", in_body, in_address)?.unwrap_or_default(),
            ..statement
        })
    }
}

/// What the body or the address says of an option. Guessing which of two was meant could cost somebody money.
fn agreed<T: PartialEq>(option: &str, in_body: Option<T>, in_address: Option<T>) -> UseResult<Option<T>> {
    match (in_body, in_address) {
        (Some(body), Some(address)) if body != address => Err(Error::InvalidRequest(format!(
            "the body and the address say different things about `{option}`; say it in one of them"
        ))),
        (body, address) => Ok(body.or(address)),
    }
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn rows(queries: &Queries, ended: &Ended, format: Format) -> Result<Response, ApiError> {
    let record = &ended.record;
    let (reader, manifest) = queries.results(record)?;
    let end = end_of(record, manifest.rows);
    let rows = reader.stream().map_err(unreadable).boxed();
    let body = results::body(format, reader.schema(), rows, {
        let end = end.clone();
        move || end
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(TRAILER, HeaderValue::from(results::STATUS_TRAILER));
    headers.insert("wasmhouse-rows", HeaderValue::from(end.rows));
    headers.insert("wasmhouse-bytes-processed", HeaderValue::from(end.bytes_processed));
    headers.insert("wasmhouse-elapsed-ms", HeaderValue::from(end.elapsed_ms));
    for warning in &ended.warnings {
        // What a tenant called a label is not always fit for a header.
        let is_fit = |letter: char| letter.is_ascii_graphic() || letter == ' ';
        let warning: String = warning
            .chars()
            .map(|letter| if is_fit(letter) { letter } else { '?' })
            .collect();
        if let Ok(warning) = HeaderValue::from_str(&warning) {
            headers.append("wasmhouse-budget", warning);
        }
    }
    if let Some(cost) = end.cost.as_deref().and_then(|cost| HeaderValue::from_str(cost).ok()) {
        headers.insert("wasmhouse-cost", cost);
    }
    if let Ok(id) = HeaderValue::from_str(&end.query_id) {
        headers.insert("wasmhouse-query-id", id);
    }
    Ok(response)
}

/// The rows are safe and cannot be had right now.
pub(super) fn unreadable(error: wasmhouse_storage::Error) -> Failure {
    tracing::error!("results could not be read: {error:?}");
    Failure {
        code: "unavailable".to_owned(),
        message: "the results could not be read to their end; ask again".to_owned(),
    }
}

/// What the last line says of a query.
pub(super) fn end_of(record: &QueryRecord, rows: u64) -> End {
    let elapsed = record
        .ended_at
        .map_or(0, |ended| ended.since(record.created_at).as_millis() as u64);
    End {
        query_id: record.id.to_string(),
        rows,
        bytes_processed: record.usage.bytes_processed,
        cost: record.cost.as_ref().map(|cost| cost.amount.to_string()),
        elapsed_ms: elapsed,
        page: None,
    }
}

pub(super) fn dry_run_body(dry: &DryRun) -> Result<DryRunBody, ApiError> {
    let Planned {
        schema,
        bytes_processed,
        bytes_to_read: _,
        tables,
        partitions: _,
        is_shareable: _,
    } = &dry.planned;
    let schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
    let name_of = |location| {
        dry.names
            .iter()
            .find(|(_, at)| at == location)
            .map(|(name, _)| name.to_string())
    };
    Ok(DryRunBody {
        dry_run: true,
        schema: results::schema_json(&schema),
        bytes_processed: *bytes_processed,
        cost: (&dry.cost).into(),
        max_cost: dry.max_cost.to_string(),
        is_within_max_cost: dry.cost.amount <= dry.max_cost,
        tables: tables
            .iter()
            .map(|table| DryRunTable {
                name: name_of(&table.location).unwrap_or_default(),
                columns: table.columns.clone(),
                files: table.files,
                bytes: table.bytes,
            })
            .collect(),
    })
}
