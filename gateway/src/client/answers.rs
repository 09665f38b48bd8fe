//! What is said over the counter: requests and answers as the HTTP contract writes them.
//!
//! # Invariants
//! - What an answer may leave out has a default here, and what it adds is ignored, so an older client reads a newer
//!   server.

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
        let request_id = format!("{:032x}", rand::random::<u128>());
        Self {
            sql: sql.into(),
            dataset,
            request_id,
        }
    }
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

    /// One line about how far it is.
    pub(crate) fn progress_line(&self) -> String {
        let Some(progress) = &self.progress else {
            return self.state.as_str().to_owned();
        };
        let phase = progress.phase.as_deref().unwrap_or(self.state.as_str());
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
    rows: u64,
    bytes_read: u64,
    elapsed_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) bytes_processed: u64,
    pub(crate) rows_written: u64,
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
}

/// What a statement would read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) bytes_processed: u64,
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
    /// How the file is compressed, as a content encoding.
    #[serde(skip)]
    pub(crate) encoding: Option<&'static str>,
}
