//! Rows in order, for windows whose rows come from other workers.
//!
//! A plan knows more of its rows than travels with them: that a column has one value below a filter, or that rows are in order
//! because one place has sorted them all. The planner leaves sorts out for that, and a window on the other side of the network
//! (datafusion-distributed 4.0) finds that nobody has said that its rows are in order. So the sort is put back where only such
//! knowledge made it needless.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

type Plan = Arc<dyn ExecutionPlan>;

/// The last rule of a plan that several workers share.
#[derive(Debug)]
pub(super) struct SortForWindows;

impl PhysicalOptimizerRule for SortForWindows {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan, DataFusionError> {
        Ok(plan.transform_up(with_sorted_input)?.data)
    }

    fn name(&self) -> &str {
        "sort_for_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_sorted_input(window: Plan) -> Result<Transformed<Plan>, DataFusionError> {
    if !window.is::<BoundedWindowAggExec>() && !window.is::<WindowAggExec>() {
        return Ok(Transformed::no(window));
    }
    let required = window.required_input_ordering().pop().flatten();
    let (Some(required), Some(input)) = (required, window.children().pop().map(Arc::clone)) else {
        return Ok(Transformed::no(window));
    };
    let order = required.into_single();
    let seen = as_seen_from_here(Arc::clone(&input))?;
    if seen
        .equivalence_properties()
        .ordering_satisfy_requirement(order.clone())?
    {
        return Ok(Transformed::no(window));
    }
    let sorted = SortExec::new(LexOrdering::from(order), input).with_preserve_partitioning(true);
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    let window = window.replace_children(vec![Arc::new(sorted)], options)?;
    Ok(Transformed::yes(window))
}

/// The plan, with nothing known of rows that may come through the network.
fn as_seen_from_here(plan: Plan) -> Result<Plan, DataFusionError> {
    let seen = plan.transform_down(|node| {
        let may_be_far = node.is::<RepartitionExec>() || node.is::<CoalescePartitionsExec>() || node.is::<UnionExec>();
        if may_be_far {
            return Ok(Transformed::new(unknown(&node), true, TreeNodeRecursion::Jump));
        }
        // What it merges may be far; that it merges is known.
        if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
            let merge = SortPreservingMergeExec::new(merge.expr().clone(), unknown(merge.input()));
            return Ok(Transformed::new(Arc::new(merge), true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(seen.data)
}

/// As many partitions of the same columns.
fn unknown(plan: &Plan) -> Plan {
    let partitions = plan.output_partitioning().partition_count();
    Arc::new(EmptyExec::new(plan.schema()).with_partitions(partitions))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    async fn plan_of(sql: &str) -> String {
        let config = SessionConfig::new().with_target_partitions(3);
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_physical_optimizer_rule(Arc::new(SortForWindows))
            .build();
        let session = SessionContext::new_with_state(state);
        let made = session
            .sql("create table t as select value % 5 as g, value as n from generate_series(1, 100000)")
            .await;
        made.expect("a table").collect().await.expect("its rows");
        let rows = session.sql(sql).await.expect("a statement");
        let plan = rows.create_physical_plan().await.expect("a plan");
        displayable(plan.as_ref()).indent(false).to_string()
    }

    fn sorts(plan: &str) -> usize {
        plan.matches("SortExec").count()
    }

    #[tokio::test]
    async fn what_only_a_filter_elsewhere_knows_is_sorted_again() {
        let constant = "select g, n, rank() over (partition by g order by n) from t where g = 3";
        let plan = plan_of(constant).await;
        assert!(plan.contains("SortExec: expr=[g@0 ASC"), "{plan}");

        let alone = plan_of("select count(*) over (partition by g) from t where g = 3").await;
        assert_eq!(sorts(&alone), 1, "{alone}");
        assert!(!alone.contains("SortPreservingMergeExec"), "{alone}");
    }

    #[tokio::test]
    async fn what_is_sorted_here_is_not_sorted_twice() {
        for sql in [
            "select g, n, rank() over (partition by g order by n) from t",
            "select g, rank() over (partition by g order by n), sum(n) over (partition by g order by n) from t",
            "select g, avg(n) over (partition by g) from t",
            "select n + 1, lag(n) over (order by n) from t",
        ] {
            let plan = plan_of(sql).await;
            assert_eq!(sorts(&plan), 1, "{sql}\n{plan}");
        }
        let merged = plan_of("select lag(n) over (order by n) from t").await;
        assert!(merged.contains("SortPreservingMergeExec"), "{merged}");
    }
}
