//! A projection that leaves every column as it is, and that nothing known of them gets through.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::logical_plan::{LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Every column of `plan` as it is, and none that decides another.
pub(super) fn wall(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(relation, field)| {
            let column = Expr::from((relation, field));
            OPAQUE
                .call(vec![column])
                .alias_qualified(relation.cloned(), field.name())
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// One wall where there are two. The outer one may have lost or moved columns; the inner one, which was put up just now, has
/// every column of its input in its place.
pub(super) fn once(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let behind = input_of_wall(&plan).and_then(|inner| Some((inner, input_of_wall(inner)?)));
    match (&plan, behind) {
        (LogicalPlan::Projection(outer), Some((inner, input)))
            if inner.schema().columns() == input.schema().columns() =>
        {
            Projection::try_new_with_schema(outer.expr.clone(), Arc::new(input.clone()), Arc::clone(&outer.schema))
                .map(LogicalPlan::Projection)
        }
        _ => Ok(plan),
    }
}

/// What is behind this wall, if it is one.
pub(super) fn input_of_wall(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else {
        return None;
    };
    let is_hidden = |expr: &Expr| matches!(expr, Expr::Alias(alias) if is_opaque(&alias.expr));
    let is_wall = !projection.expr.is_empty() && projection.expr.iter().all(is_hidden);
    is_wall.then_some(projection.input.as_ref())
}

/// The same plan without walls, when no rule looks at it any more.
pub(crate) fn transparent(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let seen_through = plan.transform_up_with_subqueries(|node| {
        let seen = node.map_expressions(|expr| expr.transform_up(see_through))?;
        Ok(match seen.transformed {
            true => Transformed::yes(without_renaming(seen.data)),
            false => seen,
        })
    })?;
    Ok(seen_through.data)
}

fn see_through(expr: Expr) -> Result<Transformed<Expr>, DataFusionError> {
    match expr {
        Expr::ScalarFunction(mut call) if call.func.inner().is::<Opaque>() => match call.args.pop() {
            Some(column) => Ok(Transformed::yes(column)),
            None => internal_err!("a wall around nothing"),
        },
        // A column by its own name.
        Expr::Alias(alias) => match alias.expr.as_ref() {
            Expr::Column(column) if column.relation == alias.relation && column.name == alias.name => {
                Ok(Transformed::yes(*alias.expr))
            }
            _ => Ok(Transformed::no(Expr::Alias(alias))),
        },
        other => Ok(Transformed::no(other)),
    }
}

/// What a wall leaves behind that had every column of its input.
fn without_renaming(plan: LogicalPlan) -> LogicalPlan {
    let LogicalPlan::Projection(projection) = &plan else {
        return plan;
    };
    let columns = projection.input.schema();
    let is_input = projection.expr.len() == columns.fields().len()
        && projection
            .expr
            .iter()
            .zip(columns.columns())
            .all(|(expr, column)| *expr == Expr::Column(column));
    match is_input {
        true => projection.input.as_ref().clone(),
        false => plan,
    }
}

fn is_opaque(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().is::<Opaque>())
}

static OPAQUE: LazyLock<ScalarUDF> = LazyLock::new(|| {
    ScalarUDF::from(Opaque {
        signature: Signature::any(1, Volatility::Immutable),
    })
});

/// What it is given.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        "opaque"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType, DataFusionError> {
        match types {
            [only] => Ok(only.clone()),
            _ => internal_err!("a wall has one column"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef, DataFusionError> {
        match args.arg_fields {
            [only] => Ok(Arc::clone(only)),
            _ => internal_err!("a wall has one column"),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        match args.args.pop() {
            Some(column) => Ok(column),
            None => internal_err!("a wall has one column"),
        }
    }
}
