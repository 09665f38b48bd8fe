//! A table at one version: its columns, its files, and what is known about them.
//!
//! # Invariants
//! - A snapshot never changes. Whoever holds one reads the same rows for as long as the files exist.
//! - Everything a plan needs is parsed when the snapshot is built: planning over a snapshot asks the object store for
//!   nothing.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use deltalake_core::kernel::{Action, Add, EagerSnapshot, Remove};
use object_store::ObjectMeta;
use serde::Deserialize;

use super::scan::{ScanLog, WarehouseTable};
use super::{Keys, TableLocation, Version, stats};
use crate::clock::Timestamp;
use crate::{Error, Result};

/// What a snapshot weighs in a cache, roughly: itself, a file, and a column of a file.
const BYTES_PER_SNAPSHOT: usize = 2_048;
const BYTES_PER_FILE: usize = 512;
const BYTES_PER_COLUMN: usize = 320;

/// A table at one version.
pub struct TableSnapshot {
    location: TableLocation,
    version: Version,
    schema: SchemaRef,
    /// The schema that queries see: texts as views, which are cheaper to filter and to group by. Binaries are none, since
    /// many functions do not take such.
    view: SchemaRef,
    files: Vec<Arc<TableFile>>,
    /// What pruning asks for, a column at a time, made when it is first asked for.
    bounds: Vec<OnceLock<ColumnBounds>>,
}

/// A data file of a snapshot.
pub(super) struct TableFile {
    /// Its name below the table's location, as in the log.
    name: String,
    /// What a scan opens, with statistics for every column.
    pub(super) opened: PartitionedFile,
    pub(super) rows: Option<u64>,
    /// The bytes of each column that a query pays for.
    pub(super) logical_bytes: Vec<u64>,
}

#[derive(Default)]
struct ColumnBounds {
    low: Option<ArrayRef>,
    high: Option<ArrayRef>,
    nulls: Option<ArrayRef>,
}

impl TableSnapshot {
    /// A snapshot of `files`.
    pub(super) fn new<'a>(
        location: TableLocation,
        version: Version,
        schema: SchemaRef,
        files: impl IntoIterator<Item = &'a Add>,
    ) -> Result<Self> {
        let view = viewed(&schema);
        let files: Result<Vec<_>> = files
            .into_iter()
            .map(|add| TableFile::new(&location, &view, add).map(Arc::new))
            .collect();
        Ok(Self::of(location, version, schema, view, files?))
    }

    /// The library's reading of a log as a snapshot, if it is a table of the kind we write.
    pub(super) fn from_log(location: TableLocation, log: &EagerSnapshot) -> Result<Self> {
        refuse_unknown_features(&location, log)?;
        #[expect(
            deprecated,
            reason = "the tags of a file come out of the library through no other door"
        )]
        let files: Vec<Add> = log.log_data().iter().map(|file| file.add_action()).collect();
        if files.iter().any(|file| file.deletion_vector.is_some()) {
            return Err(not_ours(&location, "deletion vectors"));
        }
        Self::new(location, log.version(), log.arrow_schema(), &files)
    }

    /// This snapshot after one more version; none when that version changes more than files.
    pub(super) fn next(&self, actions: &[Action]) -> Result<Option<Self>> {
        let mut removed = HashSet::new();
        let mut added = Vec::new();
        for action in actions {
            match action {
                Action::Add(add) if add.deletion_vector.is_none() => added.push(add),
                Action::Remove(remove) => {
                    removed.insert(remove.path.as_str());
                }
                Action::CommitInfo(_) | Action::Txn(_) => {}
                _ => return Ok(None),
            }
        }
        // A file that is added again replaces itself.
        removed.extend(added.iter().map(|add| add.path.as_str()));

        let mut files: Vec<_> = self
            .files
            .iter()
            .filter(|file| !removed.contains(file.name.as_str()))
            .cloned()
            .collect();
        for add in added {
            files.push(Arc::new(TableFile::new(&self.location, &self.view, add)?));
        }
        let (schema, view) = (Arc::clone(&self.schema), Arc::clone(&self.view));
        Ok(Some(Self::of(
            self.location.clone(),
            self.version + 1,
            schema,
            view,
            files,
        )))
    }

    fn of(
        location: TableLocation,
        version: Version,
        schema: SchemaRef,
        view: SchemaRef,
        mut files: Vec<Arc<TableFile>>,
    ) -> Self {
        // One order, however the snapshot was come by: a limit takes the first files, and is billed for them.
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let bounds = schema.fields().iter().map(|_| OnceLock::new()).collect();
        Self {
            location,
            version,
            schema,
            view,
            files,
            bounds,
        }
    }

    /// Where the table is.
    pub fn location(&self) -> &TableLocation {
        &self.location
    }

    /// Which version of the table this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The columns as they are stored; what a writer must produce.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The columns as queries see them: like [`Self::schema`], with texts as views.
    pub fn view_schema(&self) -> SchemaRef {
        Arc::clone(&self.view)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.files.iter().filter_map(|file| file.rows).sum()
    }

    /// How many bytes its files take in the bucket.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.opened.object_meta.size).sum()
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// How many bytes a query over all columns and rows pays for.
    pub fn logical_bytes(&self) -> u64 {
        self.files.iter().flat_map(|file| &file.logical_bytes).sum()
    }

    /// The table for a query, with the keys that its planner may believe; what its plans would read is noted in `scans`.
    pub fn provider(self: &Arc<Self>, keys: &Keys, scans: ScanLog) -> Arc<WarehouseTable> {
        let keys = keys.constraints(&self.view);
        Arc::new(WarehouseTable::new(Arc::clone(self), keys, scans))
    }

    pub(super) fn data_files(&self) -> &[Arc<TableFile>] {
        &self.files
    }

    /// The names of all files below the table's location.
    pub(super) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// The actions that remove every file.
    pub(super) fn removals(&self, at: Timestamp) -> Vec<Action> {
        let removal = |file: &Arc<TableFile>| {
            Action::Remove(Remove {
                path: file.name.clone(),
                data_change: true,
                deletion_timestamp: Some(at.micros().div_euclid(1_000)),
                extended_file_metadata: Some(true),
                partition_values: Some(std::collections::HashMap::new()),
                size: i64::try_from(file.opened.object_meta.size).ok(),
                ..Remove::default()
            })
        };
        self.files.iter().map(removal).collect()
    }

    /// Which files may hold a row that passes all `filters`. All, when that cannot be told from statistics.
    pub(super) fn matching(&self, session: &dyn Session, filters: &[Expr]) -> Vec<usize> {
        let all = || (0..self.files.len()).collect();
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return all();
        };

        let max_in_list_size = session.config_options().execution.parquet.max_in_list_size;
        let keep = DFSchema::try_from(self.view_schema())
            .and_then(|schema| session.create_physical_expr(filter, &schema))
            .and_then(|filter| {
                PruningPredicateBuilder::new()
                    .with_file_schema(self.view_schema())
                    .with_max_in_list_size(max_in_list_size)
                    .try_build(filter)
            })
            .and_then(|predicate| predicate.prune(self));
        match keep {
            Ok(keep) => keep
                .into_iter()
                .enumerate()
                .filter_map(|(file, keep)| keep.then_some(file))
                .collect(),
            // The filter still runs over the rows; only the shortcut is lost.
            Err(_) => all(),
        }
    }

    /// What it takes in memory, roughly.
    pub(super) fn weight(&self) -> u32 {
        let file = BYTES_PER_FILE + BYTES_PER_COLUMN * self.schema.fields().len();
        u32::try_from(BYTES_PER_SNAPSHOT + file * self.files.len()).unwrap_or(u32::MAX)
    }

    fn bounds_of(&self, column: &Column) -> Option<&ColumnBounds> {
        let index = self.view.index_of(&column.name).ok()?;
        let statistics = || self.files.iter().map(|file| file.column(index));
        Some(self.bounds[index].get_or_init(|| {
            let data_type = self.view.field(index).data_type();
            let nulls: UInt64Array = statistics()
                .map(|column| column?.null_count.get_value().map(|nulls| *nulls as u64))
                .collect();
            ColumnBounds {
                low: bound(
                    data_type,
                    statistics().map(|column| column?.min_value.get_value().cloned()),
                ),
                high: bound(
                    data_type,
                    statistics().map(|column| column?.max_value.get_value().cloned()),
                ),
                nulls: Some(Arc::new(nulls)),
            }
        }))
    }
}

impl fmt::Debug for TableSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSnapshot")
            .field("location", &self.location)
            .field("version", &self.version)
            .field("files", &self.files.len())
            .finish()
    }
}

impl TableFile {
    /// Its name below the table's location, as in the log.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn new(location: &TableLocation, view: &SchemaRef, add: &Add) -> Result<Self> {
        let tag = add
            .tags
            .as_ref()
            .and_then(|tags| tags.get(stats::LOGICAL_BYTES_TAG))
            .cloned()
            .flatten();
        // Bounds that somebody else wrote may be rounded the wrong way; ours are not.
        let trusted = add.stats.as_deref().filter(|_| tag.is_some());
        let rows = stats::rows(add.stats.as_deref());
        let logical_bytes = stats::logical_bytes_from_tag(tag.as_deref(), view);
        let total: u64 = logical_bytes.iter().sum();

        let statistics = Statistics {
            num_rows: rows
                .and_then(|rows| usize::try_from(rows).ok())
                .map_or(Precision::Absent, Precision::Exact),
            total_byte_size: usize::try_from(total).map_or(Precision::Absent, Precision::Inexact),
            column_statistics: stats::column_statistics(trusted, &logical_bytes, view),
        };
        let broken = |what: &str| Error::Internal(format!("{} in the log of {location} has {what}", add.path).into());
        let meta = ObjectMeta {
            location: location.file(&add.path),
            last_modified: DateTime::from_timestamp_millis(add.modification_time)
                .ok_or_else(|| broken("an impossible modification time"))?,
            size: u64::try_from(add.size).map_err(|_| broken("an impossible size"))?,
            e_tag: None,
            version: None,
        };
        let opened = PartitionedFile::new_from_meta(meta).with_statistics(Arc::new(statistics));
        Ok(Self {
            name: add.path.clone(),
            opened,
            rows,
            logical_bytes,
        })
    }

    fn column(&self, index: usize) -> Option<&ColumnStatistics> {
        self.opened.statistics.as_ref()?.column_statistics.get(index)
    }
}

impl PruningStatistics for TableSnapshot {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds_of(column)?.low.clone()
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds_of(column)?.high.clone()
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds_of(column)?.nulls.clone()
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(
            self.files.iter().map(|file| file.rows).collect::<UInt64Array>(),
        ))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// One array with a bound per file, NULL where there is none; nothing when no file has one.
fn bound(data_type: &DataType, bounds: impl Iterator<Item = Option<ScalarValue>>) -> Option<ArrayRef> {
    let null = ScalarValue::try_from(data_type).ok()?;
    let bounds: Vec<Option<ScalarValue>> = bounds.collect();
    if bounds.iter().all(Option::is_none) {
        return None;
    }
    ScalarValue::iter_to_array(bounds.into_iter().map(|bound| bound.unwrap_or_else(|| null.clone()))).ok()
}

fn viewed(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => renamed(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
}

/// A column whose lists and maps call their parts as those that a query makes: the engine's functions take a list of another
/// name for one of another type.
fn renamed(field: &FieldRef) -> FieldRef {
    let called = |part: &FieldRef, name| Arc::new(renamed(part).as_ref().clone().with_name(name));
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(called(item, Field::LIST_FIELD_DEFAULT_NAME)),
        DataType::Map(entries, sorted) => DataType::Map(called(entries, "entries"), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(renamed).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// A table that some other engine has changed may need a reader to know more than Parquet files.
fn refuse_unknown_features(location: &TableLocation, log: &EagerSnapshot) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Protocol {
        min_reader_version: u32,
        reader_features: Option<Vec<String>>,
    }

    // The library's own fields are private; what it writes is not.
    let protocol: Result<Protocol, _> = serde_json::to_value(log.protocol()).and_then(serde_json::from_value);
    let protocol = protocol.map_err(|error| Error::Internal(error.into()))?;
    let unknown = protocol
        .reader_features
        .iter()
        .flatten()
        .find(|feature| *feature != "timestampNtz");
    if let Some(feature) = unknown {
        return Err(not_ours(location, feature));
    }
    if protocol.min_reader_version == 2 {
        return Err(not_ours(location, "column mapping"));
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        partition_columns: Vec<String>,
    }
    let metadata: Result<Metadata, _> = serde_json::to_value(log.metadata()).and_then(serde_json::from_value);
    if !metadata
        .map_err(|error| Error::Internal(error.into()))?
        .partition_columns
        .is_empty()
    {
        return Err(not_ours(location, "partition columns"));
    }
    Ok(())
}

fn not_ours(location: &TableLocation, feature: &str) -> Error {
    Error::Invalid(format!(
        "the table at {location} uses {feature}, which Wasmhouse does not read"
    ))
}
