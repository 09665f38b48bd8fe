//! Queries as resources: create, wait, read the results page by page, cancel, list.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use wasmhouse_compute::params::Params;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::queries::{Filter, QueryError, QueryRecord, QueryState, Usage};

use super::Door;
use super::error::{ApiError, ErrorBody};
use super::exports::{self, ExportedFile};
use super::results::{self, Column, Page};
use super::sql::{dry_run_body, end_of, negotiate};
use crate::access::Caller;
use crate::error::{Error, Result as UseResult};
use crate::queries::{Accepted, Ended, Now, Options, Queries, Work};

/// The longest that a request waits for a query.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Rows of a page that did not say how many.
const PAGE_ROWS: u64 = 10_000;

/// Queries of a list that did not say how many.
const LIST_QUERIES: u32 = 50;

/// One statement and what goes with it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Statement {
    /// One SQL statement.
    pub(super) sql: String,
    /// Where a name of one part is looked up.
    pub(super) dataset: Option<String>,
    /// A list for `$1`, `$2`, …, or an object for `$name`. A value is a plain JSON value or
    /// `{"type": "DECIMAL(10,2)", "value": "1.25"}`.
    #[schema(value_type = Option<Object>)]
    pub(super) params: Option<Params>,
    /// Refuse before running if it would process more bytes.
    pub(super) max_bytes: Option<u64>,
    /// Time it has.
    pub(super) timeout_ms: Option<u64>,
    /// Say what it would read, and read nothing.
    pub(super) dry_run: bool,
    /// For your own accounting; they stand on the ledger line.
    pub(super) labels: BTreeMap<String, String>,
    /// Options of the engine that last for this query.
    pub(super) settings: BTreeMap<String, String>,
    /// Sending the same id again finds the first query instead of running a second one.
    pub(super) request_id: Option<String>,
    /// How long the answer may wait for the end of the query.
    pub(super) wait_ms: Option<u64>,
}

impl Statement {
    /// The statement as a use case takes it.
    pub(super) fn read(self, queries: &Queries) -> UseResult<(wasmhouse_compute::sql::Statement, Options)> {
        let parsed = queries.parse(&self.sql)?;
        if self.labels.len() > 32
            || self
                .labels
                .iter()
                .any(|(key, value)| key.len() > 63 || value.len() > 255)
        {
            let message = "a query has at most 32 labels, with keys of 63 and values of 255 bytes";
            return Err(Error::InvalidRequest(message.to_owned()));
        }
        if self
            .request_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > 128)
        {
            return Err(Error::InvalidRequest("a request_id has 1 to 128 bytes".to_owned()));
        }
        let options = Options {
            dataset: self.dataset.as_deref().map(str::parse).transpose()?,
            params: self.params.unwrap_or_default(),
            settings: self.settings,
            max_bytes: self.max_bytes,
            timeout: self.timeout_ms.map(Duration::from_millis),
            labels: self.labels,
            request_id: self.request_id,
        };
        Ok((parsed, options))
    }
}

/// `key:value,key:value`, or nothing.
pub(super) fn labels_of(text: Option<&str>) -> UseResult<BTreeMap<String, String>> {
    text.map_or_else(|| Ok(BTreeMap::new()), |text| text.split(',').map(label_of).collect())
}

fn label_of(text: &str) -> UseResult<(String, String)> {
    let pair = text.split_once(':').filter(|(key, _)| !key.is_empty());
    let (key, value) =
        pair.ok_or_else(|| Error::InvalidRequest(format!("{text:?} is not a label; write key:value")))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// One query, as far as it has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueryBody {
    id: String,
    /// `pending`, `running`, `committing`, `done`, `failed`, `cancelled`, `abandoned` or `lost`.
    state: String,
    kind: String,
    sql: String,
    labels: BTreeMap<String, String>,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressBody>,
    /// The columns, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Vec<Column>>,
    /// How many rows it has, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    usage: UsageBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<QueryErrorBody>,
    /// What an export wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<ExportedFile>>,
    /// Until when the results can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    results_expire_at: Option<String>,
}

/// How far a running query has come.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressBody {
    /// `queued`, `planning`, `running` or `committing`.
    phase: String,
    rows: u64,
    bytes_read: u64,
    elapsed_ms: u64,
    /// What it will be billed for, once it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_processed: Option<u64>,
}

/// What a query used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageBody {
    /// Logical bytes of the referenced columns in the files that survived pruning: what is billed.
    bytes_processed: u64,
    rows_returned: u64,
    result_bytes: u64,
    rows_written: u64,
    bytes_written: u64,
    cpu_ms: u64,
    wall_ms: u64,
    peak_memory_bytes: u64,
    /// Bytes that were fetched from storage, which caches change and the bill does not.
    bytes_read: u64,
}

/// Why a query has no answer.
#[derive(Debug, Serialize, ToSchema)]
struct QueryErrorBody {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        let Usage {
            bytes_processed,
            rows_returned,
            result_bytes,
            rows_written,
            bytes_written,
            cpu_ms,
            wall_ms,
            peak_memory_bytes,
            bytes_read,
        } = usage;
        Self {
            bytes_processed,
            rows_returned,
            result_bytes,
            rows_written,
            bytes_written,
            cpu_ms,
            wall_ms,
            peak_memory_bytes,
            bytes_read,
        }
    }
}

/// Create a query.
///
/// It runs whether or not you wait for it. The answer waits up to `wait_ms` for its end: 200 when it ended, 202 while it
/// runs.
#[utoipa::path(
    post, path = "/v1/queries", tag = "statements", request_body = Statement,
    responses(
        (status = 200, description = "The query has ended", body = QueryBody),
        (status = 202, description = "The query still runs", body = QueryBody),
        (status = "4XX", description = "The statement or the request is wrong", body = ErrorBody),
    )
)]
pub(super) async fn create_query(
    State(door): State<Door>,
    caller: Caller,
    body: Result<Json<Statement>, axum::extract::rejection::JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(statement) = body?;
    let queries = &door.app.queries;
    let patience = patience(statement.wait_ms, Duration::from_secs(10));
    let dry_run = statement.dry_run;
    let (parsed, options) = statement.read(queries)?;
    if dry_run {
        let dry = queries.dry_run(&caller, parsed, options).await?;
        return Ok(Json(dry_run_body(&dry)?).into_response());
    }
    let accepted = queries.create(&caller, Work::Statement(parsed), options).await?;
    answer(queries, &accepted, patience).await
}

/// The query resource, after waiting for its end for a while.
pub(super) async fn answer(queries: &Queries, accepted: &Accepted, patience: Duration) -> Result<Response, ApiError> {
    let (status, body) = match queries.wait(accepted, patience).await {
        Some(ended) => (StatusCode::OK, ended_body(queries, &ended).await?),
        None => (
            StatusCode::ACCEPTED,
            body(queries, &accepted.record, queries.now(&accepted.record.id)).await?,
        ),
    };
    Ok((status, Json(body)).into_response())
}

pub(super) fn patience(wait_ms: Option<u64>, default: Duration) -> Duration {
    wait_ms.map_or(default, Duration::from_millis).min(WAIT_MAX)
}

async fn ended_body(queries: &Queries, ended: &Ended) -> Result<QueryBody, ApiError> {
    body(queries, &ended.record, None).await
}

async fn body(queries: &Queries, record: &QueryRecord, now: Option<Now>) -> Result<QueryBody, ApiError> {
    let running = !record.state.is_final();
    let results = match &record.results {
        Some(_) if record.error.is_none() && !record.results_expired => Some(queries.results(record)?),
        _ => None,
    };
    let files = match &results {
        Some((reader, _)) if record.kind == "export" => Some(exports::files(reader).await?),
        _ => None,
    };
    let expiry = record
        .ended_at
        .filter(|_| results.is_some())
        .map(|ended| ended.plus(queries.results_kept()).to_rfc3339());
    Ok(QueryBody {
        id: record.id.to_string(),
        state: record.state.as_str().to_owned(),
        kind: record.kind.clone(),
        sql: record.sql.clone(),
        labels: record.labels.clone(),
        created_at: record.created_at.to_rfc3339(),
        started_at: record.started_at.map(Timestamp::to_rfc3339),
        ended_at: record.ended_at.map(Timestamp::to_rfc3339),
        progress: now.filter(|_| running).map(|now| progress(&now, queries, record)),
        schema: results
            .as_ref()
            .map(|(reader, _)| results::schema_json(&reader.schema())),
        rows: results.as_ref().map(|(_, manifest)| manifest.rows),
        usage: record.usage.into(),
        error: record.error.clone().map(
            |QueryError {
                 code,
                 message,
                 line,
                 column,
             }| QueryErrorBody {
                code,
                message,
                line,
                column,
            },
        ),
        files,
        results_expire_at: expiry,
    })
}

fn progress(now: &Now, queries: &Queries, record: &QueryRecord) -> ProgressBody {
    ProgressBody {
        phase: now.phase.to_owned(),
        rows: now.progress.rows,
        bytes_read: now.progress.bytes_read,
        elapsed_ms: queries.age(record).as_millis() as u64,
        bytes_processed: now.planned.as_ref().map(|planned| planned.bytes_processed),
    }
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wait {
    /// How long the answer may wait for the end of the query.
    pub(super) wait_ms: Option<u64>,
}

/// Get a query, with its progress.
#[utoipa::path(
    get, path = "/v1/queries/{id}", tag = "statements", params(("id" = String, Path), Wait),
    responses((status = 200, body = QueryBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get_query(
    State(door): State<Door>,
    caller: Caller,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let queries = &door.app.queries;
    let accepted = queries.get(&caller, &query_id(&id)?).await?;
    answer_found(queries, &accepted, patience(wait?.wait_ms, Duration::ZERO)).await
}

async fn answer_found(queries: &Queries, accepted: &Accepted, patience: Duration) -> Result<Response, ApiError> {
    if !accepted.is_live() {
        // It ended, or another gateway runs it: the record is all there is to say.
        return Ok(Json(body(queries, &accepted.record, None).await?).into_response());
    }
    match queries.wait(accepted, patience).await {
        Some(ended) => Ok(Json(ended_body(queries, &ended).await?).into_response()),
        None => Ok(Json(body(queries, &accepted.record, queries.now(&accepted.record.id)).await?).into_response()),
    }
}

/// An id that cannot be one names no query.
fn query_id(text: &str) -> Result<QueryId, ApiError> {
    text.parse()
        .map_err(|_| Error::NotFound(format!("no query {text}")).into())
}

/// Cancel a query. It ends within a second.
#[utoipa::path(
    post, path = "/v1/queries/{id}/cancel", tag = "statements", params(("id" = String, Path)),
    responses((status = 200, body = QueryBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn cancel_query(
    State(door): State<Door>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let queries = &door.app.queries;
    let accepted = queries.cancel(&caller, &query_id(&id)?).await?;
    answer_found(queries, &accepted, Duration::from_secs(2)).await
}

/// Which queries to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQueries {
    /// Only those in this state.
    state: Option<String>,
    /// Only those of this kind: `select`, `insert`, `load`, …
    kind: Option<String>,
    /// Only those with this label, as `key:value`.
    label: Option<String>,
    /// Only those created at or after this instant, RFC 3339.
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
#[utoipa::path(
    get, path = "/v1/queries", tag = "statements", params(ListQueries),
    responses((status = 200, body = QueryList), (status = 400, body = ErrorBody))
)]
pub(super) async fn list_queries(
    State(door): State<Door>,
    caller: Caller,
    wanted: Result<Query<ListQueries>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<QueryList>, ApiError> {
    let Query(wanted) = wanted?;
    let limit = wanted.limit.unwrap_or(LIST_QUERIES).clamp(1, 1000);
    let filter = Filter {
        state: wanted.state.as_deref().map(query_state).transpose()?,
        kind: wanted.kind.clone(),
        label: wanted.label.as_deref().map(label_of).transpose()?,
        created_after: wanted.created_after.as_deref().map(instant).transpose()?,
        before: wanted.cursor.as_deref().map(query_id).transpose()?,
        limit,
    };
    let queries = &door.app.queries;
    let found = queries.list(&caller, &filter).await?;
    let next_cursor = found
        .last()
        .filter(|_| found.len() as u64 == u64::from(limit))
        .map(|record| record.id.to_string());
    let mut bodies = Vec::with_capacity(found.len());
    for record in &found {
        bodies.push(body(queries, record, queries.now(&record.id)).await?);
    }
    Ok(Json(QueryList {
        queries: bodies,
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

fn instant(text: &str) -> UseResult<Timestamp> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| Error::InvalidRequest(format!("{text:?} is not an instant; write 2026-01-31T12:00:00Z")))?;
    Ok(Timestamp::from_micros(parsed.timestamp_micros()))
}

/// Which rows to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageOptions {
    /// The first row, from 0.
    start_row: Option<u64>,
    /// At most so many rows.
    max_rows: Option<u64>,
}

/// Read results, page by page.
///
/// A page is the same every time it is read, until the results expire. Formats as for `POST /v1/sql`; JSON is the default.
#[utoipa::path(
    get, path = "/v1/queries/{id}/results", tag = "statements", params(("id" = String, Path), PageOptions),
    responses(
        (status = 200, description = "The rows, in the format of `Accept`", content_type = "application/json"),
        (status = "4XX", body = ErrorBody),
    )
)]
pub(super) async fn get_results(
    State(door): State<Door>,
    caller: Caller,
    Path(id): Path<String>,
    wanted: Result<Query<PageOptions>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted?;
    let format = match headers
        .get(axum::http::header::ACCEPT)
        .and_then(|value| value.to_str().ok())
    {
        None | Some("*/*") => results::Format::Json,
        Some(_) => negotiate(&headers)?,
    };
    let queries = &door.app.queries;
    let accepted = queries.get(&caller, &query_id(&id)?).await?;
    let (reader, manifest) = queries.results(&accepted.record)?;
    let start_row = wanted.start_row.unwrap_or(0);
    let batches = reader
        .page(start_row, wanted.max_rows.unwrap_or(PAGE_ROWS))
        .await
        .map_err(Error::from)?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let next = start_row + rows;
    let page = Page {
        start_row,
        next_start_row: (next < manifest.rows).then_some(next),
        total_rows: manifest.rows,
    };
    let mut end = end_of(&accepted.record, rows);
    end.page = Some(page);
    let rows = stream::iter(batches.into_iter().map(Ok)).boxed();
    let mut response = Response::new(results::body(format, reader.schema(), rows, move || end));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}
