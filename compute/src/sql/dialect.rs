//! Which SQL a statement is written in.
//!
//! A query says it with the setting of the engine's own name, so that everything the engine's documentation says of it is
//! true here. A view keeps the dialect that it was written in.

use std::collections::BTreeMap;

use datafusion::config::Dialect;
use datafusion::sql::sqlparser::dialect::{self as parsers, dialect_from_str};

use crate::{Code, SqlError};

/// The setting that names a dialect.
pub(crate) const SETTING: &str = "datafusion.sql_parser.dialect";

/// The dialect that `settings` ask for.
pub fn dialect_of(settings: &BTreeMap<String, String>) -> Result<Dialect, SqlError> {
    let mut asked = settings.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SETTING));
    match (asked.next(), asked.next()) {
        (None, _) => Ok(Dialect::default()),
        (Some((_, name)), None) => named(name),
        (Some(_), Some(_)) => {
            let message = format!("the setting {SETTING} is given twice");
            Err(SqlError::new(Code::InvalidSql, message))
        }
    }
}

/// The dialect of this name.
pub(crate) fn named(name: &str) -> Result<Dialect, SqlError> {
    name.parse().map_err(|_| {
        let message = format!("there is no SQL dialect {name:?}; there are {}", Dialect::available());
        SqlError::new(Code::InvalidSql, message)
    })
}

/// The rules by which text of this dialect is read.
pub(super) fn rules(dialect: Dialect) -> Box<dyn parsers::Dialect> {
    dialect_from_str(dialect).expect("the parser knows every dialect of the engine")
}
