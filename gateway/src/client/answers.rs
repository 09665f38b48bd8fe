//! What is said over the counter: requests and answers as the HTTP contract writes them.
//!
//! # Invariants
//! - What an answer may leave out has a default here, and what it adds is ignored, so an older client reads a newer
//!   server.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Refusal, show};

/// A statement to be run, and the id under which a retry is recognised.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ask {
    pub(crate) sql: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dataset: Option<String>,
    request_id: String,
}

impl Ask {
    pub(crate) fn new(sql: impl Into<String>, dataset: Option<String>) -> Self {
        Self {
            sql: sql.into(),
            dataset,
            request_id: request_id(),
        }
    }
}

/// A name for a request that nobody else gives to another.
pub(crate) fn request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A query as the server describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Query {
    pub(crate) id: String,
    pub(crate) state: QueryState,
    #[serde(default)]
    pub(crate) progress: Option<Progress>,
    #[serde(default)]
    pub(crate) schema: Option<Vec<Column>>,
    #[serde(default)]
    pub(crate) rows: Option<u64>,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
    #[serde(default)]
    pub(crate) cost: Option<Cost>,
    #[serde(default)]
    pub(crate) error: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueryState {
    Pending,
    Running,
    Committing,
    Done,
    Failed,
    Cancelled,
    Abandoned,
    Lost,
}

impl QueryState {
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Committing => false,
            Self::Done | Self::Failed | Self::Cancelled | Self::Abandoned | Self::Lost => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Committing => "committing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }
}

impl Query {
    /// The query when it is done, and why there is no answer otherwise.
    pub(crate) fn answered(self) -> Result<Self, Error> {
        let (code, message) = match self.state {
            QueryState::Done => return Ok(self),
            QueryState::Cancelled => ("cancelled", format!("query {} was cancelled", self.id)),
            QueryState::Lost => (
                "unavailable",
                format!("query {} was lost with its server; ask again", self.id),
            ),
            state => (
                "execution_failed",
                format!("query {} ended as {}", self.id, state.as_str()),
            ),
        };
        let told = Refusal {
            code: code.to_owned(),
            message,
            line: None,
            column: None,
            retry_after: None,
        };
        Err(Error::Refused(self.error.unwrap_or(told)))
    }

    /// True when the statement answers with rows, even if there are none this time.
    pub(crate) fn has_rows(&self) -> bool {
        self.schema.as_ref().is_some_and(|columns| !columns.is_empty())
    }

    /// One word about what is being done for it.
    pub(crate) fn phase(&self) -> &str {
        let phase = self.progress.as_ref().and_then(|progress| progress.phase.as_deref());
        phase.unwrap_or(self.state.as_str())
    }

    /// One line about how far it is.
    pub(crate) fn progress_line(&self) -> String {
        let phase = self.phase();
        let Some(progress) = &self.progress else {
            return phase.to_owned();
        };
        format!(
            "{phase}, {}, {} read, {:.1} s",
            show::rows(progress.rows),
            show::bytes(progress.bytes_read),
            Duration::from_millis(progress.elapsed_ms).as_secs_f64()
        )
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    phase: Option<String>,
    pub(crate) rows: u64,
    pub(crate) bytes_read: u64,
    elapsed_ms: u64,
    /// What it will process, once it is planned.
    pub(crate) bytes_processed: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) bytes_processed: u64,
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type", default)]
    pub(crate) data_type: String,
    #[serde(default)]
    pub(crate) nullable: bool,
}

/// A line in the list of a dataset's tables.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TableLine {
    /// `dataset.table`
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) rows: Option<u64>,
    #[serde(default)]
    pub(crate) bytes: Option<u64>,
}

/// A table or view, described.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Table {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) schema: Vec<Column>,
    #[serde(default)]
    pub(crate) rows: Option<u64>,
    #[serde(default)]
    pub(crate) bytes: Option<u64>,
    #[serde(default)]
    pub(crate) files: Option<u64>,
    #[serde(default)]
    pub(crate) version: Option<u64>,
    #[serde(default)]
    pub(crate) location: Option<String>,
    #[serde(default)]
    pub(crate) keys: Vec<TableKey>,
}

/// Columns that identify a row.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TableKey {
    #[serde(default)]
    pub(crate) primary: bool,
    pub(crate) columns: Vec<String>,
}

/// Rows of `POST /v1/sql`, all of them in memory: for answers known to be small.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) schema: Vec<Column>,
    pub(crate) rows: Vec<serde_json::Map<String, serde_json::Value>>,
    pub(crate) end: End,
}

/// How an answer ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    pub(crate) rows: u64,
    pub(crate) bytes_processed: u64,
    /// What it costs, as a decimal.
    #[serde(default)]
    pub(crate) cost: Option<String>,
}

/// What a query costs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Cost {
    pub(crate) amount: String,
    pub(crate) currency: String,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// What a statement would read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) bytes_processed: u64,
    #[serde(default)]
    pub(crate) cost: Option<Cost>,
    pub(crate) tables: Vec<EstimatedTable>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EstimatedTable {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// How a file becomes rows of a table; what is `None` the server decides.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct LoadOptions {
    pub(crate) format: &'static str,
    pub(crate) mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delimiter: Option<char>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<String>,
    /// The id under which a second sending of the same file is recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// How the file is compressed, as a content encoding.
    #[serde(skip)]
    pub(crate) encoding: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_not_done_is_an_error_with_its_place_in_the_sql() {
        let text = r#"{"id":"q_1","state":"failed","kind":"select","error":
            {"code":"unknown_column","message":"no column named x","line":2,"column":8,"query_id":"q_1"}}"#;
        let query: Query = serde_json::from_str(text).expect("a query of the contract");

        let Err(Error::Refused(refusal)) = query.answered() else {
            panic!("it failed")
        };

        assert_eq!(
            (refusal.code.as_str(), refusal.line, refusal.column),
            ("unknown_column", Some(2), Some(8))
        );
    }

    #[test]
    fn a_running_query_says_how_far_it_is() {
        let text = r#"{"id":"q_1","state":"running","progress":
            {"phase":"scanning","rows":1234,"bytes_read":1048576,"elapsed_ms":2500},"schema":null,"rows":null}"#;
        let query: Query = serde_json::from_str(text).expect("a query of the contract");

        assert_eq!(query.progress_line(), "scanning, 1,234 rows, 1.0 MiB read, 2.5 s");
        assert!(!query.has_rows());
    }
}
