//! Why a use case did not do what was asked, from the asker's side of the desk.

use std::time::Duration;

use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::BoxError;
use wasmhouse_storage::ids::{InvalidName, QueryId};
use wasmhouse_storage::queries::{QueryError, QueryState};

use crate::admission::NONE_BECAME_FREE;

/// What every use case that can fail returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A variant is a different thing for the caller to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The statement cannot be answered as it stands. Change it and ask again.
    #[error("{0}")]
    Sql(SqlError),
    /// The query was recorded and ended without an answer. Its record says the same.
    #[error("{}", error.message)]
    Query {
        /// Its id.
        id: QueryId,
        /// What its record says.
        error: QueryError,
        /// How it ended.
        state: QueryState,
    },
    /// The request does not say something that can be done. Change it.
    #[error("{0}")]
    InvalidRequest(String),
    /// No such thing for this caller.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// Somebody else changed the same thing first. Look again, then try again.
    #[error("{0}")]
    Conflict(String),
    /// The caller's roles, or the scope of his key, do not allow it. Ask an owner of the project.
    #[error("you may not {0}")]
    Denied(String),
    /// The key is missing or wrong.
    #[error("the request has no valid key; send `authorization: Bearer` and the key of a project")]
    Unauthenticated,
    /// None of the formats that the caller accepts can be had.
    #[error("{0}")]
    NotAcceptable(String),
    /// The body is larger than may be.
    #[error("{0}")]
    TooLarge(String),
    /// The body came too slowly, or stopped coming. Send it again.
    #[error("{0}")]
    TooSlow(String),
    /// Too much is going on, and what of it is in the way. Asking again in a few seconds is safe.
    #[error("{0}; try again in a few seconds")]
    Busy(&'static str),
    /// The project asks more often than it may. Asking again after that time is safe.
    #[error("{what}; try again in {} s", seconds(*retry_after))]
    TooOften {
        /// How often it may.
        what: String,
        /// When it may again.
        retry_after: Duration,
    },
    /// The house is closing. Asking again is safe.
    #[error("the server is stopping; send the request again")]
    Closing,
    /// The object store or the database did not answer. Asking again later is safe.
    #[error("storage did not answer; try again later")]
    Unavailable(#[source] BoxError),
    /// A defect of ours. The text goes to the log, never to the caller.
    #[error("internal failure")]
    Internal(#[source] BoxError),
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Error::Sql(error)
    }
}

impl From<wasmhouse_storage::Error> for Error {
    fn from(error: wasmhouse_storage::Error) -> Self {
        use wasmhouse_storage::Error as Storage;
        match error {
            Storage::NotFound(message) => Error::NotFound(message),
            Storage::AlreadyExists(message) => Error::AlreadyExists(message),
            Storage::Invalid(message) => Error::InvalidRequest(message),
            Storage::Conflict(message) => Error::Conflict(message),
            Storage::Unavailable(source) => Error::Unavailable(source),
            Storage::Internal(source) => Error::Internal(source),
        }
    }
}

impl From<wasmhouse_compute::Error> for Error {
    fn from(error: wasmhouse_compute::Error) -> Self {
        use wasmhouse_compute::Error as Compute;
        match error {
            Compute::Sql(error) => Error::Sql(error),
            Compute::WorkerLost(_) => Error::Sql(SqlError::new(
                Code::WorkerCrashed,
                "the worker stopped while it ran the statement, more than once; simplify the statement, or tell us its id",
            )),
            Compute::NoWorker => Error::Busy(NONE_BECAME_FREE),
            Compute::Storage(error) => error.into(),
            Compute::Internal(source) => Error::Internal(source),
        }
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Error::InvalidRequest(error.to_string())
    }
}

/// Whole seconds, of which the last is not cut off.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

/// A code as the word that stands in answers and records.
pub(crate) fn code_word(code: Code) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "internal".to_owned(),
    }
}

/// What a message may weigh. A sender's own megabyte is not told back to him.
const MESSAGE_BYTES: usize = 1000;

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES)
            .rev()
            .find(|at| message.is_char_boundary(*at))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

impl Error {
    /// What the query's record says. Our own defects are only called that.
    pub(crate) fn for_record(&self) -> QueryError {
        let (code, line, column) = match self {
            Error::Sql(error) => (code_word(error.code), error.line, error.column),
            Error::Query { error, .. } => return error.clone(),
            Error::InvalidRequest(_) => ("invalid_request".to_owned(), None, None),
            Error::NotFound(_) => ("not_found".to_owned(), None, None),
            Error::AlreadyExists(_) => ("already_exists".to_owned(), None, None),
            Error::Conflict(_) => ("conflict".to_owned(), None, None),
            Error::Denied(_) => ("not_allowed".to_owned(), None, None),
            Error::Unauthenticated => ("unauthenticated".to_owned(), None, None),
            Error::NotAcceptable(_) => ("not_acceptable".to_owned(), None, None),
            Error::TooLarge(_) => ("too_large".to_owned(), None, None),
            Error::TooSlow(_) => ("timeout".to_owned(), None, None),
            Error::Busy(_) => ("busy".to_owned(), None, None),
            Error::TooOften { .. } => ("over_quota".to_owned(), None, None),
            Error::Closing | Error::Unavailable(_) => ("unavailable".to_owned(), None, None),
            Error::Internal(_) => ("internal".to_owned(), None, None),
        };
        let place = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        QueryError {
            code,
            message: cut(self.to_string()),
            line: place(line),
            column: place(column),
        }
    }
}
