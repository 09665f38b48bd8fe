//! What a column of text could be.

use chrono::Utc;
use datafusion::arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use datafusion::arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit};

/// The narrowest type that holds every value seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Guess {
    /// No value was seen, only NULL.
    #[default]
    Nothing,
    Boolean,
    Integer,
    Float,
    Date,
    /// A date and a time of day, nowhere in particular.
    Timestamp,
    /// A date and a time of day with an offset, so one moment.
    Instant,
    Text,
}

impl Guess {
    /// The guess after one more value.
    pub(super) fn and(self, value: &str) -> Self {
        use Guess::{Date, Float, Instant, Integer, Nothing, Text, Timestamp};

        if self == Text {
            return Text;
        }
        match (self, Self::of(value)) {
            (Nothing, other) => other,
            (one, other) if one == other => one,
            (Integer, Float) | (Float, Integer) => Float,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (Date, Instant) | (Instant, Date) => Instant,
            _ => Text,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Nothing | Self::Text => DataType::Utf8,
        }
    }

    fn of(value: &str) -> Self {
        match value.as_bytes() {
            [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'-', ..] => Self::of_time(value),
            [b'0'..=b'9' | b'-' | b'+' | b'.', ..] => Self::of_number(value),
            // As we write them.
            b"NaN" | b"Infinity" => Self::Float,
            _ if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Self::Boolean,
            _ => Self::Text,
        }
    }

    fn of_number(value: &str) -> Self {
        let (_, digits) = value.split_at(usize::from(value.starts_with(['-', '+'])));
        if value == "-Infinity" {
            return Self::Float;
        }
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than BIGINT holds are text: DOUBLE would lose some of them.
            return Int64Type::parse(value).map_or(Self::Text, |_| Self::Integer);
        }
        let spelled = value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        match Float64Type::parse(value) {
            Some(number) if spelled && number.is_finite() => Self::Float,
            _ => Self::Text,
        }
    }

    /// `2026-01-31`, and with `T` or a space behind it a time of day, and behind that `Z` or an offset.
    fn of_time(value: &str) -> Self {
        if value.len() == 10 {
            return Date32Type::parse(value).map_or(Self::Text, |_| Self::Date);
        }
        let Some((_, time)) = value.split_at_checked(11) else {
            return Self::Text;
        };
        let spelled = time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b":.+-Zz ".contains(&byte));
        match string_to_datetime(&Utc, value) {
            Ok(_) if spelled && time.contains(['+', '-', 'Z', 'z']) => Self::Instant,
            Ok(_) if spelled => Self::Timestamp,
            _ => Self::Text,
        }
    }
}
