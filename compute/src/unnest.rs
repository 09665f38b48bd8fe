//! A correction to the engine: a key of rows is no key of the rows that `unnest` makes of them.
//!
//! The engine keeps what it knows of the input's columns, "one row for each `id`", above an unnest, where there are many,
//! and then leaves out a `distinct` or a column of a `group by` that matters.

use std::sync::Arc;

use datafusion::common::FunctionalDependencies;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{LogicalPlan, Unnest};
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

/// The engine's rules that leave something out where there is a key.
const BELIEVERS: [&str; 3] = ["replace_distinct_aggregate", "eliminate_join", "optimize_projections"];

/// The rules of the engine, and this one before each that would be wrong without it.
pub(crate) fn corrected_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut corrected = Vec::new();
    for rule in Optimizer::new().rules {
        if BELIEVERS.contains(&rule.name()) {
            corrected.push(Arc::new(ForgetKeysAtUnnest) as _);
        }
        corrected.push(rule);
    }
    corrected
}

#[derive(Debug)]
struct ForgetKeysAtUnnest;

impl OptimizerRule for ForgetKeysAtUnnest {
    fn name(&self) -> &str {
        "forget_keys_at_unnest"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        let mut is_wrong = false;
        plan.apply_with_subqueries(|node| {
            is_wrong |= matches!(node, LogicalPlan::Unnest(unnest) if keeps_keys_wrongly(unnest));
            Ok(match is_wrong {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        if !is_wrong {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Unnest(unnest) if keeps_keys_wrongly(&unnest) => {
                let schema = Arc::unwrap_or_clone(unnest.schema);
                let schema = schema.with_functional_dependencies(FunctionalDependencies::empty())?;
                Ok(Transformed::yes(LogicalPlan::Unnest(Unnest {
                    schema: Arc::new(schema),
                    ..unnest
                })))
            }
            LogicalPlan::Unnest(unnest) => Ok(Transformed::no(LogicalPlan::Unnest(unnest))),
            above => Ok(Transformed::yes(above.recompute_schema()?)),
        })
    }
}

/// A struct makes columns of one row; a list makes rows.
fn keeps_keys_wrongly(unnest: &Unnest) -> bool {
    !unnest.list_type_columns.is_empty() && !unnest.schema.functional_dependencies().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_believes_in_keys_is_corrected() {
        let names: Vec<String> = corrected_rules().iter().map(|rule| rule.name().to_owned()).collect();

        for believer in BELIEVERS {
            let place = names
                .iter()
                .position(|name| name == believer)
                .expect("a rule of the engine");
            assert_eq!(names[place - 1], "forget_keys_at_unnest", "before {believer}");
        }
    }
}
