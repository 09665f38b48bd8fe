//! Rows become files.
//!
//! # Invariants
//! - Rows stream: what is held in memory is one row group, bounded in rows and in bytes, and the parts on their way to
//!   the bucket.
//! - A file is nothing to anybody until a commit names it. A write that fails leaves at most orphans, which
//!   [`super::Tables::remove_orphans`] finds.
//! - Two attempts of a query write different names, so a late one cannot touch what an earlier one committed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::kernel::Add;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::buffered::BufWriter;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::stats::{FileStats, LOGICAL_BYTES_TAG};
use super::types::to_stored;
use super::{TableLocation, failed, stats};
use crate::bucket::Bucket;
use crate::ids::QueryId;
use crate::{Error, Result};

/// The most a row group may take in memory, or on its way into the file.
const MAX_ROW_GROUP_BYTES: usize = 128 << 20;
/// Rows per page. Pages have bounds of their own, so a small page is skipped for a small reason.
const ROWS_PER_PAGE: usize = 20_000;
/// How many rows are handed to the encoder between looks at its size.
const ROWS_PER_STEP: usize = 16_384;
/// The size of the parts of an upload.
const PART_BYTES: usize = 8 << 20;
/// How many parts are on their way at a time.
const PARTS_IN_FLIGHT: usize = 4;

/// Whose rows these are, and how to cut them into files.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The query that writes.
    pub query: QueryId,
    /// Which attempt of the query this is.
    pub attempt: u32,
    /// Which part of the attempt this is: writers of one attempt have different parts.
    pub part: u32,
    /// A file that has reached this size is closed and the next one begun.
    pub target_file_bytes: u64,
    /// The most rows in a row group.
    pub rows_per_group: usize,
}

impl WriteOptions {
    /// The usual sizes: files of 128 MiB, row groups of 1 Mi rows.
    pub fn new(query: QueryId, attempt: u32, part: u32) -> Self {
        Self {
            query,
            attempt,
            part,
            target_file_bytes: 128 << 20,
            rows_per_group: 1 << 20,
        }
    }

    fn file_name(&self, number: usize) -> String {
        format!(
            "part-{:05}-{}-{}-{number}.zstd.parquet",
            self.part, self.query, self.attempt
        )
    }
}

/// The query that wrote the file of this name, if it was one of ours.
pub(super) fn query_of(name: &str) -> Option<QueryId> {
    name.strip_prefix("part-")?.split('-').nth(1)?.parse().ok()
}

/// A file that is in the bucket and in no table yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrittenFile(pub(crate) Add);

impl WrittenFile {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        stats::rows(self.0.stats.as_deref()).unwrap_or(0)
    }

    /// How many bytes it takes in the bucket.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.0.size).unwrap_or(0)
    }
}

/// Writes `rows` below `at` as files of a table of `schema`, a stored schema. No rows, no files.
///
/// When `rows` fails, its error is the source of [`Error::Internal`]: whoever made the stream knows what it means.
pub async fn write_files(
    bucket: &Bucket,
    at: &TableLocation,
    schema: &SchemaRef,
    rows: SendableRecordBatchStream,
    options: &WriteOptions,
) -> Result<Vec<WrittenFile>> {
    let properties = properties(options, schema);
    let mut writer = Writer {
        bucket,
        at,
        schema,
        options,
        properties,
        open: None,
        written: Vec::new(),
    };
    match writer.write(rows).await {
        Ok(()) => Ok(writer.written),
        Err(error) => {
            if let Some(file) = writer.open.take() {
                file.abort().await;
            }
            Err(error)
        }
    }
}

/// One writer of a query: the files it has finished, and the one it is at.
struct Writer<'a> {
    bucket: &'a Bucket,
    at: &'a TableLocation,
    schema: &'a SchemaRef,
    options: &'a WriteOptions,
    properties: WriterProperties,
    open: Option<OpenFile>,
    written: Vec<WrittenFile>,
}

impl Writer<'_> {
    async fn write(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.try_next().await.map_err(|error| Error::Internal(error.into()))? {
            let batch = to_stored(&batch, self.schema)?;
            for start in (0..batch.num_rows()).step_by(ROWS_PER_STEP) {
                let step = ROWS_PER_STEP.min(batch.num_rows() - start);
                self.push(&batch.slice(start, step)).await?;
            }
        }
        self.close().await
    }

    async fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let name = self.options.file_name(self.written.len());
                self.open.insert(OpenFile::create(
                    self.bucket,
                    self.at,
                    self.schema,
                    name,
                    &self.properties,
                )?)
            }
        };
        file.push(rows).await?;
        if file.bytes() >= self.options.target_file_bytes {
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(file) = self.open.take() {
            self.written.push(file.close(&self.options.query).await?);
        }
        Ok(())
    }
}

/// A file that is being written.
struct OpenFile {
    name: String,
    writer: AsyncArrowWriter<Upload>,
    stats: FileStats,
}

impl OpenFile {
    fn create(
        bucket: &Bucket,
        at: &TableLocation,
        schema: &SchemaRef,
        name: String,
        properties: &WriterProperties,
    ) -> Result<Self> {
        let upload =
            BufWriter::with_capacity(bucket.store(), at.file(&name), PART_BYTES).with_max_concurrency(PARTS_IN_FLIGHT);
        let writer = AsyncArrowWriter::try_new(Upload(upload), Arc::clone(schema), Some(properties.clone()));
        let writer = writer.map_err(failed)?;
        Ok(Self {
            name,
            writer,
            stats: FileStats::new(schema),
        })
    }

    async fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.stats.observe(rows)?;
        self.writer.write(rows).await.map_err(failed)?;
        // Wide rows fill the memory before they fill the group.
        if self.writer.memory_size() >= MAX_ROW_GROUP_BYTES {
            self.writer.flush().await.map_err(failed)?;
        }
        Ok(())
    }

    /// What the file would have if it were closed now, nearly.
    fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    async fn close(mut self, query: &QueryId) -> Result<WrittenFile> {
        self.writer.finish().await.map_err(failed)?;
        let too_large = |_| Error::Internal(format!("{} is too large", self.name).into());
        Ok(WrittenFile(Add {
            path: self.name.clone(),
            size: i64::try_from(self.writer.bytes_written()).map_err(too_large)?,
            // The same for every attempt, and no later than the file.
            modification_time: query.made_at().micros().div_euclid(1_000),
            data_change: true,
            stats: Some(self.stats.to_json()),
            tags: Some(HashMap::from([(
                LOGICAL_BYTES_TAG.to_owned(),
                Some(self.stats.logical_bytes_tag()),
            )])),
            ..Add::default()
        }))
    }

    /// Parts of an upload that is never finished would cost storage for ever.
    async fn abort(self) {
        if let Err(error) = self.writer.into_inner().0.abort().await {
            tracing::warn!(file = %self.name, %error, "an unfinished upload could not be aborted");
        }
    }
}

fn properties(options: &WriteOptions, schema: &SchemaRef) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd")))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_row_count_limit(ROWS_PER_PAGE)
        .set_max_row_group_row_count(Some(options.rows_per_group.max(1)))
        .set_max_row_group_bytes(Some(MAX_ROW_GROUP_BYTES));
    // Parquet's bounds leave NaN out, so a reader that orders NaN above all would skip rows it wants. The bounds in the
    // log know about NaN and do the skipping, a file at a time.
    for path in float_paths(schema.fields(), &[]) {
        properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

/// The floating-point columns, and those inside structs.
fn float_paths(fields: &[FieldRef], inside: &[String]) -> Vec<ColumnPath> {
    let paths = fields.iter().flat_map(|field| {
        let path = [inside, &[field.name().clone()]].concat();
        match field.data_type() {
            DataType::Float32 | DataType::Float64 => vec![ColumnPath::new(path)],
            DataType::Struct(fields) => float_paths(fields, &path),
            _ => vec![],
        }
    });
    paths.collect()
}

/// Bytes on their way to the bucket, a part at a time: a row group handed over whole would be copied whole.
struct Upload(BufWriter);

impl AsyncFileWriter for Upload {
    fn write(&mut self, mut bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move {
            while !bytes.is_empty() {
                let part = bytes.split_to(PART_BYTES.min(bytes.len()));
                self.0
                    .put(part)
                    .await
                    .map_err(|error| ParquetError::External(error.into()))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move {
            self.0
                .shutdown()
                .await
                .map_err(|error| ParquetError::External(error.into()))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
