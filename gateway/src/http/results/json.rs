//! Rows as JSON: a document, or a line each.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde::Serialize;

use super::cells::{Cells, json_key};
use super::columns::schema_json;
use super::{End, Failure};

pub(super) struct Encoder {
    /// `"name":` of every column.
    keys: Vec<Vec<u8>>,
    shape: Shape,
}

enum Shape {
    Lines,
    Document { head: Vec<u8>, has_rows: bool },
}

/// How it ended, as clients read it.
#[derive(Serialize)]
struct Ended<'a> {
    status: &'static str,
    #[serde(flatten)]
    end: &'a End,
}

impl Encoder {
    pub(super) fn lines(schema: &Schema) -> Self {
        Self {
            keys: keys(schema),
            shape: Shape::Lines,
        }
    }

    pub(super) fn document(schema: &Schema) -> Self {
        let mut head = b"{\"schema\":".to_vec();
        write(&schema_json(schema), &mut head);
        head.extend_from_slice(b",\"rows\":[");
        Self {
            keys: keys(schema),
            shape: Shape::Document { head, has_rows: false },
        }
    }

    pub(super) fn open(&mut self) -> Vec<u8> {
        match &mut self.shape {
            Shape::Lines => Vec::new(),
            Shape::Document { head, .. } => std::mem::take(head),
        }
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Failure> {
        let columns = rows
            .columns()
            .iter()
            .map(|column| Cells::of(column))
            .collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::new();
        for row in 0..rows.num_rows() {
            if let Shape::Document { has_rows, .. } = &mut self.shape {
                out.extend_from_slice(if *has_rows { b",\n" } else { b"\n" });
                *has_rows = true;
            }
            write_object(&self.keys, &columns, row, &mut out);
            if let Shape::Lines = self.shape {
                out.push(b'\n');
            }
        }
        Ok(out)
    }

    pub(super) fn close(&mut self, end: &End) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.shape {
            Shape::Lines => out.extend_from_slice(b"{\"$end\":"),
            Shape::Document { .. } => {
                out.extend_from_slice(b"\n],\"query_id\":");
                write(&end.query_id, &mut out);
                if let Some(page) = &end.page {
                    out.push(b',');
                    write_fields(page, &mut out);
                }
                out.extend_from_slice(b",\"end\":");
            }
        }
        write(&Ended { status: "done", end }, &mut out);
        out.extend_from_slice(b"}\n");
        out
    }
}

/// The last line of JSON lines that stop before their end.
pub(super) fn last_words(failure: &Failure) -> Vec<u8> {
    let mut out = b"{\"$error\":".to_vec();
    write(failure, &mut out);
    out.extend_from_slice(b"}\n");
    out
}

fn keys(schema: &Schema) -> Vec<Vec<u8>> {
    schema.fields().iter().map(|field| json_key(field.name())).collect()
}

fn write_object(keys: &[Vec<u8>], columns: &[Cells], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (position, (key, column)) in keys.iter().zip(columns).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        column.write_json(row, out);
    }
    out.push(b'}');
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
