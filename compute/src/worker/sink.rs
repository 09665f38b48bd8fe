//! A plan whose rows are files: each partition of its input becomes files of the bucket, on whatever worker of the query it
//! runs, and the rows that come out say which.
//!
//! # Invariants
//! - No two parts of an attempt have the same number, so no file is written by two.
//! - The files are nothing to anybody until the gateway has named them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions, execute_stream,
};
use datafusion_distributed::DistributedTaskContext;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use futures::{TryStreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::tables::{TableLocation, WriteOptions, write_files};

use super::export;
use super::head::Stop;
use crate::Error;
use crate::sql::blame;
use crate::task::{Action, ExportFormat, Task};

/// What rows become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Sink {
    /// Files of a table that has these columns.
    Table {
        at: TableLocation,
        columns: Schema,
        query: QueryId,
        attempt: u32,
    },
    /// Files for other programs, in a folder that no other query writes to.
    Export {
        to: String,
        format: ExportFormat,
        attempt: u32,
    },
}

impl Sink {
    /// What the rows of `task` become, if they are not its answer. `columns` are those of the files.
    pub(super) fn of(task: &Task, columns: &Schema) -> Option<Self> {
        match &task.action {
            Action::Return => None,
            Action::Write { at, .. } | Action::Load { at, .. } => Some(Sink::Table {
                at: at.clone(),
                // A file holds rows, and nothing that its table is said to be.
                columns: Schema::new(columns.fields().clone()),
                query: task.query.clone(),
                attempt: task.attempt,
            }),
            Action::Export { to, format } => Some(Sink::Export {
                to: to.clone(),
                format: *format,
                attempt: task.attempt,
            }),
        }
    }

    /// Writes one part, and says of each file what the gateway is to know.
    async fn write(
        &self,
        bucket: &Bucket,
        rows: SendableRecordBatchStream,
        part: u32,
    ) -> Result<Vec<String>, DataFusionError> {
        match self {
            Sink::Table {
                at,
                columns,
                query,
                attempt,
            } => {
                let options = WriteOptions::new(query.clone(), *attempt, part);
                let files = write_files(bucket, at, &Arc::new(columns.clone()), rows, &options).await;
                files.map_err(of_the_rows)?.iter().map(to_text).collect()
            }
            Sink::Export { to, format, attempt } => {
                let path = export::path(to, *attempt, part, *format);
                let file = export::file(bucket.store(), path, *format, rows, part).await?;
                file.iter().map(to_text).collect()
            }
        }
    }
}

/// A failure of the rows themselves comes wrapped in that of their writer.
fn of_the_rows(error: wasmhouse_storage::Error) -> DataFusionError {
    match error {
        wasmhouse_storage::Error::Internal(source) => match source.downcast::<DataFusionError>() {
            Ok(error) => *error,
            Err(source) => DataFusionError::External(wasmhouse_storage::Error::Internal(source).into()),
        },
        error => DataFusionError::External(error.into()),
    }
}

fn to_text(file: &impl Serialize) -> Result<String, DataFusionError> {
    serde_json::to_string(file).map_err(|error| DataFusionError::External(error.into()))
}

/// Runs a plan that ends in a [`SinkExec`], here and wherever else its parts are, and reads what it wrote.
pub(super) async fn files<T: DeserializeOwned>(
    plan: &Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<Vec<T>, Stop> {
    let mut rows = execute_stream(Arc::clone(plan), context)?;
    let mut files = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        for text in batch.column(0).as_string::<i32>().iter().flatten() {
            files.push(serde_json::from_str(text).map_err(|error| Error::Internal(error.into()))?);
        }
    }
    Ok(files)
}

/// Writes what its input has, each partition for itself.
#[derive(Debug)]
pub(super) struct SinkExec {
    input: Arc<dyn ExecutionPlan>,
    sink: Arc<Sink>,
    bucket: Bucket,
    properties: Arc<PlanProperties>,
    /// Rows that have come so far, of the parts that run in this process.
    rows: Arc<AtomicU64>,
}

impl SinkExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, sink: Arc<Sink>, bucket: Bucket, rows: Arc<AtomicU64>) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(said()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self {
            input,
            sink,
            bucket,
            properties,
            rows,
        }
    }
}

/// The one column of what a sink says: a file, as JSON.
fn said() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("file", DataType::Utf8, false)]))
}

impl DisplayAs for SinkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sink.as_ref() {
            Sink::Table { .. } => f.write_str("SinkExec: files of a table"),
            Sink::Export { .. } => f.write_str("SinkExec: files of an export"),
        }
    }
}

impl ExecutionPlan for SinkExec {
    fn name(&self) -> &str {
        "SinkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// One writer is enough for rows that come from one place.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("a sink has one input");
        };
        let (sink, rows) = (Arc::clone(&self.sink), Arc::clone(&self.rows));
        Ok(Arc::new(Self::new(input, sink, self.bucket.clone(), rows)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let task = DistributedTaskContext::from_ctx(&context);
        // Every task has the same partitions, and these are the parts of no other.
        let part = u32::try_from(partition * task.task_count + task.task_index)
            .expect("a query has fewer parts than 2^32, since each has a stream in memory");
        let rows = self.input.execute(partition, context)?;
        let (schema, count) = (rows.schema(), Arc::clone(&self.rows));
        let rows = rows.inspect_ok(move |batch| {
            count.fetch_add(batch.num_rows() as u64, Relaxed);
        });
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));

        let (sink, bucket) = (Arc::clone(&self.sink), self.bucket.clone());
        let written = async move {
            // A task of its own, so that partitions are encoded on different threads.
            let work = tokio::spawn(async move { sink.write(&bucket, rows, part).await });
            let files = AbortOnDropHandle::new(work)
                .await
                .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            let files = StringArray::from(files.map_err(blame::for_another_worker)?);
            Ok(RecordBatch::try_new(said(), vec![Arc::new(files)])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(said(), stream::once(written))))
    }
}

/// Plans rows as another planner does, and puts a sink below them before their parts are given to workers.
#[derive(Debug)]
pub(super) struct SinkPlanner {
    pub(super) of_rows: Arc<dyn QueryPlanner + Send + Sync>,
    pub(super) sink: Arc<Sink>,
    pub(super) bucket: Bucket,
    /// Counts the rows of the parts that run in this process.
    pub(super) count: Arc<AtomicU64>,
}

#[async_trait]
impl QueryPlanner for SinkPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let rows = self.of_rows.create_physical_plan(logical, state).await?;
        let (sink, bucket) = (Arc::clone(&self.sink), self.bucket.clone());
        Ok(Arc::new(SinkExec::new(rows, sink, bucket, Arc::clone(&self.count))))
    }
}

/// How a sink travels to another worker.
#[derive(Debug)]
pub(super) struct SinkCodec(pub(super) Bucket);

impl PhysicalExtensionCodec for SinkCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let [input] = inputs else {
            return internal_err!("a sink has one input");
        };
        let sink: Sink = serde_json::from_slice(buf).map_err(|error| DataFusionError::External(error.into()))?;
        let (input, bucket) = (Arc::clone(input), self.0.clone());
        Ok(Arc::new(SinkExec::new(input, Arc::new(sink), bucket, Arc::default())))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<(), DataFusionError> {
        let Some(node) = node.downcast_ref::<SinkExec>() else {
            return internal_err!("{} does not travel", node.name());
        };
        serde_json::to_writer(buf, node.sink.as_ref()).map_err(|error| DataFusionError::External(error.into()))
    }
}
