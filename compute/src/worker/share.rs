//! Which plans several workers can share.
//!
//! datafusion-distributed 4.0 plans scalar subqueries as joins, since what one worker has found out others do not see. A join
//! does not notice that there are two rows where one may be, and there is none for a subquery outside of `where`, `having` and
//! the columns of a `select`. Nor can a recursive query be cut: its rounds see each other's rows. Where a row is in its file, a
//! scan forgets on its way, and some nodes cannot be sent at all.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::core::file_row_index::FileRowIndexFunc;
use datafusion::logical_expr::logical_plan::{FetchType, Filter, Projection, Sort, SubqueryAlias};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use tracing::debug;

/// Whether the plan of a statement, `logical`, means the same in the hands of several workers.
pub(super) fn is_shareable(logical: &LogicalPlan, plan: &Arc<dyn ExecutionPlan>) -> Result<bool, DataFusionError> {
    let is_recursive = plan.exists(|node| Ok(node.is::<RecursiveQueryExec>()))?;
    Ok(!is_recursive && !has_file_row_index(logical)? && !has_lone_subquery(logical)?)
}

/// Whether a plan that several workers are to share can be sent to them.
pub(super) fn travels(plan: &Arc<dyn ExecutionPlan>, state: &SessionState, codec: &dyn PhysicalExtensionCodec) -> bool {
    let sent = physical_plan_to_bytes_with_extension_codec(Arc::clone(plan), codec);
    let arrived =
        sent.and_then(|bytes| physical_plan_from_bytes_with_extension_codec(&bytes, &state.task_ctx(), codec));
    match arrived {
        Ok(_) => true,
        Err(error) => {
            debug!("a query stays with one worker: {error}");
            false
        }
    }
}

/// The bytes of the files of that scan of a plan which has most.
pub(super) fn largest_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let own = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
        let files = scan.data_source().downcast_ref::<FileScanConfig>()?;
        let files = files.file_groups.iter().flat_map(|group| group.files());
        Some(files.map(PartitionedFile::effective_size).sum())
    });
    let below = plan.children().into_iter().filter_map(largest_scan);
    below.chain(own).max()
}

/// Whether a plan asks where rows are in their files.
fn has_file_row_index(logical: &LogicalPlan) -> Result<bool, DataFusionError> {
    let is_asked =
        |part: &Expr| matches!(part, Expr::ScalarFunction(call) if call.func.inner().is::<FileRowIndexFunc>());
    let mut found = false;
    logical.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| Ok(is_asked(part)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Whether there is a scalar subquery that no join can stand for.
fn has_lone_subquery(logical: &LogicalPlan) -> Result<bool, DataFusionError> {
    let mut found = false;
    logical.apply_with_subqueries(|node| {
        let is_joined_here = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Projection(_));
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| Ok(is_lone(part, is_joined_here)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// One that depends on the row around it is a join for one worker, too.
fn is_lone(part: &Expr, is_joined_here: bool) -> bool {
    let Expr::ScalarSubquery(subquery) = part else {
        return false;
    };
    subquery.outer_ref_columns.is_empty() && !(is_joined_here && has_one_row_at_most(&subquery.subquery))
}

/// Whether a plan is sure to have no second row. [`LogicalPlan::max_rows`] says so of more, and is wrong of unions, joins and
/// grouping sets.
fn has_one_row_at_most(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Sort(Sort { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => has_one_row_at_most(input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))),
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn is_shared(sql: &str) -> bool {
        let session = SessionContext::new();
        let made = session.sql("create table t as values (1, 2), (3, 4)").await;
        made.expect("a table").collect().await.expect("its rows");
        let rows = session.sql(sql).await.expect("a statement");
        let plan = rows.clone().create_physical_plan().await.expect("a plan");
        is_shareable(rows.logical_plan(), &plan).expect("an answer")
    }

    #[tokio::test]
    async fn what_would_mean_something_else_in_parts_is_for_one_worker() {
        for shared in [
            "select column1, count(*) from t group by column1",
            "select * from t where column2 > (select avg(column2) from t)",
            "select column1, (select max(column2) from t) from t",
            "select column1, (select column2 from t order by column2 limit 1), (select 7) from t",
            "select * from t where column2 = (select max(b.column2) from t b where b.column1 = t.column1)",
            "select column1 from t group by column1 having sum(column2) > (select min(column1) from t)",
        ] {
            assert!(is_shared(shared).await, "{shared}");
        }
        for lone in [
            "select * from t where column2 > (select column2 from t)",
            "select sum(column1 + (select max(column2) from t)) from t",
            "select column1 from t order by column1 + (select max(column2) from t)",
            "select (select column1 from t) from t",
            "select column1, (select 1 union all select 2) from t",
            "select column1 from t where column1 = (select max(column1) from t group by rollup(column2))",
            "select (select b.column1 from (select 1) a cross join (values (1), (2)) b) from t",
            "select column1 from t where exists (select file_row_index() from t)",
            "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select * from r",
        ] {
            assert!(!is_shared(lone).await, "{lone}");
        }
    }
}
