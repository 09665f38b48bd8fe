//! What projects that have budgets, or a bound of bytes, have spent: read from their ledgers as these grow, with what running
//! queries may add to it.
//!
//! # Invariants
//! - A query's cost is in one of the two: it is reserved from when its price is known until its line of the ledger is read.
//! - What is reserved is known to this server alone. Several servers of one house may together pass a budget by what they begin at
//!   the same time, and by no more.

mod account;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::budgets::{Budget, Period, Scope};
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::{ProjectId, QueryId};
use wasmhouse_storage::ledger::{Ledger, MAX_PAGE};
use wasmhouse_storage::money::Money;

use self::account::Account;
use super::invoice::{Month, before};
use super::webhook::Webhook;
use crate::error::{Error, Result};

pub(crate) use self::account::Reserved;

/// The accounts of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Spending(Arc<Shared>);

struct Shared {
    ledger: Ledger,
    clock: Clock,
    /// Who is told of warnings, besides the asker.
    webhook: Option<Webhook>,
    /// What the queries of a project may process in a day. None: any number of bytes.
    bytes_per_day: Option<u64>,
    books: Mutex<HashMap<ProjectId, Arc<Book>>>,
}

/// The account of one project.
#[derive(Default)]
struct Book {
    /// One reads the ledger, and those who come meanwhile wait for what he has read.
    turn: tokio::sync::Mutex<()>,
    account: Mutex<Option<Account>>,
}

/// A budget, and how much of it is spent.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) budget: Budget,
    /// With what is reserved.
    pub(crate) amount: Money,
    /// When it begins again, in RFC 3339.
    pub(crate) begins_again: String,
}

impl Spent {
    /// `user:ada, day: 0.9 of 1`, or without amounts for who may not know them.
    pub(crate) fn line(&self, with_amounts: bool) -> String {
        let Budget {
            scope,
            period,
            amount,
            warn_percent,
        } = &self.budget;
        let period = period.as_str();
        match with_amounts {
            true => format!("{scope}, {period}: {} of {amount}", self.amount),
            false => format!("{scope}, {period}: more than {warn_percent} %"),
        }
    }

    /// Why a query that would cost so much is not run.
    fn refusal(&self, cost: Money, with_amounts: bool) -> SqlError {
        let Budget {
            scope, period, amount, ..
        } = &self.budget;
        let period = period.as_str();
        let left = match with_amounts {
            true => format!(", {amount}, only {} is left", amount.less(self.amount)),
            false => " not so much is left".to_owned(),
        };
        let message = format!(
            "the query would cost {cost}, and of the budget of {scope} for this {period}{left}; nothing was read; it begins again \
             at {}",
            self.begins_again
        );
        SqlError::new(Code::OverBudget, message)
    }
}

impl Spending {
    pub(crate) fn new(ledger: Ledger, clock: Clock, webhook: Option<Webhook>, bytes_per_day: Option<u64>) -> Self {
        Self(Arc::new(Shared {
            ledger,
            clock,
            webhook,
            bytes_per_day,
            books: Mutex::default(),
        }))
    }

    /// Whether a query of a project with these budgets must be counted before it runs.
    pub(crate) fn bounds(&self, budgets: &[Budget]) -> bool {
        !budgets.is_empty() || self.0.bytes_per_day.is_some()
    }

    /// Reads what the ledger of a project with these budgets has had since it was last read.
    pub(crate) async fn refresh(&self, project: &ProjectId, budgets: &[Budget]) -> Result<()> {
        let book = self.book(project);
        let _turn = book.turn.lock().await;
        let now = self.0.clock.now();
        let known = book
            .account()
            .as_mut()
            .and_then(|account| account.goes_on(now, budgets));
        let mut after = match known {
            Some(after) => after,
            None => {
                let last = self.0.ledger.head(project).await?.seq;
                let after = before(&self.0.ledger, project, Month::of(now), last).await?;
                let mut account = book.account();
                *account = Some(Account::new(now, after, budgets, account.take()));
                after
            }
        };
        loop {
            let page = self.0.ledger.lines(project, after, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            if let Some(account) = book.account().as_mut() {
                page.iter().for_each(|line| account.add(line));
            }
            if page.len() < MAX_PAGE as usize {
                return Ok(());
            }
        }
    }

    /// Keeps what a query may cost and process. Refused if that is more than is left of a budget, or of the day's bytes. Says which
    /// budgets are spent so far that a warning is due. `knows` says of which the asker may know the amounts.
    pub(crate) fn reserve(
        &self,
        project: &ProjectId,
        budgets: &[Budget],
        query: &QueryId,
        wanted: Reserved,
        knows: impl Fn(&Scope) -> bool,
    ) -> Result<Vec<Spent>> {
        let book = self.book(project);
        let mut account = book.account();
        let Some(account) = account.as_mut() else {
            return Err(Error::Internal("what a project has spent was not read".into()));
        };
        let now = self.0.clock.now();
        account.on(now);
        // Of another attempt at it.
        account.release(query);
        if let Some(most) = self.0.bytes_per_day {
            account.check_bytes(wanted.bytes, most, now)?;
        }
        let mut due = Vec::new();
        for budget in budgets.iter().filter(|budget| wanted.scopes.contains(&budget.scope)) {
            let spent = account.spent(budget);
            let with_it = spent.amount.plus(wanted.cost).filter(|sum| *sum <= budget.amount);
            let Some(with_it) = with_it.or((wanted.cost == Money::ZERO).then_some(spent.amount)) else {
                return Err(spent.refusal(wanted.cost, knows(&budget.scope)).into());
            };
            if with_it.times(100) >= budget.amount.times(budget.warn_percent.into()) {
                due.push(Spent {
                    amount: with_it,
                    ..spent
                });
            }
        }
        account.reserve(query, wanted);
        for spent in due.iter().filter(|spent| account.is_to_be_told(&spent.budget)) {
            warn!(project = %project, "a budget is nearly spent: {}", spent.line(true));
            if let Some(webhook) = &self.0.webhook {
                webhook.tell(project, spent);
            }
        }
        Ok(due)
    }

    /// What a query that has ended has cost and processed is kept until its line is read.
    pub(crate) fn settled(&self, project: &ProjectId, query: &QueryId, cost: Money, bytes: u64) {
        if let Some(account) = self.book(project).account().as_mut() {
            account.settled(query, cost, bytes);
        }
    }

    /// A query has ended that will have no line.
    pub(crate) fn release(&self, project: &ProjectId, query: &QueryId) {
        if let Some(account) = self.book(project).account().as_mut() {
            account.release(query);
        }
    }

    /// How much of these budgets is spent, as far as it was read.
    pub(crate) fn spent(&self, project: &ProjectId, budgets: &[Budget]) -> Vec<Spent> {
        let book = self.book(project);
        let account = book.account();
        let spent = |budget| account.as_ref().map(|account| account.spent(budget));
        budgets.iter().filter_map(spent).collect()
    }

    fn book(&self, project: &ProjectId) -> Arc<Book> {
        let mut books = self.0.books.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(books.entry(project.clone()).or_default())
    }
}

impl Book {
    fn account(&self) -> MutexGuard<'_, Option<Account>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that a query of this asker with these labels falls under.
pub(crate) fn scopes(asker: Option<String>, labels: impl Iterator<Item = (String, String)>) -> HashSet<Scope> {
    let labels = labels.map(|(name, value)| Scope::Label(name, value));
    [Scope::Project]
        .into_iter()
        .chain(asker.map(Scope::User))
        .chain(labels)
        .collect()
}

#[cfg(test)]
mod tests;
