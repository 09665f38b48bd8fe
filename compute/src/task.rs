//! What the gateway and a head worker say to each other: one task out, frames back.
//!
//! A task names everything the worker may touch. The worker answers [`Frame::Planned`], waits for the word to go unless
//! the plan is within what the task grants unasked, then sends rows between frames and closes with [`Frame::End`] or
//! [`Frame::Failed`].

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use url::Url;
use wasmhouse_storage::bucket::Reads;
use wasmhouse_storage::catalog::Relation;
use wasmhouse_storage::ids::{DatasetName, ProjectId, QueryId};
use wasmhouse_storage::queries::Usage;
use wasmhouse_storage::tables::{TableLocation, Version, WrittenFile};

use crate::SqlError;
use crate::cluster::PublicKey;
use crate::cuts::Cut;
use crate::given::Given;
use crate::params::Params;

/// One statement for one head worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The query this is an attempt at.
    pub query: QueryId,
    /// From 0. Files of different attempts have different names.
    pub attempt: u32,
    /// Whose query it is. It is also the name of the catalog.
    pub project: ProjectId,
    /// Where a name of one part is looked up.
    pub dataset: Option<DatasetName>,
    /// One statement, already within limits.
    pub sql: String,
    /// What to do with its rows.
    pub action: Action,
    /// Everything its names can mean, views after what they read.
    pub relations: Vec<Relation>,
    /// The project's other names, for `information_schema` only.
    pub listed: Vec<Relation>,
    /// The project's datasets, for `information_schema` only.
    pub datasets: Vec<DatasetName>,
    /// What the gateway knows and the statement asks for, as tables of `information_schema`.
    #[serde(default)]
    pub given: Vec<Given>,
    /// Values for its placeholders.
    pub params: Params,
    /// Options of the engine that last for this query.
    pub settings: BTreeMap<String, String>,
    /// What `now()` is, in microseconds since 1970.
    pub now_us: i64,
    /// A plan that reads no more than this runs at once. None: every plan waits for the word to go.
    pub unasked_bytes: Option<u64>,
    /// Whether it could have other workers, so that it is worth finding out whether they could share its plan.
    pub may_be_shared: bool,
}

impl Task {
    /// Whether a plan that reads this many bytes runs without waiting for the word to go.
    pub fn runs_unasked(&self, bytes_to_read: u64) -> bool {
        self.unasked_bytes.is_some_and(|most| bytes_to_read <= most)
    }

    /// Whether there will be no word to go, whatever the plan says.
    pub fn never_waits(&self) -> bool {
        self.runs_unasked(u64::MAX)
    }
}

/// The word to go: the price is accepted, and these workers may be used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Go {
    /// Where the workers of this query listen, the head among them. Empty: the head does it alone.
    pub workers: Vec<Url>,
    /// What each of them wants to see.
    pub ticket: String,
    /// What they check it with.
    pub tickets: PublicKey,
}

/// What becomes of the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// They go back to the caller.
    Return,
    /// They become files of a table. The gateway commits.
    Write {
        /// Where the table's files live.
        at: TableLocation,
        /// The columns the table has; none for a new table, which gets those of the rows.
        schema: Option<String>,
    },
    /// A file becomes files of a table. The statement's text is empty.
    Load {
        /// Where the upload was staged, as an object path.
        staged: String,
        /// Where it can be cut.
        cuts: Vec<Cut>,
        /// How to read it.
        format: LoadFormat,
        /// Columns with types as SQL would declare them, if the caller gave them.
        declared: Option<String>,
        /// Where the table's files live.
        at: TableLocation,
        /// The columns the table has; none for a new table.
        schema: Option<String>,
    },
    /// They become files of the project's bucket, for other programs to read.
    Export {
        /// The folder, as an object path.
        to: String,
        /// How to write them.
        format: ExportFormat,
    },
}

/// How an uploaded file is to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum LoadFormat {
    /// Separated values.
    Csv {
        /// The first line holds names.
        header: bool,
        /// One ASCII character.
        delimiter: char,
        /// A text that means NULL, besides nothing at all.
        null: Option<String>,
    },
    /// One JSON object a line.
    Json,
    /// Apache Parquet.
    Parquet,
    /// The Arrow IPC file or stream format.
    Arrow,
}

/// How an exported file is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Separated values with a header line.
    Csv,
    /// One JSON object a line.
    Json,
    /// Apache Parquet, zstd.
    Parquet,
    /// The Arrow IPC file format.
    Arrow,
}

/// What the head worker says. Rows travel beside these, as Arrow Flight data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Frame {
    /// The plan stands; this is what it would read. Waits for the word to go.
    Planned(Planned),
    /// Still at work.
    Progress(Progress),
    /// Files were written; nobody refers to them yet.
    Written {
        /// The columns of the files, as Arrow's schema in JSON.
        schema: String,
        /// One Delta action each.
        files: Vec<WrittenFile>,
    },
    /// Files were exported.
    Exported {
        /// What was written.
        files: Vec<ExportedFile>,
    },
    /// All is said.
    End(Report),
    /// There is no answer.
    Failed {
        /// Why not.
        error: SqlError,
        /// What it used all the same.
        report: Report,
    },
}

/// What a query used, and how it ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What the head knows of it.
    pub usage: Usage,
    /// Whether that has what other workers spilled and sent. If not, they know. What they read they say themselves.
    pub is_complete: bool,
    /// Its [`Profile`](crate::profile::Profile) in JSON. None when there was no plan worth one.
    pub profile: Option<String>,
}

/// What a plan would read and what would come out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The rows' columns, as Arrow's schema in JSON.
    pub schema: String,
    /// Logical bytes of the referenced columns in the files that survive pruning: what is billed.
    pub bytes_processed: u64,
    /// The same, and an upload: what decides how many workers it deserves.
    pub bytes_to_read: u64,
    /// What is billed by table.
    pub tables: Vec<PlannedTable>,
    /// Into how many parts one worker may cut it.
    pub partitions: u64,
    /// Whether several workers can share it. Some plans mean something else in parts, or cannot be sent; what runs unasked is
    /// not shared.
    pub is_shareable: bool,
}

/// What a plan would read of one table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedTable {
    /// Where its files live.
    pub location: TableLocation,
    /// Which version of it.
    pub version: Version,
    /// The columns it would read.
    pub columns: Vec<String>,
    /// The files that survive pruning.
    pub files: u64,
    /// BLAKE3 of their names in the table's log; see [`wasmhouse_storage::tables::Scanned`].
    pub files_hash: String,
    /// Their logical bytes in these columns.
    pub bytes: u64,
}

/// What the gateway says to a worker whose query has another one as its head. The answer is a [`PartUsage`], of what it did
/// since the last one that was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// From now on do parts of the attempt that this is sealed for, and of no other.
    Serve {
        /// What its tickets are checked with.
        tickets: PublicKey,
    },
    /// Say how far you are.
    Look,
    /// The query is over: say what you used, and begin anew.
    ReadMeter,
    /// Nothing is wanted of you any more: end at once.
    End,
}

/// What a worker used for a query that another worker is the head of.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct PartUsage {
    /// CPU time of the process.
    pub cpu_ms: u64,
    /// The most memory that it held.
    pub peak_memory_bytes: u64,
    /// Rows that came out of its tasks.
    pub rows: u64,
    /// What it read.
    pub reads: Reads,
    /// Bytes that its tasks wrote to disk because memory was short.
    pub bytes_spilled: u64,
    /// Bytes that came to its tasks from other workers.
    pub bytes_shuffled: u64,
    /// Tasks that it has done.
    pub tasks_done: u64,
}

impl AddAssign for PartUsage {
    /// What several workers used: what is counted adds up, of what is a maximum the larger remains.
    fn add_assign(&mut self, other: Self) {
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        self.reads += other.reads;
        for (mine, theirs) in [
            (&mut self.cpu_ms, other.cpu_ms),
            (&mut self.rows, other.rows),
            (&mut self.bytes_spilled, other.bytes_spilled),
            (&mut self.bytes_shuffled, other.bytes_shuffled),
            (&mut self.tasks_done, other.tasks_done),
        ] {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// How far a query has come, as its head sees it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Rows that came out so far.
    pub rows: u64,
    /// Bytes that the head has read of the bucket so far.
    pub bytes_read: u64,
    /// CPU time of the head so far.
    pub cpu_ms: u64,
    /// The stages of its plan.
    pub stages: u64,
    /// The tasks of all stages.
    pub tasks: u64,
    /// Those that the head has done.
    pub tasks_done: u64,
    /// Rows that came out of those that the head does.
    pub task_rows: u64,
}

/// One exported file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Its object path.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}
