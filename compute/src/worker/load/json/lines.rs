//! The lines of an upload, some of them at a time.
//!
//! # Invariants
//! - Where the bytes are cut into pieces changes nothing.
//! - A line with nothing on it is counted and is no row.

use bytes::{Buf, Bytes};
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use memchr::memchr;

use super::super::parts::Part;
use super::super::pieces::{self, Pieces};
use super::super::{Staged, malformed};

/// Rows that are handed on together.
pub(super) const ROWS_AT_A_TIME: usize = 8192;

/// Text that is handed on together, unless one line alone is longer.
const BYTES_AT_A_TIME: usize = 8 << 20;

/// The longest line. A file without line ends must not come into memory as a whole.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Some lines of a file.
#[derive(Debug, Default)]
pub(super) struct Rows {
    text: String,
    /// Where each line ends in the text.
    ends: Vec<usize>,
    /// The number of each line, from 1.
    numbers: Vec<u64>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn line(&self, row: usize) -> u64 {
        self.numbers[row]
    }

    /// The lines with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let texts = starts.zip(&self.ends).map(move |(start, end)| &self.text[start..*end]);
        self.numbers.iter().copied().zip(texts)
    }
}

/// A part of a file that is being read from its start to its end.
pub(super) struct Lines {
    pieces: Pieces,
    piece: Bytes,
    /// The number of the last line that was read.
    number: u64,
}

impl Lines {
    pub(super) fn open(staged: &Staged, part: &Part) -> Self {
        Self::of(pieces::open(staged, part), part.line)
    }

    /// Reads from where `line` begins.
    pub(super) fn of(pieces: Pieces, line: u64) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            number: line - 1,
        }
    }

    /// The next rows, at most `max_rows`, or nothing at the end of the file.
    pub(super) async fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, DataFusionError> {
        let mut text = Vec::new();
        let (mut ends, mut numbers) = (Vec::new(), Vec::new());
        while ends.len() < max_rows && text.len() < BYTES_AT_A_TIME {
            let start = text.len();
            if !self.read_line(&mut text).await? {
                break;
            }
            let line = &text[start..];
            if line.trim_ascii().is_empty() {
                text.truncate(start);
                continue;
            }
            if std::str::from_utf8(line).is_err() {
                return Err(malformed(format!("line {} of the file is not UTF-8", self.number)).into());
            }
            ends.push(text.len());
            numbers.push(self.number);
        }
        let text = String::from_utf8(text).expect("every line has just been looked at");
        Ok((!ends.is_empty()).then_some(Rows { text, ends, numbers }))
    }

    /// Appends the next line to `text`, without its end; says whether there was one.
    async fn read_line(&mut self, text: &mut Vec<u8>) -> Result<bool, DataFusionError> {
        let start = text.len();
        let mut has_begun = false;
        loop {
            if self.piece.is_empty() {
                match self.pieces.try_next().await? {
                    Some(piece) => self.piece = piece,
                    None => return Ok(has_begun),
                }
                continue;
            }
            self.number += u64::from(!has_begun);
            has_begun = true;
            let end = memchr(b'\n', &self.piece);
            let part = end.unwrap_or(self.piece.len());
            if text.len() - start + part > MAX_LINE_BYTES {
                let (line, mebibytes) = (self.number, MAX_LINE_BYTES >> 20);
                return Err(malformed(format!("line {line} of the file is longer than {mebibytes} MiB")).into());
            }
            text.extend_from_slice(&self.piece[..part]);
            self.piece.advance(part + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
