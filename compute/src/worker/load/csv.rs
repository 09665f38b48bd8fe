//! A staged CSV file, or a part of it, as rows.
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
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use futures::{Stream, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use self::guess::Guess;
use self::records::{ROWS_AT_A_TIME, Rows, Tokenizer};
use super::parts::Part;
use super::pieces::{self, Pieces};
use super::{Staged, malformed};
use crate::{Code, SqlError};

/// How a file is spelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    bytes: u64,
    dialect: &Dialect,
    rows_to_guess_from: usize,
) -> Result<SchemaRef, DataFusionError> {
    let mut file = Reader::open(staged, &Part::whole(bytes), dialect, None);
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

/// The rows of a part of the file. `schema` has a column for each of the file's.
pub(super) fn batches(
    staged: &Staged,
    part: &Part,
    dialect: &Dialect,
    schema: &SchemaRef,
) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> + use<> {
    let has_header = dialect.header && part.start == 0;
    // A header says how wide rows are. Without one the first row may be an empty line, which says nothing.
    let width = (!has_header).then_some(schema.fields().len());
    let rows = Reader::open(staged, part, dialect, width);
    let schema = Arc::clone(schema);
    stream::try_unfold((rows, has_header), move |(mut rows, has_header)| {
        let schema = Arc::clone(&schema);
        async move {
            if has_header {
                rows.next(1).await?;
            }
            match rows.next(ROWS_AT_A_TIME).await? {
                Some(some) => Ok(Some((cells::batch(&some, &schema)?, (rows, false)))),
                None => Ok(None),
            }
        }
    })
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

/// A part of a file that is being read from its start to its end.
struct Reader {
    pieces: Pieces,
    piece: Bytes,
    tokenizer: Tokenizer,
}

impl Reader {
    /// Rows have `width` fields, or as many as the first.
    fn open(staged: &Staged, part: &Part, dialect: &Dialect, width: Option<usize>) -> Self {
        Self::of(pieces::open(staged, part), part.line, dialect, width)
    }

    fn of(pieces: Pieces, line: u64, dialect: &Dialect, width: Option<usize>) -> Self {
        let tokenizer = Tokenizer::new(dialect.delimiter, dialect.null.as_deref(), width, line);
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
