//! Texts of a file become values of a column: the fields of CSV, and what JSON has in numbers and quotes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Field};
use serde_json::value::RawValue;

use super::json::values;
use super::{bytes, malformed};
use crate::SqlError;
use crate::worker::write::exactly;

/// How much of a value an error repeats.
const CHARS_OF_A_VALUE: usize = 100;

/// `texts` as values of `target`, or the first row that is none.
pub(super) fn typed(texts: &StringArray, target: &DataType) -> Result<ArrayRef, usize> {
    match target {
        DataType::Utf8 => Ok(Arc::new(texts.clone())),
        DataType::Binary => bytes::decode_column(texts).ok_or_else(|| {
            let is_wrong = |text: Option<&str>| text.is_some_and(|text| bytes::decode(text).is_none());
            texts.iter().position(is_wrong).unwrap_or(0)
        }),
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            let mut nested = Vec::with_capacity(texts.len());
            for (row, text) in texts.iter().enumerate() {
                nested.push(match text {
                    Some(text) => values::some(serde_json::from_str::<&RawValue>(text).map_err(|_| row)?),
                    None => None,
                });
            }
            values::column(&nested, target).map_err(|misfit| misfit.row)
        }
        _ => {
            let texts: ArrayRef = Arc::new(texts.clone());
            exactly::cast(&texts, target)
        }
    }
}

/// What is wrong with a value of `column` that is `written` like this on its line.
pub(super) fn misfit(line: u64, column: &Field, written: &str, is_rounded: bool) -> SqlError {
    let (name, called) = (column.name(), called(column.data_type()));
    malformed(match is_rounded {
        true => format!("line {line} of the file: column {name} holds {written}, which {called} cannot hold exactly"),
        false => format!("line {line} of the file: column {name} holds {written}, which is not {called}"),
    })
}

/// A value as far as a sentence should go.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(CHARS_OF_A_VALUE).collect()
}

/// Whether `target` has a value for `text`, be it one that is only near.
pub(super) fn is_near_one(text: &str, target: &DataType) -> bool {
    let has_steps =
        target.is_floating() || target.is_decimal() || matches!(target, DataType::Date32 | DataType::Timestamp(_, _));
    let text = StringArray::from(vec![text]);
    has_steps && compute::cast(&text, target).is_ok_and(|value| value.is_valid(0))
}

/// A type as SQL writes it, with its article.
fn called(data_type: &DataType) -> String {
    match data_type {
        DataType::Binary => "base64".to_owned(),
        DataType::List(_) => "a list in JSON of the column's type".to_owned(),
        DataType::Struct(_) => "a struct in JSON of the column's type".to_owned(),
        DataType::Map(_, _) => "a map in JSON of the column's type".to_owned(),
        DataType::Int32 => "an INT".to_owned(),
        other => format!("a {}", exactly::sql_name(other)),
    }
}
