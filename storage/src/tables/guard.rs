//! The log store every commit goes through.
//!
//! # Invariants
//! - A commit that landed is reported as landed, even when the answer to its PUT was lost: whoever finds its version
//!   taken reads it and compares the query id.
//! - A commit never removes a file that a commit it has not seen removed before. The library checks this only for
//!   removals that change data, so two compactions of one version would both succeed and double every row.
//!
//! Our own commits ([`super::Tables`]) always build on the newest version, so they never meet the second rule. It is
//! here for the library's operations, which retry on a later version than the one they read.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::DeltaResult;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use uuid::Uuid;

use super::log::Entry;
use super::{TableLocation, Version};
use crate::bucket::Bucket;

/// The library's log store, with the two rules added.
pub(super) struct Guard {
    log: LogStoreRef,
}

impl Guard {
    /// The log of the table at `at`.
    pub(super) fn open(bucket: &Bucket, at: &TableLocation) -> Arc<Self> {
        let table = Arc::new(PrefixStore::new(bucket.store(), at.path()));
        let log = default_logstore(table, bucket.store(), &at.url(), &StorageConfig::default());
        Arc::new(Self { log })
    }

    async fn entry(&self, version: Version) -> Result<Option<Entry>, TransactionError> {
        let bytes = self
            .log
            .read_commit_entry(version)
            .await
            .map_err(|error| TransactionError::LogStoreError {
                msg: format!("version {version} of the log cannot be read"),
                source: error.into(),
            })?;
        bytes.map(|bytes| parse(&bytes)).transpose()
    }

    /// Is version `version` the same commit of the same query? A fence of that query is not.
    async fn landed(&self, version: Version, ours: &Entry) -> Result<bool, TransactionError> {
        let Some(query) = &ours.query else { return Ok(false) };
        let there = self.entry(version).await?;
        Ok(there.is_some_and(|there| there.query.as_ref() == Some(query) && there.operation == ours.operation))
    }

    /// Refuses `ours` if a version between the one it read and the one it wants to be has removed one of its files.
    async fn check_removals(&self, version: Version, ours: &Entry) -> Result<(), TransactionError> {
        if ours.removed.is_empty() {
            return Ok(());
        }
        let Some(read) = ours.read_version else {
            return Err(refused(
                "a commit that removes files does not say which version it read",
            ));
        };
        let removed: HashSet<&String> = ours.removed.iter().collect();
        for seen_late in read + 1..version {
            let Some(other) = self.entry(seen_late).await? else {
                return Err(refused(format!("version {seen_late} is missing from the log")));
            };
            if other.query.is_some() && other.query == ours.query {
                return Err(refused(format!("the query has already committed version {seen_late}")));
            }
            if let Some(file) = other.removed.iter().find(|file| removed.contains(file)) {
                return Err(refused(format!("version {seen_late} has already removed {file}")));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LogStore for Guard {
    /// The library switches on this name: under another it commits by renaming a temporary file.
    fn name(&self) -> String {
        "DefaultLogStore".to_owned()
    }

    async fn read_commit_entry(&self, version: Version) -> DeltaResult<Option<Bytes>> {
        self.log.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        let CommitOrBytes::LogBytes(bytes) = &commit else {
            return Err(refused("a commit must come as bytes"));
        };
        let ours = parse(bytes)?;
        self.check_removals(version, &ours).await?;

        let Err(error) = self.log.write_commit_entry(version, commit, operation).await else {
            return Ok(());
        };
        // Taken, or no answer: either way it may be ours that is there.
        match self.landed(version, &ours).await {
            Ok(true) => Ok(()),
            _ => Err(error),
        }
    }

    async fn abort_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        self.log.abort_commit_entry(version, commit, operation).await
    }

    async fn get_latest_version(&self, start: Version) -> DeltaResult<Version> {
        self.log.get_latest_version(start).await
    }

    fn object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.log.object_store(operation)
    }

    fn root_object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.log.root_object_store(operation)
    }

    fn config(&self) -> &LogStoreConfig {
        self.log.config()
    }
}

fn parse(bytes: &[u8]) -> Result<Entry, TransactionError> {
    Entry::parse(bytes).map_err(|json_err| TransactionError::SerializeLogJson { json_err })
}

fn refused(why: impl Into<String>) -> TransactionError {
    let why = why.into();
    TransactionError::LogStoreError {
        source: why.clone().into(),
        msg: why,
    }
}
