//! The columns that a load says its table has.

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::session_state::SessionState;
use wasmhouse_storage::tables::{Keys, stored_schema};

use super::super::head::Stop;
use super::super::write::{exactly, with_nullability_of};
use super::nullable;
use crate::session::declared_columns;
use crate::task::LoadFormat;
use crate::{Code, Error, SqlError};

/// The table's columns, or those the caller declared with their keys, or nothing: then the file decides.
pub(super) async fn columns(
    state: &SessionState,
    declared: Option<&str>,
    table: Option<&str>,
    format: &LoadFormat,
) -> Result<(Option<SchemaRef>, Keys), Stop> {
    let declared = match declared {
        None => None,
        Some(columns) => {
            let columns = declared_columns(state, columns).await?;
            let stored = with_nullability_of(&columns, stored_schema(&columns)?.as_ref());
            Some((stored, Keys::of_schema(&columns)?))
        }
    };
    let Some(table) = table else {
        return Ok(declared.map_or_else(Default::default, |(columns, keys)| (Some(columns), keys)));
    };
    let table: Schema = serde_json::from_str(table).map_err(|error| Error::Internal(error.into()))?;
    if let Some((columns, keys)) = declared {
        let difference = match keys.are_among(&Keys::of_schema(&table)?) {
            true => difference(&columns, &table, has_names(format)),
            false => Some("the table does not have the keys that are declared".to_owned()),
        };
        if let Some(difference) = difference {
            let message = format!("{difference}; leave the declaration out, or replace the table");
            return Err(SqlError::new(Code::TypeMismatch, message).into());
        }
    }
    let columns = nullable(table.fields().iter().map(AsRef::as_ref));
    Ok((Some(columns), Keys::default()))
}

/// Whether the file tells its columns apart by name; otherwise by their places.
fn has_names(format: &LoadFormat) -> bool {
    !matches!(format, LoadFormat::Csv { header: false, .. })
}

/// Columns may be declared for a table that is there, as by a job that made it yesterday, and are then those it has. A
/// declaration may say less: neither keys nor NOT NULL.
fn difference(declared: &Schema, table: &Schema, by_name: bool) -> Option<String> {
    let named = |columns: &Schema, name: &str| -> Option<(usize, Field)> {
        let mut columns = columns.fields().iter().enumerate();
        let found = columns.find(|(_, column)| column.name().eq_ignore_ascii_case(name));
        found.map(|(place, column)| (place, column.as_ref().clone()))
    };
    for (place, said) in declared.fields().iter().enumerate() {
        let name = said.name();
        let Some((place_there, there)) = named(table, name) else {
            return Some(format!("the table has no column {name}, which is declared"));
        };
        if there.data_type() != said.data_type() {
            return Some(format!(
                "the column {name} of the table is of type {}, and declared as {}",
                exactly::sql_name(there.data_type()),
                exactly::sql_name(said.data_type())
            ));
        }
        if there.is_nullable() && !said.is_nullable() {
            return Some(format!(
                "the column {name} of the table may be NULL, and is declared NOT NULL"
            ));
        }
        if !by_name && place != place_there {
            return Some(format!(
                "{name} is column {} of the table, and declared as column {}; the file has no names to tell them apart",
                place_there + 1,
                place + 1
            ));
        }
    }
    let left_out = table
        .fields()
        .iter()
        .find(|there| named(declared, there.name()).is_none())?;
    Some(format!(
        "the declaration leaves out the column {} of the table",
        left_out.name()
    ))
}
