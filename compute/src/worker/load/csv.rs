//! A staged CSV file as rows.
//!
//! It reads what we write, value for value: an empty field is NULL and `""` is the empty string, bytes are base64, and
//! lists, structs and maps are JSON. A file that does not read is an error that names the line.

mod cells;
mod guess;
mod records;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::TryStreamExt;

use self::guess::Guess;
use self::records::{ROWS_AT_A_TIME, Rows, Tokenizer};
use super::pieces::{self, Pieces};
use super::{BATCHES_IN_FLIGHT, Staged, malformed};
use crate::{Code, SqlError};

/// How a file is spelled.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    header: bool,
    delimiter: u8,
    null: Option<String>,
}

impl Dialect {
    pub(super) fn new(header: bool, delimiter: char, null: Option<&str>) -> Result<Self, SqlError> {
        let byte = u8::try_from(delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte));
        let delimiter = byte.ok_or_else(|| {
            let text =
                format!("the delimiter {delimiter:?} is not one ASCII character other than a quote or a line break");
            SqlError::new(Code::InvalidSql, text)
        })?;
        Ok(Self {
            header,
            delimiter,
            null: null.map(str::to_owned),
        })
    }

    pub(super) fn has_header(&self) -> bool {
        self.header
    }
}

/// The file's columns by name, with types that hold its first `rows_to_guess_from` rows. A file with nothing on its
/// lines has none.
pub(super) async fn columns(
    staged: &Staged,
    dialect: &Dialect,
    rows_to_guess_from: usize,
) -> Result<SchemaRef, DataFusionError> {
    let mut file = Reader::open(staged, dialect, None).await?;
    let Some(first) = file.next(1).await? else {
        return Ok(Arc::new(Schema::empty()));
    };
    let names = match dialect.header {
        true => names(&first)?,
        false => (0..first.width()).map(numbered).collect(),
    };

    let mut guesses = vec![Guess::default(); first.width()];
    let mut seen = 0;
    let mut rows = if dialect.header { None } else { Some(first) };
    while seen < rows_to_guess_from {
        let next = match rows.take() {
            Some(rows) => Some(rows),
            None => file.next(ROWS_AT_A_TIME.min(rows_to_guess_from - seen)).await?,
        };
        let Some(next) = next else { break };
        for (column, guess) in guesses.iter_mut().enumerate() {
            let values = (0..next.len()).filter_map(|row| next.value(row, column));
            *guess = values.fold(*guess, Guess::and);
        }
        seen += next.len();
    }

    let fields = names
        .into_iter()
        .zip(guesses)
        .map(|(name, guess)| Field::new(name, guess.data_type(), true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The whole file as a table of `schema`, which has a column for each of the file's.
pub(super) fn table(
    staged: Staged,
    dialect: Dialect,
    schema: SchemaRef,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let file = File {
        staged,
        dialect,
        schema: Arc::clone(&schema),
    };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(file)])?))
}

/// The names of a header line. A name that is not there is the column's number.
fn names(header: &Rows) -> Result<Vec<String>, SqlError> {
    let mut taken = HashSet::new();
    (0..header.width())
        .map(|column| {
            let name = match header.text(0, column) {
                "" => numbered(column),
                name => name.to_owned(),
            };
            match taken.insert(name.to_lowercase()) {
                true => Ok(name),
                false => Err(malformed(format!("the file has two columns named {name}"))),
            }
        })
        .collect()
}

fn numbered(column: usize) -> String {
    format!("column_{}", column + 1)
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// The one partition of the scan.
#[derive(Clone, Debug)]
struct File {
    staged: Staged,
    dialect: Dialect,
    schema: SchemaRef,
}

impl PartitionStream for File {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        // A task of its own, so that text is parsed on one thread while files are encoded on another.
        let mut batches = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_IN_FLIGHT);
        let (file, out) = (self.clone(), batches.tx());
        batches.spawn(async move {
            // A header says how wide rows are. Without one the first row may be an empty line, which says nothing.
            let width = (!file.dialect.header).then_some(file.schema.fields().len());
            let mut rows = Reader::open(&file.staged, &file.dialect, width).await?;
            if file.dialect.header {
                rows.next(1).await?;
            }
            while let Some(rows) = rows.next(ROWS_AT_A_TIME).await? {
                let batch = cells::batch(&rows, &file.schema)?;
                if out.send(Ok(batch)).await.is_err() {
                    // Nobody wants the rest.
                    return Ok(());
                }
            }
            Ok(())
        });
        batches.build()
    }
}

/// A file that is being read from its start to its end.
struct Reader {
    pieces: Pieces,
    piece: Bytes,
    tokenizer: Tokenizer,
}

impl Reader {
    /// Rows have `width` fields, or as many as the first.
    async fn open(staged: &Staged, dialect: &Dialect, width: Option<usize>) -> Result<Self, DataFusionError> {
        Ok(Self::of(pieces::open(staged).await?, dialect, width))
    }

    fn of(pieces: Pieces, dialect: &Dialect, width: Option<usize>) -> Self {
        let tokenizer = Tokenizer::new(dialect.delimiter, dialect.null.as_deref(), width);
        Self {
            pieces,
            piece: Bytes::new(),
            tokenizer,
        }
    }

    /// The next rows, at most `max_rows`, or nothing at the end of the file.
    async fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, DataFusionError> {
        while !self.tokenizer.is_full(max_rows) {
            if self.piece.is_empty() {
                match self.pieces.try_next().await? {
                    Some(piece) => self.piece = piece,
                    None => {
                        self.tokenizer.finish()?;
                        break;
                    }
                }
            }
            let read = self.tokenizer.feed(&self.piece, max_rows)?;
            self.piece.advance(read);
        }
        let rows = self.tokenizer.take()?;
        Ok((rows.len() > 0).then_some(rows))
    }
}
