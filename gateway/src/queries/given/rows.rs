//! What the gateway knows, as rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use wasmhouse_compute::given::Given;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ledger::LedgerLine;
use wasmhouse_storage::money::Money;
use wasmhouse_storage::people::Granted;
use wasmhouse_storage::queries::QueryRecord;

use crate::billing::invoice::{Share, day_of};
use crate::billing::price::reason;
use crate::error::{Error, Result};

/// Characters of a statement that are shown.
const SQL_CHARS: usize = 500;

/// An amount of money has 18 decimals, all of which are shown.
const DECIMALS: (u8, i8) = (38, 18);

pub(super) fn of_grants(table: &str, all: &[Granted]) -> Result<Given> {
    batch(
        table,
        [
            ("principal", texts(all, |granted| Some(granted.principal.to_string()))),
            ("role", texts(all, |granted| Some(granted.grant.role.to_string()))),
            (
                "dataset",
                texts(all, |granted| granted.grant.dataset.as_ref().map(ToString::to_string)),
            ),
            ("granted_at", instants(all, |granted| Some(granted.at))),
            ("granted_by", texts(all, |granted| Some(granted.by.clone()))),
        ],
    )
}

pub(super) fn of_queries(table: &str, all: &[QueryRecord]) -> Result<Given> {
    let amount = |record: &QueryRecord| record.cost.as_ref().map(|cost| cost.amount);
    batch(
        table,
        [
            ("query_id", texts(all, |record| Some(record.id.to_string()))),
            (
                "asked_by",
                texts(all, |record| {
                    record.asked_by.as_ref().map(|actor| actor.who.to_string())
                }),
            ),
            ("kind", texts(all, |record| Some(record.kind.clone()))),
            ("state", texts(all, |record| Some(record.state.to_string()))),
            (
                "sql",
                texts(all, |record| Some(record.sql.chars().take(SQL_CHARS).collect())),
            ),
            ("labels", texts(all, |record| Some(labels(&record.labels)))),
            ("created_at", instants(all, |record| Some(record.created_at))),
            ("started_at", instants(all, |record| record.started_at)),
            ("ended_at", instants(all, |record| record.ended_at)),
            ("bytes_processed", numbers(all, |record| record.usage.bytes_processed)),
            ("rows_returned", numbers(all, |record| record.usage.rows_returned)),
            ("rows_written", numbers(all, |record| record.usage.rows_written)),
            ("cpu_ms", numbers(all, |record| record.usage.cpu_ms)),
            ("cost", money(all, amount)?),
            (
                "currency",
                texts(all, |record| record.cost.as_ref().map(|cost| cost.currency.clone())),
            ),
            (
                "error_code",
                texts(all, |record| record.error.as_ref().map(|error| error.code.clone())),
            ),
        ],
    )
}

pub(super) fn of_lines(table: &str, all: &[LedgerLine]) -> Result<Given> {
    let cost = |line: &LedgerLine| line.cost.as_ref().map(|cost| cost.amount);
    let free = |line: &LedgerLine| Some(reason(line.cost.as_ref()?.free?).to_owned());
    batch(
        table,
        [
            ("seq", numbers(all, |line| line.seq.unsigned_abs())),
            ("query_id", texts(all, |line| Some(line.query.to_string()))),
            ("at", instants(all, |line| Some(line.at))),
            ("asked_by", texts(all, |line| line.by.as_ref().map(ToString::to_string))),
            ("kind", texts(all, |line| Some(line.kind.clone()))),
            ("state", texts(all, |line| Some(line.outcome.to_string()))),
            ("labels", texts(all, |line| Some(labels(&line.labels)))),
            ("bytes_processed", numbers(all, |line| line.usage.bytes_processed)),
            ("bytes_loaded", numbers(all, |line| line.usage.bytes_loaded)),
            ("cost", money(all, cost)?),
            (
                "currency",
                texts(all, |line| line.cost.as_ref().map(|cost| cost.currency.clone())),
            ),
            (
                "price_list",
                texts(all, |line| line.cost.as_ref().map(|cost| cost.prices.clone())),
            ),
            ("free", texts(all, free)),
        ],
    )
}

/// Lines of the ledger added up by day, asker, kind and currency.
#[derive(Default)]
pub(super) struct Sums(BTreeMap<(String, String, String, String), Share>);

impl Sums {
    pub(super) fn add(&mut self, line: &LedgerLine) {
        let day = day_of(line.at).to_string();
        let asker = line.by.as_ref().map(ToString::to_string).unwrap_or_default();
        let currency = line.cost.as_ref().map(|cost| cost.currency.clone()).unwrap_or_default();
        let sum = self.0.entry((day, asker, line.kind.clone(), currency)).or_default();
        sum.add(Share::of(line));
    }

    /// The first day, of which lines are missing, is no sum of a day.
    pub(super) fn leave_out_first_day(&mut self) {
        let first = self.0.keys().next().map(|(day, ..)| day.clone());
        self.0.retain(|(day, ..), _| Some(day) != first.as_ref());
    }

    pub(super) fn rows(self, table: &str) -> Result<Given> {
        let all: Vec<_> = self.0.into_iter().collect();
        batch(
            table,
            [
                ("day", texts(&all, |((day, ..), _)| Some(day.clone()))),
                ("asked_by", texts(&all, |((_, asker, ..), _)| Some(asker.clone()))),
                ("kind", texts(&all, |((_, _, kind, _), _)| Some(kind.clone()))),
                ("queries", numbers(&all, |(_, share)| share.queries)),
                ("free_queries", numbers(&all, |(_, share)| share.free)),
                ("bytes_processed", numbers(&all, |(_, share)| share.bytes_processed)),
                ("cost", money(&all, |(_, share)| Some(share.amount))?),
                ("currency", texts(&all, |((.., currency), _)| Some(currency.clone()))),
            ],
        )
    }
}

fn texts<T>(all: &[T], text: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(all.iter().map(text).collect::<StringArray>())
}

fn instants<T>(all: &[T], at: impl Fn(&T) -> Option<Timestamp>) -> ArrayRef {
    let micros = all.iter().map(|one| at(one).map(Timestamp::micros));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn numbers<T>(all: &[T], number: impl Fn(&T) -> u64) -> ArrayRef {
    let numbers = all.iter().map(|one| i64::try_from(number(one)).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(numbers))
}

fn money<T>(all: &[T], amount: impl Fn(&T) -> Option<Money>) -> Result<ArrayRef> {
    let (precision, scale) = DECIMALS;
    let attos = all.iter().map(|one| i128::try_from(amount(one)?.attos()).ok());
    let amounts = attos
        .collect::<Decimal128Array>()
        .with_precision_and_scale(precision, scale);
    Ok(Arc::new(amounts.map_err(|error| Error::Internal(error.into()))?))
}

/// Labels as JSON, of which `json_get` reads one.
fn labels(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("texts are JSON")
}

fn batch<const N: usize>(table: &str, columns: [(&str, ArrayRef); N]) -> Result<Given> {
    let columns = columns.map(|(column, values)| (column, values, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| Error::Internal(error.into()))?;
    Ok(Given::new(table, &rows)?)
}
