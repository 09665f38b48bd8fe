//! What must survive a restart: tables, names, people and their keys, queries, the ledger, and who has which worker.
//!
//! Everything here outlives the process that wrote it. The crate knows nothing of SQL planning (that is `compute`) and
//! nothing of HTTP, or of who may do what and what it costs (that is `gateway`).

pub mod audit;
pub mod bucket;
pub mod budgets;
pub mod catalog;
pub mod clock;
pub mod ids;
pub mod ledger;
pub mod money;
pub mod people;
pub mod published;
pub mod queries;
pub mod results;
pub mod tables;
pub mod workers;

/// A cause that is written to the log and never shown to a caller.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What every function here that can fail returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something that should last could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing named does not exist for this project. Name another, or create it.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken. Choose another, or use what is there.
    #[error("{0}")]
    AlreadyExists(String),
    /// The request can never work as it stands. Change it.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else changed the same thing first. Look again, then try again.
    #[error("{0}")]
    Conflict(String),
    /// The object store or the database did not answer. Trying again later is safe.
    #[error("storage is not available")]
    Unavailable(#[source] BoxError),
    /// A defect of ours. The text goes to the log, never to the caller.
    #[error("internal storage failure")]
    Internal(#[source] BoxError),
}
