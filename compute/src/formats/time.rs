//! Dates, times and intervals as text, for every value that their integers can hold.
//!
//! chrono stops some quarter of a million years from now and an answer must not: a maximum of `i64` is a value
//! too. Years outside 0000 to 9999 carry a sign, as in ISO 8601.

use arrow::datatypes::TimeUnit;

const DAY_SECONDS: i64 = 86_400;

/// Days since 1970 as `2026-01-31`.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        write_padded(year.unsigned_abs(), 4, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        write_padded(year.unsigned_abs(), 4, out);
    }
    out.push(b'-');
    write_padded(month, 2, out);
    out.push(b'-');
    write_padded(day, 2, out);
}

/// An instant or a wall clock as `2026-01-31T12:00:00.123456`.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_second = per_second(unit);
    let seconds = value.div_euclid(per_second);
    write_date(seconds.div_euclid(DAY_SECONDS), out);
    out.push(b'T');
    write_clock(
        seconds.rem_euclid(DAY_SECONDS).unsigned_abs(),
        value.rem_euclid(per_second),
        unit,
        out,
    );
}

/// A time of day as `12:00:00.123456`.
pub(super) fn write_time(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let value = value.unsigned_abs();
    let per_second = per_second(unit).unsigned_abs();
    write_clock(value / per_second, (value % per_second) as i64, unit, out);
}

/// A span as `1 mons 2 days 3 hours 4 mins 5.5 secs`, which `CAST(… AS INTERVAL)` reads back.
///
/// Months, days and time stay apart, each with its own sign, because none has a fixed length in another.
pub(super) fn write_interval(months: i32, days: i64, nanoseconds: i128, out: &mut Vec<u8>) {
    const SECOND: u128 = 1_000_000_000;
    let start = out.len();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let left = nanoseconds.unsigned_abs();
    let (hours, minutes, seconds) = (left / (3600 * SECOND), left / (60 * SECOND) % 60, left / SECOND % 60);
    let fraction = (left % SECOND) as i64;

    write_part("", i128::from(months).unsigned_abs(), months < 0, " mons", start, out);
    write_part("", u128::from(days.unsigned_abs()), days < 0, " days", start, out);
    write_part(sign, hours, false, " hours", start, out);
    write_part(sign, minutes, false, " mins", start, out);
    if seconds > 0 || fraction > 0 || out.len() == start {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(sign.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
        write_fraction(fraction, TimeUnit::Nanosecond, out);
        out.extend_from_slice(b" secs");
    }
}

pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn write_part(sign: &str, count: u128, negative: bool, name: &str, start: usize, out: &mut Vec<u8>) {
    if count == 0 {
        return;
    }
    if out.len() > start {
        out.push(b' ');
    }
    out.extend_from_slice(if negative { b"-" } else { sign.as_bytes() });
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn write_clock(seconds: u64, fraction: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    write_padded(seconds / 3600, 2, out);
    out.push(b':');
    write_padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    write_padded(seconds % 60, 2, out);
    write_fraction(fraction, unit, out);
}

/// A part of a second in three, six or nine digits, whichever is enough; nothing for none.
fn write_fraction(fraction: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let nanoseconds = fraction.unsigned_abs() * (1_000_000_000 / per_second(unit).unsigned_abs());
    if nanoseconds == 0 {
        return;
    }
    out.push(b'.');
    if nanoseconds.is_multiple_of(1_000_000) {
        write_padded(nanoseconds / 1_000_000, 3, out);
    } else if nanoseconds.is_multiple_of(1_000) {
        write_padded(nanoseconds / 1_000, 6, out);
    } else {
        write_padded(nanoseconds, 9, out);
    }
}

fn write_padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value);
    out.extend_from_slice(&b"000000000"[..width.saturating_sub(digits.len())]);
    out.extend_from_slice(digits.as_bytes());
}

/// The year, month and day of a day since 1970, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years.
fn civil(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month.unsigned_abs(), day.unsigned_abs())
}
