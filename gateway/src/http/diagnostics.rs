//! Is it up, can it serve, what does it do, how is it asked.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::Door;
use super::error::{ApiError, ErrorBody};
use crate::error::Error;

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "house", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The catalog answers too, so queries can be taken.
#[utoipa::path(
    get, path = "/readyz", tag = "house", security(()),
    responses((status = 200, body = String), (status = 503, description = "Not now", body = ErrorBody))
)]
pub(super) async fn readyz(State(door): State<Door>) -> Result<&'static str, ApiError> {
    match door.app.is_ready().await {
        true => Ok("ready\n"),
        false => Err(Error::Unavailable("the catalog does not answer".into()).into()),
    }
}

/// Counters and gauges as Prometheus reads them. No label names a project.
#[utoipa::path(get, path = "/metrics", tag = "house", security(()), responses((status = 200, body = String)))]
pub(super) async fn metrics(State(door): State<Door>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], door.metrics.render()).into_response()
}

/// This contract.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "house", security(()), responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], super::openapi_json()).into_response()
}

/// No such route.
pub(super) async fn nowhere(uri: Uri) -> ApiError {
    Error::NotFound(format!(
        "nothing is served at {}; the routes are in /v1/openapi.json",
        uri.path()
    ))
    .into()
}

/// A route, but not for this method.
pub(super) async fn not_this_way(method: Method, uri: Uri) -> ApiError {
    let refused = Error::InvalidRequest(format!(
        "{method} means nothing at {}; the routes are in /v1/openapi.json",
        uri.path()
    ));
    ApiError::from(refused).with_status(StatusCode::METHOD_NOT_ALLOWED)
}
