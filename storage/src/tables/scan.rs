//! A table as a query sees it, and a record of what the query would read.
//!
//! # Invariants
//! - The plan is a stock `DataSourceExec` over Parquet files below [`Bucket::ROOT`]: every engine that can carry a
//!   DataFusion plan can carry it.
//! - Planning asks the object store for nothing.
//! - What is noted in a [`ScanLog`] depends on the query and the version of the table alone: not on caches, retries or
//!   the number of workers. It is what the query is billed for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Constraints, Result as DataFusionResult, Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::{TableLocation, TableSnapshot, Version};
use crate::bucket::Bucket;

/// One version of a table, ready to be planned over.
pub struct WarehouseTable {
    snapshot: Arc<TableSnapshot>,
    keys: Constraints,
    scans: ScanLog,
}

impl WarehouseTable {
    pub(super) fn new(snapshot: Arc<TableSnapshot>, keys: Constraints, scans: ScanLog) -> Self {
        Self { snapshot, keys, scans }
    }

    /// The version that is read.
    pub fn snapshot(&self) -> &Arc<TableSnapshot> {
        &self.snapshot
    }

    /// The files that are needed: those that may match, and of those, without filters, enough for the limit.
    fn files(&self, session: &dyn Session, filters: &[Expr], limit: Option<usize>) -> Vec<usize> {
        let mut files = self.snapshot.matching(session, filters);
        if let (Some(limit), true) = (limit, filters.is_empty()) {
            let mut rows = 0;
            let enough = files.iter().position(|file| {
                rows += self.snapshot.data_files()[*file].rows.unwrap_or(0);
                rows >= limit as u64
            });
            if let Some(last) = enough {
                files.truncate(last + 1);
            }
        }
        files
    }

    /// The columns whose values are looked at: those that are asked for, and those that are filtered by.
    fn columns(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> BTreeSet<usize> {
        let schema = self.snapshot.view_schema();
        let Some(projection) = projection else {
            return (0..schema.fields().len()).collect();
        };
        let filtered = filters
            .iter()
            .flat_map(Expr::column_refs)
            .filter_map(|column| schema.index_of(&column.name).ok());
        projection.iter().copied().chain(filtered).collect()
    }
}

impl fmt::Debug for WarehouseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WarehouseTable").field(&self.snapshot).finish()
    }
}

#[async_trait]
impl TableProvider for WarehouseTable {
    fn schema(&self) -> SchemaRef {
        self.snapshot.view_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.keys)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // A file that survives may hold rows that do not.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let view = self.snapshot.view_schema();
        let limit = limit.filter(|_| filters.is_empty());
        let files = self.files(session, filters, limit);
        self.scans
            .record(&self.snapshot, &self.columns(projection, filters), &files);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&view, projection)?)));
        }

        let opened: Vec<_> = files
            .iter()
            .map(|file| self.snapshot.data_files()[*file].opened.clone())
            .collect();
        let mut statistics = summary(&opened, &view)?;
        if limit.is_some() && files.len() < self.snapshot.files() {
            // Other files would have done as well.
            statistics = statistics.to_inexact();
        }
        let groups: DataFusionResult<Vec<FileGroup>> =
            balanced(opened, session.config_options().execution.target_partitions)
                .into_iter()
                .map(|files| {
                    let statistics = Arc::new(summary(&files, &view)?);
                    Ok(FileGroup::new(files).with_statistics(statistics))
                })
                .collect();

        let root = ObjectStoreUrl::parse(Bucket::ROOT)?;
        let parquet = session.config_options().execution.parquet.clone();
        let metadata_size_hint = parquet.metadata_size_hint;
        let mut source = ParquetSource::new(TableSchema::from(view))
            .with_table_parquet_options(TableParquetOptions {
                global: parquet,
                ..TableParquetOptions::default()
            })
            .with_parquet_file_reader_factory(footers_known(session.runtime_env(), &root)?);
        if let Some(hint) = metadata_size_hint {
            source = source.with_metadata_size_hint(hint);
        }
        let config = FileScanConfigBuilder::new(root, Arc::new(source))
            .with_file_groups(groups?)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Opens files with the footers that this process has read before.
fn footers_known(runtime: &RuntimeEnv, root: &ObjectStoreUrl) -> DataFusionResult<Arc<dyn ParquetFileReaderFactory>> {
    Ok(Arc::new(CachedParquetFileReaderFactory::new(
        runtime.object_store(root)?,
        runtime.cache_manager.get_file_metadata_cache(),
    )))
}

/// A plan that came from another process, with what does not travel: the footers that this one knows.
pub fn arrived(plan: Arc<dyn ExecutionPlan>, runtime: &RuntimeEnv) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let root = ObjectStoreUrl::parse(Bucket::ROOT)?;
    let arrived = plan.transform_down(|node| {
        let scan = node.downcast_ref::<DataSourceExec>();
        let config = scan.and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
        let Some(config) = config.filter(|config| config.object_store_url == root) else {
            return Ok(Transformed::no(node));
        };
        let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else {
            return Ok(Transformed::no(node));
        };
        let source = source
            .clone()
            .with_parquet_file_reader_factory(footers_known(runtime, &root)?);
        let config = FileScanConfigBuilder::from(config.clone())
            .with_source(Arc::new(source))
            .build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(config) as _))
    })?;
    Ok(arrived.data)
}

/// `files` in at most `partitions` groups of about equal bytes, the same groups every time.
fn balanced(mut files: Vec<PartitionedFile>, partitions: usize) -> Vec<Vec<PartitionedFile>> {
    files.sort_by(|a, b| {
        let (a, b) = (&a.object_meta, &b.object_meta);
        b.size.cmp(&a.size).then_with(|| a.location.cmp(&b.location))
    });
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); partitions.clamp(1, files.len().max(1))];
    for file in files {
        // The largest file left goes where there is least.
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            // A file without bytes still takes a turn.
            *bytes += file.object_meta.size.max(1);
            group.push(file);
        }
    }
    groups
        .into_iter()
        .map(|(_, group)| group)
        .filter(|group| !group.is_empty())
        .collect()
}

/// What is known about `files` together.
fn summary(files: &[PartitionedFile], schema: &SchemaRef) -> DataFusionResult<Statistics> {
    Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), schema)
}

/// What the plans of a query would read: each column of each file once, however often the query mentions it. Clones
/// are the same log.
#[derive(Clone, Default)]
pub struct ScanLog(Arc<Mutex<BTreeMap<(TableLocation, Version), Scan>>>);

struct Scan {
    snapshot: Arc<TableSnapshot>,
    /// Every file that is looked at, even for no column: counting rows opens nothing, but it is of these files.
    files: BTreeSet<usize>,
    /// For each column the files it is read from.
    columns: BTreeMap<usize, BTreeSet<usize>>,
}

/// What a query would read of one version of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The table.
    pub table: TableLocation,
    /// The version of it.
    pub version: Version,
    /// The columns that are read, in the order of the table.
    pub columns: Vec<String>,
    /// How many files may hold rows the query wants.
    pub files: usize,
    /// BLAKE3 of their names in the log, in order, each followed by a line feed; in hexadecimal.
    pub files_hash: String,
    /// The logical bytes of those columns in those files.
    pub bytes: u64,
}

impl ScanLog {
    /// Notes that a plan reads `columns` of `files`, both by their position in `snapshot`.
    pub(super) fn record(&self, snapshot: &Arc<TableSnapshot>, columns: &BTreeSet<usize>, files: &[usize]) {
        let mut scans = self.lock();
        let key = (snapshot.location().clone(), snapshot.version());
        let scan = scans.entry(key).or_insert_with(|| Scan {
            snapshot: Arc::clone(snapshot),
            files: BTreeSet::new(),
            columns: BTreeMap::new(),
        });
        scan.files.extend(files);
        for column in columns {
            scan.columns.entry(*column).or_default().extend(files);
        }
    }

    /// The logical bytes of everything noted. A table at two versions is read twice.
    pub fn bytes(&self) -> u64 {
        self.lock().values().map(Scan::bytes).sum()
    }

    /// What is noted, a table at a time.
    pub fn tables(&self) -> Vec<Scanned> {
        let scanned = |((table, version), scan): (&(TableLocation, Version), &Scan)| {
            let schema = scan.snapshot.schema();
            Scanned {
                table: table.clone(),
                version: *version,
                columns: scan
                    .columns
                    .keys()
                    .map(|column| schema.field(*column).name().clone())
                    .collect(),
                files: scan.files.len(),
                files_hash: scan.files_hash(),
                bytes: scan.bytes(),
            }
        };
        self.lock().iter().map(scanned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TableLocation, Version), Scan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ScanLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tables()).finish()
    }
}

impl Scan {
    fn files_hash(&self) -> String {
        let files = self.snapshot.data_files();
        let mut names: Vec<&str> = self.files.iter().map(|file| files[*file].name()).collect();
        names.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(name.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }

    fn bytes(&self) -> u64 {
        let files = self.snapshot.data_files();
        let of = |(column, read): (&usize, &BTreeSet<usize>)| -> u64 {
            read.iter().map(|file| files[*file].logical_bytes[*column]).sum()
        };
        self.columns.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests;
