//! The scan of a text file by as many readers as write it, on as many workers as the load has.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec, ScaleUpLeafNodeEvent,
    ScaleUpLeafNodeEventResponse,
};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use wasmhouse_storage::bucket::Bucket;

use super::csv::{self, Dialect};
use super::parts::{self, Part};
use super::{BATCHES_IN_FLIGHT, Staged, json};
use crate::worker::write::writers;

/// How rows are spelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Spelling {
    /// Separated values.
    Csv(Dialect),
    /// JSON lines. Columns that were guessed are those of the file's first rows, and of no table.
    Json { are_guessed: bool },
}

/// A text file whose columns are known.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    pub(super) staged: Staged,
    pub(super) spelling: Spelling,
    pub(super) schema: SchemaRef,
}

impl TextFile {
    /// The rows of a part.
    pub(super) fn batches(&self, part: &Part) -> BoxStream<'static, Result<RecordBatch>> {
        match &self.spelling {
            Spelling::Csv(dialect) => Box::pin(csv::batches(&self.staged, part, dialect, &self.schema)),
            Spelling::Json { are_guessed } => Box::pin(json::batches(&self.staged, part, &self.schema, *are_guessed)),
        }
    }
}

/// The file as a table.
#[derive(Debug)]
pub(super) struct TextTable {
    pub(super) file: TextFile,
    pub(super) parts: Vec<Part>,
}

#[async_trait]
impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.file.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.file.schema.fields().len()).collect(),
        };
        // What one writer is enough for is read by two all the same: by one, it would be the plan of one task.
        let at_most = state.config().target_partitions();
        let readers = readers(&self.parts, 1, at_most).max(at_most.min(self.parts.len()).min(2));
        let shares = parts::dealt(&self.parts, readers);
        Ok(Arc::new(ReadText::new(self.file.clone(), columns, shares)?))
    }
}

/// How many readers of `parts` each of so many tasks has: as many as there are to be writers, if the file can be cut so often.
fn readers(parts: &[Part], tasks: usize, at_most: usize) -> usize {
    let bytes: u64 = parts.iter().map(Part::bytes).sum();
    let writers = writers(bytes.div_ceil(tasks as u64), at_most);
    writers.min(parts.len().div_ceil(tasks)).max(1)
}

/// Reads the parts of a text file, each partition its share.
#[derive(Debug)]
pub(super) struct ReadText {
    file: TextFile,
    /// Which columns come out, in this order.
    columns: Vec<usize>,
    shares: Vec<Vec<Part>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReadText {
    fn new(file: TextFile, columns: Vec<usize>, shares: Vec<Vec<Part>>) -> Result<Self> {
        let schema = Arc::new(file.schema.project(&columns)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(shares.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Self {
            file,
            columns,
            shares,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same for each of so many tasks, which together read what this one does.
    fn for_tasks(&self, tasks: usize, at_most: usize) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
        let all = self.shares.concat();
        let readers = readers(&all, tasks, at_most);
        let shares = parts::dealt(&all, tasks * readers);
        let task = |shares: &[Vec<Part>]| {
            let task = Self::new(self.file.clone(), self.columns.clone(), shares.to_vec())?;
            Ok(Arc::new(task) as Arc<dyn ExecutionPlan>)
        };
        shares.chunks(readers).map(task).collect()
    }
}

impl DisplayAs for ReadText {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.file.spelling {
            Spelling::Csv(_) => "CSV",
            Spelling::Json { .. } => "JSON lines",
        };
        let parts: usize = self.shares.iter().map(Vec::len).sum();
        write!(f, "ReadText: {format}, parts={parts}")
    }
}

impl ExecutionPlan for ReadText {
    fn name(&self) -> &str {
        "ReadText"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a file has no inputs"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // A task of its own, so that text is parsed on one thread while files are encoded on another.
        let mut batches = RecordBatchReceiverStream::builder(self.schema(), BATCHES_IN_FLIGHT);
        let (file, columns, out) = (self.file.clone(), self.columns.clone(), batches.tx());
        let share = self.shares[partition].clone();
        let counted = BaselineMetrics::new(&self.metrics, partition);
        let bytes_scanned = MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition);
        batches.spawn(async move {
            for part in share {
                let mut rows = file.batches(&part);
                while let Some(batch) = rows.try_next().await? {
                    let batch = batch.project(&columns)?;
                    counted.record_output(batch.num_rows());
                    if out.send(Ok(batch)).await.is_err() {
                        // Nobody wants the rest.
                        return Ok(());
                    }
                }
                bytes_scanned.add(usize::try_from(part.bytes()).unwrap_or(usize::MAX));
            }
            Ok(())
        });
        Ok(batches.build())
    }
}

/// A file can be read by as many tasks as it has parts.
pub(in crate::worker) fn desired_tasks(
    event: DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    let scan = event.plan.downcast_ref::<ReadText>()?;
    let parts = scan.shares.iter().map(Vec::len).sum();
    Some(Ok(DesiredTaskCountEventResponse::desired(parts)))
}

/// Gives each task of a scan its parts.
pub(in crate::worker) fn scaled_up(event: ScaleUpLeafNodeEvent<'_>) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let scan = event.plan.downcast_ref::<ReadText>()?;
    let at_most = event.session_config.target_partitions();
    let tasks = scan.for_tasks(event.task_count, at_most);
    let leaf = tasks.and_then(|tasks| DistributedLeafExec::try_new(Arc::clone(event.plan), tasks));
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// A scan as it travels to another worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Travelling {
    path: String,
    spelling: Spelling,
    schema: Schema,
    columns: Vec<usize>,
    shares: Vec<Vec<Part>>,
}

impl Travelling {
    pub(super) fn of(scan: &ReadText) -> Self {
        Self {
            path: scan.file.staged.path.to_string(),
            spelling: scan.file.spelling.clone(),
            schema: scan.file.schema.as_ref().clone(),
            columns: scan.columns.clone(),
            shares: scan.shares.clone(),
        }
    }

    pub(super) fn arrive(self, bucket: &Bucket) -> Result<ReadText, DataFusionError> {
        let file = TextFile {
            staged: Staged {
                store: bucket.store(),
                path: Path::from(self.path),
            },
            spelling: self.spelling,
            schema: Arc::new(self.schema),
        };
        ReadText::new(file, self.columns, self.shares)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};
    use object_store::memory::InMemory;

    use super::*;
    use crate::cuts::Cut;

    #[test]
    fn tasks_together_read_each_part_once() {
        let cuts: Vec<Cut> = (1..40)
            .map(|part| Cut {
                at: part << 23,
                line: part,
            })
            .collect();
        let all = parts::of(40 << 23, &cuts);
        let file = TextFile {
            staged: Staged {
                store: Arc::new(InMemory::new()),
                path: Path::from("upload"),
            },
            spelling: Spelling::Json { are_guessed: false },
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
        };
        let scan = ReadText::new(file, vec![0], parts::dealt(&all, 4)).expect("a scan");

        for (tasks, at_most) in [(1, 1), (2, 2), (3, 8), (7, 1), (40, 4)] {
            let scans = scan.for_tasks(tasks, at_most).expect("scans");
            assert_eq!(scans.len(), tasks);
            let shares = scans.iter().map(|scan| {
                let scan = scan.downcast_ref::<ReadText>().expect("a scan of text");
                assert!(scan.shares.len() <= at_most);
                scan.shares.concat()
            });
            assert_eq!(shares.collect::<Vec<_>>().concat(), all, "{tasks} tasks");
        }
    }
}
