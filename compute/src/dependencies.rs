//! What the engine believes of the columns that others decide, and where that is not so.
//!
//! A key decides the columns of its row, and a grouping is a key of its groups. The engine drops from `group by`, `order
//! by` and `distinct` what something else there decides. DataFusion 55 keeps the belief too long in three places:
//! - a grouping by a column that decides some of the others is taken to have one row for each of its values
//!   (`aggregate_functional_dependencies` of datafusion-common), and so is `distinct`, which becomes one;
//! - `unnest` makes many rows of one and keeps its key (`Unnest::try_new` of datafusion-expr);
//! - a recursive query has the keys of its first term.
//!
//! # Invariants
//! - Above such a place of a plan stands a projection that the engine cannot see through ([`opaque`]), before anything above it
//!   is planned ([`Doubtful`] for what stands in a `from`) and before a rule reads what decides what ([`rules`]).
//! - The projection is gone before the physical plan is made: it costs a query nothing and hides no filter from a scan.

mod opaque;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Dependency, FunctionalDependence};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::logical_plan::{Aggregate, Distinct, LogicalPlan};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::TableFactor;

pub(crate) use opaque::transparent;

/// The plan of a statement, in which nothing is believed that does not hold.
pub(crate) async fn logical_plan(state: &SessionState, statement: Statement) -> Result<LogicalPlan, DataFusionError> {
    Ok(hide_false(state.statement_to_plan(statement).await?)?.data)
}

/// Plans what stands in a `from` so that the query around it believes nothing false of it.
#[derive(Debug)]
pub(crate) struct Doubtful;

thread_local! {
    /// Whether the next relation is one that [`Doubtful`] has been asked for already, and leaves to the engine.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
}

impl RelationPlanner for Doubtful {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning, DataFusionError> {
        if IS_ASKED.replace(false) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        IS_ASKED.set(true);
        let plan = context.plan(relation);
        // The relation may be another planner's, which did not ask.
        IS_ASKED.set(false);
        let plan = hide_false(plan?)?.data;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

/// The engine's rules, with a look at the plan before each of those that read what decides what: joins that become inner
/// ones and groupings that are cut in two bring new dependencies.
pub(crate) fn rules(of_engine: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    const READERS: [&str; 4] = [
        "replace_distinct_aggregate",
        "eliminate_join",
        "eliminate_duplicated_expr",
        "optimize_projections",
    ];
    let mut rules = Vec::with_capacity(of_engine.len() + READERS.len());
    for rule in of_engine {
        if READERS.contains(&rule.name()) {
            rules.push(Arc::new(HideFalse) as Arc<dyn OptimizerRule + Send + Sync>);
        }
        rules.push(rule);
    }
    rules
}

#[derive(Debug)]
struct HideFalse;

impl OptimizerRule for HideFalse {
    fn name(&self) -> &str {
        "hide_false_dependencies"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        hide_false(plan)
    }
}

/// Whether `is_it` holds for a node, which is told whether a wall stands on it.
fn has(plan: &LogicalPlan, is_it: impl Fn(&LogicalPlan, bool) -> bool) -> Result<bool, DataFusionError> {
    let mut found = false;
    let mut behind_wall: Option<*const LogicalPlan> = None;
    plan.apply_with_subqueries(|node| {
        // The input of a node comes right behind it.
        let is_hidden = behind_wall.take() == Some(std::ptr::from_ref(node));
        if let Some(input) = opaque::input_of_wall(node) {
            behind_wall = Some(std::ptr::from_ref(input));
        }
        found = is_it(node, is_hidden);
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// Puts a wall on each place where something false is believed.
fn hide_false(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    if !has(&plan, |node, is_hidden| !is_hidden && is_false(node))? {
        return Ok(Transformed::no(plan));
    }
    plan.transform_up_with_subqueries(|node| {
        // What is below may have been hidden just now.
        let node = opaque::once(node.recompute_schema()?)?;
        Ok(Transformed::yes(match is_false(&node) {
            true => opaque::wall(node)?,
            false => node,
        }))
    })
}

/// Whether the engine believes of the rows of this node what does not follow from what it knows of its input.
fn is_false(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Unnest(_) | LogicalPlan::RecursiveQuery(_) => !node.schema().functional_dependencies().is_empty(),
        LogicalPlan::Aggregate(Aggregate { input, group_expr, .. }) => !decides_groups(input.schema(), group_expr),
        LogicalPlan::Distinct(Distinct::On(on)) => !decides_groups(on.input.schema(), &on.on_expr),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let columns: Vec<Expr> = input.schema().iter().map(Expr::from).collect();
            !decides_groups(input.schema(), &columns)
        }
        _ => false,
    }
}

/// Whether everything that decides other columns of `input`, and that the rows are grouped by, decides the whole group.
fn decides_groups(input: &DFSchema, group: &[Expr]) -> bool {
    let known = input.functional_dependencies();
    if known.is_empty() {
        return true;
    }
    let names = input.field_names();
    let grouped: HashSet<String> = group.iter().map(|expr| expr.schema_name().to_string()).collect();
    known
        .iter()
        .filter(|known| {
            known
                .source_indices
                .iter()
                .all(|&source| grouped.contains(&names[source]))
        })
        .all(|known| group.iter().all(|expr| decides(known, input, &names, expr)))
}

fn decides(known: &FunctionalDependence, input: &DFSchema, names: &[String], expr: &Expr) -> bool {
    // There is one row for each value, so there is one value of whatever is made of it.
    if known.mode == Dependency::Single {
        return true;
    }
    let is_decided = |column: usize| known.source_indices.contains(&column) || known.target_indices.contains(&column);
    let name = expr.schema_name().to_string();
    if let Some(column) = names.iter().position(|known| *known == name) {
        return is_decided(column);
    }
    !expr.is_volatile()
        && expr
            .column_refs()
            .into_iter()
            .all(|column| input.maybe_index_of_column(column).is_some_and(is_decided))
}
