//! Bytes become rows of fields, as RFC 4180 has it.
//!
//! # Invariants
//! - Where the bytes are cut into pieces changes nothing.
//! - A field that was quoted is a value, also when it is empty; one that was not is NULL if nothing is there.
//! - Lines are those an editor shows: a line feed inside quotes counts.
//! - A line with nothing on it is a row of NULL where rows have one field, and no row where they have more. What is
//!   behind the last line end is no line.

use memchr::{memchr, memchr_iter, memchr3};

use super::malformed;
use crate::SqlError;

/// Rows that are handed on together.
pub(super) const ROWS_AT_A_TIME: usize = 8192;

/// Text that is handed on together, unless one row alone is longer.
const BYTES_AT_A_TIME: usize = 8 << 20;

/// The longest row. A quote that is never closed must not take the whole file into memory.
const MAX_ROW_BYTES: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Some rows of a file, all as wide as its first.
#[derive(Debug, Default)]
pub(super) struct Rows {
    width: usize,
    /// The fields one after another, without quotes and delimiters.
    text: String,
    fields: Vec<FieldEnd>,
    /// The line each row begins on.
    lines: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct FieldEnd {
    end: usize,
    null: bool,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    /// The bytes of all fields.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// What stands there, also if it means NULL.
    pub(super) fn text(&self, row: usize, column: usize) -> &str {
        let field = row * self.width + column;
        &self.text[start_of(&self.fields, field)..self.fields[field].end]
    }

    /// The value, or nothing for NULL.
    pub(super) fn value(&self, row: usize, column: usize) -> Option<&str> {
        let null = self.fields[row * self.width + column].null;
        (!null).then(|| self.text(row, column))
    }
}

fn start_of(fields: &[FieldEnd], field: usize) -> usize {
    field.checked_sub(1).map_or(0, |before| fields[before].end)
}

/// Reads bytes in pieces of any size.
#[derive(Debug)]
pub(super) struct Tokenizer {
    delimiter: u8,
    /// A word for NULL.
    null: Option<Vec<u8>>,
    place: Place,
    /// The line the next byte is on, from 1.
    line: u64,
    /// The fields of a row, once the first has been read, or from the start if that is known.
    width: Option<usize>,

    text: Vec<u8>,
    fields: Vec<FieldEnd>,
    lines: Vec<u64>,
    /// Fields of the row that is being read.
    fields_of_row: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The byte order mark, of which so many bytes were there.
    Mark(usize),
    /// A row, or the line feed of a carriage return that ended one.
    Row {
        after_return: bool,
    },
    Field,
    Plain,
    /// Text in quotes that opened on this line.
    Quoted {
        opened: u64,
    },
    /// Behind a quote inside quotes: it was the last one, or one of two that mean one.
    Quote {
        opened: u64,
    },
}

impl Tokenizer {
    /// Reads from where `line` begins. Rows have `width` fields, or as many as the first.
    pub(super) fn new(delimiter: u8, null: Option<&str>, width: Option<usize>, line: u64) -> Self {
        // A byte order mark is one at the start of the file and text elsewhere.
        let place = match line {
            1 => Place::Mark(0),
            _ => Place::Row { after_return: false },
        };
        Self {
            delimiter,
            null: null.map(|word| word.as_bytes().to_vec()),
            place,
            line,
            width,
            text: Vec::new(),
            fields: Vec::new(),
            lines: Vec::new(),
            fields_of_row: 0,
        }
    }

    /// Enough rows have been read to hand them on. There are never more than `max_rows`.
    pub(super) fn is_full(&self, max_rows: usize) -> bool {
        let between_rows = matches!(self.place, Place::Row { .. });
        between_rows && (self.lines.len() >= max_rows || self.text.len() >= BYTES_AT_A_TIME)
    }

    /// Reads `bytes` until they end or `max_rows` have been read; says how many bytes that took.
    pub(super) fn feed(&mut self, bytes: &[u8], max_rows: usize) -> Result<usize, SqlError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_full(max_rows) {
            let (byte, rest) = (bytes[at], &bytes[at..]);
            match self.place {
                Place::Mark(seen) if seen < BYTE_ORDER_MARK.len() && byte == BYTE_ORDER_MARK[seen] => {
                    self.place = Place::Mark(seen + 1);
                    at += 1;
                }
                Place::Mark(seen) => self.end_mark(seen),
                Place::Row { after_return: true } if byte == b'\n' => {
                    self.place = Place::Row { after_return: false };
                    at += 1;
                }
                Place::Row { .. } if (byte == b'\n' || byte == b'\r') && self.width != Some(1) => {
                    self.line += 1;
                    self.place = Place::Row {
                        after_return: byte == b'\r',
                    };
                    at += 1;
                }
                Place::Row { .. } => {
                    self.lines.push(self.line);
                    self.place = Place::Field;
                }
                Place::Field if byte == b'"' => {
                    self.place = Place::Quoted { opened: self.line };
                    at += 1;
                }
                Place::Field => self.place = Place::Plain,
                Place::Plain => match memchr3(self.delimiter, b'\n', b'\r', rest) {
                    None => {
                        self.push(rest)?;
                        at = bytes.len();
                    }
                    Some(end) => {
                        self.push(&rest[..end])?;
                        self.end_field(false, rest[end])?;
                        at += end + 1;
                    }
                },
                Place::Quoted { opened } => {
                    let end = memchr(b'"', rest);
                    let part = &rest[..end.unwrap_or(rest.len())];
                    self.line += memchr_iter(b'\n', part).count() as u64;
                    self.push(part)?;
                    at += part.len();
                    if end.is_some() {
                        self.place = Place::Quote { opened };
                        at += 1;
                    }
                }
                Place::Quote { opened } if byte == b'"' => {
                    self.push(b"\"")?;
                    self.place = Place::Quoted { opened };
                    at += 1;
                }
                Place::Quote { .. } if byte == self.delimiter || byte == b'\n' || byte == b'\r' => {
                    self.end_field(true, byte)?;
                    at += 1;
                }
                Place::Quote { .. } => {
                    return Err(malformed(format!(
                        "line {} of the file has text behind a closing quote; a quote inside quotes is written twice",
                        self.line
                    )));
                }
            }
        }
        Ok(at)
    }

    /// There are no more bytes.
    pub(super) fn finish(&mut self) -> Result<(), SqlError> {
        if let Place::Mark(seen) = self.place {
            self.end_mark(seen);
        }
        match self.place {
            Place::Mark(_) | Place::Row { .. } => Ok(()),
            Place::Field | Place::Plain => self.end_field(false, b'\n'),
            Place::Quote { .. } => self.end_field(true, b'\n'),
            Place::Quoted { opened } => Err(malformed(format!(
                "the quote that opens on line {opened} is never closed"
            ))),
        }
    }

    /// The rows since the last time. Asked between rows, that is, when it is full or finished.
    pub(super) fn take(&mut self) -> Result<Rows, SqlError> {
        let text = std::mem::take(&mut self.text);
        let fields = std::mem::take(&mut self.fields);
        let lines = std::mem::take(&mut self.lines);
        let width = self.width.unwrap_or_default();
        if let Some(at) = not_utf8(&text, &fields) {
            let row = fields.partition_point(|field| field.end <= at) / width;
            let row_start = start_of(&fields, row * width);
            let line = lines[row] + memchr_iter(b'\n', &text[row_start..at]).count() as u64;
            return Err(malformed(format!("line {line} of the file is not UTF-8")));
        }
        let text = String::from_utf8(text).expect("it has just been looked at");
        Ok(Rows {
            width,
            text,
            fields,
            lines,
        })
    }

    /// The file has a byte order mark, or the bytes that could have begun one are text.
    fn end_mark(&mut self, seen: usize) {
        self.place = Place::Row { after_return: false };
        if 0 < seen && seen < BYTE_ORDER_MARK.len() {
            self.lines.push(self.line);
            self.text.extend_from_slice(&BYTE_ORDER_MARK[..seen]);
            self.place = Place::Plain;
        }
    }

    fn push(&mut self, part: &[u8]) -> Result<(), SqlError> {
        let whole_rows = self.fields.len() - self.fields_of_row.min(self.fields.len());
        let of_this_row = self.text.len() - start_of(&self.fields, whole_rows) + part.len();
        if of_this_row > MAX_ROW_BYTES {
            let mebibytes = MAX_ROW_BYTES >> 20;
            return Err(malformed(match self.place {
                Place::Quoted { opened } => {
                    format!("the quote that opens on line {opened} is not closed within {mebibytes} MiB")
                }
                _ => format!("line {} of the file is longer than {mebibytes} MiB", self.line),
            }));
        }
        self.text.extend_from_slice(part);
        Ok(())
    }

    fn end_field(&mut self, quoted: bool, by: u8) -> Result<(), SqlError> {
        self.fields_of_row += 1;
        // The fields of a row that is too wide are counted, for its error, and not kept.
        if self.width.is_none_or(|width| self.fields_of_row <= width) {
            let start = start_of(&self.fields, self.fields.len());
            let text = &self.text[start..];
            let null = !quoted && (text.is_empty() || self.null.as_deref() == Some(text));
            self.fields.push(FieldEnd {
                end: self.text.len(),
                null,
            });
        }
        if by == self.delimiter {
            self.place = Place::Field;
            return Ok(());
        }

        let (has, line) = (
            std::mem::take(&mut self.fields_of_row),
            *self.lines.last().expect("a row has begun"),
        );
        let width = *self.width.get_or_insert(has);
        if has != width {
            let s = if has == 1 { "" } else { "s" };
            return Err(malformed(format!(
                "line {line} of the file has {has} field{s}, and the first line has {width}"
            )));
        }
        self.line += 1;
        self.place = Place::Row {
            after_return: by == b'\r',
        };
        Ok(())
    }
}

/// The first byte that is not text. Fields are looked at one by one: half a letter at the end of one and the other half
/// at the start of the next do not make a letter.
fn not_utf8(text: &[u8], fields: &[FieldEnd]) -> Option<usize> {
    match std::str::from_utf8(text) {
        Err(error) => Some(error.valid_up_to()),
        Ok(text) if text.is_ascii() => None,
        Ok(text) => fields
            .iter()
            .map(|field| field.end)
            .find(|end| !text.is_char_boundary(*end))
            .map(|end| end - 1),
    }
}
