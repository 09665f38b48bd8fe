//! How many bytes a value is, whatever its encoding.
//!
//! A query is billed for the bytes of the values it reads. They depend on the values alone: not on compression, on how
//! the rows were cut into files, or on a cache.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{filter, is_not_null};
use arrow::datatypes::DataType;

use crate::{Error, Result};

/// The bytes of the values of a stored column: fixed-width types their width (a boolean 1), texts and binaries 2 and
/// their length, lists and structs their parts, NULL nothing.
pub fn logical_bytes(values: &ArrayRef) -> Result<u64> {
    let valid = (values.len() - values.null_count()) as u64;
    let bytes = match values.data_type() {
        DataType::Null => 0,
        DataType::Boolean => valid,
        DataType::Utf8 => 2 * valid + text_bytes(values.as_string::<i32>().value_offsets(), values),
        DataType::Binary => 2 * valid + text_bytes(values.as_binary::<i32>().value_offsets(), values),
        DataType::List(_) => {
            let values = without_nulls(values)?;
            let list = values.as_list::<i32>();
            logical_bytes(&used(list.values(), list.value_offsets()))?
        }
        DataType::Map(_, _) => {
            let values = without_nulls(values)?;
            let map = values.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            logical_bytes(&used(&entries, map.value_offsets()))?
        }
        DataType::Struct(_) => {
            let values = without_nulls(values)?;
            let mut bytes = 0;
            for field in values.as_struct().columns() {
                bytes += logical_bytes(field)?;
            }
            bytes
        }
        other => match other.primitive_width() {
            Some(width) => valid * width as u64,
            None => return Err(Error::Internal(format!("{other} is not a stored type").into())),
        },
    };
    Ok(bytes)
}

/// The length of all texts. What an offset says about a NULL is not a value.
fn text_bytes(offsets: &[i32], values: &ArrayRef) -> u64 {
    let length = |row: usize| (offsets[row + 1] - offsets[row]) as u64;
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nulls.valid_indices().map(length).sum(),
        None => match (offsets.first(), offsets.last()) {
            (Some(first), Some(last)) => (last - first) as u64,
            _ => 0,
        },
    }
}

fn without_nulls(values: &ArrayRef) -> Result<ArrayRef> {
    if values.null_count() == 0 {
        return Ok(Arc::clone(values));
    }
    let keep: BooleanArray = is_not_null(values).map_err(|error| Error::Internal(error.into()))?;
    filter(values, &keep).map_err(|error| Error::Internal(error.into()))
}

/// The elements that the lists between `offsets` hold.
fn used(elements: &ArrayRef, offsets: &[i32]) -> ArrayRef {
    match (offsets.first(), offsets.last()) {
        (Some(&first), Some(&last)) => elements.slice(first as usize, (last - first) as usize),
        _ => elements.slice(0, 0),
    }
}
