//! Values without values in them.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{Decimal256Type, TimeUnit};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::super::time::{per_second, write_interval, write_time, write_timestamp};
use super::{Float, Kind};

pub(super) fn boolean(array: BooleanArray) -> Kind {
    Kind::Bare(Box::new(move |row, out| {
        out.extend_from_slice(if array.value(row) { b"true" } else { b"false" })
    }))
}

pub(super) fn integer<T: ArrowPrimitiveType<Native: itoa::Integer>>(array: &dyn Array) -> Kind {
    let array: PrimitiveArray<T> = array.as_primitive().clone();
    Kind::Bare(Box::new(move |row, out| {
        out.extend_from_slice(itoa::Buffer::new().format(array.value(row)).as_bytes());
    }))
}

pub(super) fn float<T: ArrowPrimitiveType>(array: &dyn Array, value: fn(T::Native) -> Float) -> Kind {
    let array: PrimitiveArray<T> = array.as_primitive().clone();
    Kind::Float(Box::new(move |row| value(array.value(row))))
}

pub(super) fn plain<T: ArrowPrimitiveType>(
    array: &dyn Array,
    write: impl Fn(T::Native, &mut Vec<u8>) + 'static,
) -> Kind {
    let array: PrimitiveArray<T> = array.as_primitive().clone();
    Kind::Plain(Box::new(move |row, out| write(array.value(row), out)))
}

pub(super) fn decimal<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &dyn Array, scale: i8) -> Kind {
    plain::<T>(array, move |value, out| {
        let value: i128 = value.into();
        write_decimal(itoa::Buffer::new().format(value.unsigned_abs()), value < 0, scale, out);
    })
}

pub(super) fn wide_decimal(array: &dyn Array, scale: i8) -> Kind {
    plain::<Decimal256Type>(array, move |value, out| {
        let text = value.to_string();
        write_decimal(text.trim_start_matches('-'), text.starts_with('-'), scale, out);
    })
}

/// The digits of a whole number as a decimal with `scale` digits behind the point.
fn write_decimal(digits: &str, negative: bool, scale: i8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let behind = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.resize(out.len() + behind, b'0');
        }
    } else if digits.len() > behind {
        let (whole, fraction) = digits.split_at(digits.len() - behind);
        out.extend_from_slice(whole.as_bytes());
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + behind - digits.len(), b'0');
        out.extend_from_slice(digits.as_bytes());
    }
}

pub(super) fn time<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, unit: TimeUnit) -> Kind {
    plain::<T>(array, move |value, out| write_time(value.into(), unit, out))
}

pub(super) fn timestamp<T: ArrowPrimitiveType<Native = i64>>(
    array: &dyn Array,
    unit: TimeUnit,
    has_zone: bool,
) -> Kind {
    plain::<T>(array, move |value, out| {
        write_timestamp(value, unit, out);
        // Whatever the zone is called, the value is the instant in UTC.
        if has_zone {
            out.push(b'Z');
        }
    })
}

pub(super) fn duration<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, unit: TimeUnit) -> Kind {
    let nanoseconds = i128::from(1_000_000_000 / per_second(unit));
    plain::<T>(array, move |value, out| {
        write_interval(0, 0, i128::from(value) * nanoseconds, out)
    })
}

pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    BASE64_STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("every three bytes become four");
}
