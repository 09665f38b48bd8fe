//! The columns of an answer, as a person reads them: distinct names and SQL types.

use std::fmt::Write;

use arrow::datatypes::{DataType, Fields, Schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmhouse_compute::formats::distinct_names;

/// One column of a result or a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Column {
    /// Its name; a second column of the same name is called `name_1`.
    pub name: String,
    /// Its type in SQL: `BIGINT`, `DECIMAL(10,2)`, `VARCHAR[]`, `STRUCT(a INT, b DATE)`.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// Whether a value can be NULL.
    pub nullable: bool,
}

/// The columns of `schema`, under the names they have in every format.
pub(crate) fn schema_json(schema: &Schema) -> Vec<Column> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (field, name) in schema.fields().iter().zip(distinct_names(schema.fields())) {
        columns.push(Column {
            name,
            sql_type: sql_type(field.data_type()),
            nullable: field.is_nullable(),
        });
    }
    columns
}

/// The name of a type in SQL; Arrow's name for what SQL does not know.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "VARBINARY".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(fields) => struct_type(fields),
        DataType::Map(entries, _) => map_type(entries.data_type()),
        DataType::Dictionary(_, values) => sql_type(values),
        DataType::RunEndEncoded(_, values) => sql_type(values.data_type()),
        DataType::Float16 | DataType::Union(_, _) => data_type.to_string(),
    }
}

fn struct_type(fields: &Fields) -> String {
    let mut text = "STRUCT(".to_owned();
    for (position, (field, name)) in fields.iter().zip(distinct_names(fields)).enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        let _ = write!(text, "{} {}", quoted_if_needed(&name), sql_type(field.data_type()));
    }
    text.push(')');
    text
}

fn map_type(entries: &DataType) -> String {
    match entries {
        DataType::Struct(fields) if fields.len() == 2 => {
            format!(
                "MAP({}, {})",
                sql_type(fields[0].data_type()),
                sql_type(fields[1].data_type())
            )
        }
        other => format!("MAP({other})"),
    }
}

fn quoted_if_needed(name: &str) -> String {
    let bare = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if bare {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
