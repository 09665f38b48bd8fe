//! `x in (select …)` where it matters that the answer may be neither true nor false.
//!
//! SQL's `in` does not know (is NULL) when nothing equal is found and `x`, or something that it is compared with, is NULL. As a
//! condition of its own that is as good as false, and the engine makes a join of it that is right, for `not in` too. Inside of
//! another expression DataFusion 55 makes of it a column that is true or false (`rewrite_inner_subqueries` of
//! datafusion-optimizer), so that `x not in (select …) or y` lets rows through that SQL does not. There the rule of this file
//! says what is not known: `x in (S)` becomes `x in (S) or case when … then null else false end`, with the engine's true or
//! false on the left and on the right whether anything is NULL.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Case, Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Filter, LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The engine's rules, after one that says where `in` does not know.
pub(crate) fn rules(of_engine: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let first: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(SayUnknown);
    [first].into_iter().chain(of_engine).collect()
}

#[derive(Debug)]
struct SayUnknown;

impl OptimizerRule for SayUnknown {
    fn name(&self) -> &str {
        "say_where_in_does_not_know"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        rewrite(plan)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    plan.map_subqueries(|subquery| subquery.transform_down(rewrite))?
        .transform_data(|plan| match plan {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = said(predicate, Place::Condition, input.schema())?;
                predicate.map_data(|predicate| Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            other => Ok(Transformed::no(other)),
        })
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is a condition, or one of several that all have to hold: the engine joins.
    Condition,
    /// It is part of one, in which not known is as good as false, and more is never less.
    Part,
    /// What is not known may matter.
    Inside,
}

/// The expression, in which every `in` says when it does not know, where that matters.
fn said(expr: Expr, place: Place, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_said(&left, op, &right) => {
            Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::And | Operator::Or),
            right,
        }) => {
            let place = match (place, op) {
                (Place::Condition, Operator::Or) => Place::Part,
                (place, _) => place,
            };
            let left = said(*left, place, schema)?;
            let right = said(*right, place, schema)?;
            let is_changed = left.transformed || right.transformed;
            let both = Expr::BinaryExpr(BinaryExpr::new(Box::new(left.data), op, Box::new(right.data)));
            Ok(if is_changed {
                Transformed::yes(both)
            } else {
                Transformed::no(both)
            })
        }
        Expr::Not(inner) => match (*inner, place) {
            // The engine joins here, too.
            (inner @ Expr::InSubquery(_), Place::Condition) => Ok(Transformed::no(Expr::Not(Box::new(inner)))),
            (inner, _) => said(inner, Place::Inside, schema)?.map_data(|inner| Ok(Expr::Not(Box::new(inner)))),
        },
        Expr::InSubquery(asked) => match (place, asked.negated) {
            (Place::Condition, _) | (Place::Part, false) => Ok(Transformed::no(Expr::InSubquery(asked))),
            (Place::Part | Place::Inside, true) => {
                let asked = InSubquery {
                    negated: false,
                    ..asked
                };
                known(asked, schema)?.map_data(|known| Ok(Expr::Not(Box::new(known))))
            }
            (Place::Inside, false) => known(asked, schema),
        },
        other => other.map_children(|child| said(child, Place::Inside, schema)),
    }
}

/// Whether this is what [`known`] makes.
fn is_said(left: &Expr, op: Operator, right: &Expr) -> bool {
    let falls_back_to_false = |case: &Case| {
        let otherwise = case.else_expr.as_deref();
        otherwise == Some(&lit(false)) && case.when_then_expr.iter().all(|(_, then)| **then == null())
    };
    op == Operator::Or
        && matches!(left, Expr::InSubquery(_))
        && matches!(right, Expr::Case(case) if falls_back_to_false(case))
}

/// `x in (S)`, which is NULL where it does not know.
fn known(asked: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    let listed = Expr::from(asked.subquery.subquery.schema().qualified_field(0));
    let mut unknown = Vec::new();
    if asked.expr.nullable(schema)? {
        // In nothing there is nothing, whatever it is.
        let anything = exists(&asked.subquery, None)?;
        unknown.push(asked.expr.as_ref().clone().is_null().and(anything));
    }
    if listed.nullable(asked.subquery.subquery.schema())? {
        unknown.push(exists(&asked.subquery, Some(listed.is_null()))?);
    }
    let asked = Expr::InSubquery(asked);
    let Some(unknown) = disjunction(unknown) else {
        return Ok(Transformed::no(asked));
    };
    let case = Case::new(
        None,
        vec![(Box::new(unknown), Box::new(null()))],
        Some(Box::new(lit(false))),
    );
    Ok(Transformed::yes(asked.or(Expr::Case(case))))
}

/// Whether the subquery has a row, or one for which this holds.
fn exists(of: &Subquery, such: Option<Expr>) -> Result<Expr, DataFusionError> {
    let mut rows = LogicalPlanBuilder::from(Arc::clone(&of.subquery));
    if let Some(such) = such {
        rows = rows.filter(such)?;
    }
    if of.outer_ref_columns.is_empty() {
        // It is the same for every row, and one is enough.
        rows = rows.limit(0, Some(1))?;
    }
    let subquery = Subquery {
        subquery: Arc::new(rows.build()?),
        ..of.clone()
    };
    Ok(Expr::Exists(Exists {
        subquery,
        negated: false,
    }))
}

fn null() -> Expr {
    Expr::Literal(ScalarValue::Boolean(None), None)
}
