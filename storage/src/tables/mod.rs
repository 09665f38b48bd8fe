//! Tables: rows in files, and a log that says which files.
//!
//! A table is a directory of Parquet files and a Delta log. Any number of queries read it, each at one version; any
//! number write to it, each with one commit.
//!
//! # Invariants
//! - A commit is there wholly or not at all, and once: a query that commits again finds its first commit.
//! - The order of the versions is the order of the writes. A truncation removes every row of the versions before it
//!   and none of the versions after it; an append that ran at the same time is on one side of it.
//! - What a version contains never changes, so everything about it may be cached for ever.

mod footers;
mod guard;
mod keys;
mod log;
mod logical_bytes;
mod scan;
mod snapshot;
mod stats;
mod types;
mod upkeep;
mod versions;
mod write;

use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStore};
use futures::{StreamExt, TryStreamExt};
use moka::future::Cache;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use url::Url;
use uuid::Uuid;

pub use footers::footers;
pub use keys::{Key, Keys};
pub use logical_bytes::logical_bytes;
pub use scan::{ScanLog, Scanned, WarehouseTable, arrived};
pub use snapshot::TableSnapshot;
pub use types::{stored_schema, to_stored};
pub use write::{WriteOptions, WrittenFile, write_files};

use crate::bucket::Bucket;
use crate::clock::Timestamp;
use crate::ids::QueryId;
use crate::{BoxError, Error, Result};
use guard::Guard;

/// A state of a table. Each commit makes the next.
pub type Version = u64;

/// How many bytes of snapshots a process keeps.
const SNAPSHOT_CACHE_BYTES: u64 = 256 << 20;
/// How many lines of logs a process keeps.
const LINES_CACHED: u64 = 50_000;
/// How many tables a process remembers the newest version of.
const HEADS_CACHED: u64 = 10_000;
/// How many other writers may be faster before a commit gives up.
const MAX_COMMIT_ATTEMPTS: usize = 100;
/// What the log calls an entry that changes nothing and says that a query will not commit.
const FENCE: &str = "FENCE";
/// Commits to one table by this process take turns, so that they do not race each other for a version.
const TURNS: usize = 64;

/// Where a table is: an object path in the bucket. Only [`Bucket::table_path`] spells one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableLocation(String);

impl TableLocation {
    pub(crate) fn spelled(path: String) -> Self {
        Self(path)
    }

    /// The location as an object path.
    pub fn path(&self) -> Path {
        Path::from(self.0.as_str())
    }

    /// The location as DataFusion and Delta know it.
    pub fn url(&self) -> Url {
        Url::parse(&format!("{}/{}/", Bucket::ROOT, self.0)).expect("names are safe in a URL")
    }

    /// The object path of a file of the table, from its name in the log.
    fn file(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.0))
    }

    /// The name in the log of the object at `path`, if it is the table's.
    fn name_of(&self, path: &Path) -> Option<String> {
        path.as_ref()
            .strip_prefix(&self.0)?
            .strip_prefix('/')
            .map(str::to_owned)
    }

    fn log(&self) -> Path {
        Path::from(format!("{}/_delta_log", self.0))
    }

    fn log_entry(&self, version: Version) -> Path {
        Path::from(format!("{}/_delta_log/{version:020}.json", self.0))
    }
}

impl fmt::Display for TableLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a commit says of itself.
#[derive(Clone, Debug)]
pub struct CommitNote {
    /// The query that commits. It commits to a table at most once.
    pub query: QueryId,
    /// What it does, as Delta calls it: `WRITE`, `CREATE TABLE AS SELECT`, `TRUNCATE`.
    pub operation: &'static str,
    /// When.
    pub at: Timestamp,
    /// The newest version when the commit was decided on, none if there was no table: the commit is a later one.
    pub since: Option<Version>,
}

/// A line of a table's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitLine {
    /// The version that it made.
    pub version: Version,
    /// When, to the millisecond.
    pub at: Timestamp,
    /// What was done.
    pub operation: String,
    /// By which query, if it was one of ours.
    pub query: Option<QueryId>,
}

/// All tables of a bucket. Clones share what they have cached.
#[derive(Clone)]
pub struct Tables {
    bucket: Bucket,
    snapshots: Cache<(TableLocation, Version), Arc<TableSnapshot>>,
    lines: Cache<(TableLocation, Version), Arc<CommitLine>>,
    /// The newest version of each table that this process has seen. There may be newer ones.
    heads: Cache<TableLocation, Version>,
    turns: Arc<[Mutex<()>; TURNS]>,
    hasher: RandomState,
}

impl Tables {
    /// The tables of `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        let snapshots = Cache::builder()
            .max_capacity(SNAPSHOT_CACHE_BYTES)
            .weigher(|_, snapshot: &Arc<TableSnapshot>| snapshot.weight())
            .build();
        Self {
            bucket,
            snapshots,
            lines: Cache::new(LINES_CACHED),
            heads: Cache::new(HEADS_CACHED),
            turns: Arc::new([const { Mutex::const_new(()) }; TURNS]),
            hasher: RandomState::new(),
        }
    }

    /// The bucket they are in.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Makes a table of `schema` (a stored schema) that holds `files`, in one commit: version 0.
    pub async fn create(
        &self,
        at: &TableLocation,
        schema: &SchemaRef,
        files: Vec<WrittenFile>,
        note: &CommitNote,
    ) -> Result<Version> {
        // Keys are the catalog's to know.
        let mut actions = log::table(&Schema::new(schema.fields().clone()), note.at)?;
        actions.extend(log::adds(files.iter().map(|file| &file.0)));
        let bytes = log::commit(note, None, false, &actions)?;

        match self.put(at, 0, bytes).await? {
            Put::Taken => Err(Error::AlreadyExists(format!("there is already a table at {at}"))),
            Put::Landed => {
                // After a lost answer the version may hold what an earlier attempt wrote; the log knows.
                self.heads.insert(at.clone(), 0).await;
                Ok(0)
            }
        }
    }

    /// Adds `files` to the table. If the query has already committed, that is its commit and these files are none.
    pub async fn append(&self, at: &TableLocation, files: Vec<WrittenFile>, note: &CommitNote) -> Result<Version> {
        self.commit(at, note, Change::Append(&files)).await
    }

    /// Removes all rows.
    pub async fn truncate(&self, at: &TableLocation, note: &CommitNote) -> Result<Version> {
        self.commit(at, note, Change::Truncate).await
    }

    /// The table at `version`. Asks the bucket for nothing when it has been asked for before.
    pub async fn snapshot(&self, at: &TableLocation, version: Version) -> Result<Arc<TableSnapshot>> {
        let key = (at.clone(), version);
        self.snapshots
            .try_get_with(key, self.read_snapshot(at, version))
            .await
            .map_err(|error: Arc<Error>| again(&error))
    }

    /// The table at its newest version.
    pub async fn latest(&self, at: &TableLocation) -> Result<Arc<TableSnapshot>> {
        match self.head(at).await? {
            Some(head) => self.snapshot(at, head).await,
            None => Err(no_table(at)),
        }
    }

    /// The newest version, if there is a table. Asks the bucket.
    pub async fn newest_version(&self, at: &TableLocation) -> Result<Option<Version>> {
        self.head(at).await
    }

    /// The version after `since` that the query of `note` has committed. If there is none, there never will be: the log
    /// gets an entry that says so, and a commit that is still on its way finds it and gives up.
    pub async fn find_commit_or_fence(&self, at: &TableLocation, note: &CommitNote) -> Result<Option<Version>> {
        let note = CommitNote {
            operation: FENCE,
            ..note.clone()
        };
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let head = self.head(at).await?;
            if let Some(head) = head
                && let Some(line) = self.find_below(at, head, &note).await?
            {
                return Ok((line.operation != FENCE).then_some(line.version));
            }
            let next = head.map_or(0, |head| head + 1);
            let bytes = log::commit(&note, head, true, &[])?;
            if let Put::Landed = self.put(at, next, bytes).await? {
                self.heads.insert(at.clone(), next).await;
                return Ok(None);
            }
        }
        Err(too_many_writers(at))
    }

    /// The newest `limit` versions, newest first.
    pub async fn history(&self, at: &TableLocation, limit: usize) -> Result<Vec<CommitLine>> {
        let head = self.head(at).await?.ok_or_else(|| no_table(at))?;
        let lines: Vec<_> = self.lines_from(at, head).take(limit).try_collect().await?;
        Ok(lines.iter().map(|line| line.as_ref().clone()).collect())
    }

    /// One commit on top of the newest version, whichever that turns out to be.
    async fn commit(&self, at: &TableLocation, note: &CommitNote, change: Change<'_>) -> Result<Version> {
        let _turn = self.turn(at).await;
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let head = self.head(at).await?.ok_or_else(|| no_table(at))?;
            match self.find_below(at, head, note).await? {
                Some(line) if line.operation == FENCE => return Err(given_up(at)),
                Some(line) => return Ok(line.version),
                None => {}
            }

            let (actions, blind) = match change {
                Change::Append(files) => (log::adds(files.iter().map(|file| &file.0)), true),
                Change::Truncate => (self.snapshot(at, head).await?.removals(note.at), false),
            };
            let bytes = log::commit(note, Some(head), blind, &actions)?;
            // If this version is free, the log is what we have just looked at. If not, somebody was faster.
            if let Put::Landed = self.put(at, head + 1, bytes).await? {
                self.heads.insert(at.clone(), head + 1).await;
                self.checkpoint_if_due(at, head + 1).await;
                return Ok(head + 1);
            }
        }
        Err(too_many_writers(at))
    }

    async fn put(&self, at: &TableLocation, version: Version, bytes: Bytes) -> Result<Put> {
        let log = Guard::open(&self.bucket, at);
        match log
            .write_commit_entry(version, CommitOrBytes::LogBytes(bytes), Uuid::nil())
            .await
        {
            Ok(()) => Ok(Put::Landed),
            Err(TransactionError::VersionAlreadyExists(_)) => Ok(Put::Taken),
            Err(error) => Err(failed(error)),
        }
    }

    async fn turn(&self, at: &TableLocation) -> MutexGuard<'_, ()> {
        let turn = self.hasher.hash_one(at) % TURNS as u64;
        self.turns[turn as usize].lock().await
    }

    /// What was cached about a table that is going away.
    async fn forget(&self, at: &TableLocation) {
        if let Some(head) = self.heads.remove(at).await {
            for version in 0..=head {
                self.snapshots.invalidate(&(at.clone(), version)).await;
                self.lines.invalidate(&(at.clone(), version)).await;
            }
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("bucket", &self.bucket).finish()
    }
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Append(&'a [WrittenFile]),
    Truncate,
}

enum Put {
    Landed,
    Taken,
}

fn too_many_writers(at: &TableLocation) -> Error {
    Error::Conflict(format!("too many writers change the table at {at}; try again"))
}

/// The gateway was silent for so long that its query was declared lost.
fn given_up(at: &TableLocation) -> Error {
    Error::Conflict(format!(
        "the write to {at} was given up before its commit; run it again"
    ))
}

fn no_table(at: &TableLocation) -> Error {
    Error::NotFound(format!("there is no table at {at}"))
}

/// What failed below a library: the bucket, which may answer again, or something that must not happen.
fn failed(error: impl StdError + Send + Sync + 'static) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(this) = cause {
        if this.is::<object_store::Error>() || this.is::<std::io::Error>() {
            return Error::Unavailable(error.into());
        }
        cause = this.source();
    }
    Error::Internal(error.into())
}

/// The same error for another who waited for the same thing.
fn again(error: &Arc<Error>) -> Error {
    let source = || -> BoxError { Arc::clone(error).into() };
    match error.as_ref() {
        Error::NotFound(message) => Error::NotFound(message.clone()),
        Error::AlreadyExists(message) => Error::AlreadyExists(message.clone()),
        Error::Invalid(message) => Error::Invalid(message.clone()),
        Error::Conflict(message) => Error::Conflict(message.clone()),
        Error::Unavailable(_) => Error::Unavailable(source()),
        Error::Internal(_) => Error::Internal(source()),
    }
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;
