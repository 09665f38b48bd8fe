//! The one place where an error becomes HTTP. Every variant by name, so that a new one does not compile until somebody
//! has decided what a stranger may be told.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;
use wasmhouse_compute::causes;
use wasmhouse_storage::queries::QueryError;

use crate::error::Error;

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// A stable word that a program can branch on.
    #[schema(example = "unknown_table")]
    code: String,
    /// One sentence for a person.
    #[schema(example = "no table named shop.sale; did you mean shop.sales?")]
    message: String,
    /// Line of the SQL, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Column of the line, in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// The query, where one was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    query_id: Option<String>,
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, error: QueryError, query_id: Option<String>) -> Self {
        let QueryError {
            code,
            message,
            line,
            column,
        } = error;
        Self {
            status,
            body: ErrorBody {
                error: ErrorDetail {
                    code,
                    message,
                    line,
                    column,
                    query_id,
                },
            },
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let said = error.for_record();
        let status = match &error {
            Error::Sql(_) => status_of(&said.code),
            Error::Query { id, error, .. } => {
                return Self::new(status_of(&error.code), error.clone(), Some(id.to_string()));
            }
            Error::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::AlreadyExists(_) | Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Unauthenticated => StatusCode::UNAUTHORIZED,
            Error::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Busy => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable(cause) => {
                error!("storage did not answer: {}", causes(cause.as_ref()));
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::Internal(cause) => {
                error!("a request failed for a reason that is ours: {}", causes(cause.as_ref()));
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, said, None)
    }
}

/// The status of a statement's error, by its code.
fn status_of(code: &str) -> StatusCode {
    match code {
        "unknown_table" | "unknown_dataset" | "not_found" => StatusCode::NOT_FOUND,
        "already_exists" | "conflict" => StatusCode::CONFLICT,
        "not_allowed" => StatusCode::FORBIDDEN,
        "timeout" => StatusCode::REQUEST_TIMEOUT,
        "busy" => StatusCode::TOO_MANY_REQUESTS,
        "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "internal" | "worker_crashed" => StatusCode::INTERNAL_SERVER_ERROR,
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "execution_failed" | "out_of_memory" | "over_budget" | "too_complex" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge("the request is larger than 2 MiB".to_owned()).into(),
            _ => Error::InvalidRequest(rejection.body_text()).into(),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Error::InvalidRequest(rejection.body_text()).into()
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Error::InvalidRequest(rejection.body_text()).into()
    }
}

/// A handler that panicked has answered nothing yet; the caller still gets an answer, and the log the cause.
pub(super) fn from_panic(cause: Box<dyn Any + Send>) -> Response {
    let cause = cause
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    ApiError::from(Error::Internal(cause.unwrap_or_else(|| "a panic".to_owned()).into())).into_response()
}
