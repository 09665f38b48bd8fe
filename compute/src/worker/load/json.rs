//! A staged file of JSON lines, or a part of it, as rows.
//!
//! It reads what we write, value for value: decimals and times are text, bytes are base64. A value is what its line says
//! or it is an error that names the line: a key that no column has, a key that comes twice, text where a number belongs,
//! and a number that its column would round.

mod lines;
mod shape;
pub(super) mod values;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::error::DataFusionError;
use futures::{Stream, stream};

use self::lines::{Lines, ROWS_AT_A_TIME, Rows};
use self::shape::Members;
use self::values::{Misfit, Object};
use super::parts::Part;
use super::{Staged, malformed, texts};
use crate::sql::suggest::nearest;
use crate::{Code, SqlError};

/// The file's columns by name, with types that hold its first `rows_to_guess_from` rows. Names that differ in case only
/// are one.
pub(super) async fn columns(
    staged: &Staged,
    bytes: u64,
    rows_to_guess_from: usize,
) -> Result<SchemaRef, DataFusionError> {
    let mut lines = Lines::open(staged, &Part::whole(bytes));
    let mut members = Members::default();
    let mut seen = 0;
    while seen < rows_to_guess_from {
        let Some(rows) = lines.next(ROWS_AT_A_TIME.min(rows_to_guess_from - seen)).await? else {
            break;
        };
        for (line, text) in rows.iter() {
            for (key, value) in members_of(line, text)? {
                let name = key_of(line, key)?;
                members
                    .at(name.to_lowercase(), &name)
                    .see(value, 0)
                    .map_err(|what| malformed(format!("line {line} of the file: column {name} {what}")))?;
            }
        }
        seen += rows.len();
    }
    Ok(Arc::new(members.schema()))
}

/// The rows of a part of the file. A key may be written in another case than its column.
pub(super) fn batches(
    staged: &Staged,
    part: &Part,
    schema: &SchemaRef,
    are_guessed: bool,
) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> + use<> {
    let columns = Arc::new(Columns::new(schema, are_guessed));
    stream::try_unfold(Lines::open(staged, part), move |mut lines| {
        let columns = Arc::clone(&columns);
        async move {
            match lines.next(ROWS_AT_A_TIME).await? {
                Some(rows) => Ok(Some((columns.read(&rows)?, lines))),
                None => Ok(None),
            }
        }
    })
}

/// The columns that keys are looked up in.
#[derive(Clone, Debug)]
struct Columns {
    schema: SchemaRef,
    by_name: HashMap<String, usize>,
    by_lowercase_name: HashMap<String, usize>,
    /// The file's own first rows have made them, and no table.
    are_guessed: bool,
}

impl Columns {
    fn new(schema: &SchemaRef, are_guessed: bool) -> Self {
        let names = || schema.fields().iter().map(|field| field.name()).enumerate();
        Self {
            schema: Arc::clone(schema),
            by_name: names().map(|(column, name)| (name.clone(), column)).collect(),
            by_lowercase_name: names().map(|(column, name)| (name.to_lowercase(), column)).collect(),
            are_guessed,
        }
    }

    fn read(&self, rows: &Rows) -> Result<RecordBatch, DataFusionError> {
        let fields = self.schema.fields();
        let mut values: Vec<Vec<Option<&str>>> = vec![vec![None; rows.len()]; fields.len()];
        let mut last_row_with: Vec<Option<usize>> = vec![None; fields.len()];
        for (row, (line, text)) in rows.iter().enumerate() {
            for (key, value) in members_of(line, text)? {
                let name = key_of(line, key)?;
                let column = self.find(&name).ok_or_else(|| self.unknown(line, &name))?;
                if last_row_with[column].replace(row) == Some(row) {
                    return Err(malformed(format!("line {line} of the file has two values for {name}")).into());
                }
                values[column][row] = value;
            }
        }
        let arrays: Result<Vec<ArrayRef>, SqlError> = fields
            .iter()
            .zip(&values)
            .map(|(field, values)| {
                values::column(values, field.data_type())
                    .map_err(|misfit| explain(rows.line(misfit.row), field, values, misfit))
            })
            .collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays?)?)
    }

    fn find(&self, key: &str) -> Option<usize> {
        let exact = self.by_name.get(key);
        exact
            .or_else(|| self.by_lowercase_name.get(&key.to_lowercase()))
            .copied()
    }

    fn unknown(&self, line: u64, key: &str) -> SqlError {
        let message = match self.are_guessed {
            true => format!(
                "line {line} of the file has a key {key}, which no row has that the columns were guessed from; declare \
                 the columns"
            ),
            false => {
                let names = self.schema.fields().iter().map(|field| field.name().as_str());
                let hint = nearest(key, names)
                    .map(|near| format!("; did it mean {near}?"))
                    .unwrap_or_default();
                format!("line {line} of the file has a key {key}, which the table has not{hint}")
            }
        };
        SqlError::new(Code::UnknownColumn, message)
    }
}

/// The keys of a line, in their quotes, and their values; no value is NULL.
fn members_of(line: u64, text: &str) -> Result<Vec<(&str, Option<&str>)>, SqlError> {
    let object: Object = serde_json::from_str(text).map_err(|error| {
        let why = error.to_string().replace(" at line 1 column ", " at character ");
        malformed(match error.is_data() {
            true => format!("line {line} of the file is not a JSON object"),
            false => format!("line {line} of the file is not JSON: {why}"),
        })
    })?;
    Ok(object.0)
}

fn key_of(line: u64, key: &str) -> Result<Cow<'_, str>, SqlError> {
    values::unquoted(key).ok_or_else(|| malformed(format!("line {line} of the file has a key that is not text: {key}")))
}

fn explain(line: u64, field: &Field, values: &[Option<&str>], misfit: Misfit) -> SqlError {
    if let Some(key) = misfit.key {
        return malformed(format!(
            "line {line} of the file: column {} has a key {key}, {}",
            field.name(),
            misfit.why
        ));
    }
    let written = values[misfit.row].unwrap_or("null");
    let target = field.data_type();
    let is_rounded = values::spelled(written, target).is_some_and(|text| texts::is_near_one(&text, target));
    texts::misfit(line, field, &texts::cut(written), is_rounded)
}
