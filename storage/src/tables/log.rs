//! What one version of a table's log says, read and written.
//!
//! A version is an object of JSON lines. Its first line says who committed it and when; the others add and remove
//! files. It never changes once it is there.

use std::collections::HashMap;

use arrow::datatypes::Schema;
use bytes::Bytes;
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::{Action, Add, CommitInfo, IsolationLevel, StructType, contains_timestampntz};
use serde::Deserialize;
use serde_json::json;

use super::{CommitLine, CommitNote, Version};
use crate::clock::Timestamp;
use crate::ids::QueryId;
use crate::{Error, Result};

/// How many versions share one checkpoint.
pub(super) const CHECKPOINT_INTERVAL: u64 = 100;

const ENGINE: &str = concat!("wasmhouse/", env!("CARGO_PKG_VERSION"));

/// The part of a version that says who, when, and which files; not what is in them.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The query that committed it, if it was one of ours.
    pub(super) query: Option<QueryId>,
    /// The version its author had read.
    pub(super) read_version: Option<Version>,
    pub(super) at: Timestamp,
    pub(super) operation: String,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Entry {
    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut entry = Self::default();
        for line in serde_json::Deserializer::from_slice(bytes).into_iter::<Line>() {
            let line = line?;
            if let Some(info) = line.commit_info {
                entry.query = info.job_id.and_then(|id| id.parse().ok());
                entry.read_version = info.read_version;
                entry.at = Timestamp::from_micros(info.timestamp.unwrap_or(0).saturating_mul(1_000));
                entry.operation = info.operation.unwrap_or_default();
            }
            entry
                .added
                .extend(line.add.into_iter().chain(line.cdc).map(|file| file.path));
            entry.removed.extend(line.remove.map(|file| file.path));
        }
        Ok(entry)
    }

    pub(super) fn line(&self, version: Version) -> CommitLine {
        CommitLine {
            version,
            at: self.at,
            operation: self.operation.clone(),
            query: self.query.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "commitInfo")]
    commit_info: Option<Info>,
    add: Option<File>,
    remove: Option<File>,
    cdc: Option<File>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    job_id: Option<String>,
    read_version: Option<Version>,
    timestamp: Option<i64>,
    operation: Option<String>,
}

#[derive(Deserialize)]
struct File {
    path: String,
}

/// The bytes of a version: who and when, then `actions`.
pub(super) fn commit(note: &CommitNote, read: Option<Version>, blind: bool, actions: &[Action]) -> Result<Bytes> {
    let info = Action::CommitInfo(CommitInfo {
        timestamp: Some(note.at.micros().div_euclid(1_000)),
        operation: Some(note.operation.to_owned()),
        operation_parameters: Some(HashMap::new()),
        read_version: read,
        isolation_level: Some(IsolationLevel::WriteSerializable),
        is_blind_append: Some(blind),
        engine_info: Some(ENGINE.to_owned()),
        info: HashMap::from([("jobId".to_owned(), json!(note.query.to_string()))]),
        ..CommitInfo::default()
    });
    let lines: Result<Vec<String>, _> = std::iter::once(&info)
        .chain(actions)
        .map(serde_json::to_string)
        .collect();
    Ok(lines.map_err(|error| Error::Internal(error.into()))?.join("\n").into())
}

/// The actions that make a table of `schema`: what a reader must understand, and what the columns are.
pub(super) fn table(schema: &Schema, at: Timestamp) -> Result<Vec<Action>> {
    let columns: StructType = schema
        .try_into_kernel()
        .map_err(|error| Error::Internal(error.into()))?;
    let back: Schema = (&columns)
        .try_into_arrow()
        .map_err(|error| Error::Internal(error.into()))?;
    if &back != schema {
        return Err(Error::Internal(
            format!("{schema} is not a stored schema; it would become {back}").into(),
        ));
    }

    // A reader that does not know timestamps without a zone must be told, and only then.
    let protocol = match contains_timestampntz(columns.fields()) {
        true => json!({
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
        }),
        false => json!({ "minReaderVersion": 1, "minWriterVersion": 2 }),
    };
    let metadata = json!({
        "id": uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
        "format": { "provider": "parquet", "options": {} },
        "schemaString": serde_json::to_string(&columns).map_err(|error| Error::Internal(error.into()))?,
        "partitionColumns": [],
        "configuration": {
            "delta.checkpointInterval": CHECKPOINT_INTERVAL.to_string(),
            "delta.enableExpiredLogCleanup": "false",
            // The library knows only this spelling; the documented `WriteSerializable` it would ignore.
            "delta.isolationLevel": "writeSerializable",
        },
        "createdTime": at.micros().div_euclid(1_000),
    });
    let actions = [json!({ "protocol": protocol }), json!({ "metaData": metadata })];
    let actions: Result<Vec<Action>, _> = actions.into_iter().map(serde_json::from_value).collect();
    actions.map_err(|error| Error::Internal(error.into()))
}

/// The actions that add `files`.
pub(super) fn adds<'a>(files: impl IntoIterator<Item = &'a Add>) -> Vec<Action> {
    files.into_iter().cloned().map(Action::Add).collect()
}
