//! What keeps a table small and quick: checkpoints, and the removal of what nobody will read again.

use std::collections::HashSet;

use deltalake_core::{DeltaTable, checkpoints};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use tracing::warn;

use super::guard::Guard;
use super::{TableLocation, Tables, Version, failed, log, write};
use crate::clock::Timestamp;
use crate::ids::QueryId;
use crate::{Error, Result};

impl Tables {
    /// Removes every object below `at` and says how many there were. Safe to repeat.
    pub async fn remove(&self, at: &TableLocation) -> Result<u64> {
        self.forget(at).await;
        let store = self.bucket().store();
        let objects = store.list(Some(&at.path())).map_ok(|object| object.location).boxed();
        count_removed(store.delete_stream(objects)).await
    }

    /// Removes data files that no version in the log mentions, and says how many: what failed or repeated writes left.
    ///
    /// A write that is still running may yet commit what it has written. `live` says which queries run; it is asked after
    /// the files are listed and before the log is read, so a write that ends in between is in the one or in the other.
    pub async fn remove_orphans(
        &self,
        at: &TableLocation,
        older_than: Timestamp,
        live: impl AsyncFnOnce() -> Result<HashSet<QueryId>>,
    ) -> Result<u64> {
        let store = self.bucket().store();
        // Files first, log second: a commit that lands in between is seen.
        let mut suspects: HashSet<String> = store
            .list(Some(&at.path()))
            .try_filter_map(|object| async move {
                let is_old = object.last_modified.timestamp_micros() < older_than.micros();
                Ok(at.name_of(&object.location).filter(|name| is_old && is_data_file(name)))
            })
            .try_collect()
            .await?;
        if suspects.is_empty() {
            return Ok(0);
        }
        let live = live().await?;
        suspects.retain(|name| !write::query_of(name).is_some_and(|query| live.contains(&query)));
        let Some(head) = self.head(at).await? else {
            return Err(Error::NotFound(format!("there is no table at {at}")));
        };
        let snapshot = self.snapshot(at, head).await?;
        for name in snapshot.file_names() {
            suspects.remove(name);
        }

        // Files that were removed from the table are still part of its past. Newest first: what is left after a recent
        // removal is found soon.
        let mut version = Some(head);
        while let (Some(this), false) = (version, suspects.is_empty()) {
            // Without the log's beginning nobody knows what belongs to it.
            let Some(entry) = self.entry(at, this).await? else {
                return Ok(0);
            };
            for name in entry.added.iter().chain(&entry.removed) {
                suspects.remove(name);
            }
            version = this.checked_sub(1);
        }

        let paths: Vec<object_store::Result<Path>> = suspects.iter().map(|name| Ok(at.file(name))).collect();
        count_removed(store.delete_stream(futures::stream::iter(paths).boxed())).await
    }

    /// Writes a checkpoint when `version` is due one. Without it a reader reads more versions, and no less truth.
    pub(super) async fn checkpoint_if_due(&self, at: &TableLocation, version: Version) {
        if !(version + 1).is_multiple_of(log::CHECKPOINT_INTERVAL) {
            return;
        }
        if let Err(error) = self.checkpoint(at, version).await {
            warn!(table = %at, version, %error, "a checkpoint could not be written; reading the table takes longer");
        }
    }

    async fn checkpoint(&self, at: &TableLocation, version: Version) -> Result<()> {
        let mut table = DeltaTable::new(Guard::open(self.bucket(), at));
        table.load_version(version).await.map_err(failed)?;
        checkpoints::create_checkpoint(&table, None).await.map_err(failed)
    }
}

fn is_data_file(name: &str) -> bool {
    name.ends_with(".parquet") && !name.starts_with("_delta_log/")
}

async fn count_removed(mut removed: futures::stream::BoxStream<'static, object_store::Result<Path>>) -> Result<u64> {
    let mut count = 0;
    while let Some(result) = removed.next().await {
        match result {
            Ok(_) => count += 1,
            // Somebody was faster.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
