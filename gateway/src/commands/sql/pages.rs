//! What of a page of results is to be written, and how many rows that is.
//!
//! # Invariants
//! - A page is cut, never changed: what is written are the server's own bytes.

use crate::client::csv;

/// Cuts a page and counts its rows. The flag says that the page is the first.
pub(super) type RowsOf = fn(&str, bool) -> (&str, u64);

/// The header line belongs to the first page only.
pub(super) fn csv_rows(page: &str, first: bool) -> (&str, u64) {
    let mut records = csv::records(page);
    let header = records.next().unwrap_or_default();
    let rows = records.count() as u64;
    let text = if first {
        page
    } else {
        page[header.len()..]
            .trim_start_matches('\r')
            .strip_prefix('\n')
            .unwrap_or("")
    };
    (text, rows)
}

/// The last line says how the page ended and is not a row.
pub(super) fn json_rows(page: &str, _first: bool) -> (&str, u64) {
    let lines = page.trim_end_matches('\n');
    let rows = &page[..lines.rfind('\n').map_or(0, |end| end + 1)];
    (rows, rows.lines().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_csv_have_one_header_and_are_counted_by_records() {
        let page = "a,b\n1,\"x\ny\"\n\n";
        assert_eq!(csv_rows(page, true), (page, 2));
        assert_eq!(csv_rows(page, false), ("1,\"x\ny\"\n\n", 2));
        assert_eq!(csv_rows("a\r\n1\r\n", false), ("1\r\n", 1));
        assert_eq!(csv_rows("a\n", false), ("", 0));
    }

    #[test]
    fn pages_of_json_lines_lose_their_last_line() {
        let page = "{\"a\":1}\n{\"a\":2}\n{\"$end\":{\"total_rows\":2}}\n";
        assert_eq!(json_rows(page, true), ("{\"a\":1}\n{\"a\":2}\n", 2));
        assert_eq!(json_rows("{\"$end\":{}}\n", true), ("", 0));
    }
}
