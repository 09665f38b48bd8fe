//! What one project has spent today and this month, as far as its ledger was read, and what its running queries may add.

use std::collections::{HashMap, HashSet};

use chrono::{NaiveDate, NaiveTime};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::ledger::LedgerLine;

use super::{Budget, Money, Period, Scope, Spent, scopes};
use crate::billing::invoice::{Month, Share, day_of};
use crate::error::{Error, Result};

/// The account of one project.
pub(super) struct Account {
    month: Month,
    day: NaiveDate,
    /// The last line of the ledger that is added up here.
    after: i64,
    /// What has a budget, and is added up: what a tenant can think of without end is not.
    wanted: HashSet<Scope>,
    spent: HashMap<(Scope, Period), Money>,
    /// What queries processed today. Of one without an answer, what it read.
    bytes: u64,
    reserved: HashMap<QueryId, Reserved>,
    /// Of which budgets somebody was told in this period of theirs, and how much they were then.
    told: HashSet<(Scope, Period, Money)>,
}

/// What a query may add.
pub(crate) struct Reserved {
    /// What it falls under.
    pub(crate) scopes: HashSet<Scope>,
    pub(crate) cost: Money,
    pub(crate) bytes: u64,
}

impl Account {
    /// An account that begins with the line after `after`, the first of the month. What runs goes on.
    pub(super) fn new(now: Timestamp, after: i64, budgets: &[Budget], before: Option<Self>) -> Self {
        Self {
            month: Month::of(now),
            day: day_of(now),
            after,
            wanted: budgets.iter().map(|budget| budget.scope.clone()).collect(),
            spent: HashMap::new(),
            bytes: 0,
            reserved: before.map(|before| before.reserved).unwrap_or_default(),
            told: HashSet::new(),
        }
    }

    /// The last line that is added up, if what is needed is: another month, or a budget of something else, begins anew.
    pub(super) fn goes_on(&mut self, now: Timestamp, budgets: &[Budget]) -> Option<i64> {
        self.on(now);
        let is_wanted = budgets.iter().all(|budget| self.wanted.contains(&budget.scope));
        (is_wanted && self.month >= Month::of(now)).then_some(self.after)
    }

    /// It is later. A clock that goes back changes nothing.
    pub(super) fn on(&mut self, now: Timestamp) {
        let (day, month) = (day_of(now), Month::of(now));
        if day > self.day {
            self.day = day;
            self.bytes = 0;
            self.forget(Period::Day);
        }
        if month > self.month {
            self.month = month;
            self.forget(Period::Month);
        }
    }

    fn forget(&mut self, gone: Period) {
        self.spent.retain(|(_, period), _| *period != gone);
        self.told.retain(|(_, period, _)| *period != gone);
    }

    /// Adds a line, unless that was done.
    pub(super) fn add(&mut self, line: &LedgerLine) {
        if line.seq <= self.after {
            return;
        }
        self.after = line.seq;
        self.on(line.at);
        self.reserved.remove(&line.query);
        let share = Share::of(line);
        let is_of_today = day_of(line.at) == self.day;
        if is_of_today {
            let bytes = match share.free {
                0 => share.bytes_processed,
                _ => line.usage.bytes_read,
            };
            self.bytes = self.bytes.saturating_add(bytes);
        }
        let by = line.by.as_ref().map(ToString::to_string);
        let labels = line.labels.iter();
        let scopes = scopes(by, labels.map(|(name, value)| (name.clone(), value.clone())));
        for scope in scopes.into_iter().filter(|scope| self.wanted.contains(scope)) {
            for (period, is_in) in [
                (Period::Day, is_of_today),
                (Period::Month, Month::of(line.at) == self.month),
            ] {
                if is_in {
                    let sum = self.spent.entry((scope.clone(), period)).or_default();
                    *sum = [*sum, share.amount].into_iter().sum();
                }
            }
        }
    }

    pub(super) fn reserve(&mut self, query: &QueryId, wanted: Reserved) {
        self.reserved.insert(query.clone(), wanted);
    }

    pub(super) fn settled(&mut self, query: &QueryId, cost: Money, bytes: u64) {
        if let Some(reserved) = self.reserved.get_mut(query) {
            reserved.cost = cost;
            reserved.bytes = bytes;
        }
    }

    pub(super) fn release(&mut self, query: &QueryId) {
        self.reserved.remove(query);
    }

    /// Whether nobody was told yet that this budget is nearly spent. He is now.
    pub(super) fn is_to_be_told(&mut self, budget: &Budget) -> bool {
        self.told.insert((budget.scope.clone(), budget.period, budget.amount))
    }

    /// Refuses what would process more than is left of the day.
    pub(super) fn check_bytes(&self, bytes: u64, most: u64, now: Timestamp) -> Result<()> {
        let reserved = self.reserved.values().map(|reserved| reserved.bytes);
        let sum = reserved.fold(self.bytes, u64::saturating_add);
        if bytes == 0 || sum.saturating_add(bytes) <= most {
            return Ok(());
        }
        let midnight = self.day.succ_opt().unwrap_or(self.day).and_time(NaiveTime::MIN);
        let midnight = Timestamp::from_micros(midnight.and_utc().timestamp_micros());
        Err(Error::TooOften {
            what: format!(
                "the query would process {bytes} bytes, and of the {most} that the project may in a day only {} are left; \
                 nothing was read",
                most.saturating_sub(sum)
            ),
            retry_after: midnight.since(now),
        })
    }

    pub(super) fn spent(&self, budget: &Budget) -> Spent {
        let Budget { scope, period, .. } = budget;
        let settled = self.spent.get(&(scope.clone(), *period)).copied().unwrap_or_default();
        let reserved = self.reserved.values();
        let reserved = reserved.filter(|reserved| reserved.scopes.contains(scope));
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
