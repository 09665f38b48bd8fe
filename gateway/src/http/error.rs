//! The one place where an error becomes HTTP. Every variant by name, so that a new one does not compile until somebody
//! has decided what a stranger may be told.

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;
use wasmhouse_compute::causes;
use wasmhouse_storage::queries::{QueryError, QueryState};

use crate::error::{Error, seconds};

/// When to ask again if nobody knows when it will be better.
const A_MOMENT: Duration = Duration::from_secs(5);

/// What is said of a body whose end did not come, or could not be unpacked.
pub(super) const UNREADABLE_BODY: &str =
    "the body could not be read to its end; it broke off, or is not packed as its content-encoding says";

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

/// Marks the answer to a request that its caller may not make.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotLet;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// When the same request may be sent again.
    again: Option<Duration>,
    /// It was understood, and the caller may not.
    is_denied: bool,
    body: ErrorBody,
}

impl ApiError {
    /// The same answer with a status that says more than its code does.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same answer to who asks how a query ended: asking again changes nothing.
    pub(super) fn for_good(self) -> Self {
        Self { again: None, ..self }
    }

    fn new(status: StatusCode, error: QueryError, query_id: Option<String>) -> Self {
        let QueryError {
            code,
            message,
            line,
            column,
        } = error;
        Self {
            status,
            again: matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                .then_some(A_MOMENT),
            is_denied: false,
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
            Error::Query { id, error, state } => {
                let status = status_of_query(*state, &error.code);
                let answer = Self::new(status, error.clone(), Some(id.to_string()));
                // What a query without an end wrote may be seen yet; whoever sends it again at once may write it twice.
                // A query is held up by what is left of a day, of which its message says when it begins again.
                let again = answer.again.filter(|_| state.is_final() && error.code != "over_quota");
                return Self { again, ..answer };
            }
            Error::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::AlreadyExists(_) | Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Denied(_) => StatusCode::FORBIDDEN,
            Error::Unauthenticated => StatusCode::UNAUTHORIZED,
            Error::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Error::Busy(_) | Error::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Closing => StatusCode::SERVICE_UNAVAILABLE,
            Error::Unavailable(cause) => {
                error!("storage did not answer: {}", causes(cause.as_ref()));
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::Internal(cause) => {
                error!("a request failed for a reason that is ours: {}", causes(cause.as_ref()));
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let answer = Self::new(status, said, None);
        Self {
            is_denied: matches!(error, Error::Denied(_)),
            again: match error {
                Error::TooOften { retry_after, .. } => Some(retry_after),
                _ => answer.again,
            },
            ..answer
        }
    }
}

/// The status of a query that has no answer. It is not the asker's fault when its gateway stopped, nor when nobody
/// knows yet whether its rows were committed.
fn status_of_query(state: QueryState, code: &str) -> StatusCode {
    match state {
        QueryState::Pending | QueryState::Running | QueryState::Committing | QueryState::Lost => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        QueryState::Done | QueryState::Failed | QueryState::Cancelled | QueryState::Abandoned => status_of(code),
    }
}

/// The status of a statement's error, by its code. These are all the codes that there are, as README.md lists them.
fn status_of(code: &str) -> StatusCode {
    match code {
        "invalid_sql" | "unknown_column" | "unknown_function" | "type_mismatch" | "not_supported" => {
            StatusCode::BAD_REQUEST
        }
        "invalid_request" | "cancelled" => StatusCode::BAD_REQUEST,
        "unauthenticated" => StatusCode::UNAUTHORIZED,
        "not_allowed" => StatusCode::FORBIDDEN,
        "unknown_table" | "unknown_dataset" | "not_found" => StatusCode::NOT_FOUND,
        "not_acceptable" => StatusCode::NOT_ACCEPTABLE,
        "timeout" => StatusCode::REQUEST_TIMEOUT,
        "already_exists" | "conflict" => StatusCode::CONFLICT,
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "too_complex" | "over_budget" | "out_of_memory" | "execution_failed" => StatusCode::UNPROCESSABLE_ENTITY,
        "busy" | "over_quota" => StatusCode::TOO_MANY_REQUESTS,
        "internal" | "worker_crashed" => StatusCode::INTERNAL_SERVER_ERROR,
        "unavailable" | "lost" => StatusCode::SERVICE_UNAVAILABLE,
        // A record of another version of this program.
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(time) = self.again {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds(time).max(1)));
        }
        if self.is_denied {
            response.extensions_mut().insert(NotLet);
        }
        response
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge("the request is larger than 2 MiB".to_owned()).into(),
            _ => Error::InvalidRequest(UNREADABLE_BODY.to_owned()).into(),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            rejection => Error::InvalidRequest(rejection.body_text()).into(),
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
