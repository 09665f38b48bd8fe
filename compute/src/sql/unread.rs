//! What the parser reads and the planner passes over. An answer without it would be wrong and would not say so.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Query, Select, SelectFlavor, SelectItem, SelectModifiers, Spanned, Statement, TableFactor, Visit, VisitMut,
    Visitor, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::{Code, SqlError};

/// Writes out what is left out and would be passed over: `from t` alone means `select * from t`.
pub(super) fn write_out(statement: &mut Statement) {
    let ControlFlow::Continue(()) = statement.visit(&mut LeftOut);
}

struct LeftOut;

impl VisitorMut for LeftOut {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        }
        ControlFlow::Continue(())
    }
}

/// Refuses the statement if a part of it would be passed over.
pub(super) fn check(statement: &Statement) -> Result<(), SqlError> {
    match statement.visit(&mut Parts) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Parts;

impl Visitor for Parts {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        first(
            query.span(),
            [
                (!query.locks.is_empty(), "for update and for share"),
                (query.for_clause.is_some(), "for xml, for json and for browse"),
                (query.settings.is_some(), "settings in a query"),
                (query.format_clause.is_some(), "format in a query"),
            ],
        )
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        let modified = select
            .select_modifiers
            .as_ref()
            .is_some_and(SelectModifiers::is_any_set);
        first(
            select.select_token.0.span,
            [
                (modified, "a modifier of select such as sql_calc_found_rows"),
                (select.exclude.is_some(), "exclude behind the list of columns"),
                (select.prewhere.is_some(), "prewhere"),
                (!select.connect_by.is_empty(), "connect by"),
                (!select.distribute_by.is_empty(), "distribute by"),
                (
                    select.value_table_mode.is_some(),
                    "select as struct and select as value",
                ),
            ],
        )
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        match factor {
            TableFactor::Table {
                name,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => first(
                name.span(),
                [
                    (!with_hints.is_empty(), "with (…) behind a table"),
                    (version.is_some(), "an earlier version of a table"),
                    (*with_ordinality, "with ordinality"),
                    (!partitions.is_empty(), "partition (…) behind a table"),
                    (json_path.is_some(), "a path behind a table"),
                    (sample.is_some(), "tablesample"),
                    (!index_hints.is_empty(), "an index hint"),
                ],
            ),
            TableFactor::Derived {
                sample: Some(_),
                subquery,
                ..
            } => first(subquery.span(), [(true, "tablesample")]),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Refuses the first part that is there.
fn first<const N: usize>(place: Span, parts: [(bool, &str); N]) -> ControlFlow<SqlError> {
    match parts.iter().find(|(is_there, _)| *is_there) {
        None => ControlFlow::Continue(()),
        Some((_, part)) => {
            let error = SqlError::new(Code::NotSupported, format!("{part} is not supported"));
            ControlFlow::Break(error.at(place.start.line, place.start.column))
        }
    }
}
