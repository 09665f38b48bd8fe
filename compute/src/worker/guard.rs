//! A part of a query that panics fails, and does not just end: whoever reads it would take what came before for all of it. And
//! it is known how far it is.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion_distributed::BroadcastExec;
use futures::StreamExt;

use super::parts::{Part, Parts};

/// A node that does what another one does, turns its panics into errors, and says when it is done. It stands in the place of
/// that node, so that the plan has the shape that its head knows.
#[derive(Debug)]
struct GuardExec {
    inner: Arc<dyn ExecutionPlan>,
    part: Arc<Part>,
}

/// The plan, one of `parts` from now on, with a guard at its top.
pub(super) fn guarded(plan: Arc<dyn ExecutionPlan>, parts: &Parts) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    // The head of a stage that sends its rows to several others is put in again before it runs, and what is above it is lost.
    // A panic below it is an error of its own.
    let is_put_in_again = plan.is::<RepartitionExec>() || plan.is::<BroadcastExec>();
    let children = plan.children();
    match (is_put_in_again, children.as_slice()) {
        (true, [below]) => {
            let below = Arc::new(GuardExec::new(Arc::clone(below), parts));
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
            Arc::clone(&plan).replace_children(vec![below], options)
        }
        _ => Ok(Arc::new(GuardExec::new(plan, parts))),
    }
}

impl GuardExec {
    fn new(plan: Arc<dyn ExecutionPlan>, parts: &Parts) -> Self {
        let part = parts.add(&plan);
        Self { inner: plan, part }
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_as(kind, f)
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        self.inner.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let inner = Arc::clone(&self.inner).replace_children(children, options)?;
        self.part.is_done_by(&inner);
        Ok(Arc::new(Self {
            inner,
            part: Arc::clone(&self.part),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let rows = self.inner.execute(partition, context)?;
        let schema = rows.schema();
        let share = self.part.partition(&self.inner);
        let rows = AssertUnwindSafe(rows).catch_unwind().map(move |batch| {
            match batch {
                Ok(batch) => batch.inspect(|batch| share.count(batch.num_rows())),
                // The hook has written the panic to the log.
                Err(_) => internal_err!("a part of the query panicked"),
            }
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

        let parts = Parts::default();
        let guarded = guarded(Arc::new(plan), &parts).expect("a plan");
        let mut rows = guarded.execute(0, Arc::default()).expect("rows");

        assert_eq!(
            rows.try_next().await.expect("a batch").map(|batch| batch.num_rows()),
            Some(1)
        );
        let error = rows.try_next().await.expect_err("not all rows came").to_string();
        assert!(error.contains("a part of the query panicked"), "{error}");
        assert!(rows.try_next().await.expect("it has ended").is_none());
        drop(rows);
        assert_eq!(parts.so_far().tasks_done, 1, "there is nothing left to be done");
    }
}
