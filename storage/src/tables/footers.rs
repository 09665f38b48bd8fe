//! The footers of data files that a process has read, so that it reads each once.
//!
//! A file of a table never changes, so neither does its footer, and a table's place is never used twice: the path is the key.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{HashMap, Result as DataFusionResult, TableReference};
// There is another type of this name, which caches do not hold.
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheEntryInfo};
use object_store::path::Path;

use crate::bucket::{Bucket, ReadCount};

/// A cache of footers that takes at most so many bytes of memory. What it spares `bucket` is counted there.
pub fn footers(bucket: &Bucket, most: usize) -> Arc<FileMetadataCache> {
    Arc::new(Footers {
        cache: DefaultCache::new(most),
        count: bucket.read_count().clone(),
    })
}

struct Footers {
    cache: DefaultCache<Path, CachedFileMetadataEntry>,
    count: ReadCount,
}

impl Cache<Path, CachedFileMetadataEntry> for Footers {
    fn get(&self, file: &Path) -> Option<CachedFileMetadataEntry> {
        let known = self.cache.get(file)?;
        self.count.cached(behind_data(&known));
        Some(known)
    }

    fn put(&self, file: &Path, footer: CachedFileMetadataEntry) -> Option<CachedFileMetadataEntry> {
        self.cache.put(file, footer)
    }

    fn remove(&self, file: &Path) -> Option<CachedFileMetadataEntry> {
        self.cache.remove(file)
    }

    fn contains_key(&self, file: &Path) -> bool {
        self.cache.contains_key(file)
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn clear(&self) {
        self.cache.clear();
    }

    fn name(&self) -> String {
        "footers".to_owned()
    }

    fn cache_limit(&self) -> usize {
        self.cache.cache_limit()
    }

    fn update_cache_limit(&self, limit: usize) {
        self.cache.update_cache_limit(limit);
    }

    fn cache_ttl(&self) -> Option<Duration> {
        self.cache.cache_ttl()
    }

    fn update_cache_ttl(&self, ttl: Option<Duration>) {
        self.cache.update_cache_ttl(ttl);
    }

    fn drop_table_entries(&self, table: &TableReference) -> DataFusionResult<()> {
        self.cache.drop_table_entries(table)
    }

    fn list_entries(&self) -> HashMap<Path, CacheEntryInfo<CachedFileMetadataEntry>> {
        self.cache.list_entries()
    }
}

/// How many bytes of a file are behind its rows: its footer, and the indexes of its pages.
fn behind_data(entry: &CachedFileMetadataEntry) -> u64 {
    let Some(footer) = entry.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>() else {
        return 0;
    };
    let groups = footer.parquet_metadata().row_groups();
    let columns = groups.iter().flat_map(|group| group.columns());
    let ends = columns.map(|column| {
        let (start, bytes) = column.byte_range();
        start + bytes
    });
    entry.meta.size.saturating_sub(ends.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::execution::cache::cache_manager::CacheManagerConfig;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::tables::harness::World;
    use crate::tables::{Keys, ScanLog};

    #[tokio::test]
    async fn a_footer_is_read_once_and_then_counted_as_known() {
        let world = World::new();
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let rows = RecordBatch::try_from_iter([("n", rows)]).expect("columns of one length");
        let snapshot = world.create(&[rows]).await;
        let bucket = world.tables.bucket();
        let cache = CacheManagerConfig::default().with_file_metadata_cache(Some(footers(bucket, 1 << 20)));
        let runtime = RuntimeEnvBuilder::new().with_cache_manager(cache).build_arc();
        let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime.expect("a runtime"));
        session.register_object_store(&Bucket::root_url(), bucket.store());
        let table = snapshot.provider(&Keys::default(), ScanLog::default());
        session.register_table("t", table).expect("the name is free");

        let mut reads = Vec::new();
        for _ in 0..2 {
            let before = bucket.reads();
            let query = session.sql("select sum(n) from t").await.expect("good SQL");
            query.collect().await.expect("the table can be read");
            reads.push(bucket.reads() - before);
        }

        let [first, again] = reads.as_slice() else {
            panic!("it was asked twice")
        };
        assert_eq!(first.cached_bytes, 0, "{first:?}");
        assert!(again.cached_bytes > 0, "{again:?}");
        assert!(again.bytes < first.bytes, "{again:?}");
    }
}
