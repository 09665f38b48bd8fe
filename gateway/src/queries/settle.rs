//! The end of a query: commit, record, ledger line, in that order.
//!
//! # Invariants
//! - From the commit on nothing is stopped half-way. A gateway that dies in between leaves an intent in the query's record,
//!   from which upkeep finishes the query.
//! - A query is called failed only when it is certain that nobody will ever see what it wrote. When that cannot be known
//!   its record stays as it is, and upkeep ends it when the storage answers again.
//! - What a caller is told is what the record says, also when somebody else has ended it.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{error, info, warn};
use wasmhouse_compute::{Code, SqlError, causes};
use wasmhouse_storage::Error as StorageError;
use wasmhouse_storage::catalog::Effect;
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::ledger::SignedReceipt;
use wasmhouse_storage::money::{Cost, Free};
use wasmhouse_storage::queries::{End, QueryError, QueryRecord, QueryState, Settled, Usage, WriteIntent};
use wasmhouse_storage::tables::CommitNote;

use super::House;
use super::flight::Flight;
use super::landed::{Commit, Landed};
use super::live::Now;
use super::target::How;
use crate::billing::price::{Counts, why_free};
use crate::billing::receipt::Receipt;
use crate::error::{Error, Result};

/// How long to wait before an end is recorded again that the database did not take.
const END_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];

/// Commits what was written and ends the record with its ledger line, in that order.
pub(super) async fn settle(house: &House, flight: &Flight, landed: Result<Landed>) -> QueryRecord {
    let id = &flight.record.id;
    let ended = match landed {
        Ok(landed) => commit_and_end(house, flight, landed).await,
        Err(error) => Err(Unsettled::Failed(error)),
    };
    match ended {
        Ok(record) => record,
        Err(Unsettled::Failed(error)) => {
            log_cause(id, &error);
            end_without_answer(house, flight, &error).await
        }
        Err(Unsettled::Unknown(error)) => {
            log_cause(id, &error);
            unsettled(flight)
        }
    }
}

/// Why a query has no good end.
enum Unsettled {
    /// Nobody will ever see what it wrote.
    Failed(Error),
    /// What it wrote may be seen, now or later.
    Unknown(Error),
}

impl From<Error> for Unsettled {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn commit_and_end(house: &House, flight: &Flight, landed: Landed) -> Result<QueryRecord, Unsettled> {
    let Landed {
        usage,
        reads,
        profile,
        results,
        commit,
        effect,
        lenient,
    } = landed;
    let results = match &results {
        Some(manifest) => Some(serde_json::to_string(manifest).map_err(|error| Error::Internal(error.into()))?),
        None => None,
    };
    let is_shown = commit.as_ref().is_some_and(|commit| commit.target.is_shown());
    let cost = flight.terms.cost(Counts::from(&usage))?;
    let receipt = house.billing.receipt(&Receipt {
        tables: reads,
        ..Receipt::of(&flight.record, QueryState::Done, usage, &cost)
    })?;
    let effect = match commit {
        None => effect,
        Some(commit) => commit_files(house, flight, (usage, &cost, &receipt), commit).await?,
    };
    let end = End {
        state: QueryState::Done,
        usage,
        error: None,
        results,
        profile,
        effect,
        cost,
        receipt: Some(receipt),
    };
    match end_record(house, flight, &end).await {
        // The name was taken, or is gone, since we looked; that is what `if not exists` and `if exists` are for.
        Err(error) if lenient.excuses(&error) => {
            let end = End {
                effect: Effect::None,
                ..end
            };
            Ok(end_record(house, flight, &end).await?)
        }
        // The rows are in a table that everyone reads.
        Err(error) if is_shown => Err(Unsettled::Unknown(error)),
        ended => Ok(ended?),
    }
}

/// Makes the commit, and says what it shows.
async fn commit_files(
    house: &House,
    flight: &Flight,
    (usage, cost, receipt): (Usage, &Cost, &SignedReceipt),
    commit: Commit,
) -> Result<Effect, Unsettled> {
    let Commit { target, files, schema } = commit;
    let id = &flight.record.id;
    flight.live.tell(|now| now.phase = "committing");
    let since = house.tables.newest_version(&target.at).await.map_err(Error::from)?;
    let note = CommitNote {
        query: id.clone(),
        operation: operation(&target.how),
        at: house.clock.now(),
        since,
    };
    let intent = WriteIntent {
        location: target.at.clone(),
        since,
        effect: target.effect(0, &schema),
        usage,
        cost: Some(cost.clone()),
        receipt: Some(receipt.clone()),
    };
    house.records.intend(id, &intent).await.map_err(Error::from)?;
    match target.commit(&house.tables, files, &schema, &note).await {
        Ok(version) => Ok(target.effect(version, &schema)),
        // The storage may have taken the commit and lost its answer on the way.
        Err(error @ (Error::Unavailable(_) | Error::Internal(_))) => Err(Unsettled::Unknown(error)),
        Err(error) => Err(Unsettled::Failed(error)),
    }
}

/// What a table's history calls the commit.
fn operation(how: &How) -> &'static str {
    match how {
        How::Append(_) => "WRITE",
        How::Publish { .. } => "CREATE TABLE",
        How::Truncate(_) => "TRUNCATE",
    }
}

/// Ends a record that has no answer. It costs nothing.
async fn end_without_answer(house: &House, flight: &Flight, error: &Error) -> QueryRecord {
    let state = match error {
        Error::Sql(SqlError {
            code: Code::Cancelled, ..
        }) if flight.live.left.is_cancelled() => QueryState::Abandoned,
        Error::Sql(SqlError {
            code: Code::Cancelled, ..
        }) => QueryState::Cancelled,
        _ => QueryState::Failed,
    };
    let now = flight.live.now();
    let (usage, cost) = (
        now.unanswered(),
        flight.terms.free(why_free(state).unwrap_or(Free::Failed)),
    );
    let receipt = house.billing.receipt(&Receipt::of(&flight.record, state, usage, &cost));
    let end = End {
        state,
        usage,
        error: Some(error.for_record()),
        results: None,
        profile: now.report.and_then(|report| report.profile),
        effect: Effect::None,
        cost,
        receipt: receipt
            .inspect_err(|error| error!(query.id = %flight.record.id, "a receipt could not be signed: {error}"))
            .ok(),
    };
    match end_record(house, flight, &end).await {
        Ok(record) => record,
        Err(error) => {
            error!(query.id = %flight.record.id, "the end of a query could not be recorded: {error}");
            unsettled(flight)
        }
    }
}

/// Records the end, again if the database does not answer, and says what the record says then.
async fn end_record(house: &House, flight: &Flight, end: &End) -> Result<QueryRecord> {
    let id = &flight.record.id;
    let mut again_after = END_AGAIN_AFTER.iter();
    loop {
        let ended = match flight.is_recorded() {
            true => house.records.end(id, end.clone()).await,
            false => house.records.create_ended(&flight.record, end.clone()).await,
        };
        match ended {
            Ok(Settled::Ended(_)) => {
                return Ok(flight.record.clone().ended(end, house.clock.now()));
            }
            // An end whose answer was lost, or somebody else's: the record knows.
            Ok(Settled::Already(_)) => {
                let record = house.records.get(&flight.record.project, id).await?;
                return record.ok_or_else(|| Error::Internal("a query that has ended has no record".into()));
            }
            Err(StorageError::Unavailable(cause)) => match again_after.next() {
                Some(pause) => {
                    warn!(query.id = %id, "the end of a query is recorded again: {}", causes(cause.as_ref()));
                    tokio::time::sleep(*pause).await;
                }
                None => return Err(Error::Unavailable(cause)),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// What can be said of a query whose end could not be recorded. If it has a record, that stays live; nobody renews its lease
/// any more, so upkeep ends it.
fn unsettled(flight: &Flight) -> QueryRecord {
    let message = match flight.is_recorded() {
        true => {
            "storage did not answer at the end of the query; ask for it again in a minute to learn how it ended, before you \
             send it again"
        }
        false => "storage did not answer at the end of the query, so nothing was recorded; send it again",
    };
    let error = QueryError {
        code: "unavailable".to_owned(),
        message: message.to_owned(),
        line: None,
        column: None,
    };
    QueryRecord {
        state: QueryState::Committing,
        error: Some(error),
        ..flight.record.clone()
    }
}

fn log_cause(id: &QueryId, error: &Error) {
    if let Error::Internal(cause) | Error::Unavailable(cause) = error {
        let cause = causes(cause.as_ref());
        error!(query.id = %id, "a query failed for a reason that is ours: {cause}");
    }
}

pub(super) fn report(record: &QueryRecord, now: &Now) {
    let usage = &record.usage;
    let (billed, unbilled) = match record.state {
        QueryState::Done => (usage.cpu_ms, now.spent.cpu_ms),
        _ => (0, usage.cpu_ms),
    };
    counter!("wasmhouse_worker_cpu_milliseconds_total", "billed" => "yes").increment(billed);
    counter!("wasmhouse_worker_cpu_milliseconds_total", "billed" => "no").increment(unbilled);
    let wall_ms = record
        .ended_at
        .map_or(0, |ended| ended.since(record.created_at).as_millis() as u64);
    let state = record.state.as_str();
    counter!("wasmhouse_queries_total", "kind" => record.kind.clone(), "state" => state).increment(1);
    counter!("wasmhouse_bytes_processed_total").increment(usage.bytes_processed);
    histogram!("wasmhouse_query_seconds").record(wall_ms as f64 / 1000.0);
    info!(
        query.id = %record.id,
        query.kind = %record.kind,
        query.state = state,
        bytes_processed = usage.bytes_processed,
        duration_ms = wall_ms,
        "query {state}, {} bytes in {wall_ms} ms", usage.bytes_processed
    );
}
