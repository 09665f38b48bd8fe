//! The audit log of a project.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::audit::AuditLine;

use super::ActorBody;
use crate::access::Caller;
use crate::error::Error;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Query;
use crate::people::People;

/// Lines of a page that did not say how many.
const LIST_LINES: u32 = 100;

/// Which lines to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListAudit {
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, up to 1000.
    limit: Option<u32>,
}

/// What was done, or was not let.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditItem {
    id: String,
    at: String,
    by: ActorBody,
    /// What, in a word: `create_key`, `grant`, `drop_dataset`, `request`, …
    act: String,
    /// To what.
    object: String,
    /// Whether it was let.
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_id: Option<String>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    lines: Vec<AuditItem>,
    /// Send it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Read the project's audit log, newest first.
///
/// It has what was changed and what was not let. What was read and written by statements, by whom and from where, is in
/// `GET /v1/queries`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "people", params(ListAudit),
    responses((status = 200, body = AuditPage), (status = 403, body = ErrorBody))
)]
pub(in super::super) async fn list_audit(
    State(people): State<People>,
    caller: Caller,
    Query(wanted): Query<ListAudit>,
) -> Result<Json<AuditPage>, ApiError> {
    let limit = wanted.limit.unwrap_or(LIST_LINES).clamp(1, 1000);
    let before = wanted
        .cursor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(Error::from)?;
    let lines = people.audit(&caller, before.as_ref(), limit).await?;
    let next_cursor = lines
        .last()
        .filter(|_| lines.len() as u64 == u64::from(limit))
        .map(|line| line.id.to_string());
    Ok(Json(AuditPage {
        lines: lines.into_iter().map(item).collect(),
        next_cursor,
    }))
}

fn item(line: AuditLine) -> AuditItem {
    let AuditLine { id, at, deed } = line;
    AuditItem {
        id: id.to_string(),
        at: at.to_rfc3339(),
        by: ActorBody::from(&deed.by),
        act: deed.act,
        object: deed.object,
        allowed: deed.is_allowed,
        query_id: deed.query.map(|id| id.to_string()),
    }
}
