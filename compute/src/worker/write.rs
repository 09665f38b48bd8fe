//! Rows become files of a table. Nobody refers to them until the gateway commits.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use wasmhouse_storage::tables::{TableLocation, WriteOptions, WrittenFile, stored_schema, write_files};

use super::head::{Desk, Stop};
use crate::Error;
use crate::session::with_microseconds;
use crate::task::Task;

/// The columns that files will have: those of the table, or those of the rows if the table is new.
pub(super) fn columns_of_files(table: Option<&str>, plan: &LogicalPlan, rows: &Schema) -> Result<SchemaRef, Stop> {
    match table {
        Some(schema) => {
            let schema: Schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
            Ok(Arc::new(schema))
        }
        None => {
            let declared = with_microseconds(rows);
            let stored = stored_schema(&declared)?;
            // Columns that were written down keep their `not null`; those of a query only happen to have no NULL now.
            match plan {
                LogicalPlan::EmptyRelation(_) => Ok(with_nullability_of(&declared, &stored)),
                _ => Ok(stored),
            }
        }
    }
}

fn with_nullability_of(declared: &Schema, stored: &Schema) -> SchemaRef {
    let fields = stored.fields().iter().zip(declared.fields());
    let fields: Vec<Field> = fields
        .map(|(stored, declared)| stored.as_ref().clone().with_nullable(declared.is_nullable()))
        .collect();
    Arc::new(Schema::new(fields))
}

/// Runs the plan and writes every partition's rows to files of its own.
pub(super) async fn files(
    desk: &Desk,
    state: &SessionState,
    task: &Task,
    plan: &Arc<dyn ExecutionPlan>,
    at: &TableLocation,
    schema: &SchemaRef,
) -> Result<Vec<WrittenFile>, Stop> {
    let mut parts = FuturesUnordered::new();
    for part in 0..plan.output_partitioning().partition_count() {
        let rows = plan.execute(part, state.task_ctx())?;
        let options = WriteOptions::new(task.query.clone(), task.attempt, part as u32);
        let (bucket, at, schema) = (desk.bucket.clone(), at.clone(), Arc::clone(schema));
        // A task of its own, so that partitions are encoded on different threads.
        parts.push(tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            write_files(&bucket, &at, &schema, rows, &options).await
        })));
    }
    let mut files = Vec::new();
    while let Some(part) = parts.next().await {
        files.extend(part.map_err(|error| Error::Internal(error.into()))?.map_err(stop)?);
    }
    Ok(files)
}

/// A failure of the rows themselves comes wrapped in that of their writer.
fn stop(error: wasmhouse_storage::Error) -> Stop {
    match error {
        wasmhouse_storage::Error::Internal(source) => match source.downcast::<DataFusionError>() {
            Ok(error) => Stop::from(*error),
            Err(source) => Stop::Failed(Error::Internal(source)),
        },
        error => Stop::from(error),
    }
}
