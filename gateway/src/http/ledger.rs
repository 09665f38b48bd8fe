//! What was used, line by line.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::ledger::{Ledger, LedgerLine, SignedReceipt};

use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::money::CostBody;
use super::usage::UsageBody;
use crate::access::{Act, Caller};
use crate::billing::{Billing, export};
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

/// What one query used and costs. `hash` is blake3 of `prev_hash` and `entry`.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerItem {
    /// From 1, without gaps.
    seq: i64,
    query_id: String,
    kind: String,
    at: String,
    labels: BTreeMap<String, String>,
    usage: UsageBody,
    /// How it ended: `done`, `failed`, `cancelled`, `abandoned` or `lost`.
    state: &'static str,
    /// Who asked: a user, a service account, or `(project)` for a key of the project itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_by: Option<String>,
    /// What it costs. Lines from before prices were kept have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostBody>,
    /// The line as it was hashed.
    entry: String,
    prev_hash: String,
    hash: String,
    /// What the gateway signed about the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptBody>,
}

/// A receipt: what a gateway says about a query, signed. The line of the query has its hash.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptBody {
    /// JSON, of which every byte is signed.
    text: String,
    /// Ed25519, in hexadecimal.
    signature: String,
    /// Which key; see `GET /v1/signing-keys`.
    key: String,
}

impl From<SignedReceipt> for ReceiptBody {
    fn from(receipt: SignedReceipt) -> Self {
        let SignedReceipt { text, signature, key } = receipt;
        Self { text, signature, key }
    }
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
    caller.may(Act::ReadBills)?;
    let limit = wanted.limit.unwrap_or(100).clamp(1, 1000);
    let lines = ledger
        .lines(&caller.project, wanted.after, limit)
        .await
        .map_err(Error::from)?;
    Ok(Json(LedgerPage {
        lines: lines.into_iter().map(item).collect(),
    }))
}

/// Which lines to export.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportLedger {
    /// Only lines after this one.
    after: i64,
}

/// Read the project's ledger as a file that `wasmhouse verify-bill` checks.
///
/// JSON lines: `{"$ledger": …}`, one `{"line": …}` for each line up to the one that is the last now, and `{"$end": …}`, which is
/// signed. An answer without the last is not complete.
#[utoipa::path(
    get, path = "/v1/ledger/export", tag = "money", params(ExportLedger),
    responses(
        (status = 200, description = "The file", content_type = "application/x-ndjson", body = String),
        (status = 400, body = ErrorBody),
    )
)]
pub(super) async fn export_ledger(
    State(ledger): State<Ledger>,
    State(billing): State<Billing>,
    caller: Caller,
    Query(wanted): Query<ExportLedger>,
) -> Result<Response, ApiError> {
    if wanted.after < 0 {
        return Err(Error::InvalidRequest("`after` is the number of a line, from 0".to_owned()).into());
    }
    caller.may(Act::ReadBills)?;
    let lines = export::lines(ledger, &billing, caller.project, wanted.after).await?;
    let lines = lines.inspect_err(|error| tracing::error!("a ledger could not be exported: {error:?}"));
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn item(line: LedgerLine) -> LedgerItem {
    LedgerItem {
        seq: line.seq,
        query_id: line.query.to_string(),
        kind: line.kind,
        at: line.at.to_rfc3339(),
        labels: line.labels,
        usage: line.usage.into(),
        state: line.outcome.as_str(),
        asked_by: line.by.as_ref().map(ToString::to_string),
        cost: line.cost.as_ref().map(CostBody::from),
        entry: line.entry,
        prev_hash: hex::encode(line.prev_hash),
        hash: hex::encode(line.hash),
        receipt: line.receipt.map(ReceiptBody::from),
    }
}
