//! The end of a query: commit, record, ledger line, in that order.
//!
//! From the commit on nothing is stopped half-way. A gateway that dies in between leaves an intent in the query's record,
//! from which upkeep finishes the query.

use metrics::{counter, histogram};
use tracing::{error, info};
use wasmhouse_compute::{Code, SqlError, causes};
use wasmhouse_storage::catalog::Effect;
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::queries::{End, QueryRecord, QueryState, Usage, WriteIntent};
use wasmhouse_storage::tables::CommitNote;

use super::House;
use super::flight::{Commit, Flight, Landed};
use super::target::How;
use crate::error::{Error, Result};

/// Commits what was written and ends the record with its ledger line, in that order.
pub(super) async fn settle(house: &House, flight: &Flight, landed: Result<Landed>) -> QueryRecord {
    let id = &flight.record.id;
    let ended = match landed {
        Ok(landed) => commit_and_end(house, flight, landed).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(record) => record,
        Err(error) => {
            log_cause(id, &error);
            end_without_answer(house, flight, &error).await
        }
    }
}

async fn commit_and_end(house: &House, flight: &Flight, landed: Landed) -> Result<QueryRecord> {
    let id = &flight.record.id;
    let Landed { usage, results, commit } = landed;
    let effect = match commit {
        None => Effect::None,
        Some(Commit { target, files, schema }) => {
            flight.live.tell(|now| now.phase = "committing");
            let note = CommitNote {
                query: id.clone(),
                operation: operation(&target.how),
                at: house.clock.now(),
            };
            let intent = WriteIntent {
                location: target.at.clone(),
                effect: target.effect(0, &schema),
                usage,
            };
            house.records.intend(id, &intent).await?;
            let version = target.commit(&house.tables, files, &schema, &note).await?;
            target.effect(version, &schema)
        }
    };
    let results = match &results {
        Some(manifest) => Some(serde_json::to_string(manifest).map_err(|error| Error::Internal(error.into()))?),
        None => None,
    };
    let end = End {
        state: QueryState::Done,
        usage,
        error: None,
        results,
        effect,
        billed: true,
    };
    house.records.end(id, end.clone()).await?;
    Ok(ended_record(house, flight, end))
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
    let end = End {
        state,
        usage: Usage::default(),
        error: Some(error.for_record()),
        results: None,
        effect: Effect::None,
        billed: false,
    };
    if let Err(error) = house.records.end(&flight.record.id, end.clone()).await {
        // The record stays live; its lease lapses and upkeep ends it.
        error!(query.id = %flight.record.id, "the end of a query could not be recorded: {error}");
    }
    ended_record(house, flight, end)
}

fn ended_record(house: &House, flight: &Flight, end: End) -> QueryRecord {
    QueryRecord {
        state: end.state,
        ended_at: Some(house.clock.now()),
        usage: end.usage,
        error: end.error,
        results: end.results,
        ..flight.record.clone()
    }
}

fn log_cause(id: &QueryId, error: &Error) {
    if let Error::Internal(cause) | Error::Unavailable(cause) = error {
        let cause = causes(cause.as_ref());
        error!(query.id = %id, "a query failed for a reason that is ours: {cause}");
    }
}

pub(super) fn report(record: &QueryRecord) {
    let usage = &record.usage;
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
