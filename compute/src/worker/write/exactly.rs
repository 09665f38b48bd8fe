//! A value in another type, if it is the same value there.
//!
//! A cast of the engine rounds, truncates and wraps without a word. What a table holds must be what was sent, so whatever
//! goes into a table is cast here, and what would be lost is refused with its column.
//!
//! | From | To | The same if |
//! |---|---|---|
//! | a number or a time | an integer, a decimal, a date, a time | the way back gives what it came from |
//! | an integer | a float | the float is that number |
//! | a decimal | a float | the float is written with the same digits |
//! | a float | a decimal | the decimal has all digits that the float is written with |
//! | DOUBLE | REAL | both are the same number, or are written with the same digits |
//! | text | a decimal, a date, a time | no digit is left out |
//! | text | a float | a whole number is that number; a fraction is the nearest there is |
//! | anything | text | always |

use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray, new_empty_array, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Fields, Float32Type, Float64Type, TimeUnit,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{ScalarValue, cast_column};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::{Code, SqlError};

/// A cast that fails rather than turning what does not fit into NULL.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

/// How much of a value an error repeats.
const CHARS_OF_A_VALUE: usize = 100;

/// `value` as `column` holds it. A value that is another one there ends the statement with an error that names both.
pub(in crate::worker) fn in_column(value: Expr, column: &Field) -> Expr {
    let exactly = Exactly {
        column: column.name().clone(),
        target: column.data_type().clone(),
        not_null: !column.is_nullable(),
        signature: Signature::any(1, Volatility::Immutable),
    };
    ScalarUDF::from(exactly).call(vec![value])
}

/// Whether `value` was made by [`in_column`] for a column that is declared NOT NULL.
pub(super) fn is_not_null(value: &Expr) -> bool {
    match value {
        Expr::Alias(named) => is_not_null(&named.expr),
        Expr::ScalarFunction(call) => call
            .func
            .inner()
            .downcast_ref::<Exactly>()
            .is_some_and(|exactly| exactly.not_null),
        _ => false,
    }
}

/// `values` as `target`, or the first row that would be another value there.
pub(crate) fn cast(values: &ArrayRef, target: &DataType) -> Result<ArrayRef, usize> {
    if values.is_empty() {
        return Ok(new_empty_array(target));
    }
    attempt(values, target).ok_or_else(|| {
        let is_lost = |row: &usize| attempt(&values.slice(*row, 1), target).is_none();
        (0..values.len()).find(is_lost).unwrap_or(0)
    })
}

/// A type as SQL writes it.
pub(in crate::worker) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::BinaryView => "BINARY".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        other => other.to_string(),
    }
}

/// The cast as a function of the engine, one for each column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exactly {
    column: String,
    target: DataType,
    /// A promise for whoever makes the table. Its writer keeps it.
    not_null: bool,
    signature: Signature,
}

impl Exactly {
    fn cast(&self, values: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
        cast(values, &self.target).map_err(|row| {
            let (value, target) = (shown(values, row), sql_name(&self.target));
            let column = &self.column;
            SqlError::new(
                Code::TypeMismatch,
                format!("column {column} cannot hold {value} exactly: it is {target}"),
            )
            .into()
        })
    }
}

impl ScalarUDFImpl for Exactly {
    fn name(&self) -> &str {
        "exactly"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.target.clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef, DataFusionError> {
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.target.clone(), nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        match arguments.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.cast(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let cast = self.cast(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?))
            }
            _ => Err(DataFusionError::Internal("exactly takes one value".to_owned())),
        }
    }
}

/// The value at `row`, as far as a sentence should go.
fn shown(values: &ArrayRef, row: usize) -> String {
    let text = ArrayFormatter::try_new(values.as_ref(), &FormatOptions::new())
        .and_then(|formatter| formatter.value(row).try_to_string())
        .unwrap_or_else(|_| "a value".to_owned());
    let text: String = text.chars().take(CHARS_OF_A_VALUE).collect();
    match values.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => format!("'{text}'"),
        _ => text,
    }
}

/// All of `values` as `target`, or nothing if one of them would be another value.
fn attempt(values: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    use DataType as T;

    let source = values.data_type();
    match (source, target) {
        _ if source == target => Some(Arc::clone(values)),
        (T::Null, _) => Some(new_null_array(target, values.len())),
        (T::Dictionary(_, inner), _) => attempt(&plain(values, inner)?, target),
        (_, T::Utf8 | T::LargeUtf8 | T::Utf8View) => plain(values, target),
        (T::LargeUtf8 | T::Utf8View, _) => attempt(&plain(values, &T::Utf8)?, target),
        (T::Utf8, _) => spelled(values.as_string::<i32>(), target),
        (T::Float16, _) => attempt(&plain(values, &T::Float32)?, target),
        (T::Float32, _) if target.is_decimal() => spelled(&digits(values.as_primitive::<Float32Type>()), target),
        (T::Float64, _) if target.is_decimal() => spelled(&digits(values.as_primitive::<Float64Type>()), target),
        (T::Float32 | T::Float64, _) if target.is_integer() => {
            // Zero has a sign among floats and none among integers.
            let wide = plain(values, &T::Float64)?;
            let unsigned: Float64Array = wide.as_primitive::<Float64Type>().unary(|value| value + 0.0);
            let unsigned: ArrayRef = Arc::new(unsigned);
            there_and_back(&unsigned, target)
        }
        (T::List(_) | T::LargeList(_) | T::FixedSizeList(..), T::List(element)) => lists(values, element),
        (T::Map(..), T::Map(entries, sorted)) => maps(values.as_map(), entries, *sorted),
        (T::Struct(from), T::Struct(to)) if is_same_order(from, to) => {
            Some(Arc::new(structs(values.as_struct(), to)?) as ArrayRef)
        }
        (T::Float64, T::Float32) => narrowed(values.as_primitive::<Float64Type>()),
        (_, T::Float32 | T::Float64) if source.is_decimal() => {
            let texts = plain(values, &T::Utf8)?;
            floats_of_decimals(texts.as_string::<i32>(), target)
        }
        _ => there_and_back(values, target),
    }
}

/// The engine's own cast, by name inside of structs.
fn plain(values: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    cast_column(values, target, &STRICT).ok()
}

/// Each element of each list by itself.
fn lists(values: &ArrayRef, element: &FieldRef) -> Option<ArrayRef> {
    let (DataType::List(own) | DataType::LargeList(own) | DataType::FixedSizeList(own, _)) = values.data_type() else {
        return None;
    };
    let values = plain(values, &DataType::List(Arc::clone(own)))?;
    let list = values.as_list::<i32>();
    let (offsets, range) = from_zero(list.offsets());
    let elements = attempt(&list.values().slice(range.start, range.len()), element.data_type())?;
    let list = ListArray::try_new(Arc::clone(element), offsets, elements, list.nulls().cloned()).ok()?;
    Some(Arc::new(list))
}

/// Each key and each value by itself, whatever the two are called.
fn maps(map: &MapArray, entries: &FieldRef, sorted: bool) -> Option<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return None;
    };
    let (offsets, range) = from_zero(map.offsets());
    let pairs = structs(&map.entries().slice(range.start, range.len()), fields)?;
    let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, map.nulls().cloned(), sorted).ok()?;
    Some(Arc::new(map))
}

/// Each field by itself, in its place.
fn structs(rows: &StructArray, fields: &Fields) -> Option<StructArray> {
    let columns: Option<Vec<ArrayRef>> = rows
        .columns()
        .iter()
        .zip(fields)
        .map(|(column, field)| attempt(column, field.data_type()))
        .collect();
    StructArray::try_new(fields.clone(), columns?, rows.nulls().cloned()).ok()
}

fn is_same_order(from: &Fields, to: &Fields) -> bool {
    !to.is_empty() && from.len() == to.len() && from.iter().zip(to).all(|(from, to)| from.name() == to.name())
}

/// The offsets of a part of an array as those of an array of its own, and the values they are about.
fn from_zero(offsets: &OffsetBuffer<i32>) -> (OffsetBuffer<i32>, Range<usize>) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let own: Vec<i32> = offsets.iter().map(|offset| offset - first).collect();
    // Offsets are positions in an array, so they are not negative.
    (OffsetBuffer::new(own.into()), first as usize..last as usize)
}

fn there_and_back(values: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    let there = plain(values, target)?;
    let back = plain(&there, values.data_type())?;
    (back.to_data() == values.to_data()).then_some(there)
}

/// Texts as what they spell.
fn spelled(texts: &StringArray, target: &DataType) -> Option<ArrayRef> {
    use DataType as T;

    let values = cast_with_options(texts, target, &STRICT).ok()?;
    let all = |is_same: &dyn Fn(usize, &str) -> bool| {
        let mut texts = texts.iter().enumerate();
        texts.all(|(row, text)| text.is_none_or(|text| is_same(row, text)))
    };
    let is_same = match target {
        T::Float32 => {
            let floats = values.as_primitive::<Float32Type>();
            all(&|row, text| is_float(text, f64::from(floats.value(row))))
        }
        T::Float64 => {
            let floats = values.as_primitive::<Float64Type>();
            all(&|row, text| is_float(text, floats.value(row)))
        }
        T::Decimal32(_, scale) | T::Decimal64(_, scale) | T::Decimal128(_, scale) | T::Decimal256(_, scale) => {
            let held = usize::try_from(*scale).unwrap_or(0);
            all(&|_, text| fraction_digits(text) <= held)
        }
        T::Timestamp(unit, _) => all(&|_, text| fraction_digits(text) <= digits_of(*unit)),
        T::Date32 | T::Date64 => all(&|_, text| is_whole_day(text)),
        _ => true,
    };
    is_same.then_some(values)
}

/// Floats with the digits that they are written with, without exponents; whole numbers with all of theirs.
fn digits<T>(floats: &PrimitiveArray<T>) -> StringArray
where
    T: ArrowPrimitiveType,
    T::Native: Display + Into<f64>,
{
    let written = |value: T::Native| {
        let wide: f64 = value.into();
        match wide.fract() == 0.0 && wide.abs() < 1e38 {
            true => (wide as i128).to_string(),
            false => value.to_string(),
        }
    };
    floats.iter().map(|value| value.map(written)).collect()
}

fn floats_of_decimals(texts: &StringArray, target: &DataType) -> Option<ArrayRef> {
    let floats = spelled(texts, target)?;
    let mut rows = texts.iter().enumerate();
    let is_same = match target {
        DataType::Float32 => {
            let floats = floats.as_primitive::<Float32Type>();
            rows.all(|(row, text)| text.is_none_or(|text| is_written_as(floats.value(row), text)))
        }
        _ => {
            let floats = floats.as_primitive::<Float64Type>();
            rows.all(|(row, text)| text.is_none_or(|text| is_written_as(floats.value(row), text)))
        }
    };
    is_same.then_some(floats)
}

fn narrowed(values: &Float64Array) -> Option<ArrayRef> {
    let narrow: Float32Array = values.unary(|value| value as f32);
    let is_same = |wide: f64, narrow: f32| {
        wide.is_nan() || f64::from(narrow) == wide || narrow.to_string().parse::<f64>() == Ok(wide)
    };
    let mut pairs = values.iter().zip(narrow.iter());
    let all_same = pairs.all(|pair| match pair {
        (Some(wide), Some(narrow)) => is_same(wide, narrow),
        _ => true,
    });
    all_same.then(|| Arc::new(narrow) as ArrayRef)
}

/// Whether `value` is what `text` spells, as far as floats can be.
fn is_float(text: &str, value: f64) -> bool {
    let unsigned = text.trim().trim_start_matches(['+', '-']);
    if is_whole(unsigned) {
        return is_number(unsigned, value);
    }
    // `1e999` is a number, and reads as infinity.
    value.is_finite() || !unsigned.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.')
}

/// Whether `value` has the digits of `text`, a decimal without exponent.
fn is_written_as<F: Display + Into<f64> + Copy>(value: F, text: &str) -> bool {
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    let unsigned = text.trim_start_matches('-');
    match is_whole(unsigned) {
        true => is_number(unsigned, value.into()),
        false => value.to_string() == text,
    }
}

fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `value` without its sign is the whole number with these digits.
fn is_number(digits: &str, value: f64) -> bool {
    /// Every float type holds all numbers of so many digits.
    const ALWAYS_HELD: usize = 7;
    /// An `i128` does.
    const COUNTABLE: usize = 38;

    let digits = digits.trim_start_matches('0');
    if digits.len() <= ALWAYS_HELD {
        return true;
    }
    digits.len() <= COUNTABLE && digits.parse::<i128>() == Ok(value.abs() as i128)
}

/// The digits behind the point, without zeros that say nothing.
pub(in crate::worker) fn fraction_digits(text: &str) -> usize {
    let Some((_, behind)) = text.split_once('.') else {
        return 0;
    };
    let end = behind
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(behind.len());
    behind[..end].trim_end_matches('0').len()
}

fn digits_of(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Whether a date has no time of day behind it, or midnight.
fn is_whole_day(text: &str) -> bool {
    let time = text.find(['T', 't', ' ']).map_or("", |at| &text[at..]);
    !time.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
}

#[cfg(test)]
mod tests;
