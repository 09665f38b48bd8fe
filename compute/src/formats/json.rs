//! Rows as JSON objects, alone on a line or with something between them.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::cells::{Cells, json_key};
use super::names::distinct_names;
use super::{Unwritable, must_have_columns};

/// Writes rows as objects whose keys are the columns in their order. NULL is written out.
pub struct Objects {
    /// `"name":` of every column.
    keys: Vec<Vec<u8>>,
}

impl Objects {
    /// For rows with the columns of `schema`.
    pub fn new(schema: &Schema) -> Self {
        let names = distinct_names(schema.fields());
        Self {
            keys: names.iter().map(|name| json_key(name)).collect(),
        }
    }

    /// Writes `rows` with `between` between each two of them.
    pub fn write(&self, rows: &RecordBatch, between: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        must_have_columns(rows, self.keys.len())?;
        let columns = Cells::of_all(rows)?;
        for row in 0..rows.num_rows() {
            if row > 0 {
                out.extend_from_slice(between);
            }
            self.write_object(&columns, row, out);
        }
        Ok(())
    }

    fn write_object(&self, columns: &[Cells], row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (position, (key, column)) in self.keys.iter().zip(columns).enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            column.write_json(row, out);
        }
        out.push(b'}');
    }
}

/// One object a line.
pub(super) struct Lines(Objects);

impl Lines {
    pub(super) fn new(schema: &Schema) -> Self {
        Self(Objects::new(schema))
    }

    pub(super) fn rows(&self, rows: &RecordBatch) -> Result<Vec<u8>, Unwritable> {
        let mut out = Vec::new();
        self.0.write(rows, b"\n", &mut out)?;
        if rows.num_rows() > 0 {
            out.push(b'\n');
        }
        Ok(out)
    }
}
