//! Nodes that have to see all rows, or all of a key, and rely on there being one partition.
//!
//! Where a table is small, or a plan may have one partition only, the engine needs no exchange below an aggregate, a window or a
//! join, and none above a limit: one partition is all rows. For datafusion-distributed 4.0 it is one partition of each task, so
//! each task would aggregate its own part of the rows and take that for the whole. Such a stage has one task.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_expr::{Distribution, Partitioning};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{BroadcastExec, DesiredTaskCountEvent, DesiredTaskCountEventResponse};

/// Keeps nodes together that only one partition holds together.
pub(super) fn one_task(event: DesiredTaskCountEvent<'_>) -> Option<Result<DesiredTaskCountEventResponse>> {
    needs_one_task(event.plan).then(|| Ok(DesiredTaskCountEventResponse::maximum(1)))
}

fn needs_one_task(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // Of several partitions, whoever brings them together counts again.
    let is_limit = plan.fetch().is_some() && plan.output_partitioning().partition_count() == 1;
    if is_limit && !brings_together(plan) {
        return true;
    }
    let wanted = plan.input_distribution_requirements().into_per_child();
    plan.children()
        .into_iter()
        .zip(wanted)
        .any(|(input, wanted)| match wanted {
            Distribution::UnspecifiedDistribution => false,
            Distribution::SinglePartition => !is_whole(input),
            _ => !is_dealt_by_key(input),
        })
}

/// Whether a node brings the rows of all tasks together.
fn brings_together(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>()
}

/// Whether a node has the rows of all tasks, and the same in every task.
fn is_whole(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // Of rows that each task gets, each takes those for the first that it happens to see first.
    let is_limit_of_each =
        plan.fetch().is_some() && plan.children().into_iter().any(|input| input.is::<BroadcastExec>());
    brings_together(plan) && !is_limit_of_each
}

/// Whether rows with equal keys are in one partition because they were put there.
fn is_dealt_by_key(plan: &Arc<dyn ExecutionPlan>) -> bool {
    is_whole(plan) || matches!(plan.output_partitioning(), Partitioning::Hash(_, _))
}

#[cfg(test)]
mod tests {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// The nodes of a plan that keep their stage to one task.
    async fn kept(sql: &str, partitions: usize, rows: usize) -> Vec<String> {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
        let made = session
            .sql(&format!(
                "create table t as select value % 5 as g, value as n from generate_series(1, {rows})"
            ))
            .await;
        made.expect("a table").collect().await.expect("its rows");
        let plan = session
            .sql(sql)
            .await
            .expect("a statement")
            .create_physical_plan()
            .await;
        let mut kept = Vec::new();
        plan.expect("a plan")
            .apply(|node| {
                if needs_one_task(node) {
                    kept.push(node.name().to_owned());
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .expect("a walk");
        kept
    }

    const QUERIES: [&str; 4] = [
        "select sum(n) from t",
        "select g, count(*) from t group by g",
        "select rank() over (partition by g order by n) from t",
        "select a.n from t a join t b on a.n = b.n",
    ];

    #[tokio::test]
    async fn what_relies_on_one_partition_is_one_task() {
        for sql in QUERIES {
            assert!(!kept(sql, 1, 100).await.is_empty(), "{sql}");
        }
        for limit in [
            "select n from t limit 10",
            "select n from t order by n limit 10",
            "select n from t where n > 3 limit 10",
            "select a.n from t a join t b on a.n = b.n limit 10",
        ] {
            let joined = format!("select sum(a.n + b.n) from ({limit}) a cross join t b");
            assert!(kept(&joined, 1, 100).await.len() > 1, "{joined}");
            let united = format!("(select n from ({limit})) union all select n from t");
            assert!(!kept(&united, 1, 100).await.is_empty(), "{united}");
        }
    }

    #[tokio::test]
    async fn what_is_exchanged_by_key_or_brought_together_may_be_many_tasks() {
        for sql in QUERIES {
            assert_eq!(kept(sql, 3, 100_000).await, [""; 0], "{sql}");
        }
    }
}
