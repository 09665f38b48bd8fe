//! Arrow becomes the text that the suite's files are written in, by the rules of DataFusion's own runner.

use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type,
    Float64Type, Schema,
};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use bigdecimal::BigDecimal;

/// Digits behind the point of a float.
pub(crate) const FLOAT_DIGITS: i64 = 12;

/// The same of a double in the files for Spark.
pub(crate) const SPARK_DIGITS: i64 = 15;

/// What a record gives.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// A letter for each column.
    pub(crate) types: String,
    /// The same, where decimals without a fraction are whole numbers.
    pub(crate) whole: String,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Answer {
    /// The answer of a statement that tells how many rows it wrote.
    pub(crate) fn of_count(rows: u64) -> Self {
        Self {
            types: "I".to_owned(),
            whole: "I".to_owned(),
            rows: vec![vec![rows.to_string()]],
        }
    }
}

/// `double_digits` is how many digits behind the point a double is written with.
pub(crate) fn convert(schema: &Schema, batches: &[RecordBatch], double_digits: i64) -> Answer {
    let types = schema.fields().iter().map(|field| letter(field.data_type())).collect();
    let whole = schema.fields().iter().map(|field| whole(field.data_type())).collect();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter();
            let cells = columns.map(|column| cell(column, row, double_digits)).collect();
            rows.extend(lines_of(cells));
        }
    }
    Answer { types, whole, rows }
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

fn whole(data_type: &DataType) -> char {
    match data_type {
        DataType::Decimal128(_, 0) => 'I',
        _ => letter(data_type),
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

fn cell(column: &ArrayRef, row: usize, double_digits: i64) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Float16 => float(
            f64::from(column.as_primitive::<Float16Type>().value(row)),
            column.as_primitive::<Float16Type>().value(row),
            FLOAT_DIGITS,
        ),
        DataType::Float32 => float(
            f64::from(column.as_primitive::<Float32Type>().value(row)),
            column.as_primitive::<Float32Type>().value(row),
            FLOAT_DIGITS,
        ),
        DataType::Float64 => float(
            column.as_primitive::<Float64Type>().value(row),
            column.as_primitive::<Float64Type>().value(row),
            double_digits,
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
            cell(dictionary.values(), dictionary.normalized_keys()[row], double_digits)
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

/// At most so many digits behind the point; the sign of a NaN differs between machines and is not shown.
fn float(value: f64, spelled: impl std::fmt::Display, digits: i64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        }
    } else {
        plain(&spelled.to_string(), digits)
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
