//! One spelling of a value: rows become CSV, JSON, Arrow or Parquet here, wherever they go.
//!
//! An answer over HTTP and an exported file say the same of the same value, and a load reads it back as the value it
//! was.
//!
//! # Invariants
//! - No value is lost. What a format has no word for is written as text, or it is an error; it is never NULL.
//! - Column names are distinct in every format: a second `a` is `a_1`. Rows as objects would lose a value otherwise.
//! - An encoder keeps nothing between two calls but its place, and in Parquet one row group.

mod arrow;
mod cells;
mod csv;
mod json;
mod names;
mod parquet;
mod plain;
pub mod slices;
mod time;

#[cfg(test)]
mod tests;

use std::fmt::Display;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use ::arrow::error::ArrowError;
use ::parquet::errors::ParquetError;

pub use json::Objects;
pub use names::distinct_names;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header line, then RFC 4180 with line feeds.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// The streaming format of Arrow IPC, in types that old readers know.
    ArrowStream,
    /// The file format of Arrow IPC, in the same types.
    ArrowFile,
    /// A Parquet file, in types that Parquet has.
    Parquet,
}

/// Rows on their way into one format, from its first byte to its last.
///
/// The bytes are what [`Encoder::open`], [`Encoder::rows`] and [`Encoder::close`] give, in this order. Any of them may
/// give none: Parquet has bytes when a row group is complete.
pub struct Encoder {
    columns: usize,
    writer: Writer,
}

enum Writer {
    Csv(csv::Encoder),
    Json(json::Lines),
    Arrow(Box<arrow::Encoder>),
    Parquet(Box<parquet::Encoder>),
}

impl Encoder {
    /// An encoder of rows with the columns of `schema`, if the format has a word for each of their types.
    pub fn new(format: Format, schema: &SchemaRef) -> Result<Self, Unwritable> {
        let schema = names::distinct(schema);
        let writer = match format {
            Format::Csv => Writer::Csv(csv::Encoder::new(&schema)),
            Format::JsonLines => Writer::Json(json::Lines::new(&schema)),
            Format::ArrowStream => Writer::Arrow(Box::new(arrow::Encoder::stream(&schema)?)),
            Format::ArrowFile => Writer::Arrow(Box::new(arrow::Encoder::file(&schema)?)),
            Format::Parquet => Writer::Parquet(Box::new(parquet::Encoder::new(&schema)?)),
        };
        Ok(Self {
            columns: schema.fields().len(),
            writer,
        })
    }

    /// What comes before the first row.
    pub fn open(&mut self) -> Vec<u8> {
        match &mut self.writer {
            Writer::Csv(csv) => csv.open(),
            Writer::Arrow(arrow) => arrow.open(),
            Writer::Json(_) | Writer::Parquet(_) => Vec::new(),
        }
    }

    /// The next rows. They are written out at once, so large batches come as [`slices`].
    pub fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Unwritable> {
        must_have_columns(rows, self.columns)?;
        match &mut self.writer {
            Writer::Csv(csv) => csv.rows(rows),
            Writer::Json(json) => json.rows(rows),
            Writer::Arrow(arrow) => arrow.rows(rows),
            Writer::Parquet(parquet) => parquet.rows(rows),
        }
    }

    /// What comes after the last row.
    pub fn close(&mut self) -> Result<Vec<u8>, Unwritable> {
        match &mut self.writer {
            Writer::Csv(_) | Writer::Json(_) => Ok(Vec::new()),
            Writer::Arrow(arrow) => arrow.close(),
            Writer::Parquet(parquet) => parquet.close(),
        }
    }
}

/// Rows that a format cannot hold, in words for whoever asked for them. Another format may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row could not be written: {0}")]
pub struct Unwritable(String);

impl Unwritable {
    fn because(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<ArrowError> for Unwritable {
    fn from(error: ArrowError) -> Self {
        Self::because(error)
    }
}

impl From<ParquetError> for Unwritable {
    fn from(error: ParquetError) -> Self {
        Self::because(error)
    }
}

fn must_have_columns(rows: &RecordBatch, columns: usize) -> Result<(), Unwritable> {
    match rows.num_columns() == columns {
        true => Ok(()),
        false => Err(Unwritable::because("it has other columns than its schema")),
    }
}
