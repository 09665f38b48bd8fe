//! Budgets of a project: set by its owners, read by who may read bills. Queries are held to them by [`crate::billing::spending`].

use wasmhouse_storage::budgets::{Budget, Budgets as Records, Period, Scope};
use wasmhouse_storage::catalog::Catalog;

use crate::access::{Act, Caller};
use crate::billing::spending::{Spending, Spent};
use crate::callers::Callers;
use crate::error::Result;

/// The budgets of all projects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Budgets {
    records: Records,
    spending: Spending,
    callers: Callers,
}

impl Budgets {
    pub(crate) fn new(catalog: &Catalog, spending: Spending, callers: Callers) -> Self {
        Self {
            records: Records::new(catalog),
            spending,
            callers,
        }
    }

    /// The budgets of the caller's project, and how much of each is spent.
    pub(crate) async fn list(&self, caller: &Caller) -> Result<Vec<Spent>> {
        caller.may(Act::ReadBills)?;
        let budgets = self.records.list(&caller.project).await?;
        self.spending.refresh(&caller.project, &budgets).await?;
        Ok(self.spending.spent(&caller.project, &budgets))
    }

    /// Sets a budget, or changes it.
    pub(crate) async fn set(&self, caller: &Caller, budget: &Budget) -> Result<()> {
        caller.may(Act::SetBudgets)?;
        let set = self.records.set(&caller.project, budget, &caller.actor).await;
        self.callers.forget();
        Ok(set?)
    }

    /// Takes a budget away.
    pub(crate) async fn remove(&self, caller: &Caller, scope: &Scope, period: Period) -> Result<()> {
        caller.may(Act::SetBudgets)?;
        let removed = self.records.remove(&caller.project, scope, period, &caller.actor).await;
        self.callers.forget();
        Ok(removed?)
    }
}
