//! Rows as CSV: a header line, then RFC 4180 with line feeds.
//!
//! NULL is an empty field and an empty string is `""`, so the two stay apart. In a file of one column NULL is an empty
//! line, and an empty line is a row. Lists, structs and maps are JSON text.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::Unwritable;
use super::cells::Cells;

pub(super) struct Encoder {
    header: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut header = Vec::new();
        for (position, field) in schema.fields().iter().enumerate() {
            if position > 0 {
                header.push(b',');
            }
            write_field(field.name().as_bytes(), &mut header);
        }
        header.push(b'\n');
        Self { header }
    }

    pub(super) fn open(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.header)
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Unwritable> {
        let columns = Cells::of_all(rows)?;
        let mut out = Vec::new();
        let mut text = Vec::new();
        for row in 0..rows.num_rows() {
            for (position, column) in columns.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                if !column.is_null(row) {
                    text.clear();
                    column.write_text(row, &mut text);
                    write_field(&text, &mut out);
                }
            }
            out.push(b'\n');
        }
        Ok(out)
    }
}

fn write_field(text: &[u8], out: &mut Vec<u8>) {
    let needs_quotes = text.is_empty() || text.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r'));
    if !needs_quotes {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
