//! A short read's record, its end and its ledger line in one message to SQLite's thread: each further one costs the query as
//! much again as all of its writing.

use sqlx::query;

use super::file::Turn;
use super::{hex, queries};
use crate::Result;
use crate::ledger::StoredLine;
use crate::queries::QueryRecord;

/// One transaction. The number of the line is NULL, which its table refuses, unless the ledger ended with the line before.
const STATEMENTS: &str = "begin immediate;
    insert into queries (
        id, project, statement, kind, labels, state, created_at, started_at, owner, lease_until,
        attempts, usage, fingerprint, ended_at, error, results, results_state, profile, cost,
        asker, asker_key, asker_address, asker_token
    ) values (
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $22, $23, $27, $28, $29, $30
    );
    update ledger_head set seq = $18, hash = $19 where project = $2 and seq = $18 - 1 and hash = $20;
    insert into ledger (project, seq, query, entry, prev_hash, hash, receipt, signature, signed_by) values (
        $2, (select seq from ledger_head where project = $2 and hash = $19), $1, $21, $20, $19, $24, $25, $26
    );
    commit";

/// Writes all of it or, with an error, nothing. Only for a record that has neither a request id nor labels.
pub(crate) async fn write(turn: &mut Turn, record: &QueryRecord, line: &StoredLine) -> Result<()> {
    let statements = query(STATEMENTS)
        .bind(record.id.to_string())
        .bind(record.project.as_str())
        .bind(record.sql.as_str())
        .bind(record.kind.as_str())
        .bind(queries::text(&record.labels)?)
        .bind(record.state.as_str())
        .bind(record.created_at.micros())
        .bind(record.started_at.map(|at| at.micros()))
        .bind(record.owner.as_str())
        .bind(record.lease_until.micros())
        .bind(i64::from(record.attempts))
        .bind(queries::text(&record.usage)?)
        .bind(record.fingerprint.as_str())
        .bind(record.ended_at.map(|at| at.micros()))
        .bind(record.error.as_ref().map(queries::text).transpose()?)
        .bind(record.results.as_deref())
        .bind(queries::results_state(record.results.as_deref()))
        .bind(line.seq)
        .bind(hex(&line.hash))
        .bind(hex(&line.prev_hash))
        .bind(line.entry.as_str())
        .bind(record.profile.as_deref())
        .bind(record.cost.as_ref().map(queries::text).transpose()?)
        .bind(line.receipt.as_ref().map(|receipt| receipt.text.as_str()))
        .bind(line.receipt.as_ref().map(|receipt| receipt.signature.as_str()))
        .bind(line.receipt.as_ref().map(|receipt| receipt.key.as_str()))
        .bind(queries::asker(record))
        .bind(queries::asker_key(record))
        .bind(queries::asker_address(record))
        .bind(queries::asker_token(record));
    Ok(turn.whole_transaction(statements).await?)
}
