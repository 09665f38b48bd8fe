//! SQL for budgets.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, query};

use super::{changed, flag_missing_project, number, parsed};
use crate::Result;
use crate::budgets::{Budget, Period, Scope};
use crate::ids::ProjectId;

pub(crate) async fn list(conn: &mut AnyConnection, project: &ProjectId) -> Result<Vec<Budget>> {
    let rows =
        query("select scope, period, amount, warn_percent from budgets where project = $1 order by scope, period")
            .bind(project.as_str())
            .fetch_all(conn)
            .await?;
    let budget = |row: &AnyRow| {
        Ok(Budget {
            scope: parsed(row, "scope")?,
            period: parsed(row, "period")?,
            amount: parsed(row, "amount")?,
            warn_percent: number(row, "warn_percent")?,
        })
    };
    rows.iter().map(budget).collect()
}

pub(crate) async fn put(conn: &mut AnyConnection, project: &ProjectId, budget: &Budget) -> Result<()> {
    let put = query(
        "insert into budgets (project, scope, period, amount, warn_percent) values ($1, $2, $3, $4, $5)
         on conflict (project, scope, period) do update set amount = $4, warn_percent = $5",
    )
    .bind(project.as_str())
    .bind(budget.scope.to_string())
    .bind(budget.period.as_str())
    .bind(budget.amount.to_string())
    .bind(i64::from(budget.warn_percent));
    changed(conn, put)
        .await
        .map_err(|error| flag_missing_project(error, project))?;
    Ok(())
}

/// False when there is none.
pub(crate) async fn delete(
    conn: &mut AnyConnection,
    project: &ProjectId,
    scope: &Scope,
    period: Period,
) -> Result<bool> {
    let delete = query("delete from budgets where project = $1 and scope = $2 and period = $3")
        .bind(project.as_str())
        .bind(scope.to_string())
        .bind(period.as_str());
    Ok(changed(conn, delete).await? > 0)
}
