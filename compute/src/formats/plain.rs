//! The types that leave in Arrow and Parquet: the plain ones, which readers of many years know.
//!
//! | In a result | In Arrow | In Parquet |
//! |---|---|---|
//! | string and binary views | strings, binary | the same |
//! | list views | lists | the same |
//! | dictionaries, run-end encoded columns | their values | the same |
//! | decimals of 32 and 64 bits | of 128 bits | the same |
//! | unions | as they are | text |
//! | intervals, durations | as they are | text, because Parquet has none that keeps months, days and nanoseconds |
//! | structs without fields | as they are | text, `{}` |
//! | half floats | as they are | `FLOAT` |
//! | seconds, dates in milliseconds | as they are | milliseconds, dates in days |
//!
//! Text is what JSON and CSV say; see [`super::cells`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StringBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::cells::Cells;

/// Who will read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Arrow,
    Parquet,
}

/// Turns batches into plain ones.
pub(super) struct Plain {
    schema: SchemaRef,
}

impl Plain {
    pub(super) fn new(schema: &Schema, reader: Reader) -> Self {
        let fields: Fields = schema.fields().iter().map(|field| plain_field(field, reader)).collect();
        Self {
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(self.schema.fields()) {
            columns.push(convert(column, field.data_type())?);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)
    }
}

fn plain_field(field: &FieldRef, reader: Reader) -> FieldRef {
    let data_type = plain_type(field.data_type(), reader);
    if &data_type == field.data_type() {
        return Arc::clone(field);
    }
    // A union has no NULL of its own, but the value it holds may be one.
    let nullable = field.is_nullable() || matches!(field.data_type(), DataType::Union(_, _));
    Arc::new(Field::new(field.name(), data_type, nullable).with_metadata(field.metadata().clone()))
}

fn plain_type(data_type: &DataType, reader: Reader) -> DataType {
    let for_parquet = reader == Reader::Parquet;
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values, reader),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type(), reader),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }

        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_field(item, reader)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(plain_field(item, reader)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item, reader), *size),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries, reader), *sorted),
        DataType::Struct(fields) if fields.is_empty() && for_parquet => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| plain_field(field, reader)).collect()),

        DataType::Interval(_) | DataType::Duration(_) | DataType::Union(_, _) if for_parquet => DataType::Utf8,
        DataType::Float16 if for_parquet => DataType::Float32,
        DataType::Date64 if for_parquet => DataType::Date32,
        DataType::Time32(_) if for_parquet => DataType::Time32(TimeUnit::Millisecond),
        DataType::Timestamp(TimeUnit::Second, zone) if for_parquet => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        other => other.clone(),
    }
}

/// `array` as `to`, one of its plain types. A value that does not fit is an error, never NULL.
fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (DataType::Dictionary(_, _), _) => {
            let dictionary = array.as_any_dictionary();
            convert(&take(dictionary.values(), dictionary.keys(), None)?, to)
        }
        (DataType::RunEndEncoded(_, values), _) => convert(&cast(array, values.data_type())?, to),
        (DataType::ListView(item), DataType::List(_)) => convert(&cast(array, &DataType::List(Arc::clone(item)))?, to),
        (DataType::LargeListView(item), DataType::LargeList(_)) => {
            convert(&cast(array, &DataType::LargeList(Arc::clone(item)))?, to)
        }
        (DataType::List(_), DataType::List(item)) => list::<i32>(array, item),
        (DataType::LargeList(_), DataType::LargeList(item)) => list::<i64>(array, item),
        (DataType::FixedSizeList(_, _), DataType::FixedSizeList(item, size)) => {
            let list = array.as_fixed_size_list();
            let values = convert(list.values(), item.data_type())?;
            let list = FixedSizeListArray::try_new_with_length(
                Arc::clone(item),
                *size,
                values,
                list.nulls().cloned(),
                list.len(),
            )?;
            Ok(Arc::new(list))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => structure(array.as_struct(), fields),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => map(array.as_map(), entries, *sorted),
        (
            DataType::Interval(_) | DataType::Duration(_) | DataType::Union(_, _) | DataType::Struct(_),
            DataType::Utf8,
        ) => text(array),
        _ => cast(array, to),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(
        array,
        to,
        &CastOptions {
            safe: false,
            ..CastOptions::default()
        },
    )
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list::<O>();
    let (offsets, start, len) = used(list.offsets());
    let values = convert(&list.values().slice(start, len), item.data_type())?;
    Ok(Arc::new(GenericListArray::try_new(
        Arc::clone(item),
        offsets,
        values,
        list.nulls().cloned(),
    )?))
}

fn map(map: &MapArray, entries: &FieldRef, sorted: bool) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        unreachable!("the entries of a map are structs")
    };
    let (offsets, start, len) = used(map.offsets());
    let values = structure(&map.entries().slice(start, len), fields)?;
    let values = values.as_struct().clone();
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(entries),
        offsets,
        values,
        map.nulls().cloned(),
        sorted,
    )?))
}

fn structure(array: &StructArray, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    let mut columns = Vec::with_capacity(fields.len());
    for (column, field) in array.columns().iter().zip(fields) {
        columns.push(convert(column, field.data_type())?);
    }
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        array.nulls().cloned(),
        array.len(),
    )?))
}

/// The offsets of a slice counted from its own first item, and where its items are: a slice of a list keeps all
/// items of the whole.
fn used<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let offsets: ScalarBuffer<O> = offsets.iter().map(|offset| *offset - first).collect();
    (OffsetBuffer::new(offsets), first.as_usize(), (last - first).as_usize())
}

fn text(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let cells = Cells::of(array)?;
    let mut strings = StringBuilder::with_capacity(array.len(), 0);
    let mut text = Vec::new();
    for row in 0..array.len() {
        if cells.is_null(row) {
            strings.append_null();
            continue;
        }
        text.clear();
        cells.write_text(row, &mut text);
        strings.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(strings.finish()))
}
