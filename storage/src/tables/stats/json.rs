//! A bound as JSON, and back.
//!
//! What JSON cannot say exactly enough is no bound: an infinity, a year of five digits. A text is cut, downwards for a
//! lower bound and upwards for an upper one.

use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta};
use datafusion::common::ScalarValue;

/// How many characters of a text a bound keeps.
const BOUND_CHARS: usize = 32;

/// The years a date in JSON can have.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// A lower bound in JSON, if JSON can say it.
pub(super) fn low_to_json(low: &ScalarValue) -> Option<String> {
    match low {
        ScalarValue::Utf8(Some(text)) => Some(quoted(&text.chars().take(BOUND_CHARS).collect::<String>())),
        // Some orders tell the zeros apart. The bound encloses both.
        ScalarValue::Float32(Some(value)) if *value == 0.0 => Some("-0.0".to_owned()),
        ScalarValue::Float64(Some(value)) if *value == 0.0 => Some("-0.0".to_owned()),
        low => exact_to_json(low),
    }
}

/// An upper bound in JSON, if JSON can say it.
pub(super) fn high_to_json(high: &ScalarValue) -> Option<String> {
    match high {
        ScalarValue::Utf8(Some(text)) => text_above(text).map(|text| quoted(&text)),
        ScalarValue::Float32(Some(value)) if *value == 0.0 => Some("0.0".to_owned()),
        ScalarValue::Float64(Some(value)) if *value == 0.0 => Some("0.0".to_owned()),
        high => exact_to_json(high),
    }
}

fn exact_to_json(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Int8(Some(value)) => Some(value.to_string()),
        ScalarValue::Int16(Some(value)) => Some(value.to_string()),
        ScalarValue::Int32(Some(value)) => Some(value.to_string()),
        ScalarValue::Int64(Some(value)) => Some(value.to_string()),
        // The shortest text that reads back as the same number.
        ScalarValue::Float32(Some(value)) if value.is_finite() => serde_json::to_string(value).ok(),
        ScalarValue::Float64(Some(value)) if value.is_finite() => serde_json::to_string(value).ok(),
        ScalarValue::Decimal128(Some(value), precision, scale) => {
            Some(Decimal128Type::format_decimal(*value, *precision, *scale))
        }
        ScalarValue::Date32(Some(days)) => {
            let date = epoch().checked_add_signed(TimeDelta::try_days(i64::from(*days))?)?;
            YEARS
                .contains(&date.year())
                .then(|| format!("\"{}\"", date.format("%Y-%m-%d")))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            let instant = DateTime::from_timestamp_micros(*micros)?;
            let zone = if zone.is_some() { "Z" } else { "" };
            YEARS
                .contains(&instant.year())
                .then(|| format!("\"{}{zone}\"", instant.format("%Y-%m-%dT%H:%M:%S%.6f")))
        }
        _ => None,
    }
}

/// The value that `json` is for a column of `data_type`, a type that queries see.
pub(super) fn value_from_json(json: &str, data_type: &DataType) -> Option<ScalarValue> {
    let text = || serde_json::from_str::<String>(json).ok();
    match data_type {
        DataType::Int8 => Some(ScalarValue::Int8(Some(json.parse().ok()?))),
        DataType::Int16 => Some(ScalarValue::Int16(Some(json.parse().ok()?))),
        DataType::Int32 => Some(ScalarValue::Int32(Some(json.parse().ok()?))),
        DataType::Int64 => Some(ScalarValue::Int64(Some(json.parse().ok()?))),
        DataType::Float32 => Some(ScalarValue::Float32(Some(
            json.parse().ok().filter(|value: &f32| value.is_finite())?,
        ))),
        DataType::Float64 => Some(ScalarValue::Float64(Some(
            json.parse().ok().filter(|value: &f64| value.is_finite())?,
        ))),
        DataType::Decimal128(precision, scale) => {
            let value = parse_decimal::<Decimal128Type>(json, *precision, *scale).ok()?;
            Some(ScalarValue::Decimal128(Some(value), *precision, *scale))
        }
        DataType::Date32 => {
            let date = NaiveDate::parse_from_str(&text()?, "%Y-%m-%d").ok()?;
            Some(ScalarValue::Date32(Some(
                i32::try_from(date.signed_duration_since(epoch()).num_days()).ok()?,
            )))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let text = text()?;
            let instant = NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
            Some(ScalarValue::TimestampMicrosecond(
                Some(instant.and_utc().timestamp_micros()),
                zone.clone(),
            ))
        }
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(text()?))),
        DataType::Utf8View => Some(ScalarValue::Utf8View(Some(text()?))),
        _ => None,
    }
}

/// A text of at most [`BOUND_CHARS`] characters that is not below `text`; none when every shorter text is below it.
fn text_above(text: &str) -> Option<String> {
    let mut kept: Vec<char> = text.chars().take(BOUND_CHARS + 1).collect();
    if kept.len() <= BOUND_CHARS {
        return Some(text.to_owned());
    }
    kept.truncate(BOUND_CHARS);
    while let Some(last) = kept.pop() {
        if let Some(next) = next_char(last) {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

/// The character after `char`, past the gap of the surrogates.
fn next_char(char: char) -> Option<char> {
    match u32::from(char) + 1 {
        0xD800 => Some('\u{E000}'),
        next => char::from_u32(next),
    }
}

/// 1970-01-01, chrono's default.
fn epoch() -> NaiveDate {
    NaiveDate::default()
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
