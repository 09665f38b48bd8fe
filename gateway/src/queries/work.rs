//! What a query is asked to do, and what goes with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use wasmhouse_compute::params::Params;
use wasmhouse_compute::sql::{Kind, Statement};
use wasmhouse_compute::task::{ExportFormat, LoadFormat};
use wasmhouse_storage::ids::{DatasetName, QueryId, TableName};
use wasmhouse_storage::money::Money;
use wasmhouse_storage::people::Defaults;

use super::Staged;

/// What is asked beside the statement itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Where a name of one part is looked up.
    pub(crate) dataset: Option<DatasetName>,
    /// Values for placeholders.
    pub(crate) params: Params,
    /// Options of the engine that last for this query.
    pub(crate) settings: BTreeMap<String, String>,
    /// Refuse before running if it would read more.
    pub(crate) max_bytes: Option<u64>,
    /// Refuse before running if it would cost more.
    pub(crate) max_cost: Option<Money>,
    /// Time it has.
    pub(crate) timeout: Option<Duration>,
    /// For the caller's own accounting.
    pub(crate) labels: BTreeMap<String, String>,
    /// Makes a retry of the same request find the first one.
    pub(crate) request_id: Option<String>,
}

impl Options {
    /// What it may cost and process at most, as far as it says.
    pub(super) fn most(&self) -> Defaults {
        Defaults {
            max_cost: self.max_cost,
            max_bytes: self.max_bytes,
        }
    }
}

/// What a query is to do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// One statement.
    Statement(Statement),
    /// A staged upload into a table.
    Load(Load),
    /// A query into files of the project's bucket.
    Export {
        /// The query.
        statement: Statement,
        /// The folder, below the project's exports.
        name: String,
        /// How to write.
        format: ExportFormat,
    },
}

/// A staged upload and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The table.
    pub(crate) into: TableName,
    /// What to do with what is there.
    pub(crate) mode: LoadMode,
    /// How to read it.
    pub(crate) format: LoadFormat,
    /// Columns as SQL declares them.
    pub(crate) declared: Option<String>,
    /// The upload.
    pub(crate) staged: Staged,
}

/// What a load does with the rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum LoadMode {
    /// They stay; the table is created if it is not there.
    Append,
    /// There must be no such table.
    Create,
    /// They go, and the table's columns with them.
    Replace,
}

impl Work {
    /// The id that the query must have, if something already carries it: an upload is staged under the id of the query
    /// that will load it.
    pub(super) fn id(&self) -> Option<QueryId> {
        match self {
            Work::Load(load) => load.staged.path.rsplit('/').next()?.parse().ok(),
            Work::Statement(_) | Work::Export { .. } => None,
        }
    }

    /// A digest of all that decides what comes out of this work with these options.
    pub(super) fn fingerprint(&self, options: &Options) -> String {
        #[derive(Serialize)]
        struct Asked<'a> {
            kind: &'a str,
            text: &'a str,
            dataset: Option<&'a DatasetName>,
            params: &'a Params,
            settings: &'a BTreeMap<String, String>,
            max_bytes: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            max_cost: Option<Money>,
            export: Option<(&'a str, ExportFormat)>,
            load: Option<(LoadMode, &'a LoadFormat, Option<&'a str>, u64, &'a str)>,
        }

        let asked = Asked {
            kind: self.word(),
            text: &self.text(),
            dataset: options.dataset.as_ref(),
            params: &options.params,
            settings: &options.settings,
            max_bytes: options.max_bytes,
            max_cost: options.max_cost,
            export: match self {
                Work::Export { name, format, .. } => Some((name, *format)),
                Work::Statement(_) | Work::Load(_) => None,
            },
            load: match self {
                Work::Load(load) => Some((
                    load.mode,
                    &load.format,
                    load.declared.as_deref(),
                    load.staged.bytes,
                    &load.staged.digest,
                )),
                Work::Statement(_) | Work::Export { .. } => None,
            },
        };
        let text = serde_json::to_vec(&asked).expect("every key is a text");
        blake3::hash(&text).to_hex().to_string()
    }

    /// Whether nothing is there to be found by others until it has ended: it only reads, and has no request id.
    pub(super) fn leaves_no_trace(&self, options: &Options) -> bool {
        let reads = matches!(self, Work::Statement(statement) if matches!(statement.kind, Kind::Query | Kind::Explain));
        reads && options.request_id.is_none()
    }

    /// The text in its record.
    pub(super) fn text(&self) -> String {
        match self {
            Work::Statement(statement) | Work::Export { statement, .. } => statement.text.clone(),
            Work::Load(load) => format!("-- load into {}", load.into),
        }
    }

    /// The kind in its record.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Work::Statement(statement) => statement.kind.word(),
            Work::Export { .. } => "export",
            Work::Load(_) => "load",
        }
    }
}
