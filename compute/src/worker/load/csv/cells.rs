//! Rows of text become columns of types.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::error::DataFusionError;

use super::super::texts;
use super::records::Rows;
use crate::SqlError;

/// `rows` with the types of `schema`, which has as many columns.
pub(super) fn batch(rows: &Rows, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let columns: Result<Vec<ArrayRef>, SqlError> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(column, field)| read(rows, column, field))
        .collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns?)?)
}

fn read(rows: &Rows, column: usize, field: &Field) -> Result<ArrayRef, SqlError> {
    let mut values = StringBuilder::with_capacity(rows.len(), rows.bytes() / rows.width());
    for row in 0..rows.len() {
        values.append_option(rows.value(row, column));
    }
    texts::typed(&values.finish(), field.data_type()).map_err(|row| {
        let text = rows.text(row, column);
        let is_rounded = texts::is_near_one(text, field.data_type());
        texts::misfit(rows.line(row), field, &format!("'{}'", texts::cut(text)), is_rounded)
    })
}
