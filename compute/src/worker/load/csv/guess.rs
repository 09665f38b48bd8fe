//! What a column of text could be: the narrowest type in which every value is what was written.

use chrono::Utc;
use datafusion::arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use datafusion::arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit};

use crate::worker::write::exactly;

/// Digits of a second that a timestamp holds.
const MICROSECOND_DIGITS: usize = 6;

/// The narrowest type that holds every value seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Guess {
    /// No value was seen, only NULL.
    #[default]
    Nothing,
    Boolean,
    /// Integers that DOUBLE holds too, should it come to that.
    Integer,
    /// Integers of which DOUBLE would make others.
    Long,
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
        use Guess::{Date, Float, Instant, Integer, Long, Nothing, Text, Timestamp};

        if self == Text {
            return Text;
        }
        match (self, Self::of(value)) {
            (Nothing, other) => other,
            (one, other) if one == other => one,
            (Integer, Long) | (Long, Integer) => Long,
            (Integer, Float) | (Float, Integer) => Float,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (Date, Instant) | (Instant, Date) => Instant,
            _ => Text,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer | Self::Long => DataType::Int64,
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
        if value == "-Infinity" {
            return Self::Float;
        }
        let digits = value.strip_prefix('-').unwrap_or(value);
        // `007` and `+49` are codes: a number would not be written like this again.
        let is_code = match digits.as_bytes() {
            [b'+', ..] => true,
            [b'0', second, ..] => second.is_ascii_digit(),
            _ => false,
        };
        if is_code {
            return Self::Text;
        }
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than BIGINT holds are text: DOUBLE would lose some of them.
            return match Int64Type::parse(value) {
                Some(integer) if i128::from(integer) == integer as f64 as i128 => Self::Integer,
                Some(_) => Self::Long,
                None => Self::Text,
            };
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
        if exactly::fraction_digits(time) > MICROSECOND_DIGITS {
            return Self::Text;
        }
        match string_to_datetime(&Utc, value) {
            Ok(_) if spelled && time.contains(['+', '-', 'Z', 'z']) => Self::Instant,
            Ok(_) if spelled => Self::Timestamp,
            _ => Self::Text,
        }
    }
}
