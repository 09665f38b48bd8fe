//! Rows become files of the project's bucket, for other programs to read; [`crate::formats`] spells them.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream;
use futures::{Stream, StreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use super::head::{Desk, Stop};
use crate::formats::{Encoder, Format, Unwritable, slices};
use crate::task::{ExportFormat, ExportedFile, Task};
use crate::{Code, SqlError};

/// Workers that were lost may have written some files, or have one on its way: removes what is not among `files`. The folder
/// is this query's alone, and no file of one attempt is called like one of another.
pub(super) async fn remove_others(desk: &Desk, task: &Task, to: &str, files: &[ExportedFile]) -> Result<(), Stop> {
    if task.attempt == 0 {
        return Ok(());
    }
    let is_another = |path: &Path| files.iter().all(|file| file.path != path.as_ref());
    Ok(desk.bucket.remove_below(&Path::from(to), is_another).await?)
}

/// Where one part of an attempt has its file.
pub(super) fn path(to: &str, attempt: u32, part: u32, format: ExportFormat) -> Path {
    let extension = extension(format);
    Path::from(match attempt {
        0 => format!("{to}/part-{part:05}.{extension}"),
        again => format!("{to}/part-{part:05}-again-{again}.{extension}"),
    })
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
    path: Path,
    format: ExportFormat,
    mut rows: SendableRecordBatchStream,
    part: u32,
) -> Result<Option<ExportedFile>, DataFusionError> {
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
    let rows = stream::iter(first.map(Ok)).chain(rows);
    let written = match write(&mut encoder, rows, &mut out).await {
        Ok(written) => written,
        Err(error) => {
            // Parts of an upload that nobody ends would cost storage for ever.
            let _ = out.abort().await;
            return Err(error);
        }
    };
    let bytes = store.head(&path).await?.size;
    Ok(Some(ExportedFile {
        path: path.to_string(),
        rows: written,
        bytes,
    }))
}

/// Writes the whole file and says how many rows it has.
async fn write(
    encoder: &mut Encoder,
    mut rows: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin,
    out: &mut BufWriter,
) -> Result<u64, DataFusionError> {
    let mut written = 0;
    out.put(encoder.open().into()).await?;
    while let Some(batch) = rows.next().await.transpose()? {
        written += batch.num_rows() as u64;
        for slice in slices::of(batch) {
            out.put(encoder.rows(&slice).map_err(unwritable)?.into()).await?;
        }
    }
    out.put(encoder.close().map_err(unwritable)?.into()).await?;
    out.shutdown().await?;
    Ok(written)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_one_attempt_is_called_like_one_of_another() {
        let names = |attempt| [0, 1, 2].map(|part| path("exports/acme/q", attempt, part, ExportFormat::Csv));

        assert_eq!(names(0)[2].as_ref(), "exports/acme/q/part-00002.csv");
        assert!(
            names(0)
                .iter()
                .all(|name| !names(1).contains(name) && !names(2).contains(name))
        );
        assert!(names(1).iter().all(|name| !names(2).contains(name)));
    }
}
