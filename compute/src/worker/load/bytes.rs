//! Bytes in a text file: base64, at the top of a row and inside lists, structs and maps.
//!
//! The engine's JSON reader takes bytes for hexadecimal digits, so it is told that they are text, and they are decoded
//! here.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, ListArray, MapArray, StringArray, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};

/// `data_type` with text in place of bytes.
pub(super) fn as_text(data_type: &DataType) -> DataType {
    let inside = |field: &FieldRef| -> FieldRef { Arc::new(field_as_text(field)) };
    match data_type {
        DataType::Binary => DataType::Utf8,
        DataType::List(item) => DataType::List(inside(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inside(entries), *sorted),
        other => other.clone(),
    }
}

pub(super) fn field_as_text(field: &Field) -> Field {
    field.clone().with_data_type(as_text(field.data_type()))
}

/// Values that were read as [`as_text`] of `target`, unless a text is not base64.
pub(super) fn from_text(values: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    if values.data_type() == target {
        return Some(Arc::clone(values));
    }
    match target {
        DataType::Binary => decode_column(values.as_string_opt()?),
        DataType::List(item) => {
            let list = values.as_list_opt::<i32>()?;
            let items = from_text(list.values(), item.data_type())?;
            let list = ListArray::try_new(Arc::clone(item), list.offsets().clone(), items, list.nulls().cloned());
            Some(Arc::new(list.ok()?))
        }
        DataType::Struct(_) => Some(Arc::new(struct_from_text(values.as_struct_opt()?, target)?)),
        DataType::Map(entries, sorted) => {
            let map = values.as_map_opt()?;
            let pairs = struct_from_text(map.entries(), entries.data_type())?;
            let (entries, offsets, nulls) = (Arc::clone(entries), map.offsets().clone(), map.nulls().cloned());
            Some(Arc::new(
                MapArray::try_new(entries, offsets, pairs, nulls, *sorted).ok()?,
            ))
        }
        _ => None,
    }
}

fn struct_from_text(values: &StructArray, target: &DataType) -> Option<StructArray> {
    let DataType::Struct(fields) = target else {
        return None;
    };
    let columns: Option<Vec<ArrayRef>> = values
        .columns()
        .iter()
        .zip(fields)
        .map(|(column, field)| from_text(column, field.data_type()))
        .collect();
    StructArray::try_new(fields.clone(), columns?, values.nulls().cloned()).ok()
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Every text decoded, unless one is not base64.
pub(super) fn decode_column(texts: &StringArray) -> Option<ArrayRef> {
    let mut values = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len() / 4 * 3);
    let mut value = Vec::new();
    for text in texts {
        match text {
            Some(text) => {
                value.clear();
                BASE64_STANDARD.decode_vec(text, &mut value).ok()?;
                values.append_value(&value);
            }
            None => values.append_null(),
        }
    }
    Some(Arc::new(values.finish()))
}
