//! Arrow becomes the text that the suite's files are written in, by the rules of DataFusion's own runner.

use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type,
    Float64Type, Schema,
};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use bigdecimal::BigDecimal;

/// What a record gives.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// A letter for each column.
    pub(crate) types: String,
    pub(crate) rows: Vec<Vec<String>>,
}

pub(crate) fn convert(schema: &Schema, batches: &[RecordBatch]) -> Answer {
    let types = schema.fields().iter().map(|field| letter(field.data_type())).collect();
    let rows = batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows()).map(move |row| batch.columns().iter().map(|column| cell(column, row)).collect())
        })
        .flat_map(lines_of)
        .collect();
    Answer { types, rows }
}

fn letter(data_type: &DataType) -> char {
    use DataType::*;
    let is_text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    match data_type {
        Boolean => 'B',
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => 'I',
        Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => 'R',
        Date32 | Date64 | Time32(_) | Time64(_) => 'D',
        Timestamp(..) => 'P',
        Dictionary(_, values) if is_text(values) => 'T',
        data_type if is_text(data_type) => 'T',
        _ => '?',
    }
}

/// A row whose last cell has several lines, such as a plan, becomes several rows with numbers; leading spaces, which the
/// format does not keep, become dashes.
fn lines_of(mut row: Vec<String>) -> Vec<Vec<String>> {
    let Some(last) = row.pop() else { return vec![row] };
    if !last.contains('\n') {
        row.push(last);
        return vec![row];
    }
    let lines = last.split('\n').enumerate().map(|(index, line)| {
        let content = line.trim_start();
        let indent = "-".repeat(line.len() - content.len());
        vec![format!("{:02}){indent}{content}", index + 1)]
    });
    std::iter::once(row).chain(lines).collect()
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Float16 => float(
            f64::from(column.as_primitive::<Float16Type>().value(row)),
            column.as_primitive::<Float16Type>().value(row),
        ),
        DataType::Float32 => float(
            f64::from(column.as_primitive::<Float32Type>().value(row)),
            column.as_primitive::<Float32Type>().value(row),
        ),
        DataType::Float64 => float(
            column.as_primitive::<Float64Type>().value(row),
            column.as_primitive::<Float64Type>().value(row),
        ),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(column, row, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(column, row, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(column, row, *scale),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(column, row, *scale),
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row)),
        DataType::Utf8View => text(column.as_string_view().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            cell(dictionary.values(), dictionary.normalized_keys()[row])
        }
        _ => formatted(column, row),
    }
}

fn text(value: &str) -> String {
    if value.is_empty() {
        "(empty)".to_owned()
    } else {
        value.trim_end_matches('\n').replace('\0', "\\0")
    }
}

/// Twelve digits after the point, as many as they need; the sign of a NaN differs between machines and is not shown.
fn float(value: f64, spelled: impl std::fmt::Display) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        }
    } else {
        plain(&spelled.to_string(), 12)
    }
}

fn decimal<T: DecimalType>(column: &ArrayRef, row: usize, scale: i8) -> String {
    // The precision does not change how a value is written.
    plain(
        &T::format_decimal(column.as_primitive::<T>().value(row), u8::MAX, scale),
        i64::from(scale),
    )
}

fn plain(number: &str, digits: i64) -> String {
    let number = BigDecimal::from_str(number).expect("a number is written as one");
    number.round(digits).normalized().to_plain_string()
}

fn formatted(column: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::new()
        .with_display_error(true)
        .with_null("NULL")
        .with_date_format(Some("%Y-%m-%d"))
        .with_datetime_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
        .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
        .with_timestamp_tz_format(None)
        .with_time_format(Some("%H:%M:%S%.f"))
        .with_duration_format(DurationFormat::Pretty);
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("every type can be shown");
    formatter.value(row).to_string()
}
