//! Where an upload of text can be cut, found while it arrives: whoever reads a part of it needs nothing of the others.
//!
//! # Invariants
//! - Each cut is where the reader of the format begins a row, of a file without faults. Of one with a fault there is no cut
//!   behind it that the reader would not make, so the part with the first fault is read up to it. Parts are read at once: which
//!   of several faults is told is chance.
//! - Where the bytes are cut into pieces changes nothing.

use memchr::{memchr, memchr_iter, memchr2};
use serde::{Deserialize, Serialize};

use crate::task::LoadFormat;

/// What is between two cuts, more or less: enough that a request for it is cheap, and little enough that a few workers get
/// equal shares.
const PART_BYTES: u64 = 8 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A place between two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The bytes before it.
    pub at: u64,
    /// The line that begins there, from 1.
    pub line: u64,
}

/// Sees an upload as it arrives.
#[derive(Debug)]
pub struct Cutter {
    place: Place,
    /// What separates fields. None where lines are rows, whatever is on them.
    delimiter: Option<u8>,
    /// Where the next byte is.
    here: Cut,
    /// The byte before it.
    before: Option<u8>,
    /// Whether there was something on a line. The first such line may be a header, which is not for the second part.
    has_begun: bool,
    part_bytes: u64,
    cuts: Vec<Cut>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The byte order mark, of which so many bytes were there.
    Mark(usize),
    /// A row, outside of quotes.
    Row,
    /// Text in quotes.
    Quoted,
    /// Behind a quote inside quotes.
    Quote,
    /// A part that has to stay whole: the rest of a file with a fault, or of a format that is not text.
    Rest,
}

impl Cutter {
    /// For an upload in this format.
    pub fn new(format: &LoadFormat) -> Self {
        Self::every(PART_BYTES, format)
    }

    pub(crate) fn every(part_bytes: u64, format: &LoadFormat) -> Self {
        let (place, delimiter) = match format {
            // A wrong delimiter is told when the file is read.
            LoadFormat::Csv { delimiter, .. } => match u8::try_from(*delimiter) {
                Ok(delimiter) if delimiter.is_ascii() => (Place::Mark(0), Some(delimiter)),
                _ => (Place::Rest, None),
            },
            LoadFormat::Json => (Place::Row, None),
            LoadFormat::Parquet | LoadFormat::Arrow => (Place::Rest, None),
        };
        Self {
            place,
            delimiter,
            here: Cut { at: 0, line: 1 },
            before: None,
            has_begun: false,
            part_bytes,
            cuts: Vec::new(),
        }
    }

    /// The next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first().copied() {
            let seen = match self.place {
                Place::Rest => return,
                Place::Mark(seen) if BYTE_ORDER_MARK.get(seen) == Some(&first) => {
                    self.place = Place::Mark(seen + 1);
                    self.here.at += 1;
                    1
                }
                Place::Mark(seen) => {
                    // A quote opens a field behind the mark, and not behind a part of it.
                    let is_text = 0 < seen && seen < BYTE_ORDER_MARK.len();
                    self.before = is_text.then(|| BYTE_ORDER_MARK[seen - 1]);
                    self.place = Place::Row;
                    0
                }
                Place::Row => self.see_rows(bytes),
                Place::Quoted => {
                    let end = memchr(b'"', bytes);
                    let text = &bytes[..end.unwrap_or(bytes.len())];
                    self.here.line += memchr_iter(b'\n', text).count() as u64;
                    if end.is_some() {
                        self.place = Place::Quote;
                    }
                    let seen = text.len() + usize::from(end.is_some());
                    self.here.at += seen as u64;
                    seen
                }
                Place::Quote if first == b'"' => {
                    self.place = Place::Quoted;
                    self.here.at += 1;
                    1
                }
                Place::Quote => {
                    let is_closed = first == b'\n' || first == b'\r' || Some(first) == self.delimiter;
                    self.before = Some(b'"');
                    self.place = if is_closed { Place::Row } else { Place::Rest };
                    0
                }
            };
            bytes = &bytes[seen..];
        }
    }

    /// The cuts, when all was seen.
    pub fn finish(self) -> Vec<Cut> {
        let end = self.here.at;
        let mut cuts = self.cuts;
        // A part with nothing in it is none.
        cuts.retain(|cut| cut.at < end || matches!(self.place, Place::Rest));
        cuts
    }

    /// Sees rows until a quote opens. Says how many bytes that took.
    fn see_rows(&mut self, bytes: &[u8]) -> usize {
        let Some(delimiter) = self.delimiter else {
            self.see_lines(bytes);
            return bytes.len();
        };
        let opens = memchr_iter(b'"', bytes).find(|at| {
            let before = at.checked_sub(1).map_or(self.before, |before| Some(bytes[before]));
            before.is_none_or(|before| before == delimiter || before == b'\n' || before == b'\r')
        });
        self.see_lines(&bytes[..opens.unwrap_or(bytes.len())]);
        match opens {
            None => bytes.len(),
            Some(at) => {
                self.end_line_behind_return();
                self.before = Some(b'"');
                self.has_begun = true;
                self.here.at += 1;
                self.place = Place::Quoted;
                at + 1
            }
        }
    }

    /// Sees what no quote opens in, and cuts behind the first line end at which a part is large enough.
    fn see_lines(&mut self, mut bytes: &[u8]) {
        loop {
            let last = self.cuts.last().map_or(0, |cut| cut.at);
            let wanted = (last + self.part_bytes).saturating_sub(self.here.at);
            let (not_yet, rest) = bytes.split_at(bytes.len().min(usize::try_from(wanted).unwrap_or(usize::MAX)));
            self.pass(not_yet);
            if rest.is_empty() {
                return;
            }
            // A return that came before is a line end that is over now, unless a line feed belongs to it.
            if self.is_behind_return() && rest[0] != b'\n' {
                self.end_line_behind_return();
                self.cut();
                bytes = rest;
                continue;
            }
            let end = match self.delimiter {
                Some(_) => memchr2(b'\n', b'\r', rest),
                None => memchr(b'\n', rest),
            };
            let Some(end) = end else {
                self.pass(rest);
                return;
            };
            self.pass(&rest[..=end]);
            bytes = &rest[end + 1..];
            if rest[end] == b'\n' {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.has_begun {
            self.cuts.push(self.here);
        }
    }

    /// Counts the lines that end in `bytes`. One that ends in a return has ended when it is known that no line feed follows.
    fn pass(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if bytes[0] != b'\n' {
            self.end_line_behind_return();
        }
        self.here.line += memchr_iter(b'\n', bytes).count() as u64;
        if self.delimiter.is_some() {
            let lone = memchr_iter(b'\r', bytes).filter(|at| bytes.get(at + 1).is_some_and(|next| *next != b'\n'));
            self.here.line += lone.count() as u64;
        }
        self.here.at += bytes.len() as u64;
        self.has_begun = self.has_begun || bytes.iter().any(|byte| !b"\r\n".contains(byte));
        self.before = Some(*last);
    }

    fn is_behind_return(&self) -> bool {
        self.delimiter.is_some() && self.before == Some(b'\r')
    }

    fn end_line_behind_return(&mut self) {
        if self.is_behind_return() {
            self.here.line += 1;
            // It is a line end like any other from now on.
            self.before = Some(b'\n');
        }
    }
}
