//! Values made of values: JSON text, and the value that a union holds.

use arrow::array::{Array, ArrayRef, AsArray, UnionArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::super::names::distinct_names;
use super::{Cells, Kind, json_key};

/// A list whose items for a row are those from a start to an end.
pub(super) fn items(values: &ArrayRef, range: impl Fn(usize) -> (usize, usize) + 'static) -> Result<Kind, ArrowError> {
    let values = Cells::of(values)?;
    Ok(Kind::Bare(Box::new(move |row, out| {
        let (start, end) = range(row);
        out.push(b'[');
        for item in start..end {
            if item > start {
                out.push(b',');
            }
            values.write_json(item, out);
        }
        out.push(b']');
    })))
}

pub(super) fn structure(array: &dyn Array) -> Result<Kind, ArrowError> {
    let array = array.as_struct();
    let mut fields = Vec::with_capacity(array.num_columns());
    for (name, column) in distinct_names(array.fields()).iter().zip(array.columns()) {
        fields.push((json_key(name), Cells::of(column)?));
    }

    Ok(Kind::Bare(Box::new(move |row, out| {
        out.push(b'{');
        for (position, (key, cells)) in fields.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            cells.write_json(row, out);
        }
        out.push(b'}');
    })))
}

pub(super) fn map(array: &dyn Array) -> Result<Kind, ArrowError> {
    let array = array.as_map();
    let (keys, values) = (Cells::of(array.keys())?, Cells::of(array.values())?);
    let offsets = array.offsets().clone();

    Ok(Kind::Bare(Box::new(move |row, out| {
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        out.push(b'{');
        for entry in start..end {
            if entry > start {
                out.push(b',');
            }
            keys.write_json_key(entry, out);
            out.push(b':');
            values.write_json(entry, out);
        }
        out.push(b'}');
    })))
}

/// The children by type id; ids may have gaps.
pub(super) fn union(array: &UnionArray) -> Result<Kind, ArrowError> {
    let DataType::Union(fields, _) = array.data_type() else {
        unreachable!("the type of a union is a union")
    };
    let mut children = Vec::new();
    for (id, _) in fields.iter() {
        let place = usize::try_from(id).expect("a union's type ids are never negative");
        children.resize_with(children.len().max(place + 1), || None);
        children[place] = Some(Cells::of(array.child(id))?);
    }
    Ok(Kind::Union(array.clone(), children))
}
