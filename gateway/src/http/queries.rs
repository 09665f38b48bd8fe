//! Queries as resources: create, look, cancel. Lists of them and their rows are next door.

mod body;
pub(super) mod list;
pub(super) mod pages;
pub(super) mod profile;
mod statement;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use wasmhouse_storage::ids::QueryId;

use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Path, Query};
use super::sql::dry_run_body;
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{Accepted, Ended, Queries, Work};
use body::body_of;

pub(super) use body::QueryBody;
pub(super) use statement::{Statement, check_tags, labels_of, max_cost_of};

/// The longest that a request waits for a query.
const WAIT_MAX: Duration = Duration::from_secs(60);

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
    State(queries): State<Queries>,
    caller: Caller,
    Body(statement): Body<Statement>,
) -> Result<Response, ApiError> {
    let patience = patience(statement.wait_ms, Duration::from_secs(10));
    let dry_run = statement.dry_run.unwrap_or(false);
    let (parsed, options) = statement.read(&queries)?;
    if dry_run {
        let dry = queries.dry_run(&caller, parsed, options).await?;
        return Ok(Json(dry_run_body(&dry)?).into_response());
    }
    let accepted = queries.create(&caller, Work::Statement(parsed), options).await?;
    answer(&queries, &accepted, patience).await
}

/// The query resource, after waiting for its end for a while.
pub(super) async fn answer(queries: &Queries, accepted: &Accepted, patience: Duration) -> Result<Response, ApiError> {
    let (status, body) = match queries.wait(accepted, patience).await {
        Some(ended) if ended.record.state.is_final() => (StatusCode::OK, ended_body(queries, &ended).await?),
        // Somebody else looks after it, or will have to.
        Some(unsettled) => (StatusCode::ACCEPTED, ended_body(queries, &unsettled).await?),
        None => (StatusCode::ACCEPTED, body_now(queries, accepted).await?),
    };
    Ok((status, Json(body)).into_response())
}

pub(super) fn patience(wait_ms: Option<u64>, default: Duration) -> Duration {
    wait_ms.map_or(default, Duration::from_millis).min(WAIT_MAX)
}

async fn ended_body(queries: &Queries, ended: &Ended) -> Result<QueryBody, ApiError> {
    body_of(queries, &ended.record, None).await
}

async fn body_now(queries: &Queries, accepted: &Accepted) -> Result<QueryBody, ApiError> {
    body_of(queries, &accepted.record, queries.now(&accepted.record.id)).await
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// How long the answer may wait for the end of the query.
    wait_ms: Option<u64>,
}

/// Get a query, with its progress.
#[utoipa::path(
    get, path = "/v1/queries/{id}", tag = "statements", params(("id" = String, Path), Wait),
    responses((status = 200, body = QueryBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get_query(
    State(queries): State<Queries>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Json<QueryBody>, ApiError> {
    let accepted = queries.get(&caller, &query_id(&id)?).await?;
    found(&queries, &accepted, patience(wait.wait_ms, Duration::ZERO)).await
}

/// Cancel a query. It ends within a second.
#[utoipa::path(
    post, path = "/v1/queries/{id}/cancel", tag = "statements", params(("id" = String, Path)),
    responses((status = 200, body = QueryBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn cancel_query(
    State(queries): State<Queries>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<QueryBody>, ApiError> {
    let accepted = queries.cancel(&caller, &query_id(&id)?).await?;
    found(&queries, &accepted, Duration::from_secs(2)).await
}

async fn found(queries: &Queries, accepted: &Accepted, patience: Duration) -> Result<Json<QueryBody>, ApiError> {
    match queries.wait(accepted, patience).await {
        Some(ended) => Ok(Json(ended_body(queries, &ended).await?)),
        None => Ok(Json(body_now(queries, accepted).await?)),
    }
}

/// An id that cannot be one names no query.
fn query_id(text: &str) -> Result<QueryId, ApiError> {
    text.parse()
        .map_err(|_| Error::NotFound(format!("no query {text}")).into())
}
