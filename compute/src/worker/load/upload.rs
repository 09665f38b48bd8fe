//! A file that the engine reads itself, with its faults told in our words and its base64 decoded.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::TryStreamExt;

use super::bytes;
use super::faults::Faults;

/// The file as a table.
#[derive(Debug)]
pub(super) struct Upload {
    /// The engine's view, in which bytes may be text.
    file: Arc<dyn TableProvider>,
    columns: SchemaRef,
    faults: Arc<Faults>,
}

impl Upload {
    pub(super) fn new(file: Arc<dyn TableProvider>, columns: SchemaRef, faults: Faults) -> Self {
        Self {
            file,
            columns,
            faults: Arc::new(faults),
        }
    }
}

#[async_trait]
impl TableProvider for Upload {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.file.scan(state, projection, filters, limit).await?;
        let columns = match projection {
            Some(projection) => Arc::new(self.columns.project(projection)?),
            None => Arc::clone(&self.columns),
        };
        Ok(Arc::new(ReadUpload::new(input, columns, Arc::clone(&self.faults))))
    }
}

#[derive(Debug)]
struct ReadUpload {
    input: Arc<dyn ExecutionPlan>,
    columns: SchemaRef,
    faults: Arc<Faults>,
    properties: Arc<PlanProperties>,
}

impl ReadUpload {
    fn new(input: Arc<dyn ExecutionPlan>, columns: SchemaRef, faults: Arc<Faults>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&columns)),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self {
            input,
            columns,
            faults,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for ReadUpload {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadUpload")
    }
}

impl ExecutionPlan for ReadUpload {
    fn name(&self) -> &str {
        "ReadUpload"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Rows stay in the order of the file.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(
                input,
                Arc::clone(&self.columns),
                Arc::clone(&self.faults),
            ))),
            Err(_) => Err(DataFusionError::Internal("an upload has one input".to_owned())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (columns, faults) = (Arc::clone(&self.columns), Arc::clone(&self.faults));
        let as_they_are = have_same_types(&rows.schema(), &columns);
        let rows = rows.and_then(move |batch| {
            std::future::ready(if as_they_are {
                Ok(batch)
            } else {
                with_bytes(&batch, &columns)
            })
        });
        let rows = rows.or_else(move |error| {
            let faults = Arc::clone(&faults);
            async move { Err(faults.explain(error).await) }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.columns), rows)))
    }
}

fn have_same_types(one: &Schema, other: &Schema) -> bool {
    one.fields()
        .iter()
        .map(|field| field.data_type())
        .eq(other.fields().iter().map(|field| field.data_type()))
}

/// The rows of `batch`, in which what `columns` calls bytes is base64.
fn with_bytes(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch> {
    let arrays: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .zip(columns.fields())
        .map(|(values, field)| {
            bytes::from_text(values, field.data_type())
                .ok_or_else(|| ArrowError::JsonError(format!("column {} is not base64", field.name())).into())
        })
        .collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(columns), arrays?, &rows)?)
}
