//! How quantities and rows look to a person in a terminal.
//!
//! # Invariants
//! - A value cannot steer the terminal: control characters are shown as escapes.

use std::fmt;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

/// `1,234`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `1,234 rows`
pub(crate) fn rows(number: u64) -> String {
    plural(number, "row")
}

/// `1 file`, `1,234 files`
pub(crate) fn files(number: u64) -> String {
    plural(number, "file")
}

fn plural(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{} {noun}s", count(number)),
    }
}

/// `512 B`, `1.2 GiB`
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut scaled = number as f64 / 1024.0;
    let mut unit = 0;
    // From here on it would be rounded to 1024.0.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// `12 ms`, `1.3 s`, `2 min 5 s`
pub(crate) fn elapsed(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        ..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// `text` as one line that cannot steer a terminal.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Rows under headings, aligned: text to the left, numbers to the right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    heads: Vec<Head>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Head {
    name: String,
    right: bool,
}

impl Grid {
    /// No columns and no rows yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a column whose values start at the left.
    pub(crate) fn left(mut self, name: &str) -> Self {
        self.heads.push(Head {
            name: line(name),
            right: false,
        });
        self
    }

    /// Adds a column whose values end at the right.
    pub(crate) fn right(mut self, name: &str) -> Self {
        self.heads.push(Head {
            name: line(name),
            right: true,
        });
        self
    }

    /// Adds a row with one value for every column.
    pub(crate) fn push(&mut self, values: impl IntoIterator<Item = String>) {
        self.rows.push(values.into_iter().map(|value| line(&value)).collect());
    }

    /// The rows of an answer.
    pub(crate) fn of(schema: &Schema, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut grid = Self::new();
        for field in schema.fields() {
            grid = match field.data_type().is_numeric() {
                true => grid.right(field.name()),
                false => grid.left(field.name()),
            };
        }
        let options = FormatOptions::default().with_null("NULL");
        for batch in batches {
            let columns = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
                .collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|column| column.value(row).try_to_string());
                grid.push(values.collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(grid)
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<_> = self.heads.iter().map(|head| head.name.width()).collect();
        for row in &self.rows {
            for (width, value) in widths.iter_mut().zip(row) {
                *width = (*width).max(value.width());
            }
        }
        widths
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let names: Vec<_> = self.heads.iter().map(|head| head.name.clone()).collect();
        self.write_row(f, &widths, &names)?;
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(f, "{}", rules.join("+"))?;
        for row in &self.rows {
            self.write_row(f, &widths, row)?;
        }
        Ok(())
    }
}

impl Grid {
    fn write_row(&self, f: &mut fmt::Formatter<'_>, widths: &[usize], values: &[String]) -> fmt::Result {
        let mut text = String::new();
        for (at, (value, head)) in values.iter().zip(&self.heads).enumerate() {
            // The formatter counts characters, a terminal counts cells.
            let blank = " ".repeat(widths[at] - value.width());
            let bar = if at == 0 { "" } else { "|" };
            match head.right {
                true => text.extend([bar, " ", &blank, value, " "]),
                false => text.extend([bar, " ", value, &blank, " "]),
            }
        }
        writeln!(f, "{}", text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [rows(0), rows(1), rows(6_001_215)],
            ["0 rows", "1 row", "6,001,215 rows"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1_288_490_189)],
            ["0 B", "1023 B", "1.0 KiB", "1.2 GiB"]
        );
        assert_eq!([bytes(1024 * 1024 - 1), bytes(u64::MAX)], ["1.0 MiB", "16.0 EiB"]);
        let times = [12, 999, 1300, 125_000].map(|millis| elapsed(Duration::from_millis(millis)));
        assert_eq!(times, ["12 ms", "999 ms", "1.3 s", "2 min 5 s"]);
    }

    #[test]
    fn a_grid_aligns_wide_letters_and_numbers() {
        let mut grid = Grid::new().left("city").right("people");
        grid.push(["東京".to_owned(), "14000000".to_owned()]);
        grid.push(["Ulm".to_owned(), "NULL".to_owned()]);

        let expected = " city |   people\n------+----------\n 東京 | 14000000\n Ulm  |     NULL\n";
        assert_eq!(grid.to_string(), expected);
    }

    #[test]
    fn a_value_cannot_steer_the_terminal() {
        assert_eq!(line("a\nb\u{1b}[2Jc\t"), "a\\nb\\u{1b}[2Jc\\t");
    }
}
