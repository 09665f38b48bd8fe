//! A part of a query that panics fails, and does not just end: whoever reads it would take what came before for all of it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

/// A node that does what another one does, and turns its panics into errors. It stands in the place of that node, so that the
/// plan has the shape that its head knows.
#[derive(Debug)]
pub(super) struct GuardExec(pub(super) Arc<dyn ExecutionPlan>);

impl DisplayAs for GuardExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as(kind, f)
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.0.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.0.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        self.0.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(Arc::new(Self(Arc::clone(&self.0).replace_children(children, options)?)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn repartitioned(
        &self,
        partitions: usize,
        options: &ConfigOptions,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
        self.0.repartitioned(partitions, options)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.0.metrics()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let rows = self.0.execute(partition, context)?;
        let schema = rows.schema();
        let rows = AssertUnwindSafe(rows).catch_unwind().map(|batch| match batch {
            Ok(batch) => batch,
            // The hook has written the panic to the log.
            Err(_) => internal_err!("a part of the query panicked"),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use futures::{TryStreamExt, stream};

    use super::*;

    /// One batch of one row, and then a panic.
    #[derive(Debug)]
    struct Panics(SchemaRef);

    impl PartitionStream for Panics {
        fn schema(&self) -> &SchemaRef {
            &self.0
        }

        fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
            let column = Arc::new(Int64Array::from(vec![1]));
            let batch = RecordBatch::try_new(Arc::clone(&self.0), vec![column]).expect("one column");
            let rows = stream::iter([1, 2]).map(move |number| match number {
                1 => Ok(batch.clone()),
                _ => panic!("as this test wants it to"),
            });
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0), rows))
        }
    }

    #[tokio::test]
    async fn rows_that_end_in_a_panic_end_in_an_error() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let panics = Arc::new(Panics(Arc::clone(&schema)));
        let plan = StreamingTableExec::try_new(schema, vec![panics], None, [], false, None).expect("a plan");

        let guarded = Arc::new(GuardExec(Arc::new(plan)));
        let mut rows = guarded.execute(0, Arc::default()).expect("rows");

        assert_eq!(
            rows.try_next().await.expect("a batch").map(|batch| batch.num_rows()),
            Some(1)
        );
        let error = rows.try_next().await.expect_err("not all rows came").to_string();
        assert!(error.contains("a part of the query panicked"), "{error}");
        assert!(rows.try_next().await.expect("it has ended").is_none());
    }
}
