//! Rows become files of the project's bucket, for other programs to read; [`crate::formats`] spells them.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use super::head::{Desk, Stop};
use crate::formats::{Encoder, Format, Unwritable, slices};
use crate::task::{ExportFormat, ExportedFile};
use crate::{Code, Error, SqlError};

/// A worker that was lost may have written some of the files; the folder is this query's alone.
pub(super) async fn remove_earlier_attempt(desk: &Desk, to: &str) -> Result<(), Stop> {
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

/// One part's file, or none when it has no rows and need not exist: the first part always has a file, so that an export of
/// nothing still has columns.
pub(super) async fn file(
    store: Arc<dyn ObjectStore>,
    to: &str,
    format: ExportFormat,
    mut rows: SendableRecordBatchStream,
    part: u32,
) -> Result<Option<ExportedFile>, DataFusionError> {
    let path = Path::from(format!("{to}/part-{part:05}.{}", extension(format)));
    let mut encoder = Encoder::new(spelled(format), &rows.schema()).map_err(unwritable)?;
    let first = loop {
        match rows.next().await.transpose()? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => break first,
        }
    };
    if first.is_none() && part > 0 {
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
