//! Which versions a table has, and what each of them says.
//!
//! A version never changes, so what was read of it once is not read again. Only the question which one is the newest
//! goes to the bucket every time.

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::kernel::{Action, EagerSnapshot};
use deltalake_core::logstore::get_actions;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::guard::Guard;
use super::log::Entry;
use super::{CommitLine, CommitNote, TableLocation, TableSnapshot, Tables, Version, failed, no_table};
use crate::{Error, Result};

/// How many versions behind a cached snapshot may be for the steps between to be read one by one.
const MAX_STEPS: Version = 8;
/// How many versions are read at a time.
const READS_IN_FLIGHT: usize = 16;

impl Tables {
    /// The newest version in the log, which may be newer than this process has seen; none if there is no log.
    pub(super) async fn head(&self, at: &TableLocation) -> Result<Option<Version>> {
        let seen = self.heads.get(at).await;
        let head = match seen {
            // A log has no gaps, so most often two small questions replace a list of the whole log.
            Some(seen) => match tokio::try_join!(self.has(at, seen), self.has(at, seen + 1))? {
                (true, false) => Some(seen),
                (true, true) => self.newest(at, Some(seen)).await?,
                // A log that does not have what it had is another log.
                (false, _) => self.newest(at, None).await?,
            },
            None => self.newest(at, None).await?,
        };
        match head {
            Some(head) if Some(head) != seen => self.heads.insert(at.clone(), head).await,
            Some(_) => {}
            None => self.heads.invalidate(at).await,
        }
        Ok(head)
    }

    async fn has(&self, at: &TableLocation, version: Version) -> Result<bool> {
        match self.bucket.store().head(&at.log_entry(version)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn newest(&self, at: &TableLocation, from: Option<Version>) -> Result<Option<Version>> {
        let (store, log) = (self.bucket.store(), at.log());
        let entries = match from {
            Some(from) => store.list_with_offset(Some(&log), &Path::from(format!("{log}/{from:020}"))),
            None => store.list(Some(&log)),
        };
        let versions = entries.try_filter_map(|entry| async move { Ok(version_of(&entry.location)) });
        let newest = versions.try_fold(None, |newest, version| async move { Ok(newest.max(Some(version))) });
        Ok(newest.await?)
    }

    /// What the query of `note` committed, at or below `head`.
    pub(super) async fn find_below(
        &self,
        at: &TableLocation,
        head: Version,
        note: &CommitNote,
    ) -> Result<Option<Arc<CommitLine>>> {
        let mut lines = self.lines_from(at, head);
        while let Some(line) = lines.try_next().await? {
            if note.since.is_some_and(|since| line.version <= since) {
                break;
            }
            if line.query.as_ref() == Some(&note.query) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The lines of the log from `head` down to the oldest that is still there.
    pub(super) fn lines_from<'a>(
        &'a self,
        at: &'a TableLocation,
        head: Version,
    ) -> stream::BoxStream<'a, Result<Arc<CommitLine>>> {
        stream::iter((0..=head).rev())
            .map(move |version| self.line(at, version))
            .buffered(READS_IN_FLIGHT)
            .try_take_while(|line| std::future::ready(Ok(line.is_some())))
            .try_filter_map(|line| std::future::ready(Ok(line)))
            .boxed()
    }

    async fn line(&self, at: &TableLocation, version: Version) -> Result<Option<Arc<CommitLine>>> {
        let key = (at.clone(), version);
        if let Some(line) = self.lines.get(&key).await {
            return Ok(Some(line));
        }
        let Some(entry) = self.entry(at, version).await? else {
            return Ok(None);
        };
        let line = Arc::new(entry.line(version));
        self.lines.insert(key, Arc::clone(&line)).await;
        Ok(Some(line))
    }

    pub(super) async fn entry(&self, at: &TableLocation, version: Version) -> Result<Option<Entry>> {
        let Some(bytes) = self.entry_bytes(at, version).await? else {
            return Ok(None);
        };
        Entry::parse(&bytes)
            .map(Some)
            .map_err(|error| Error::Internal(error.into()))
    }

    async fn entry_bytes(&self, at: &TableLocation, version: Version) -> Result<Option<Bytes>> {
        match self.bucket.store().get(&at.log_entry(version)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn read_snapshot(&self, at: &TableLocation, version: Version) -> Result<Arc<TableSnapshot>> {
        if let Some(snapshot) = self.step_from_cached(at, version).await? {
            return Ok(snapshot);
        }
        let log = Guard::open(&self.bucket, at);
        match EagerSnapshot::try_new(log.as_ref(), Some(version)).await {
            Ok(log) => Ok(Arc::new(TableSnapshot::from_log(at.clone(), &log)?)),
            Err(error) => Err(match self.head(at).await? {
                None => no_table(at),
                Some(head) if head < version => Error::NotFound(format!(
                    "the table at {at} has no version {version}; the newest is {head}"
                )),
                Some(_) => failed(error),
            }),
        }
    }

    /// The snapshot at `version`, made from a cached one a few versions before by reading only what came since.
    async fn step_from_cached(&self, at: &TableLocation, version: Version) -> Result<Option<Arc<TableSnapshot>>> {
        let mut nearest = None;
        for earlier in (version.saturating_sub(MAX_STEPS)..version).rev() {
            nearest = self.snapshots.get(&(at.clone(), earlier)).await;
            if nearest.is_some() {
                break;
            }
        }
        let Some(mut snapshot) = nearest else { return Ok(None) };

        while snapshot.version() < version {
            let Some(bytes) = self.entry_bytes(at, snapshot.version() + 1).await? else {
                return Ok(None);
            };
            let actions: Vec<Action> = get_actions(snapshot.version() + 1, &bytes).map_err(failed)?;
            match snapshot.next(&actions)? {
                Some(next) => snapshot = Arc::new(next),
                None => return Ok(None),
            }
        }
        Ok(Some(snapshot))
    }
}

fn version_of(path: &Path) -> Option<Version> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
