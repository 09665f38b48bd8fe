//! What projects that have budgets have spent today and this month, read from their ledgers as these grow, and what their running
//! queries may add to it.
//!
//! # Invariants
//! - A query's cost is in one of the two: it is reserved from when its price is known until its line of the ledger is read.
//! - What is reserved is known to this server alone. Several servers of one house may together pass a budget by what they begin at
//!   the same time, and by no more.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{NaiveDate, NaiveTime};
use tracing::warn;
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::budgets::{Budget, Period, Scope};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::{ProjectId, QueryId};
use wasmhouse_storage::ledger::{Ledger, LedgerLine, MAX_PAGE};
use wasmhouse_storage::money::Money;

use super::invoice::{Month, before, day_of};
use super::webhook::Webhook;
use crate::error::{Error, Result};

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
    accounts: Mutex<HashMap<ProjectId, Account>>,
}

/// What one project has spent.
struct Account {
    month: Month,
    day: NaiveDate,
    /// The last line of the ledger that is added up here.
    after: i64,
    spent: HashMap<(Scope, Period), Money>,
    /// What queries processed today.
    bytes: u64,
    reserved: HashMap<QueryId, Reserved>,
    /// Of which budgets somebody was told in this period of theirs.
    told: HashSet<(Scope, Period)>,
}

/// What a running query may add.
struct Reserved {
    scopes: HashSet<Scope>,
    cost: Money,
    bytes: u64,
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
    /// `user:ada, day: 0.9 of 1`.
    pub(crate) fn line(&self) -> String {
        let Budget {
            scope, period, amount, ..
        } = &self.budget;
        format!("{scope}, {}: {} of {amount}", period.as_str(), self.amount)
    }
}

impl Spending {
    pub(crate) fn new(ledger: Ledger, clock: Clock, webhook: Option<Webhook>, bytes_per_day: Option<u64>) -> Self {
        Self(Arc::new(Shared {
            ledger,
            clock,
            webhook,
            bytes_per_day,
            accounts: Mutex::default(),
        }))
    }

    /// Whether a query of a project with these budgets must be counted before it runs.
    pub(crate) fn bounds(&self, budgets: &[Budget]) -> bool {
        !budgets.is_empty() || self.0.bytes_per_day.is_some()
    }

    /// Reads what the ledger of a project has had since it was last read.
    pub(crate) async fn refresh(&self, project: &ProjectId) -> Result<()> {
        let now = self.0.clock.now();
        let (month, day) = (Month::of(now), day_of(now));
        let known = {
            let mut accounts = self.accounts();
            let account = accounts.get_mut(project).filter(|account| account.month == month);
            account.map(|account| account.on(day))
        };
        let mut after = match known {
            Some(after) => after,
            None => {
                let last = self.0.ledger.head(project).await?.seq;
                let after = before(&self.0.ledger, project, month, last).await?;
                self.accounts()
                    .entry(project.clone())
                    .and_modify(|account| account.begin(month, day, after))
                    .or_insert_with(|| Account::new(month, day, after))
                    .after
            }
        };
        loop {
            let page = self.0.ledger.lines(project, after, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            if let Some(account) = self.accounts().get_mut(project) {
                page.iter().for_each(|line| account.add(line));
            }
        }
    }

    /// Keeps what a query will cost, under everything that it falls under. Refused if that is more than is left of a budget. Says
    /// which budgets are spent so far that a warning is due.
    pub(crate) fn reserve(
        &self,
        project: &ProjectId,
        budgets: &[Budget],
        query: &QueryId,
        scopes: HashSet<Scope>,
        (cost, bytes): (Money, u64),
    ) -> Result<Vec<Spent>> {
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(project) else {
            return Ok(Vec::new());
        };
        // Of another attempt at it.
        account.reserved.remove(query);
        if let Some(most) = self.0.bytes_per_day {
            account.check_bytes(bytes, most, self.0.clock.now())?;
        }
        let mut warnings = Vec::new();
        for budget in budgets.iter().filter(|budget| scopes.contains(&budget.scope)) {
            let spent = account.spent(budget);
            let with_it = spent.amount.plus(cost).unwrap_or(budget.amount);
            if with_it > budget.amount && cost > Money::ZERO {
                return Err(refusal(&spent, cost).into());
            }
            let is_due = with_it.times(100) >= budget.amount.times(budget.warn_percent.into());
            if is_due {
                warnings.push(Spent {
                    amount: with_it,
                    ..spent
                });
            }
        }
        account.reserved.insert(query.clone(), Reserved { scopes, cost, bytes });
        let untold = warnings.iter().filter(|spent| {
            let Budget { scope, period, .. } = &spent.budget;
            account.told.insert((scope.clone(), *period))
        });
        for spent in untold {
            warn!(project = %project, "a budget is nearly spent: {}", spent.line());
            if let Some(webhook) = &self.0.webhook {
                webhook.tell(project, spent);
            }
        }
        Ok(warnings)
    }

    /// A query that has ended without a line, or whose line may be read now, keeps nothing any more.
    pub(crate) fn release(&self, project: &ProjectId, query: &QueryId) {
        if let Some(account) = self.accounts().get_mut(project) {
            account.reserved.remove(query);
        }
    }

    /// How much of these budgets is spent, as far as it was read.
    pub(crate) fn spent(&self, project: &ProjectId, budgets: &[Budget]) -> Vec<Spent> {
        let accounts = self.accounts();
        let account = accounts.get(project);
        let spent = |budget| account.map(|account| account.spent(budget));
        budgets.iter().filter_map(spent).collect()
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<ProjectId, Account>> {
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn new(month: Month, day: NaiveDate, after: i64) -> Self {
        Self {
            month,
            day,
            after,
            spent: HashMap::new(),
            bytes: 0,
            reserved: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Another month begins. What runs goes on.
    fn begin(&mut self, month: Month, day: NaiveDate, after: i64) {
        if self.month != month {
            *self = Self {
                reserved: std::mem::take(&mut self.reserved),
                ..Self::new(month, day, after)
            };
        }
    }

    /// Today is `day`. Says which line was the last to be added up.
    fn on(&mut self, day: NaiveDate) -> i64 {
        if self.day != day {
            self.day = day;
            self.bytes = 0;
            self.spent.retain(|(_, period), _| *period != Period::Day);
            self.told.retain(|(_, period)| *period != Period::Day);
        }
        self.after
    }

    /// Adds a line, unless that was done.
    fn add(&mut self, line: &LedgerLine) {
        if line.seq <= self.after {
            return;
        }
        self.after = line.seq;
        self.reserved.remove(&line.query);
        let is_free = line.cost.as_ref().is_none_or(|cost| cost.free.is_some());
        if !is_free && day_of(line.at) == self.day {
            self.bytes = self.bytes.saturating_add(line.usage.bytes_processed);
        }
        let Some(cost) = line.cost.as_ref().map(|cost| cost.amount) else {
            return;
        };
        let by = line.by.as_ref().map(ToString::to_string);
        let labels = line.labels.iter();
        let scopes = scopes(by, labels.map(|(name, value)| (name.clone(), value.clone())));
        for scope in scopes {
            for (period, is_in) in [
                (Period::Day, day_of(line.at) == self.day),
                (Period::Month, Month::of(line.at) == self.month),
            ] {
                if is_in {
                    let sum = self.spent.entry((scope.clone(), period)).or_default();
                    *sum = [*sum, cost].into_iter().sum();
                }
            }
        }
    }

    /// Refuses what would process more than is left of the day.
    fn check_bytes(&self, bytes: u64, most: u64, now: Timestamp) -> Result<()> {
        let reserved = self.reserved.values().map(|reserved| reserved.bytes);
        let sum = reserved.fold(self.bytes, u64::saturating_add);
        if bytes == 0 || sum.saturating_add(bytes) <= most {
            return Ok(());
        }
        let midnight = self
            .day
            .succ_opt()
            .unwrap_or(self.day)
            .and_time(NaiveTime::MIN)
            .and_utc();
        let midnight = Timestamp::from_micros(midnight.timestamp_micros());
        Err(Error::TooOften {
            what: format!(
                "the query would process {bytes} bytes, and of the {most} that the project may in a day only {} are left; \
                 nothing was read",
                most.saturating_sub(sum)
            ),
            retry_after: midnight.since(now),
        })
    }

    fn spent(&self, budget: &Budget) -> Spent {
        let Budget { scope, period, .. } = budget;
        let settled = self.spent.get(&(scope.clone(), *period)).copied().unwrap_or_default();
        let reserved = self
            .reserved
            .values()
            .filter(|reserved| reserved.scopes.contains(scope));
        let begins_again = match period {
            Period::Day => self.day.succ_opt().unwrap_or(self.day).to_string(),
            Period::Month => format!("{}-01", self.month.next()),
        };
        Spent {
            budget: budget.clone(),
            amount: reserved.map(|reserved| reserved.cost).chain([settled]).sum(),
            begins_again: format!("{begins_again}T00:00:00Z"),
        }
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

fn refusal(spent: &Spent, cost: Money) -> SqlError {
    let Budget {
        scope, period, amount, ..
    } = &spent.budget;
    let left = amount.less(spent.amount);
    SqlError::new(
        Code::OverBudget,
        format!(
            "the query would cost {cost}, and of the budget of {scope} for this {}, {amount}, only {left} is left; nothing was \
             read; it begins again at {}",
            period.as_str(),
            spent.begins_again
        ),
    )
}

#[cfg(test)]
mod tests;
