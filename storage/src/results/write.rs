//! Writing results: chunk by chunk, into the manifest or into the bucket.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use base64::Engine;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::{BASE64, Chunk, ResultManifest};
use crate::{Error, Result};

/// A chunk ends with the batch that takes it to this size.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A batch longer than this is several, so that a page of a long batch is not read as a whole.
const ROWS_PER_BATCH: usize = 64 * 1024;

/// A chunk that unpacks to this many bytes is full, too: a reader holds a few of them.
const UNPACKED_CHUNK_BYTES: usize = 16 * 1024 * 1024;

/// The size of the parts an object is uploaded in. A store takes 10,000 of them, so results end at about 80 GB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// How many parts are on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Writes the results of one query.
pub struct ResultWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    schema: SchemaRef,
    inline_limit: usize,
    /// The chunk being written.
    open: Option<OpenChunk>,
    /// Finished chunks while they may still be small enough for the manifest.
    held: Vec<Bytes>,
    /// Where finished chunks go once they are not.
    upload: Upload,
    chunks: Vec<Chunk>,
    rows: u64,
    bytes: u64,
}

struct OpenChunk {
    writer: StreamWriter<Vec<u8>>,
    rows: u64,
    /// What its reader will hold.
    unpacked: usize,
}

enum Upload {
    /// Nothing was sent to the bucket.
    NotBegun,
    Begun(Box<BufWriter>),
    /// Something could not be sent. What was is no result.
    Broken,
}

impl ResultWriter {
    /// Results with this schema. They go to `path`, unless they stay within `inline_limit` bytes.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, schema: SchemaRef, inline_limit: usize) -> Self {
        Self {
            store,
            path,
            schema,
            inline_limit,
            open: None,
            held: Vec::new(),
            upload: Upload::NotBegun,
            chunks: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// How many rows were pushed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows; waits while the bucket is slower than the query.
    pub async fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        for start in (0..batch.num_rows()).step_by(ROWS_PER_BATCH) {
            let rows = ROWS_PER_BATCH.min(batch.num_rows() - start);
            let piece = compact(&batch.slice(start, rows)).map_err(defect)?;
            let full = self.write(&piece).map_err(defect)?;
            if full {
                self.finish_chunk().await?;
            }
        }
        Ok(())
    }

    /// Ends the results. They can be read from the moment this returns.
    pub async fn finish(mut self) -> Result<ResultManifest> {
        self.finish_chunk().await?;
        let (inline, object) = match self.upload {
            Upload::NotBegun => (Some(BASE64.encode(self.held.concat())), None),
            Upload::Begun(mut upload) => {
                upload.shutdown().await.map_err(not_sent)?;
                (None, Some(self.path.to_string()))
            }
            Upload::Broken => return Err(Error::Unavailable("an earlier part of the results was lost".into())),
        };
        Ok(ResultManifest {
            rows: self.rows,
            bytes: self.bytes,
            schema: BASE64.encode(schema_only(&self.schema).map_err(defect)?),
            inline,
            object,
            chunks: self.chunks,
        })
    }

    /// Gives up and removes what was sent, as far as that is possible.
    pub async fn abort(self) -> Result<()> {
        match self.upload {
            Upload::Begun(mut upload) => Ok(upload.abort().await?),
            Upload::NotBegun | Upload::Broken => Ok(()),
        }
    }

    /// True when the chunk is full.
    fn write(&mut self, batch: &RecordBatch) -> Result<bool, ArrowError> {
        let chunk = match &mut self.open {
            Some(chunk) => chunk,
            none => none.insert(OpenChunk {
                writer: StreamWriter::try_new_with_options(Vec::new(), &self.schema, ipc_options()?)?,
                rows: 0,
                unpacked: 0,
            }),
        };
        chunk.writer.write(batch)?;
        chunk.unpacked += batch.get_array_memory_size();
        chunk.rows += batch.num_rows() as u64;
        self.rows += batch.num_rows() as u64;
        Ok(chunk.writer.get_ref().len() >= CHUNK_BYTES || chunk.unpacked >= UNPACKED_CHUNK_BYTES)
    }

    async fn finish_chunk(&mut self) -> Result<()> {
        let Some(OpenChunk { writer, rows, .. }) = self.open.take() else {
            return Ok(());
        };
        let bytes = Bytes::from(writer.into_inner().map_err(defect)?);
        let len = bytes.len() as u64;
        self.chunks.push(Chunk {
            rows,
            offset: self.bytes,
            len,
        });
        self.bytes += len;

        self.held.push(bytes);
        if self.bytes > self.inline_limit as u64 {
            self.send_held().await?;
        }
        Ok(())
    }

    async fn send_held(&mut self) -> Result<()> {
        // Broken until everything is sent: a part that is missing must not be followed by one that is not.
        let mut upload = match std::mem::replace(&mut self.upload, Upload::Broken) {
            Upload::NotBegun => {
                let upload = BufWriter::with_capacity(Arc::clone(&self.store), self.path.clone(), PART_BYTES);
                Box::new(upload.with_max_concurrency(PARTS_IN_FLIGHT))
            }
            Upload::Begun(upload) => upload,
            Upload::Broken => return Err(Error::Unavailable("an earlier part of the results was lost".into())),
        };
        for bytes in self.held.drain(..) {
            if let Err(error) = upload.put(bytes).await {
                // The store removes an abandoned upload by its own rules; here we only try.
                let _ = upload.abort().await;
                return Err(error.into());
            }
        }
        self.upload = Upload::Begun(upload);
        Ok(())
    }
}

/// The batch without the text that its rows do not refer to.
///
/// A view array keeps the whole buffers its strings came from, and IPC writes them all: ten rows that passed a filter
/// may carry megabytes.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(compact_column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn compact_column(column: &ArrayRef) -> ArrayRef {
    fn is_wasteful(buffers: &[Buffer], used: usize) -> bool {
        buffers.iter().map(Buffer::len).sum::<usize>() > 2 * used
    }
    match column.data_type() {
        DataType::Utf8View => {
            let strings = column.as_string_view();
            match is_wasteful(strings.data_buffers(), strings.total_buffer_bytes_used()) {
                true => Arc::new(strings.gc()),
                false => Arc::clone(column),
            }
        }
        DataType::BinaryView => {
            let binaries = column.as_binary_view();
            match is_wasteful(binaries.data_buffers(), binaries.total_buffer_bytes_used()) {
                true => Arc::new(binaries.gc()),
                false => Arc::clone(column),
            }
        }
        _ => Arc::clone(column),
    }
}

fn schema_only(schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
    StreamWriter::try_new(Vec::new(), schema)?.into_inner()
}

fn ipc_options() -> Result<IpcWriteOptions, ArrowError> {
    // Fast in both directions; results are written once and read about once.
    IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))
}

/// Arrow does not refuse rows that have the schema they were announced with.
fn defect(error: ArrowError) -> Error {
    Error::Internal(error.into())
}

fn not_sent(error: std::io::Error) -> Error {
    match error.downcast::<object_store::Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::Unavailable(error.into()),
    }
}
