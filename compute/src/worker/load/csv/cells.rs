//! Rows of text become columns of types.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::error::DataFusionError;
use serde::de::IgnoredAny;

use super::super::bytes;
use super::malformed;
use super::records::Rows;
use crate::SqlError;

/// How much of a value an error repeats.
const CHARS_OF_A_VALUE: usize = 100;

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
    let mut texts = StringBuilder::with_capacity(rows.len(), rows.bytes() / rows.width());
    for row in 0..rows.len() {
        texts.append_option(rows.value(row, column));
    }
    let texts = texts.finish();
    typed(&texts, field.data_type()).map_err(|row| {
        let value: String = texts.value(row).chars().take(CHARS_OF_A_VALUE).collect();
        malformed(format!(
            "line {} of the file: column {} holds '{value}', which is not {}",
            rows.line(row),
            field.name(),
            called(field.data_type())
        ))
    })
}

/// `texts` as values of `target`, or the first row that is none.
fn typed(texts: &StringArray, target: &DataType) -> Result<ArrayRef, usize> {
    match target {
        DataType::Utf8 => Ok(Arc::new(texts.clone())),
        DataType::Binary => {
            bytes::decode_column(texts).ok_or_else(|| first(texts, |text| bytes::decode(text).is_none()))
        }
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            let one_value = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
            if !texts.iter().flatten().all(one_value) {
                return Err(first(texts, |text| !one_value(text)));
            }
            from_json(texts, target).ok_or_else(|| {
                first(texts, |text| {
                    from_json(&StringArray::from(vec![text]), target).is_none()
                })
            })
        }
        _ => {
            let not_one = |row: usize| texts.is_valid(row);
            let values = cast(texts, target).map_err(|_| (0..texts.len()).find(|row| not_one(*row)).unwrap_or(0))?;
            if values.null_count() == texts.null_count() {
                return Ok(values);
            }
            Err((0..texts.len())
                .find(|row| not_one(*row) && values.is_null(*row))
                .unwrap_or(0))
        }
    }
}

fn first(texts: &StringArray, is_wrong: impl Fn(&str) -> bool) -> usize {
    texts.iter().position(|text| text.is_some_and(&is_wrong)).unwrap_or(0)
}

/// Lists, structs and maps, each a JSON text.
fn from_json(texts: &StringArray, target: &DataType) -> Option<ArrayRef> {
    let mut lines = Vec::with_capacity(texts.value_data().len() + 5 * texts.len());
    for text in texts {
        lines.extend_from_slice(text.unwrap_or("null").as_bytes());
        lines.push(b'\n');
    }
    if texts.is_empty() {
        return Some(datafusion::arrow::array::new_empty_array(target));
    }
    let field = Field::new("value", bytes::as_text(target), true);
    let mut decoder = ReaderBuilder::new_with_field(field)
        .with_batch_size(texts.len())
        .build_decoder()
        .ok()?;
    let read = decoder.decode(&lines).ok()?;
    let values = decoder.flush().ok()??;
    // The decoder stops behind the last value; what it leaves is at most the last line feed.
    if lines.len() - read > 1 || values.num_rows() != texts.len() {
        return None;
    }
    bytes::from_text(values.column(0), target)
}

/// A type as SQL writes it, with its article.
fn called(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "a BOOLEAN".to_owned(),
        DataType::Int8 => "a TINYINT".to_owned(),
        DataType::Int16 => "a SMALLINT".to_owned(),
        DataType::Int32 => "an INT".to_owned(),
        DataType::Int64 => "a BIGINT".to_owned(),
        DataType::Float32 => "a REAL".to_owned(),
        DataType::Float64 => "a DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("a DECIMAL({precision}, {scale})"),
        DataType::Date32 => "a DATE".to_owned(),
        DataType::Timestamp(_, None) => "a TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "a TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Binary => "base64".to_owned(),
        DataType::List(_) => "a list in JSON of the column's type".to_owned(),
        DataType::Struct(_) => "a struct in JSON of the column's type".to_owned(),
        DataType::Map(_, _) => "a map in JSON of the column's type".to_owned(),
        other => format!("of type {other}"),
    }
}
