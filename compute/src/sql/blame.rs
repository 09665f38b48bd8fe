//! Whose fault is it? An engine's error becomes a sentence for the person who sent the statement.
//!
//! Only what is about the statement or its values reaches that person. Everything else is [`Code::Internal`]: the text
//! goes to the log.

use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use super::suggest::nearest;
use crate::{Code, SqlError};

/// What to say about `error`, and where in the text.
pub fn sql_error(error: &DataFusionError) -> SqlError {
    let said = explain(error);
    match error.diagnostic() {
        Some(Diagnostic { span: Some(span), .. }) if said.line.is_none() => said.at(span.start.line, span.start.column),
        _ => said,
    }
}

/// Whether the engine has made a plan that its own check does not let pass.
pub(crate) fn is_refused_by_engine(error: &DataFusionError) -> bool {
    matches!(error, DataFusionError::Context(rule, _) if rule == "SanityCheckPlan")
}

fn explain(error: &DataFusionError) -> SqlError {
    match error {
        error if is_refused_by_engine(error) => internal(),
        DataFusionError::SQL(error, _) => syntax(error),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::Plan(message) => plan(message),
        DataFusionError::Configuration(message) => SqlError::new(Code::InvalidSql, sentence(message)),
        DataFusionError::NotImplemented(message) => SqlError::new(Code::NotSupported, sentence(message)),
        DataFusionError::Execution(message) => SqlError::new(Code::ExecutionFailed, sentence(message)),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ParquetError(_) => SqlError::new(Code::Internal, "a file of the table could not be read"),
        DataFusionError::ResourcesExhausted(_) => SqlError::new(
            Code::OutOfMemory,
            "the query needs more memory than it may have; select fewer columns, filter earlier, or sort and group less at once",
        ),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => explain(inner),
        DataFusionError::Shared(inner) => explain(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => sql_error(first),
            None => internal(),
        },
        DataFusionError::External(cause) => external(cause.as_ref()),
        DataFusionError::IoError(error) if error.kind() == io::ErrorKind::StorageFull => {
            SqlError::new(Code::OutOfMemory, "the query filled the disk it may spill to")
        }
        DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::Internal(_)
        | DataFusionError::ExecutionJoin(_)
        | DataFusionError::Substrait(_)
        | DataFusionError::Ffi(_) => internal(),
    }
}

/// The same error, so that it can be told on the other side of a wire, where an error that is not the engine's is only text.
pub(crate) fn for_another_worker(error: DataFusionError) -> DataFusionError {
    let said = sql_error(&error);
    match said.code {
        Code::Internal => error,
        _ => DataFusionError::External(Box::new(Told(said))),
    }
}

/// An error of a part of a query that may be somewhere else.
#[derive(Debug)]
struct Told(SqlError);

impl Told {
    /// What stands before the error in its text.
    const MARK: &str = "wasmhouse error: ";

    /// Only a whole text is one of ours: a tenant's words stand in the middle of others.
    fn read(text: &str) -> Option<SqlError> {
        let told: SqlError = serde_json::from_str(text.strip_prefix(Self::MARK)?).ok()?;
        // What is to be tried again, and what is ours, a worker tells in other ways.
        (!matches!(told.code, Code::WorkerCrashed | Code::Internal)).then_some(told)
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?;
        write!(f, "{}{json}", Self::MARK)
    }
}

impl std::error::Error for Told {}

fn external(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(error) = cause.downcast_ref::<SqlError>() {
        return error.clone();
    }
    if let Some(error) = cause.downcast_ref::<DataFusionError>() {
        return explain(error);
    }
    if let Some(error) = cause.downcast_ref::<ArrowError>() {
        return arrow(error);
    }
    match cause.downcast_ref::<wasmhouse_storage::Error>() {
        Some(wasmhouse_storage::Error::Invalid(message)) => SqlError::new(Code::TypeMismatch, message.clone()),
        Some(wasmhouse_storage::Error::NotFound(message)) => SqlError::new(Code::UnknownTable, message.clone()),
        Some(_) => internal(),
        None => Told::read(&cause.to_string()).unwrap_or_else(internal),
    }
}

fn internal() -> SqlError {
    SqlError::new(
        Code::Internal,
        "the query failed for a reason that is ours; tell us its id",
    )
}

fn syntax(error: &ParserError) -> SqlError {
    match error {
        ParserError::RecursionLimitExceeded => SqlError::new(
            Code::TooComplex,
            "expressions or subqueries are nested too deeply; use `with` to give parts a name",
        ),
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
            let (message, place) = place_in_text(message);
            let error = SqlError::new(Code::InvalidSql, sentence(message));
            match place {
                Some((line, column)) => error.at(line, column),
                None => error,
            }
        }
    }
}

/// The parser hands positions over in its text only: `… at Line: 1, Column: 8`.
fn place_in_text(message: &str) -> (&str, Option<(u64, u64)>) {
    let Some((before, place)) = message.rsplit_once(" at Line: ") else {
        return (message, None);
    };
    let numbers = place.split_once(", Column: ");
    match numbers.map(|(line, column)| (line.trim().parse(), column.trim().parse())) {
        Some((Ok(line), Ok(column))) => (before, Some((line, column))),
        _ => (message, None),
    }
}

fn schema(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(|field| field.name.clone()).collect();
            let hint = match nearest(&field.name, known.iter().map(String::as_str)) {
                Some(name) if known.iter().all(|other| *other != field.name) => {
                    format!("; did you mean {}?", quoted(name))
                }
                _ => String::new(),
            };
            let error = SqlError::new(
                Code::UnknownColumn,
                format!("no column named {}{hint}", field.flat_name()),
            );
            match field.spans.first() {
                Some(span) => error.at(span.start.line, span.start.column),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => SqlError::new(
            Code::InvalidSql,
            format!(
                "{} could be a column of more than one table; write the table before it",
                field.name
            ),
        ),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(
                Code::InvalidSql,
                format!("two columns are named {name}; give one of them another name with `as`"),
            )
        }
    }
}

/// A name as it must be written to be found again.
fn quoted(name: &str) -> String {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

/// A planning error. The engine has no variant for what is unknown, so the kind is read from how its text begins; a text
/// it does not know is still a clear error, only with the general code.
fn plan(message: &str) -> SqlError {
    let code = if message.starts_with("Invalid function") {
        Code::UnknownFunction
    } else if message.starts_with("table '") && message.contains("' not found") {
        Code::UnknownTable
    } else if message.contains("coerce") || message.contains("Cannot infer common") || message.contains("type_coercion")
    {
        Code::TypeMismatch
    } else {
        Code::InvalidSql
    };
    SqlError::new(code, sentence(message))
}

fn arrow(error: &ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => SqlError::new(Code::ExecutionFailed, "division by zero"),
        ArrowError::ExternalError(cause) => external(cause.as_ref()),
        ArrowError::MemoryError(_) => SqlError::new(Code::OutOfMemory, "the query needs more memory than it may have"),
        ArrowError::IpcError(_)
        | ArrowError::CDataInterface(_)
        | ArrowError::IoError(..)
        | ArrowError::ParquetError(_) => internal(),
        other => SqlError::new(Code::ExecutionFailed, sentence(&other.to_string())),
    }
}

/// The engine's text as one sentence of ours: its first line, lower case at the start, no full stop.
fn sentence(text: &str) -> String {
    let line = text
        .trim()
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    // Prefixes that say which part of the engine spoke say nothing to the person.
    let line = [
        "sql parser error: ",
        "Error during planning: ",
        "Execution error: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "Compute error: ",
        "Arithmetic overflow: ",
    ]
    .iter()
    .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
    let mut letters = line.chars();
    match (letters.next(), letters.clone().next()) {
        // An acronym or a quoted name at the start stays as it is.
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_another_worker_tells_is_read_again_and_a_text_that_contains_one_is_not() {
        let said = SqlError::new(Code::TypeMismatch, "the column n cannot be NULL").at(2, 7);
        let told = for_another_worker(DataFusionError::External(Box::new(said.clone())));
        let DataFusionError::External(told) = told else {
            panic!("{told}");
        };

        let on_the_wire = |text: String| sql_error(&DataFusionError::External(text.into()));
        assert_eq!(on_the_wire(told.to_string()), said);
        let quoted = on_the_wire(format!("no column called {told}"));
        assert_eq!(quoted.code, Code::Internal);
    }

    #[test]
    fn no_text_makes_a_worker_lost() {
        let forged = serde_json::to_string(&SqlError::new(Code::WorkerCrashed, "x")).expect("an error is JSON");

        let read = sql_error(&DataFusionError::External(format!("{}{forged}", Told::MARK).into()));

        assert_eq!(read.code, Code::Internal);
    }
}
