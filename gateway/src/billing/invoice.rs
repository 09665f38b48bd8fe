//! What a project has to pay for a month: its ledger, added up. Nothing of it is stored: the same lines give the same invoice for
//! ever, and a month that is over gets no more lines.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use serde::Deserialize;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::ledger::{Ledger, LedgerLine, MAX_PAGE};
use wasmhouse_storage::money::{Item, Money, What};

use super::receipt::ReadTable;
use crate::error::{Error, Result};

/// Decimals of what is to be paid: a millionth of the currency is as small as it gets.
const DECIMALS: u32 = 6;

/// A month of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month(NaiveDate);

impl Month {
    /// `2026-11`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let first = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok();
        first
            .map(Self)
            .filter(|month| month.to_string() == text)
            .ok_or_else(|| Error::InvalidRequest(format!("{text:?} is not a month; write it as 2026-11")))
    }

    /// The month that an instant is in.
    pub(crate) fn of(at: Timestamp) -> Self {
        let day = day_of(at);
        Self(day.with_day(1).unwrap_or(day))
    }

    /// The one after it.
    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX))
    }

    fn begins_before(self, at: Timestamp) -> bool {
        self.0 <= day_of(at)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

/// The day of UTC that an instant is on.
pub(crate) fn day_of(at: Timestamp) -> NaiveDate {
    let at: DateTime<Utc> = DateTime::from_timestamp_micros(at.micros()).unwrap_or_default();
    at.date_naive()
}

/// What a project has to pay for a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invoice {
    pub(crate) project: ProjectId,
    pub(crate) month: Month,
    /// Empty if nothing was ever priced.
    pub(crate) currency: String,
    /// The lines of the ledger that it is made of, from the first to the last. None in a month without any.
    pub(crate) lines: Option<(i64, i64)>,
    /// All of them together, to the last digit.
    pub(crate) total: Share,
    /// The same, rounded down once.
    pub(crate) to_pay: Money,
    /// The parts of each sum are all of it.
    pub(crate) by_day: BTreeMap<String, Share>,
    /// By who asked. Lines from before that was kept are under the empty name.
    pub(crate) by_user: BTreeMap<String, Share>,
    pub(crate) by_kind: BTreeMap<String, Share>,
    /// By the values of each label; what does not have the label is not among them.
    pub(crate) by_label: BTreeMap<String, BTreeMap<String, Share>>,
    /// What was read of each dataset. What is not paid for bytes that are read is under no name.
    pub(crate) by_dataset: BTreeMap<String, Share>,
}

/// A part of what is to be paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Queries that are paid for.
    pub(crate) queries: u64,
    /// Queries that are free.
    pub(crate) free: u64,
    pub(crate) bytes_processed: u64,
    pub(crate) amount: Money,
}

impl Share {
    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.queries += other.queries;
        self.free += other.free;
        self.bytes_processed = self.bytes_processed.saturating_add(other.bytes_processed);
        self.amount = [self.amount, other.amount].into_iter().sum();
    }

    /// What one line is.
    pub(crate) fn of(line: &LedgerLine) -> Self {
        let is_free = line.cost.as_ref().is_none_or(|cost| cost.free.is_some());
        Self {
            queries: u64::from(!is_free),
            free: u64::from(is_free),
            bytes_processed: if is_free { 0 } else { line.usage.bytes_processed },
            amount: line.cost.as_ref().map(|cost| cost.amount).unwrap_or_default(),
        }
    }
}

/// Adds up lines of a month, all of them and no others.
pub(crate) fn invoice(project: ProjectId, month: Month, lines: &[LedgerLine]) -> Invoice {
    let mut invoice = Invoice {
        project,
        month,
        currency: String::new(),
        lines: lines
            .first()
            .zip(lines.last())
            .map(|(first, last)| (first.seq, last.seq)),
        total: Share::default(),
        to_pay: Money::ZERO,
        by_day: BTreeMap::new(),
        by_user: BTreeMap::new(),
        by_kind: BTreeMap::new(),
        by_label: BTreeMap::new(),
        by_dataset: BTreeMap::new(),
    };
    for line in lines {
        let share = Share::of(line);
        invoice.total.add(share);
        let day = day_of(line.at).to_string();
        invoice.by_day.entry(day).or_default().add(share);
        let user = line.by.as_ref().map(ToString::to_string);
        invoice.by_user.entry(user.unwrap_or_default()).or_default().add(share);
        invoice.by_kind.entry(line.kind.clone()).or_default().add(share);
        for (label, value) in &line.labels {
            let values = invoice.by_label.entry(label.clone()).or_default();
            values.entry(value.clone()).or_default().add(share);
        }
        for (dataset, share) in datasets(line, share) {
            invoice.by_dataset.entry(dataset).or_default().add(share);
        }
        if let Some(cost) = &line.cost {
            invoice.currency.clone_from(&cost.currency);
        }
    }
    invoice.to_pay = invoice.total.amount.rounded_down(DECIMALS);
    invoice
}

/// What a line costs by the datasets that its query has read. A query is counted under the one of which it read most.
fn datasets(line: &LedgerLine, share: Share) -> BTreeMap<String, Share> {
    /// What is wanted of a receipt.
    #[derive(Deserialize)]
    struct Tables {
        tables: Vec<ReadTable>,
    }

    let receipt = line.receipt.as_ref();
    let tables = receipt.and_then(|receipt| serde_json::from_str::<Tables>(&receipt.text).ok());
    let items = line.cost.iter().flat_map(|cost| &cost.items);
    let read = items.filter(|item| item.what == What::BytesProcessed && item.count > 0);
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for Item { count, amount, .. } in read {
        // A byte costs a whole number of attos.
        let per_byte = Money::of_attos(amount.attos() / u128::from(*count));
        for table in tables.iter().flat_map(|tables| &tables.tables) {
            let dataset = table.name.split('.').next().unwrap_or_default();
            shares.entry(dataset.to_owned()).or_default().add(Share {
                bytes_processed: table.bytes,
                amount: per_byte.times(table.bytes).unwrap_or_default(),
                ..Share::default()
            });
        }
    }
    let named: Money = shares.values().map(|share| share.amount).sum();
    let bytes: u64 = shares.values().map(|share| share.bytes_processed).sum();
    let rest = Share {
        bytes_processed: share.bytes_processed.saturating_sub(bytes),
        amount: share.amount.less(named),
        ..Share::default()
    };
    let most = shares
        .iter()
        .max_by_key(|(_, share)| share.bytes_processed)
        .map(|(name, _)| name.clone());
    if rest != Share::default() || most.is_none() {
        shares.entry(String::new()).or_default().add(rest);
    }
    shares.entry(most.unwrap_or_default()).or_default().add(Share {
        queries: share.queries,
        free: share.free,
        ..Share::default()
    });
    shares
}

/// The lines of a month. Lines are in the order of their instants, so the first is found by halving.
pub(crate) async fn lines_of(ledger: &Ledger, project: &ProjectId, month: Month) -> Result<Vec<LedgerLine>> {
    let last = ledger.head(project).await?.seq;
    let mut after = before(ledger, project, month, last).await?;
    let mut lines = Vec::new();
    loop {
        let page = ledger.lines(project, after, MAX_PAGE).await?;
        let Some(seq) = page.last().map(|line| line.seq) else {
            return Ok(lines);
        };
        after = seq;
        for line in page {
            if month.next().begins_before(line.at) {
                return Ok(lines);
            }
            lines.push(line);
        }
    }
}

/// The number of the last line before a month.
pub(crate) async fn before(ledger: &Ledger, project: &ProjectId, month: Month, last: i64) -> Result<i64> {
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = low + (high - low) / 2;
        let line = ledger.lines(project, middle, 1).await?;
        match line.first() {
            Some(line) if !month.begins_before(line.at) => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The months in which a project has lines, the newest first.
pub(crate) async fn months(ledger: &Ledger, project: &ProjectId) -> Result<Vec<Month>> {
    let last = ledger.head(project).await?.seq;
    let mut months = Vec::new();
    let mut after = 0;
    while after < last {
        let line = ledger.lines(project, after, 1).await?;
        let Some(line) = line.first() else { break };
        let month = Month::of(line.at);
        months.push(month);
        after = before(ledger, project, month.next(), last).await?;
    }
    months.reverse();
    Ok(months)
}

#[cfg(test)]
mod tests {
    use wasmhouse_storage::clock::Clock;
    use wasmhouse_storage::ids::QueryId;
    use wasmhouse_storage::ledger::SignedReceipt;
    use wasmhouse_storage::money::{Cost, Free};
    use wasmhouse_storage::queries::{QueryState, Usage};

    use wasmhouse_storage::audit::Who;

    use super::*;

    /// A line of the 28th of November 2026, of a query that read so many bytes of each of these tables at 5 for 10^12.
    fn line(seq: i64, tables: &[(&str, u64)], free: Option<Free>, minimum: &str) -> LedgerLine {
        let at = Timestamp::from_micros(1_795_824_000_000_000);
        let bytes: u64 = tables.iter().map(|(_, bytes)| bytes).sum();
        let minimum: Money = minimum.parse().expect("money");
        let read = Money::of_attos(u128::from(bytes) * 5_000_000);
        let mut items = vec![
            Item {
                what: What::BytesProcessed,
                count: bytes,
                amount: read,
            },
            Item {
                what: What::Minimum,
                count: 1,
                amount: minimum,
            },
        ];
        items.retain(|item| item.amount > Money::ZERO && free.is_none());
        let tables: Vec<ReadTable> = tables
            .iter()
            .map(|(name, bytes)| ReadTable {
                name: (*name).to_owned(),
                version: 3,
                columns: Vec::new(),
                files: 1,
                files_hash: String::new(),
                bytes: *bytes,
            })
            .collect();
        LedgerLine {
            project: "acme".parse().expect("a name"),
            seq,
            query: QueryId::new(Clock::System.now()),
            at,
            kind: "select".to_owned(),
            outcome: QueryState::Done,
            labels: BTreeMap::from([("team".to_owned(), format!("t{}", seq % 2))]),
            usage: Usage {
                bytes_processed: bytes,
                ..Usage::default()
            },
            cost: Some(Cost {
                amount: items.iter().map(|item| item.amount).sum(),
                currency: "USD".to_owned(),
                prices: "1".to_owned(),
                items,
                free,
            }),
            receipt_hash: None,
            by: Some(Who::Principal(
                if seq % 2 == 0 { "ada" } else { "bob" }.parse().expect("a name"),
            )),
            entry: String::new(),
            prev_hash: [0; 32],
            hash: [0; 32],
            receipt: Some(SignedReceipt {
                text: serde_json::json!({ "project": "acme", "tables": tables }).to_string(),
                signature: String::new(),
                key: String::new(),
            }),
        }
    }

    #[test]
    fn every_way_to_add_up_a_month_has_the_same_sum_and_it_is_rounded_once() {
        let lines = [
            line(7, &[("shop.sales", 1_000_001), ("web.log", 3)], None, "0"),
            line(8, &[("shop.sales", 7)], None, "0.0001"),
            line(9, &[], None, "0.0001"),
            line(10, &[("web.log", 5_000_000)], Some(Free::Failed), "0"),
        ];
        let month = Month::read("2026-11").expect("a month");
        let invoice = invoice("acme".parse().expect("a name"), month, &lines);

        assert_eq!(invoice.lines, Some((7, 10)));
        assert_eq!((invoice.total.queries, invoice.total.free), (3, 1));
        assert_eq!(invoice.total.amount.to_string(), "0.000205000055");
        assert_eq!(invoice.to_pay.to_string(), "0.000205");
        let whole = |shares: &BTreeMap<String, Share>| {
            let mut all = Share::default();
            shares.values().for_each(|share| all.add(*share));
            all
        };
        for shares in [
            &invoice.by_day,
            &invoice.by_user,
            &invoice.by_kind,
            &invoice.by_dataset,
            &invoice.by_label["team"],
        ] {
            assert_eq!(whole(shares), invoice.total, "{shares:?}");
        }
        let of = |name: &str| invoice.by_dataset[name].amount.to_string();
        assert_eq!(
            (of("shop"), of("web"), of("")),
            (
                "0.00000500004".to_owned(),
                "0.000000000015".to_owned(),
                "0.0002".to_owned()
            )
        );
        assert_eq!(invoice.by_day.keys().collect::<Vec<_>>(), ["2026-11-28"]);
        assert_eq!(invoice.by_user.keys().collect::<Vec<_>>(), ["ada", "bob"]);
    }

    #[test]
    fn a_month_is_written_in_one_way() {
        assert_eq!(Month::read("2026-12").expect("a month").next().to_string(), "2027-01");
        for text in ["2026-13", "2026-1", "26-11", "2026-11-01", "november", ""] {
            assert!(Month::read(text).is_err(), "{text}");
        }
    }
}
