//! How rows leave the house: five formats over one stream of batches, and an end that cannot be mistaken.
//!
//! # Invariants
//! - A failure never looks like success. When the rows stop before their end the body ends in an error, so the
//!   connection is aborted and no final chunk is sent; JSON lines say why on their last line.
//! - Only a complete answer ends with the trailer `wasmhouse-status: done`.
//! - Memory is bounded by that of one slice ([`slices`]) and a Parquet row group, whatever the rows weigh.
//! - A value reads the same here and in an exported file: [`formats`] spells both.

mod columns;
mod format;
mod json;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::body::{Body, Bytes};
use axum::http::header::TRAILER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::channel::mpsc::{self, Sender};
use futures::stream::{self, BoxStream, PollNext};
use futures::{SinkExt, StreamExt, future};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Serialize;
use wasmhouse_compute::formats::{self, Unwritable, slices};

pub(crate) use columns::{Column, schema_json};
pub(super) use format::Format;

/// The trailer of a complete answer. HTTP/1.1 sends it when the response names it in `trailer` and the request
/// says `te: trailers`.
pub(super) const STATUS_TRAILER: HeaderName = HeaderName::from_static("wasmhouse-status");

/// What the last line says.
#[derive(Clone, Debug, Serialize)]
pub(super) struct End {
    pub query_id: String,
    pub rows: u64,
    pub bytes_processed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
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

impl From<Unwritable> for Failure {
    fn from(error: Unwritable) -> Self {
        Self {
            code: "execution_failed".to_owned(),
            message: error.to_string(),
        }
    }
}

/// Says where a page is, and that its trailer says how it ended: some formats have no words besides rows.
pub(super) fn page_headers(headers: &mut HeaderMap, page: &Page) {
    headers.insert(TRAILER, HeaderValue::from(STATUS_TRAILER));
    headers.insert("wasmhouse-total-rows", HeaderValue::from(page.total_rows));
    if let Some(next) = page.next_start_row {
        headers.insert("wasmhouse-next-row", HeaderValue::from(next));
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
    // The writer first, so that a chunk is there whenever one can be: the server sends what it holds, be it the head of the
    // answer alone, as soon as there is none.
    let body = stream::select_with_strategy(writing, taken, |_: &mut ()| PollNext::Left);
    Body::new(StreamBody::new(body))
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
    send(frames, encoder.open()).await;

    while let Some(batch) = rows.next().await {
        for slice in slices::of(batch?) {
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
    /// The end is the last line.
    Lines(formats::Encoder),
    /// The end is the last field.
    Document(json::Document),
    /// The format has no words besides rows.
    Rows(formats::Encoder),
}

impl Encoder {
    fn new(format: Format, schema: &SchemaRef) -> Result<Self, Failure> {
        let rows = |format| formats::Encoder::new(format, schema);
        Ok(match format {
            Format::JsonLines => Self::Lines(rows(formats::Format::JsonLines)?),
            Format::Json => Self::Document(json::Document::new(schema)),
            Format::Csv => Self::Rows(rows(formats::Format::Csv)?),
            Format::Arrow => Self::Rows(rows(formats::Format::ArrowStream)?),
            Format::Parquet => Self::Rows(rows(formats::Format::Parquet)?),
        })
    }

    /// What comes before the first row.
    fn open(&mut self) -> Vec<u8> {
        match self {
            Self::Lines(rows) | Self::Rows(rows) => rows.open(),
            Self::Document(document) => document.open(),
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Lines(rows) | Self::Rows(rows) => Ok(rows.rows(batch)?),
            Self::Document(document) => document.rows(batch),
        }
    }

    /// What comes after the last row.
    fn close(&mut self, end: &End) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Lines(_) => Ok(json::last_line(end)),
            Self::Document(document) => Ok(document.close(end)),
            Self::Rows(rows) => Ok(rows.close()?),
        }
    }
}
