//! Keys that a `create table` declares. Nothing would check them, so they have to be written as the promise that they are:
//! `primary key (id) not enforced`.

use datafusion::sql::sqlparser::ast::{
    ColumnOption, ConstraintCharacteristics, CreateTable, NullsDistinctOption, Spanned, Statement, TableConstraint,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::{Code, SqlError};

/// Refuses keys that somebody might take for more than a promise.
pub(super) fn check(statement: &Statement) -> Result<(), SqlError> {
    let Statement::CreateTable(create) = statement else {
        return Ok(());
    };
    let mut primary = 0;
    for key in declared(create) {
        check_key(&key)?;
        primary += usize::from(key.primary);
        if primary > 1 {
            let message = "a table has one primary key; write `primary key (a, b) not enforced` for one of two columns";
            return Err(at(key.place, SqlError::new(Code::InvalidSql, message)));
        }
    }
    Ok(())
}

/// A key as it is written.
struct Declared {
    primary: bool,
    how: Option<ConstraintCharacteristics>,
    nulls: NullsDistinctOption,
    place: Span,
}

/// The keys of columns, then those of the table.
fn declared(create: &CreateTable) -> Vec<Declared> {
    let of_columns = create.columns.iter().flat_map(|column| {
        let options = column.options.iter().map(|option| &option.option);
        options.filter_map(|option| match option {
            ColumnOption::PrimaryKey(key) => Some(Declared {
                primary: true,
                how: key.characteristics,
                nulls: NullsDistinctOption::None,
                place: column.name.span,
            }),
            ColumnOption::Unique(key) => Some(Declared {
                primary: false,
                how: key.characteristics,
                nulls: key.nulls_distinct,
                place: column.name.span,
            }),
            _ => None,
        })
    });
    let of_table = create.constraints.iter().filter_map(|constraint| match constraint {
        TableConstraint::PrimaryKey(key) => Some(Declared {
            primary: true,
            how: key.characteristics,
            nulls: NullsDistinctOption::None,
            place: constraint.span(),
        }),
        TableConstraint::Unique(key) => Some(Declared {
            primary: false,
            how: key.characteristics,
            nulls: key.nulls_distinct,
            place: constraint.span(),
        }),
        _ => None,
    });
    of_columns.chain(of_table).collect()
}

fn check_key(key: &Declared) -> Result<(), SqlError> {
    let refused = |message: String| Err(at(key.place, SqlError::new(Code::NotSupported, message)));
    let name = if key.primary { "primary key" } else { "unique" };
    let is_promise = key
        .how
        .is_some_and(|how| how.enforced == Some(false) && how.deferrable.is_none() && how.initially.is_none());
    if !is_promise {
        return refused(format!(
            "a table does not enforce a key; write `{name} … not enforced` to promise that it holds"
        ));
    }
    if matches!(key.nulls, NullsDistinctOption::NotDistinct) {
        return refused("`nulls not distinct` is not supported; a unique column may be NULL in many rows".to_owned());
    }
    Ok(())
}

fn at(place: Span, error: SqlError) -> SqlError {
    error.at(place.start.line, place.start.column)
}
