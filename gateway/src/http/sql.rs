//! `POST /v1/sql`: one statement in, its rows out. For people with curl.

use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_compute::task::Planned;
use wasmhouse_storage::queries::QueryRecord;

use super::Door;
use super::error::{ApiError, ErrorBody};
use super::queries::{Statement, labels_of};
use super::results::{self, Column, End, Failure, Format};
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{DryRun, Ended, Queries};

/// Options of a statement that is sent as plain text.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SqlOptions {
    /// Where a name of one part is looked up.
    dataset: Option<String>,
    /// Refuse before running if it would process more bytes.
    max_bytes: Option<u64>,
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
/// The body is SQL, or JSON as for `POST /v1/queries`. The rows come in the format of `Accept`: JSON lines
/// (`application/x-ndjson`, also for `*/*`), `application/json`, `text/csv`, `application/vnd.apache.arrow.stream` or
/// `application/vnd.apache.parquet`. In JSON lines the last line is `{"$end": …}`; in every format the trailer
/// `wasmhouse-status: done` follows a complete answer, and an incomplete one ends in an aborted connection.
#[utoipa::path(
    post, path = "/v1/sql", tag = "statements", params(SqlOptions),
    request_body(content((String = "text/plain"), (Statement = "application/json"))),
    responses(
        (status = 200, description = "The rows, in the format of `Accept`", content_type = "application/x-ndjson"),
        (status = "4XX", description = "The statement or the request is wrong", body = ErrorBody),
        (status = "5XX", description = "Something of ours is wrong", body = ErrorBody),
    )
)]
pub(super) async fn run_sql(State(door): State<Door>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    let queries = &door.app.queries;
    let format = negotiate(request.headers())?;
    let statement = read_statement(request).await?;
    let dry_run = statement.dry_run;
    let (parsed, options) = statement.read(queries)?;
    if dry_run {
        let dry = queries.dry_run(&caller, parsed, options).await?;
        return Ok(axum::Json(dry_run_body(&dry)?).into_response());
    }
    let ended = queries.run(&caller, parsed, options).await?;
    rows(queries, &ended, format)
}

/// The format that the caller wants.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Format, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    Format::negotiate(accept).map_err(|error| Error::NotAcceptable(error.to_string()).into())
}

async fn read_statement(request: Request) -> Result<Statement, ApiError> {
    let json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_json);
    if json {
        let axum::Json(statement) = axum::Json::<Statement>::from_request(request, &()).await?;
        return Ok(statement);
    }
    let options = Query::<SqlOptions>::try_from_uri(request.uri())?.0;
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| match error.status().as_u16() {
            413 => Error::TooLarge("the request is larger than 2 MiB".to_owned()),
            _ => Error::InvalidRequest(error.body_text()),
        })?;
    let sql = String::from_utf8(body.to_vec())
        .map_err(|_| Error::InvalidRequest("the statement is not UTF-8 text".to_owned()))?;
    Ok(Statement {
        sql,
        dataset: options.dataset,
        max_bytes: options.max_bytes,
        timeout_ms: options.timeout_ms,
        dry_run: options.dry_run.unwrap_or(false),
        labels: labels_of(options.labels.as_deref())?,
        ..Statement::default()
    })
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
    headers.insert("trailer", HeaderValue::from_static("wasmhouse-status"));
    headers.insert("wasmhouse-rows", HeaderValue::from(end.rows));
    headers.insert("wasmhouse-bytes-processed", HeaderValue::from(end.bytes_processed));
    headers.insert("wasmhouse-elapsed-ms", HeaderValue::from(end.elapsed_ms));
    if let Ok(id) = HeaderValue::from_str(&end.query_id) {
        headers.insert("wasmhouse-query-id", id);
    }
    Ok(response)
}

/// The rows are safe and cannot be had right now.
fn unreadable(error: wasmhouse_storage::Error) -> Failure {
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
        elapsed_ms: elapsed,
        page: None,
    }
}

pub(super) fn dry_run_body(dry: &DryRun) -> Result<DryRunBody, ApiError> {
    let Planned {
        schema,
        bytes_processed,
        tables,
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
