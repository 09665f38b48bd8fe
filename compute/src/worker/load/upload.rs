//! A file that the engine reads itself, with its faults told in our words.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::TryStreamExt;

use super::faults;
use crate::task::LoadFormat;

/// The file as a table.
#[derive(Debug)]
pub(super) struct Upload {
    file: Arc<dyn TableProvider>,
    format: LoadFormat,
}

impl Upload {
    pub(super) fn new(file: Arc<dyn TableProvider>, format: LoadFormat) -> Self {
        Self { file, format }
    }
}

#[async_trait]
impl TableProvider for Upload {
    fn schema(&self) -> SchemaRef {
        self.file.schema()
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
        Ok(Arc::new(ReadUpload::new(input, self.format.clone())))
    }
}

/// Reads the file, and tells its faults.
#[derive(Debug)]
pub(super) struct ReadUpload {
    input: Arc<dyn ExecutionPlan>,
    format: LoadFormat,
}

impl ReadUpload {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, format: LoadFormat) -> Self {
        Self { input, format }
    }

    pub(super) fn format(&self) -> &LoadFormat {
        &self.format
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
        self.input.properties()
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
            Ok([input]) => Ok(Arc::new(Self::new(input, self.format.clone()))),
            Err(_) => Err(DataFusionError::Internal("an upload has one input".to_owned())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (schema, format) = (rows.schema(), self.format.clone());
        let rows = rows.map_err(move |error| faults::explain(error, &format));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
