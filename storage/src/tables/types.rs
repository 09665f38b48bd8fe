//! What a column can be, and how a row becomes what is stored.
//!
//! # Invariants
//! - A stored schema has one spelling: the one the table's log gives back. Two tables with the same columns have equal
//!   schemas.
//! - Storing changes no value: the rows have the table's types already, and only their representation changes here. What
//!   the stored form cannot hold exactly, nanoseconds for example, is refused with the column and the value.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{Error, Result};

/// A cast that fails rather than turning what does not fit into NULL.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

/// What a table will hold for rows of `schema`: each type's stored form, every column nullable and without metadata.
///
/// A query knows that `1` is never NULL, which is no promise about the rows of tomorrow. Whoever means NOT NULL says so
/// on the result.
pub fn stored_schema(schema: &Schema) -> Result<SchemaRef> {
    if schema.fields().is_empty() {
        return Err(Error::Invalid("a table must have at least one column".to_owned()));
    }
    let fields = stored_fields(schema.fields(), "")?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The rows of `batch` as a table of `schema` stores them. Columns are matched by position.
pub fn to_stored(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::Invalid(format!(
            "the rows have {} columns and the table has {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| column_to_stored(column, field))
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns?).map_err(|error| Error::Internal(error.into()))
}

fn stored_fields(fields: &[FieldRef], inside: &str) -> Result<Vec<Field>> {
    let mut taken = HashSet::new();
    fields
        .iter()
        .map(|field| {
            let name = field.name();
            let path = format!("{inside}{name}");
            if name.is_empty() {
                return Err(Error::Invalid(match inside {
                    "" => "a column has no name; give it one with AS".to_owned(),
                    _ => format!("a field of column {} has no name", inside.trim_end_matches('.')),
                }));
            }
            if !taken.insert(name.to_lowercase()) {
                return Err(Error::Invalid(format!(
                    "there are two columns named {path}; give one of them another name with AS"
                )));
            }
            Ok(Field::new(name, stored_type(&path, field.data_type())?, true))
        })
        .collect()
}

fn stored_type(path: &str, data_type: &DataType) -> Result<DataType> {
    use DataType as T;

    let stored = match data_type {
        T::Boolean
        | T::Int8
        | T::Int16
        | T::Int32
        | T::Int64
        | T::Float32
        | T::Float64
        | T::Date32
        | T::Utf8
        | T::Binary => data_type.clone(),
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Timestamp(_, None) => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) | T::Decimal128(precision, scale) => {
            if u8::try_from(*scale).is_ok_and(|scale| scale <= *precision) {
                T::Decimal128(*precision, *scale)
            } else {
                return Err(Error::Invalid(format!(
                    "column {path} is {data_type}, whose scale is not between 0 and its precision; cast it to \
                     DECIMAL(38, 9)"
                )));
            }
        }
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            T::List(Arc::new(Field::new(
                "element",
                stored_type(path, item.data_type())?,
                true,
            )))
        }
        T::Struct(fields) if fields.is_empty() => {
            return Err(Error::Invalid(format!(
                "column {path} is a struct without fields, which a table cannot hold"
            )));
        }
        T::Struct(fields) => T::Struct(stored_fields(fields, &format!("{path}."))?.into()),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(pair) if pair.len() == 2 => stored_map(path, &pair[0], &pair[1])?,
            _ => return Err(unstorable(path, data_type)),
        },
        T::Dictionary(_, values) => stored_type(path, values)?,
        _ => return Err(unstorable(path, data_type)),
    };
    Ok(stored)
}

fn stored_map(path: &str, key: &Field, value: &Field) -> Result<DataType> {
    let pair = [
        Field::new("key", stored_type(path, key.data_type())?, false),
        Field::new("value", stored_type(path, value.data_type())?, true),
    ];
    let entries = Field::new("key_value", DataType::Struct(pair.into_iter().collect()), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

fn unstorable(path: &str, data_type: &DataType) -> Error {
    use DataType as T;

    let remedy = match data_type {
        T::Null => "the type it is meant to have".to_owned(),
        T::UInt8 => "SMALLINT".to_owned(),
        T::UInt16 => "INT".to_owned(),
        T::UInt32 | T::UInt64 => "BIGINT".to_owned(),
        T::Float16 => "REAL".to_owned(),
        T::Date64 => "DATE".to_owned(),
        T::Decimal256(_, scale) => format!("DECIMAL(38, {})", (*scale).clamp(0, 38)),
        T::Duration(_) => "BIGINT".to_owned(),
        _ => "VARCHAR".to_owned(),
    };
    Error::Invalid(format!(
        "column {path} is {data_type}, which a table cannot hold; cast it to {remedy}"
    ))
}

fn column_to_stored(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let (name, target) = (field.name(), field.data_type());
    if !field.is_nullable() && column.logical_null_count() > 0 {
        return Err(Error::Invalid(format!(
            "column {name} must not be NULL, and a row has NULL there"
        )));
    }
    if column.data_type() == target {
        return Ok(Arc::clone(column));
    }
    // Whoever made the rows has cast them to the table's types, exactly; what is left is another representation.
    if &stored_type(name, column.data_type())? != target {
        return Err(Error::Invalid(format!(
            "column {name} is {target} and the rows have {} there; cast it",
            column.data_type()
        )));
    }
    exactly(column, target).map_err(|row| {
        Error::Invalid(format!(
            "column {name} cannot hold {} exactly: it is {target}",
            spelled(column, row)
        ))
    })
}

/// `column` as `target`, or the first row that would not survive it.
fn exactly(column: &ArrayRef, target: &DataType) -> Result<ArrayRef, usize> {
    let fits = |column: &ArrayRef| {
        let stored = cast_with_options(column, target, &STRICT).ok()?;
        if !holds_nanoseconds(column.data_type()) {
            return Some(stored);
        }
        // Rounding to microseconds is silent, so it is undone and compared.
        let back = cast_with_options(&stored, column.data_type(), &STRICT).ok()?;
        (back.to_data() == column.to_data()).then_some(stored)
    };
    fits(column).ok_or_else(|| {
        let alone = |row: &usize| fits(&column.slice(*row, 1)).is_none();
        (0..column.len()).find(alone).unwrap_or(0)
    })
}

fn holds_nanoseconds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Nanosecond,
        DataType::Dictionary(_, values) => holds_nanoseconds(values),
        DataType::Struct(fields) => fields.iter().any(|field| holds_nanoseconds(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_nanoseconds(item.data_type()),
        _ => false,
    }
}

/// The value at `row`, as far as a sentence should go.
fn spelled(column: &ArrayRef, row: usize) -> String {
    let text = ArrayFormatter::try_new(column, &FormatOptions::new())
        .and_then(|formatter| formatter.value(row).try_to_string())
        .unwrap_or_else(|_| "a value".to_owned());
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
