//! `x in (select …)` where it matters that the answer may be neither true nor false.
//!
//! SQL's `in` does not know (is NULL) when nothing equal is found and `x`, or something that it is compared with, is NULL.
//! DataFusion 55 is right where `in` is a condition of its own, and where `not in` is one whose `x` has columns and whose `S` has
//! none of the rows around it: it makes joins of these. Everywhere else it makes of `in` a column that is true or false
//! (`rewrite_inner_subqueries` of datafusion-optimizer), so that `x not in (select …) or y` lets rows through that SQL does not;
//! or a join that forgets about NULL, or cannot be run. There the rule of this file says what is not known: `x in (S)` becomes
//! `x in (S) or case when … then null else false end`, with the engine's true or false on the left and on the right whether
//! anything is NULL. What always has one row, as `select max(…)`, is compared with `x` instead.
//!
//! The rule stands right before the one that makes the joins: what comes earlier brings `not` to where it matters.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Case, Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{
    Filter, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, SubqueryAlias,
};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::{Code, SqlError};

/// Subqueries that one may hold in the end. Each that is rewritten is there three times, and so is what it holds.
const SUBQUERIES_MAX: usize = 100;

/// The engine's rules, with one that says where `in` does not know.
pub(crate) fn rules(of_engine: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Vec::with_capacity(of_engine.len() + 1);
    for rule in of_engine {
        if rule.name() == "decorrelate_predicate_subquery" {
            rules.push(Arc::new(SayUnknown) as Arc<dyn OptimizerRule + Send + Sync>);
        }
        rules.push(rule);
    }
    rules
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
            (Expr::InSubquery(asked), place) => {
                let negated = !asked.negated;
                said(Expr::InSubquery(InSubquery { negated, ..asked }), place, schema)
            }
            (inner, _) => said(inner, Place::Inside, schema)?.map_data(|inner| Ok(Expr::Not(Box::new(inner)))),
        },
        Expr::InSubquery(asked) => match (place, asked.negated) {
            (Place::Condition | Place::Part, false) => Ok(Transformed::no(Expr::InSubquery(asked))),
            (Place::Condition, true) if is_joined_well(&asked) => Ok(Transformed::no(Expr::InSubquery(asked))),
            (_, true) => {
                let positive = InSubquery {
                    negated: false,
                    ..asked.clone()
                };
                let known = known(positive, schema)?;
                Ok(match known.transformed {
                    true => Transformed::yes(Expr::Not(Box::new(known.data))),
                    false => Transformed::no(Expr::InSubquery(asked)),
                })
            }
            (Place::Inside, false) => known(asked, schema),
        },
        other => other.map_children(|child| said(child, Place::Inside, schema)),
    }
}

/// Whether the engine's join knows what this `not in` does not.
fn is_joined_well(asked: &InSubquery) -> bool {
    asked.subquery.outer_ref_columns.is_empty() && asked.expr.any_column_refs()
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
    if !asked.subquery.outer_ref_columns.is_empty() && is_one_row(&asked.subquery.subquery) {
        let it = Expr::ScalarSubquery(asked.subquery);
        return Ok(Transformed::yes(Expr::eq(*asked.expr, it)));
    }
    if subqueries_in(&asked.subquery.subquery)? > SUBQUERIES_MAX {
        let message = "subqueries are nested too deeply in the `in` of others; write them as joins";
        return Err(DataFusionError::External(
            SqlError::new(Code::TooComplex, message).into(),
        ));
    }
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

/// Whether a subquery has one row whatever it reads.
fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. }) | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => {
            is_one_row(input)
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

fn subqueries_in(plan: &LogicalPlan) -> Result<usize, DataFusionError> {
    let mut count = 0;
    plan.apply_with_subqueries(|node| {
        count += usize::from(matches!(node, LogicalPlan::Subquery(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count)
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
