//! How rows leave the house: five formats over one stream of batches, and an end that cannot be mistaken.
//!
//! # Invariants
//! - A failure never looks like success. When the rows stop before their end the body ends in an error, so the
//!   connection is aborted and no final chunk is sent; JSON lines say why on their last line.
//! - Only a complete answer ends with the trailer `wasmhouse-status: done`.
//! - Memory is bounded by [`ROWS_AT_ONCE`] and [`BYTES_AT_ONCE`] (and a Parquet row group), whatever the rows weigh.
//! - A value reads the same in JSON lines, JSON and CSV: [`cells`] writes them all.
//! - Column names are distinct in every format: a second `a` is `a_1`. Rows as objects would lose a value otherwise.

mod arrow;
mod cells;
mod columns;
mod csv;
mod format;
mod json;
mod parquet;
mod plain;
mod slices;
mod time;

#[cfg(test)]
mod tests;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use ::arrow::error::ArrowError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::channel::mpsc::{self, Sender};
use futures::stream::{self, BoxStream};
use futures::{SinkExt, StreamExt, future};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Serialize;

pub(crate) use columns::{Column, schema_json};
pub(super) use format::Format;

/// The trailer of a complete answer. HTTP/1.1 sends it when the response names it in `trailer` and the request
/// says `te: trailers`.
pub(super) const STATUS_TRAILER: HeaderName = HeaderName::from_static("wasmhouse-status");

/// Rows encoded into one chunk, at most.
const ROWS_AT_ONCE: usize = 8192;

/// Bytes of values encoded into one chunk, at most, unless a single row is larger.
const BYTES_AT_ONCE: usize = 4 << 20;

/// What the last line says.
#[derive(Clone, Debug, Serialize)]
pub(super) struct End {
    pub query_id: String,
    pub rows: u64,
    pub bytes_processed: u64,
    pub elapsed_ms: u64,
    /// Where these rows are in the whole result, when they are a page of it.
    #[serde(flatten)]
    pub page: Option<Page>,
}

/// Where some rows are in a result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Page {
    pub start_row: u64,
    /// Where the next page starts; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start_row: Option<u64>,
    pub total_rows: u64,
}

/// Why the rows stopped before their end, as the asker may read it.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    pub code: String,
    pub message: String,
}

impl Failure {
    /// The rows came, but the format could not hold them.
    fn encoding(error: impl std::fmt::Display) -> Self {
        Self {
            code: "execution_failed".to_owned(),
            message: format!("a row could not be written: {error}"),
        }
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::encoding(error)
    }
}

/// The response body: rows as they come, then the end.
///
/// `end` is asked once, after the last row, so it may count what went by.
pub(super) fn body(
    format: Format,
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch, Failure>>,
    end: impl FnOnce() -> End + Send + 'static,
) -> Body {
    // The sender's own slot is the whole buffer: a chunk is encoded when the one before it has been taken.
    let (frames, taken) = mpsc::channel(0);
    let writing = stream::once(deliver(format, schema, rows, end, frames)).filter_map(|()| future::ready(None));
    Body::new(StreamBody::new(stream::select(writing, taken)))
}

type Frames = Sender<Result<Frame<Bytes>, Failure>>;

/// Sends the rows, and then how they ended.
async fn deliver(
    format: Format,
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch, Failure>>,
    end: impl FnOnce() -> End,
    mut frames: Frames,
) {
    let sent = send_rows(format, schema, rows, end, &mut frames).await;

    let Err(failure) = sent else {
        // A caller who has left will not read this, nor anything below.
        let _ = frames.send(Ok(Frame::trailers(done()))).await;
        return;
    };
    if format == Format::JsonLines {
        send(&mut frames, json::last_words(&failure)).await;
    }
    // The server flushes what it holds when a body has nothing to give, and forgets it when a body fails.
    tokio::task::yield_now().await;
    let _ = frames.send(Err(failure)).await;
}

async fn send_rows(
    format: Format,
    schema: SchemaRef,
    mut rows: BoxStream<'static, Result<RecordBatch, Failure>>,
    end: impl FnOnce() -> End,
    frames: &mut Frames,
) -> Result<(), Failure> {
    let mut encoder = Encoder::new(format, &schema)?;
    send(frames, encoder.open()?).await;

    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_columns() != schema.fields().len() {
            return Err(Failure::encoding("it has other columns than its schema"));
        }
        for slice in slices::of(batch) {
            send(frames, encoder.rows(&slice)?).await;
        }
    }

    send(frames, encoder.close(&end())?).await;
    Ok(())
}

/// Sends a chunk. The last chunk of HTTP/1.1 is an empty one, so nothing is not sent.
async fn send(frames: &mut Frames, chunk: Vec<u8>) {
    if !chunk.is_empty() {
        // The stream is dropped, and this future with it, when the caller leaves.
        let _ = frames.send(Ok(Frame::data(chunk.into()))).await;
    }
}

fn done() -> HeaderMap {
    HeaderMap::from_iter([(STATUS_TRAILER, HeaderValue::from_static("done"))])
}

/// One answer being written. A chunk may be empty: Parquet gives bytes a row group at a time.
enum Encoder {
    Json(json::Encoder),
    Csv(csv::Encoder),
    Arrow(Box<arrow::Encoder>),
    Parquet(Box<parquet::Encoder>),
}

impl Encoder {
    fn new(format: Format, schema: &SchemaRef) -> Result<Self, Failure> {
        let schema = columns::distinct(schema);
        Ok(match format {
            Format::JsonLines => Self::Json(json::Encoder::lines(&schema)),
            Format::Json => Self::Json(json::Encoder::document(&schema)),
            Format::Csv => Self::Csv(csv::Encoder::new(&schema)),
            Format::Arrow => Self::Arrow(Box::new(arrow::Encoder::new(&schema)?)),
            Format::Parquet => Self::Parquet(Box::new(parquet::Encoder::new(&schema)?)),
        })
    }

    /// What comes before the first row.
    fn open(&mut self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Json(json) => Ok(json.open()),
            Self::Csv(csv) => Ok(csv.open()),
            Self::Arrow(arrow) => Ok(arrow.open()),
            Self::Parquet(_) => Ok(Vec::new()),
        }
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Json(json) => json.rows(rows),
            Self::Csv(csv) => csv.rows(rows),
            Self::Arrow(arrow) => arrow.rows(rows),
            Self::Parquet(parquet) => parquet.rows(rows),
        }
    }

    /// What comes after the last row.
    fn close(&mut self, end: &End) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Json(json) => Ok(json.close(end)),
            Self::Csv(_) => Ok(Vec::new()),
            Self::Arrow(arrow) => arrow.close(),
            Self::Parquet(parquet) => parquet.close(),
        }
    }
}
