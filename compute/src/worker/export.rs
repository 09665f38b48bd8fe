//! Rows become files of the project's bucket, for other programs to read; [`crate::formats`] spells them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::head::{Desk, Stop};
use super::meter::Meter;
use crate::formats::{Encoder, Format, Unwritable, slices};
use crate::task::{ExportFormat, ExportedFile};
use crate::{Code, Error, SqlError};

/// Runs the plan and writes one file for each of its partitions that has rows; the first partition always has a file, so
/// that an export of nothing still has columns.
pub(super) async fn files(
    desk: &Desk,
    state: &SessionState,
    plan: &Arc<dyn ExecutionPlan>,
    to: &str,
    format: ExportFormat,
    meter: &Meter,
) -> Result<Vec<ExportedFile>, Stop> {
    remove_earlier_attempt(desk, to).await?;
    let mut parts = FuturesUnordered::new();
    for part in 0..plan.output_partitioning().partition_count() {
        let rows = plan.execute(part, state.task_ctx())?;
        let path = Path::from(format!("{to}/part-{part:05}.{}", extension(format)));
        let (store, count) = (desk.bucket.store(), Arc::clone(&meter.rows));
        let rows = rows.inspect(move |batch| {
            if let Ok(batch) = batch {
                count.fetch_add(batch.num_rows() as u64, Relaxed);
            }
        });
        let schema = plan.schema();
        let rows = Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
            schema, rows,
        ));
        parts.push(AbortOnDropHandle::new(tokio::spawn(file(
            store,
            path,
            format,
            rows,
            part == 0,
        ))));
    }
    let mut files = Vec::new();
    while let Some(part) = parts.next().await {
        files.extend(part.map_err(|error| Error::Internal(error.into()))??);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// A worker that was lost may have written some of the files; the folder is this query's alone.
async fn remove_earlier_attempt(desk: &Desk, to: &str) -> Result<(), Stop> {
    let store = desk.bucket.store();
    let folder = Path::from(to);
    let old: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await.map_err(unavailable)?;
    for object in old {
        store.delete(&object.location).await.map_err(unavailable)?;
    }
    Ok(())
}

fn unavailable(error: object_store::Error) -> Error {
    Error::Storage(wasmhouse_storage::Error::Unavailable(error.into()))
}

fn extension(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Csv => "csv",
        ExportFormat::Json => "jsonl",
        ExportFormat::Parquet => "parquet",
        ExportFormat::Arrow => "arrow",
    }
}

/// One partition's file, or none when it has no rows and need not exist.
async fn file(
    store: Arc<dyn ObjectStore>,
    path: Path,
    format: ExportFormat,
    mut rows: SendableRecordBatchStream,
    even_if_empty: bool,
) -> Result<Option<ExportedFile>, DataFusionError> {
    let mut encoder = Encoder::new(spelled(format), &rows.schema()).map_err(unwritable)?;
    let first = loop {
        match rows.next().await.transpose()? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => break first,
        }
    };
    if first.is_none() && !even_if_empty {
        return Ok(None);
    }
    let mut out = BufWriter::new(Arc::clone(&store), path.clone());
    let mut written = 0;
    out.put(encoder.open().into()).await?;
    let mut rows = stream::iter(first.map(Ok)).chain(rows);
    while let Some(batch) = rows.next().await.transpose()? {
        written += batch.num_rows() as u64;
        for slice in slices::of(batch) {
            out.put(encoder.rows(&slice).map_err(unwritable)?.into()).await?;
        }
    }
    out.put(encoder.close().map_err(unwritable)?.into()).await?;
    out.shutdown().await?;
    let bytes = store.head(&path).await?.size;
    Ok(Some(ExportedFile {
        path: path.to_string(),
        rows: written,
        bytes,
    }))
}

fn spelled(format: ExportFormat) -> Format {
    match format {
        ExportFormat::Csv => Format::Csv,
        ExportFormat::Json => Format::JsonLines,
        ExportFormat::Parquet => Format::Parquet,
        ExportFormat::Arrow => Format::ArrowFile,
    }
}

fn unwritable(error: Unwritable) -> DataFusionError {
    SqlError::new(Code::ExecutionFailed, error.to_string()).into()
}
