//! The text of one value: the same in JSON and CSV, for every type that a query can answer with.
//!
//! The JSON writer of Arrow would write a decimal as a number that readers round, NaN as null, bytes in
//! hexadecimal, and an error for unions, for maps whose keys are not strings and for dates beyond its calendar.
//!
//! | Type | Text | In JSON |
//! |---|---|---|
//! | integers, floats | `-7`, `0.1`, `1e300` | a number |
//! | NaN and the infinities | `NaN`, `Infinity`, `-Infinity` | a string |
//! | decimals | `12.50`, with all digits of the scale | a string |
//! | dates, times, timestamps | `2026-01-31T12:00:00.123456`, with `Z` where there is a time zone | a string |
//! | intervals, durations | `1 mons 2 days 3 hours` | a string |
//! | binary | base64 | a string |
//! | lists, structs, maps | JSON | an array, an object, an object |
//! | unions | the text of the value they hold | the value they hold |

mod nested;
mod scalars;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, RecordBatch, StringArray, StringViewArray, UnionArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use self::nested::{items, map, structure, union};
use self::scalars::{boolean, decimal, duration, float, integer, plain, time, timestamp, wide_decimal, write_base64};
use super::time::{write_date, write_interval};

/// One column of a batch, ready to be written a row at a time.
pub(super) struct Cells {
    nulls: Option<NullBuffer>,
    kind: Kind,
}

/// Writes the text of one row.
type Writer = Box<dyn Fn(usize, &mut Vec<u8>)>;

/// What becomes of the text in JSON.
enum Kind {
    /// It is a JSON value already: numbers, lists, structs.
    Bare(Writer),
    /// It needs quotes, and nothing in it needs escaping.
    Plain(Writer),
    /// It needs quotes when it is not a number.
    Float(Box<dyn Fn(usize) -> Float>),
    /// It is what people wrote.
    Text(Text),
    /// As the value it holds.
    Union(UnionArray, Vec<Option<Cells>>),
}

#[derive(Clone, Copy)]
enum Float {
    Single(f32),
    Double(f64),
}

enum Text {
    Short(StringArray),
    Long(LargeStringArray),
    View(StringViewArray),
}

impl Cells {
    /// The columns of `rows`.
    pub(super) fn of_all(rows: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        rows.columns().iter().map(|column| Self::of(column)).collect()
    }

    pub(super) fn of(array: &dyn Array) -> Result<Self, ArrowError> {
        match array.data_type() {
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                Self::of(&take(dictionary.values(), dictionary.keys(), None)?)
            }
            DataType::RunEndEncoded(_, values) => Self::of(&cast(array, values.data_type())?),
            _ => Ok(Self {
                nulls: array.logical_nulls(),
                kind: kind(array)?,
            }),
        }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The JSON value of `row`.
    pub(super) fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.kind {
            Kind::Bare(write) => write(row, out),
            Kind::Plain(write) => {
                out.push(b'"');
                write(row, out);
                out.push(b'"');
            }
            Kind::Float(value) => {
                let value = value(row);
                let quotes: &[u8] = if value.word().is_some() { b"\"" } else { b"" };
                out.extend_from_slice(quotes);
                value.write(out);
                out.extend_from_slice(quotes);
            }
            Kind::Text(text) => write_string(text.value(row), out),
            Kind::Union(union, children) => match &children[child_of(union, row)] {
                Some(child) => child.write_json(union.value_offset(row), out),
                None => out.extend_from_slice(b"null"),
            },
        }
    }

    /// The text of `row`; nothing for NULL.
    pub(super) fn write_text(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Bare(write) | Kind::Plain(write) => write(row, out),
            Kind::Float(value) => value(row).write(out),
            Kind::Text(text) => out.extend_from_slice(text.value(row).as_bytes()),
            Kind::Union(union, children) => {
                if let Some(child) = &children[child_of(union, row)] {
                    child.write_text(union.value_offset(row), out);
                }
            }
        }
    }

    /// A value as the key of an object, which is always a string.
    fn write_json_key(&self, row: usize, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Text(_) | Kind::Plain(_) if !self.is_null(row) => self.write_json(row, out),
            _ => {
                let mut text = Vec::new();
                self.write_text(row, &mut text);
                write_string(&String::from_utf8_lossy(&text), out);
            }
        }
    }
}

/// `text` as a JSON string.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes every byte and a string is always JSON");
}

/// `"name":`
pub(super) fn json_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    write_string(name, &mut key);
    key.push(b':');
    key
}

impl Float {
    /// What JSON has no number for.
    fn word(self) -> Option<&'static str> {
        let value = match self {
            Self::Single(value) => f64::from(value),
            Self::Double(value) => value,
        };
        match value {
            value if value.is_nan() => Some("NaN"),
            f64::INFINITY => Some("Infinity"),
            f64::NEG_INFINITY => Some("-Infinity"),
            _ => None,
        }
    }

    /// The shortest digits that read back as the same value.
    fn write(self, out: &mut Vec<u8>) {
        let mut digits = ryu::Buffer::new();
        let text = match (self.word(), self) {
            (Some(word), _) => word,
            (None, Self::Single(value)) => digits.format_finite(value),
            (None, Self::Double(value)) => digits.format_finite(value),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

impl Text {
    fn value(&self, row: usize) -> &str {
        match self {
            Self::Short(array) => array.value(row),
            Self::Long(array) => array.value(row),
            Self::View(array) => array.value(row),
        }
    }
}

fn child_of(union: &UnionArray, row: usize) -> usize {
    usize::try_from(union.type_id(row)).expect("a union's type ids are never negative")
}

fn kind(array: &dyn Array) -> Result<Kind, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Kind::Bare(Box::new(|_, _| ())),
        DataType::Boolean => boolean(array.as_boolean().clone()),
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => integer::<UInt64Type>(array),
        DataType::Float16 => float::<Float16Type>(array, |value| Float::Single(value.to_f32())),
        DataType::Float32 => float::<Float32Type>(array, Float::Single),
        DataType::Float64 => float::<Float64Type>(array, Float::Double),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale),
        DataType::Decimal256(_, scale) => wide_decimal(array, *scale),
        DataType::Utf8 => Kind::Text(Text::Short(array.as_string().clone())),
        DataType::LargeUtf8 => Kind::Text(Text::Long(array.as_string().clone())),
        DataType::Utf8View => Kind::Text(Text::View(array.as_string_view().clone())),
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Kind::Plain(Box::new(move |row, out| write_base64(array.value(row), out)))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>().clone();
            Kind::Plain(Box::new(move |row, out| write_base64(array.value(row), out)))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view().clone();
            Kind::Plain(Box::new(move |row, out| write_base64(array.value(row), out)))
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary().clone();
            Kind::Plain(Box::new(move |row, out| write_base64(array.value(row), out)))
        }
        DataType::Date32 => plain::<Date32Type>(array, |days, out| write_date(i64::from(days), out)),
        DataType::Date64 => plain::<Date64Type>(array, |value, out| write_date(value.div_euclid(86_400_000), out)),
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, TimeUnit::Second),
        DataType::Time32(_) => time::<Time32MillisecondType>(array, TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond) => time::<Time64MicrosecondType>(array, TimeUnit::Microsecond),
        DataType::Time64(_) => time::<Time64NanosecondType>(array, TimeUnit::Nanosecond),
        DataType::Timestamp(unit, zone) => match unit {
            TimeUnit::Second => timestamp::<TimestampSecondType>(array, *unit, zone.is_some()),
            TimeUnit::Millisecond => timestamp::<TimestampMillisecondType>(array, *unit, zone.is_some()),
            TimeUnit::Microsecond => timestamp::<TimestampMicrosecondType>(array, *unit, zone.is_some()),
            TimeUnit::Nanosecond => timestamp::<TimestampNanosecondType>(array, *unit, zone.is_some()),
        },
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => duration::<DurationSecondType>(array, *unit),
            TimeUnit::Millisecond => duration::<DurationMillisecondType>(array, *unit),
            TimeUnit::Microsecond => duration::<DurationMicrosecondType>(array, *unit),
            TimeUnit::Nanosecond => duration::<DurationNanosecondType>(array, *unit),
        },
        DataType::Interval(IntervalUnit::YearMonth) => {
            plain::<IntervalYearMonthType>(array, |months, out| write_interval(months, 0, 0, out))
        }
        DataType::Interval(IntervalUnit::DayTime) => plain::<IntervalDayTimeType>(array, |value, out| {
            write_interval(
                0,
                i64::from(value.days),
                i128::from(value.milliseconds) * 1_000_000,
                out,
            );
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => plain::<IntervalMonthDayNanoType>(array, |value, out| {
            write_interval(value.months, i64::from(value.days), i128::from(value.nanoseconds), out);
        }),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.offsets().clone();
            items(list.values(), move |row| {
                (offsets[row] as usize, offsets[row + 1] as usize)
            })?
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.offsets().clone();
            items(list.values(), move |row| {
                (offsets[row] as usize, offsets[row + 1] as usize)
            })?
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let (starts, sizes) = (list.offsets().clone(), list.sizes().clone());
            items(list.values(), move |row| {
                (starts[row] as usize, starts[row] as usize + sizes[row] as usize)
            })?
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let (starts, sizes) = (list.offsets().clone(), list.sizes().clone());
            items(list.values(), move |row| {
                (starts[row] as usize, starts[row] as usize + sizes[row] as usize)
            })?
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list().clone();
            let size = list.value_length() as usize;
            items(&ArrayRef::clone(list.values()), move |row| {
                let start = list.value_offset(row) as usize;
                (start, start + size)
            })?
        }
        DataType::Struct(_) => structure(array)?,
        DataType::Map(_, _) => map(array)?,
        DataType::Union(_, _) => union(array.as_union())?,
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => {
            unreachable!("encoded columns are decoded before they are written")
        }
    })
}
