//! What JSON says besides the rows: the columns before them, and after them how they ended.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde::Serialize;
use wasmhouse_compute::formats::Objects;

use super::columns::schema_json;
use super::{End, Failure};

/// Rows as one document.
pub(super) struct Document {
    head: Vec<u8>,
    objects: Objects,
    has_rows: bool,
}

impl Document {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut head = b"{\"schema\":".to_vec();
        write(&schema_json(schema), &mut head);
        head.extend_from_slice(b",\"rows\":[");
        Self {
            head,
            objects: Objects::new(schema),
            has_rows: false,
        }
    }

    pub(super) fn open(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        if rows.num_rows() > 0 {
            out.extend_from_slice(if self.has_rows { b",\n" } else { b"\n" });
            self.has_rows = true;
        }
        self.objects.write(rows, b",\n", &mut out)?;
        Ok(out)
    }

    pub(super) fn close(&mut self, end: &End) -> Vec<u8> {
        let mut out = b"\n],\"query_id\":".to_vec();
        write(&end.query_id, &mut out);
        if let Some(page) = &end.page {
            out.push(b',');
            write_fields(page, &mut out);
        }
        out.extend_from_slice(b",\"end\":");
        write_end(end, &mut out);
        out
    }
}

/// The last of the JSON lines.
pub(super) fn last_line(end: &End) -> Vec<u8> {
    let mut out = b"{\"$end\":".to_vec();
    write_end(end, &mut out);
    out
}

/// The last line of JSON lines that stop before their end.
pub(super) fn last_words(failure: &Failure) -> Vec<u8> {
    let mut out = b"{\"$error\":".to_vec();
    write(failure, &mut out);
    out.extend_from_slice(b"}\n");
    out
}

/// How it ended, as clients read it.
#[derive(Serialize)]
struct Ended<'a> {
    status: &'static str,
    #[serde(flatten)]
    end: &'a End,
}

/// The end, and that of the object it is the last field of.
fn write_end(end: &End, out: &mut Vec<u8>) {
    write(&Ended { status: "done", end }, out);
    out.extend_from_slice(b"}\n");
}

fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a vector takes every byte, and these types have names for keys");
}

/// The fields of an object without its braces.
fn write_fields(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    write(value, out);
    out.remove(start);
    out.pop();
}
