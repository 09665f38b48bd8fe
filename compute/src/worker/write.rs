//! Rows become files of a table. Nobody refers to them until the gateway commits.

pub(super) mod columns;
pub(crate) mod exactly;

use std::sync::Arc;

use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use wasmhouse_storage::tables::stored_schema;

use super::head::Stop;
use crate::Error;
use crate::session::with_microseconds;
use crate::task::{Action, LoadFormat, Task};

/// How much of an upload one writer takes before another is worth its file.
const BYTES_OF_A_WRITER: u64 = 64 << 20;

/// The writers of one upload on one worker. Each holds a row group of up to 128 MiB, whatever the number of cores.
const MAX_WRITERS: u64 = 4;

/// The columns that files will have: those of the table, or those of the rows if the table is new.
pub(super) fn columns_of_files(table: Option<&str>, plan: &LogicalPlan, rows: &Schema) -> Result<SchemaRef, Stop> {
    match table {
        Some(schema) => {
            let schema: Schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
            // The keys of a table are its own, and stay as they are.
            Ok(Arc::new(Schema::new(schema.fields)))
        }
        None => {
            let declared = with_microseconds(rows);
            let stored = stored_schema(&declared)?;
            // Columns that were written down keep their `not null`; those of a query only happen to have no NULL now.
            match plan {
                LogicalPlan::EmptyRelation(_) => Ok(with_nullability_of(&declared, &stored)),
                LogicalPlan::Projection(rows) => {
                    let nullable = rows.expr.iter().map(|value| !exactly::is_not_null(value));
                    Ok(with_nullability(nullable, &stored))
                }
                _ => Ok(stored),
            }
        }
    }
}

/// `stored`, with the NOT NULL of the columns that it was made from.
pub(super) fn with_nullability_of(declared: &Schema, stored: &Schema) -> SchemaRef {
    with_nullability(declared.fields().iter().map(|field| field.is_nullable()), stored)
}

fn with_nullability(nullable: impl Iterator<Item = bool>, stored: &Schema) -> SchemaRef {
    let fields = stored.fields().iter().zip(nullable);
    let fields = fields.map(|(field, nullable)| field.as_ref().clone().with_nullable(nullable));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// The writers that so many bytes of an upload are worth, and at most so many.
pub(super) fn writers(bytes: u64, at_most: usize) -> usize {
    let worth = bytes.div_ceil(BYTES_OF_A_WRITER).clamp(1, MAX_WRITERS) as usize;
    worth.min(at_most)
}

/// The rows of an upload of so many bytes, for as many writers as it is worth. A file that is read on one thread is not encoded on one if
/// it is large, and a small one becomes one file. Which rows a file gets is chance.
pub(super) fn dealt_out(
    state: &SessionState,
    task: &Task,
    bytes: u64,
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let Action::Load { format, .. } = &task.action else {
        return Ok(Arc::clone(plan));
    };
    let parts = plan.output_partitioning().partition_count();
    let is_read_in_parts = matches!(format, LoadFormat::Parquet | LoadFormat::Arrow) && parts > 1;
    match writers(bytes, state.config().target_partitions()) {
        writers if is_read_in_parts || writers == parts => Ok(Arc::clone(plan)),
        0 | 1 => Ok(Arc::new(CoalescePartitionsExec::new(Arc::clone(plan)))),
        writers => {
            let dealt = RepartitionExec::try_new(Arc::clone(plan), Partitioning::RoundRobinBatch(writers))?;
            Ok(Arc::new(dealt))
        }
    }
}
