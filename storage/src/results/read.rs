//! Reading results: all of them or a page, fetching only what is needed.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use base64::Engine;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{BASE64, Chunk, ResultManifest, damaged};
use crate::{Error, Result};

/// How many chunks are fetched ahead of the reader.
const CHUNKS_AHEAD: usize = 2;

/// Reads results, as a whole or page by page.
#[derive(Clone)]
pub struct ResultReader {
    store: Arc<dyn ObjectStore>,
    source: Source,
    schema: SchemaRef,
    rows: u64,
    chunks: Arc<[Chunk]>,
}

#[derive(Clone)]
enum Source {
    Inline(Bytes),
    Object(Path),
}

impl ResultReader {
    /// The results that `manifest` describes. Reads nothing from the bucket.
    pub fn open(store: Arc<dyn ObjectStore>, manifest: &ResultManifest) -> Result<Self> {
        let source = match (&manifest.inline, &manifest.object) {
            (Some(inline), None) => Source::Inline(BASE64.decode(inline).map_err(damaged)?.into()),
            (None, Some(object)) => Source::Object(Path::parse(object).map_err(damaged)?),
            _ => return Err(damaged("a manifest names one place for its rows")),
        };
        Ok(Self {
            store,
            source,
            schema: manifest.schema()?,
            rows: manifest.rows,
            chunks: manifest.chunks.clone().into(),
        })
    }

    /// What the rows look like.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// All rows, in order, a few chunks at a time.
    pub fn stream(&self) -> BoxStream<'static, Result<RecordBatch>> {
        self.fetched(self.chunks.to_vec())
    }

    fn fetched(&self, chunks: Vec<Chunk>) -> BoxStream<'static, Result<RecordBatch>> {
        let reader = self.clone();
        stream::iter(chunks)
            .map(move |chunk| {
                let reader = reader.clone();
                async move { reader.read(&[chunk]).await }
            })
            .buffered(CHUNKS_AHEAD)
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    /// Up to `max_rows` rows from row `start` on, a few chunks at a time; fetches only the chunks that hold them.
    pub fn page(&self, start: u64, max_rows: u64) -> BoxStream<'static, Result<RecordBatch>> {
        let wanted = start..start.saturating_add(max_rows).min(self.rows);
        let (mut row, chunks) = self.overlapping(&wanted);
        let batches = self.fetched(chunks.to_vec());
        let within = batches.try_filter_map(move |batch| {
            let rows = row..row + batch.num_rows() as u64;
            row = rows.end;
            let (from, to) = (rows.start.max(wanted.start), rows.end.min(wanted.end));
            // Both are positions in one batch.
            let part = (from < to).then(|| batch.slice((from - rows.start) as usize, (to - from) as usize));
            std::future::ready(Ok(part))
        });
        within.boxed()
    }

    /// How many rows such a page has.
    pub fn rows_of_page(&self, start: u64, max_rows: u64) -> u64 {
        self.rows.saturating_sub(start).min(max_rows)
    }

    /// The chunks that hold some of the wanted rows, and the number of the first row in them.
    fn overlapping(&self, wanted: &Range<u64>) -> (u64, &[Chunk]) {
        if wanted.is_empty() {
            return (0, &[]);
        }
        let (mut first, mut first_row) = (0, 0);
        while first < self.chunks.len() && first_row + self.chunks[first].rows <= wanted.start {
            first_row += self.chunks[first].rows;
            first += 1;
        }
        let (mut last, mut row) = (first, first_row);
        while last < self.chunks.len() && row < wanted.end {
            row += self.chunks[last].rows;
            last += 1;
        }
        (first_row, &self.chunks[first..last])
    }

    /// Reads chunks that follow each other, in one request.
    async fn read(&self, chunks: &[Chunk]) -> Result<Vec<RecordBatch>> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(Vec::new());
        };
        let range = first.offset..last.offset + last.len;
        let bytes = self.fetch(range).await?;

        let mut batches = Vec::new();
        for chunk in chunks {
            let from = (chunk.offset - first.offset) as usize;
            let bytes = bytes.slice(from..from + chunk.len as usize);
            let before = batches.len();
            for batch in StreamReader::try_new(bytes.as_ref(), None).map_err(damaged)? {
                batches.push(batch.map_err(damaged)?);
            }
            let rows: u64 = batches[before..].iter().map(|batch| batch.num_rows() as u64).sum();
            if rows != chunk.rows {
                return Err(damaged(format!("a chunk of {} rows holds {rows}", chunk.rows)));
            }
        }
        Ok(batches)
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        let expected = range.end - range.start;
        let bytes = match &self.source {
            Source::Inline(all) if range.end <= all.len() as u64 => all.slice(range.start as usize..range.end as usize),
            Source::Inline(_) => return Err(damaged("the rows end before their last chunk")),
            Source::Object(path) => self.store.get_range(path, range).await.map_err(|error| match error {
                object_store::Error::NotFound { .. } => Error::NotFound("these results are not kept any more".into()),
                error => error.into(),
            })?,
        };
        if bytes.len() as u64 != expected {
            return Err(damaged("the rows end before their last chunk"));
        }
        Ok(bytes)
    }
}
