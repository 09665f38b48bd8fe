//! What is read of a bucket, and what need not be because it was read before.

use std::fmt;
use std::ops::{AddAssign, Range, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use serde::{Deserialize, Serialize};

/// What was read, by where it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// Bytes that the bucket was asked for.
    pub bytes: u64,
    /// How often it was asked for bytes.
    pub requests: u64,
    /// Bytes that it was not asked for, because this process still knew what they say: the ends of data files.
    pub cached_bytes: u64,
}

impl AddAssign for Reads {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.requests = self.requests.saturating_add(other.requests);
        self.cached_bytes = self.cached_bytes.saturating_add(other.cached_bytes);
    }
}

impl Sub for Reads {
    type Output = Self;

    /// What was read since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            requests: self.requests.saturating_sub(earlier.requests),
            cached_bytes: self.cached_bytes.saturating_sub(earlier.cached_bytes),
        }
    }
}

/// Counts what is read. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadCount(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    requests: AtomicU64,
    cached_bytes: AtomicU64,
}

impl ReadCount {
    /// What was read so far.
    pub(super) fn so_far(&self) -> Reads {
        let Self(counters) = self;
        Reads {
            bytes: counters.bytes.load(Relaxed),
            requests: counters.requests.load(Relaxed),
            cached_bytes: counters.cached_bytes.load(Relaxed),
        }
    }

    fn fetched(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.requests.fetch_add(1, Relaxed);
    }

    /// So many bytes need not be read again.
    pub(crate) fn cached(&self, bytes: u64) {
        self.0.cached_bytes.fetch_add(bytes, Relaxed);
    }
}

/// A store whose reads are counted.
#[derive(Debug)]
pub(super) struct Counted {
    store: Arc<dyn ObjectStore>,
    count: ReadCount,
}

impl Counted {
    pub(super) fn new(store: Arc<dyn ObjectStore>, count: ReadCount) -> Self {
        Self { store, count }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.store.get_opts(location, options).await?;
        if !is_head {
            self.count.fetched(found.range.end - found.range.start);
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.store.get_ranges(location, ranges).await?;
        self.count.fetched(found.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_is_read_is_counted_and_what_is_looked_at_or_missing_is_not() {
        let count = ReadCount::default();
        let store = Counted::new(Arc::new(InMemory::new()), count.clone());
        let path = Path::from("a");
        store.put(&path, "0123456789".into()).await.expect("it is written");

        store.head(&path).await.expect("it is there");
        store.get(&Path::from("b")).await.expect_err("there is none");
        assert_eq!(count.so_far(), Reads::default());

        store.get(&path).await.expect("all of it");
        store.get_range(&path, 2..5).await.expect("some of it");
        let before = count.so_far();
        store.get_ranges(&path, &[0..1, 8..10]).await.expect("pieces of it");
        count.cached(7);

        let reads = |bytes, requests, cached_bytes| Reads {
            bytes,
            requests,
            cached_bytes,
        };
        assert_eq!(before, reads(13, 2, 0));
        assert_eq!(count.so_far() - before, reads(3, 1, 7));
    }
}
