//! A staged file of JSON lines as rows.
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
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;

use self::lines::{Lines, ROWS_AT_A_TIME, Rows};
use self::shape::Members;
use self::values::{Misfit, Object};
use super::{BATCHES_IN_FLIGHT, Staged, malformed, texts};
use crate::sql::suggest::nearest;
use crate::{Code, SqlError};

/// The file's columns by name, with types that hold its first `rows_to_guess_from` rows. Names that differ in case only
/// are one.
pub(super) async fn columns(staged: &Staged, rows_to_guess_from: usize) -> Result<SchemaRef, DataFusionError> {
    let mut lines = Lines::open(staged).await?;
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

/// The whole file as a table of `schema`. A key may be written in another case than its column.
pub(super) fn table(
    staged: Staged,
    schema: SchemaRef,
    are_guessed: bool,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let file = File {
        staged,
        columns: Columns::new(&schema, are_guessed),
    };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(file)])?))
}

/// The one partition of the scan.
#[derive(Clone, Debug)]
struct File {
    staged: Staged,
    columns: Columns,
}

impl PartitionStream for File {
    fn schema(&self) -> &SchemaRef {
        &self.columns.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        // A task of its own, so that text is parsed on one thread while files are encoded on another.
        let mut batches = RecordBatchReceiverStream::builder(Arc::clone(&self.columns.schema), BATCHES_IN_FLIGHT);
        let (file, out) = (self.clone(), batches.tx());
        batches.spawn(async move {
            let mut lines = Lines::open(&file.staged).await?;
            while let Some(rows) = lines.next(ROWS_AT_A_TIME).await? {
                let batch = file.columns.read(&rows)?;
                if out.send(Ok(batch)).await.is_err() {
                    // Nobody wants the rest.
                    return Ok(());
                }
            }
            Ok(())
        });
        batches.build()
    }
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
