//! Rows as they travel to the gateway: the values of dictionaries written out, lists with short offsets, and no text that
//! nobody refers to.
//!
//! Arrow Flight's encoder says of a `LargeList` that it is a `List` and sends it as it is, which nobody can read. So the
//! rows are made what it says before it sees them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use wasmhouse_storage::results::compact;

/// The columns as they travel.
pub(super) fn schema(columns: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = columns.fields().iter().map(travelling).collect();
    Arc::new(Schema::new_with_metadata(fields, columns.metadata().clone()))
}

/// `rows` as they travel; `schema` is that of [`schema`].
pub(super) fn rows(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = rows
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)?;
    compact(&rows)
}

fn travelling(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => {
            let values = Arc::new(Field::new(field.name(), values.as_ref().clone(), field.is_nullable()));
            travelling(&values).data_type().clone()
        }
        DataType::List(inner) | DataType::LargeList(inner) => DataType::List(travelling(inner)),
        DataType::FixedSizeList(inner, length) => DataType::FixedSizeList(travelling(inner), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(travelling).collect()),
        DataType::Map(entries, sorted) => DataType::Map(travelling(entries), *sorted),
        _ => return Arc::clone(field),
    };
    match data_type == *field.data_type() {
        true => Arc::clone(field),
        false => Arc::new(field.as_ref().clone().with_data_type(data_type)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, DictionaryArray, Int64Array, LargeListArray, ListArray};
    use datafusion::arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    #[test]
    fn a_dictionary_travels_as_its_values_and_a_large_list_as_a_list() {
        let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let numbers =
            LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let batch = RecordBatch::try_from_iter([
            ("word", Arc::new(words) as ArrayRef),
            ("numbers", Arc::new(numbers) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ])
        .expect("three columns");

        let schema = schema(batch.schema_ref());
        let sent = rows(&batch, &schema).expect("they can travel");

        assert_eq!(
            sent.column(0).as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("a"), Some("b"), Some("a")]
        );
        let expected =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        assert_eq!(sent.column(1).as_list::<i32>(), &expected);
        assert_eq!(sent.column(2), batch.column(2));
    }
}
