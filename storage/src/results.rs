//! The rows a query answered with, kept until they expire and read again any number of times.
//!
//! # Invariants
//! - Results are a sequence of chunks. Each is an Arrow IPC stream of its own, so any page is read by fetching only the
//!   chunks it overlaps.
//! - The manifest says where every chunk is. Nothing is a result until its manifest is recorded with the query's end.
//! - Small results are in the manifest itself and cost the bucket nothing.
//! - Memory is bounded by a few chunks, whatever the size of the results.

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::{BoxError, Error, Result};

mod read;
mod write;

pub use read::ResultReader;
pub use write::{ResultWriter, compact};

/// What is kept about a query's results: their size, and where each chunk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultManifest {
    /// How many rows there are.
    pub rows: u64,
    /// How many bytes they take as they are kept.
    pub bytes: u64,
    /// The Arrow schema: an IPC stream without batches, in base64.
    pub schema: String,
    /// All chunks one after the other, in base64, when they are small.
    pub inline: Option<String>,
    /// The object that holds all chunks one after the other, when they are not.
    pub object: Option<String>,
    /// Each chunk, in order.
    pub chunks: Vec<Chunk>,
}

/// Some rows, as an Arrow IPC stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// How many rows it holds; never none.
    pub rows: u64,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it takes.
    pub len: u64,
}

impl ResultManifest {
    /// What the rows look like.
    pub fn schema(&self) -> Result<SchemaRef> {
        let bytes = BASE64.decode(&self.schema).map_err(damaged)?;
        Ok(StreamReader::try_new(bytes.as_slice(), None).map_err(damaged)?.schema())
    }
}

fn damaged(why: impl Into<BoxError>) -> Error {
    Error::Internal(format!("stored results cannot be read: {}", why.into()).into())
}

#[cfg(test)]
mod tests;
