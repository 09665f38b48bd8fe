//! Why a statement did not become an answer.
//!
//! A [`SqlError`] is written for the person who sent the statement, and crosses the wire from the worker that planned it.
//! An [`Error`] also says what the gateway should do: tell the caller, try another worker, or write to the log.

use serde::{Deserialize, Serialize};
use wasmhouse_storage::BoxError;

/// What every function here that can fail returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no answer, from the gateway's side of the desk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement cannot be answered as it stands. Tell its sender; trying again gives the same.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The worker went away before it ended. Another attempt on another worker is safe.
    #[error("the worker was lost: {0}")]
    WorkerLost(String),
    /// No worker became free, or none is there, in the time that there was. Asking again later is safe.
    #[error("no worker became free in time")]
    NoWorker,
    /// The object store or the catalog said no.
    #[error(transparent)]
    Storage(#[from] wasmhouse_storage::Error),
    /// A defect of ours. The text goes to the log, never to the caller.
    #[error("internal failure")]
    Internal(#[source] BoxError),
}

/// A stable word for what went wrong with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text is not SQL, or not SQL that means something.
    InvalidSql,
    /// A table or view that does not exist for this project.
    UnknownTable,
    /// A dataset that does not exist for this project.
    UnknownDataset,
    /// A column that its table does not have.
    UnknownColumn,
    /// A function nobody has defined.
    UnknownFunction,
    /// Types that do not fit together, or that a table cannot hold.
    TypeMismatch,
    /// More operators, joins, nesting or views than a statement may have.
    TooComplex,
    /// SQL that means something, but not here.
    NotSupported,
    /// SQL that would reach outside a query's rights.
    NotAllowed,
    /// It would read more than its sender wants to pay for.
    OverBudget,
    /// It did not end in the time it was given.
    Timeout,
    /// It needed more memory than a query may have.
    OutOfMemory,
    /// Its sender stopped it.
    Cancelled,
    /// A value stopped it: a division by zero, a cast that cannot be.
    ExecutionFailed,
    /// A name that is taken.
    AlreadyExists,
    /// Somebody else changed the same thing first.
    Conflict,
    /// The worker stopped working on it more than once.
    WorkerCrashed,
    /// A defect of ours.
    Internal,
}

/// One sentence for the person who sent the statement, and where to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What a program branches on.
    pub code: Code,
    /// What a person reads: lower case, no full stop, naming the thing.
    pub message: String,
    /// The line of the text, from 1.
    pub line: Option<u64>,
    /// The column of the line, in characters, from 1.
    pub column: Option<u64>,
}

impl SqlError {
    /// An error that has no place in the text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            line: None,
            column: None,
        }
    }

    /// The same error, pointing at a place in the text.
    pub fn at(mut self, line: u64, column: u64) -> Self {
        // The parser counts from 1; 0 is its word for "nowhere".
        if line > 0 {
            self.line = Some(line);
            self.column = Some(column);
        }
        self
    }

    /// The same error, pointing behind the last word of `text` if it points nowhere: what is missing has no place.
    pub(crate) fn or_at_end_of(self, text: &str) -> Self {
        if self.line.is_some() || self.code != Code::InvalidSql {
            return self;
        }
        let text = text.trim_end();
        let last = text.lines().last().unwrap_or_default();
        self.at(text.lines().count().max(1) as u64, last.chars().count() as u64 + 1)
    }
}

/// An error and what caused it, outermost first, for the log.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        inner = cause.source();
    }
    text
}
