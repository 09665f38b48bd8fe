//! The parts of an upload, and who reads which.

use serde::{Deserialize, Serialize};

use crate::cuts::Cut;

/// Some rows of a file: the bytes from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The line that begins at `start`, from 1.
    pub(super) line: u64,
}

impl Part {
    /// A file of so many bytes.
    pub(super) fn whole(bytes: u64) -> Self {
        Self {
            start: 0,
            end: bytes,
            line: 1,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// A file of so many bytes in the parts that it can be cut into.
pub(super) fn of(bytes: u64, cuts: &[Cut]) -> Vec<Part> {
    let mut rest = Part::whole(bytes);
    let mut parts = Vec::with_capacity(cuts.len() + 1);
    for cut in cuts {
        parts.push(Part { end: cut.at, ..rest });
        rest = Part {
            start: cut.at,
            line: cut.line,
            ..rest
        };
    }
    parts.push(rest);
    parts
}

/// So many shares of about the same size, each of parts that follow each other: rows that came together stay together, so
/// files of rows in order have ranges that a query can pass over.
pub(super) fn dealt(parts: &[Part], shares: usize) -> Vec<Vec<Part>> {
    let mut dealt = vec![Vec::new(); shares];
    let all: u64 = parts.iter().map(Part::bytes).sum();
    let mut before = 0u64;
    for part in parts {
        let middle = u128::from(before + part.bytes() / 2);
        let share = (middle * shares as u128).checked_div(u128::from(all)).unwrap_or(0);
        dealt[(share as usize).min(shares - 1)].push(*part);
        before += part.bytes();
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(ends: &[u64]) -> Vec<Part> {
        let cuts: Vec<Cut> = ends.iter().map(|at| Cut { at: *at, line: at + 1 }).collect();
        of(ends.last().map_or(7, |last| last + 7), &cuts)
    }

    #[test]
    fn parts_are_the_whole_file_and_each_byte_once() {
        assert_eq!(parts(&[]), [Part::whole(7)]);
        let cut = parts(&[10, 20]);
        assert_eq!(
            cut.iter()
                .map(|part| (part.start, part.end, part.line))
                .collect::<Vec<_>>(),
            [(0, 10, 1), (10, 20, 11), (20, 27, 21)]
        );
    }

    #[test]
    fn shares_are_even_and_keep_the_order_of_the_file() {
        let all = parts(&(1..40).map(|part| part * 16).collect::<Vec<_>>());
        for shares in 1..=41 {
            let dealt = dealt(&all, shares);
            assert_eq!(dealt.len(), shares);
            assert_eq!(dealt.concat(), all, "{shares} shares");
            let most = dealt.iter().map(Vec::len).max().unwrap_or_default();
            assert!(
                most <= all.len().div_ceil(shares) + 1,
                "{shares} shares, one of {most} parts"
            );
        }
        assert_eq!(dealt(&[Part::whole(0)], 2).concat(), [Part::whole(0)]);
    }
}
