//! An error beside the SQL it is about, as a person reads it.

use std::fmt;

use unicode_width::UnicodeWidthStr as _;

use crate::client::{self, Refusal};

/// An error, and under it the line of the SQL with a mark at its place.
pub(super) struct Report {
    pub(super) error: client::Error,
    pub(super) sql: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let client::Error::Refused(Refusal {
            line: Some(line),
            column,
            ..
        }) = &self.error
        else {
            return Ok(());
        };
        let Some(text) = line.checked_sub(1).and_then(|line| self.sql.lines().nth(line)) else {
            return Ok(());
        };
        let margin = format!("{line} | ");
        write!(f, "\n{margin}{}", printable(text))?;
        if let Some(column) = column {
            let before: String = text.chars().take(column.saturating_sub(1)).collect();
            let cells = printable(&before).width();
            write!(f, "\n{}^", " ".repeat(margin.len() + cells))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Report {}

/// The line with every character as wide as it will be on the terminal.
fn printable(line: &str) -> String {
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sql: &str, line: usize, column: usize) -> String {
        let (code, message) = ("unknown_table".to_owned(), "no table named shop.sale".to_owned());
        let refusal = Refusal {
            code,
            message,
            line: Some(line),
            column: Some(column),
            retry_after: None,
        };
        Report {
            error: client::Error::Refused(refusal),
            sql: sql.to_owned(),
        }
        .to_string()
    }

    #[test]
    fn an_error_points_at_the_place_in_the_sql() {
        let expected = "unknown_table: no table named shop.sale\n2 | from shop.sale\n         ^";
        assert_eq!(report("select 1\nfrom\tshop.sale", 2, 6), expected);
    }

    #[test]
    fn wide_letters_before_the_place_are_counted_as_cells() {
        let shown = report("select '東京', x", 1, 14);
        assert!(shown.ends_with(&format!("\n{}^", " ".repeat(19))), "{shown}");
    }

    #[test]
    fn a_place_outside_the_sql_is_not_shown() {
        assert_eq!(report("select 1", 7, 1), "unknown_table: no table named shop.sale");
    }
}
