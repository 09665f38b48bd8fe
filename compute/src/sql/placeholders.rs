//! Named placeholders in the values of an insert.

use datafusion::sql::sqlparser::ast::{Expr, SetExpr, Statement, Value, ValueWithSpan};

/// Puts brackets around them: the engine's planner looks at those that stand there bare for the types of parameters, and knows
/// no others than numbered ones.
pub(super) fn bracket(statement: &mut Statement) {
    let Statement::Insert(insert) = statement else {
        return;
    };
    let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|source| source.body.as_mut()) else {
        return;
    };
    for value in values.rows.iter_mut().flat_map(|row| &mut row.content) {
        if is_named(value) {
            *value = Expr::Nested(Box::new(value.clone()));
        }
    }
}

fn is_named(value: &Expr) -> bool {
    matches!(
        value,
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. })
            if !name.trim_start_matches('$').bytes().all(|b| b.is_ascii_digit())
    )
}
