//! What was used, line by line.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::ledger::{Ledger, LedgerLine};

use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::usage::UsageBody;
use crate::access::Caller;
use crate::error::Error;

/// Which lines to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListLedger {
    /// Only lines after this one.
    after: i64,
    /// At most so many, up to 1000.
    limit: Option<u32>,
}

/// A page of the ledger, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerPage {
    lines: Vec<LedgerItem>,
}

/// What one query used. `hash` is blake3 of `prev_hash` and `entry`.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerItem {
    /// From 1, without gaps.
    seq: i64,
    query_id: String,
    kind: String,
    at: String,
    labels: BTreeMap<String, String>,
    usage: UsageBody,
    /// The line as it was hashed.
    entry: String,
    prev_hash: String,
    hash: String,
}

/// Read the project's ledger.
#[utoipa::path(
    get, path = "/v1/ledger", tag = "money", params(ListLedger),
    responses((status = 200, body = LedgerPage), (status = 400, body = ErrorBody))
)]
pub(super) async fn list_ledger(
    State(ledger): State<Ledger>,
    caller: Caller,
    Query(wanted): Query<ListLedger>,
) -> Result<Json<LedgerPage>, ApiError> {
    let limit = wanted.limit.unwrap_or(100).clamp(1, 1000);
    let lines = ledger
        .lines(&caller.project, wanted.after, limit)
        .await
        .map_err(Error::from)?;
    Ok(Json(LedgerPage {
        lines: lines.into_iter().map(item).collect(),
    }))
}

fn item(line: LedgerLine) -> LedgerItem {
    LedgerItem {
        seq: line.seq,
        query_id: line.query.to_string(),
        kind: line.kind,
        at: line.at.to_rfc3339(),
        labels: line.labels,
        usage: line.usage.into(),
        entry: line.entry,
        prev_hash: hex(line.prev_hash),
        hash: hex(line.hash),
    }
}

fn hex(bytes: [u8; 32]) -> String {
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}
