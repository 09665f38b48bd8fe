//! One query, as far as it has come, in JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::queries::{QueryError, QueryRecord, QueryState};

use crate::http::error::ApiError;
use crate::http::exports::{self, ExportedFile};
use crate::http::money::CostBody;
use crate::http::people::ActorBody;
use crate::http::results::{self, Column};
use crate::http::usage::UsageBody;
use crate::queries::{Now, Queries};

/// Characters of a statement that a list shows, at most.
const LISTED_SQL: usize = 2_000;

/// One query, as far as it has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueryBody {
    id: String,
    /// `pending`, `running`, `committing`, `done`, `failed`, `cancelled`, `abandoned` or `lost`.
    state: String,
    kind: String,
    /// The statement. A list shows its first 2,000 characters; `GET /v1/queries/{id}` has all of it.
    sql: String,
    labels: BTreeMap<String, String>,
    /// Who asked, with which key, from where.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_by: Option<ActorBody>,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressBody>,
    /// The columns, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Vec<Column>>,
    /// How many rows it has, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    usage: UsageBody,
    /// What it costs, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<QueryErrorBody>,
    /// What an export wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<ExportedFile>>,
    /// Until when the results can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    results_expire_at: Option<String>,
}

/// How far a running query has come.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressBody {
    /// `queued`, `planning`, `starting` (further workers), `running` or `committing`.
    phase: String,
    /// The workers that it has: its first, and those that share its plan.
    workers: u64,
    rows: u64,
    bytes_read: u64,
    elapsed_ms: u64,
    /// The stages of its plan, once it runs: parts that several workers can share.
    stages: u64,
    /// The tasks of all stages, and how many are done.
    tasks: u64,
    tasks_done: u64,
    /// Rows that came out of tasks so far, on all workers.
    task_rows: u64,
    /// What it will be billed for, once it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_processed: Option<u64>,
}

/// Why a query has no answer.
#[derive(Debug, Serialize, ToSchema)]
struct QueryErrorBody {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

impl QueryBody {
    /// The same in a list, which a few long statements must not fill.
    pub(super) fn listed(mut self) -> Self {
        if let Some((end, _)) = self.sql.char_indices().nth(LISTED_SQL) {
            self.sql.truncate(end);
        }
        self
    }
}

impl From<QueryError> for QueryErrorBody {
    fn from(error: QueryError) -> Self {
        let QueryError {
            code,
            message,
            line,
            column,
        } = error;
        Self {
            code,
            message,
            line,
            column,
        }
    }
}

/// What a record says, and while it runs here, how far it has come.
pub(super) async fn body_of(queries: &Queries, record: &QueryRecord, now: Option<Now>) -> Result<QueryBody, ApiError> {
    let running = !record.state.is_final();
    let results = match &record.results {
        Some(_) if record.error.is_none() && !record.results_expired => Some(queries.results(record)?),
        _ => None,
    };
    let files = match &results {
        Some((reader, _)) if record.kind == "export" => Some(exports::files(reader).await?),
        _ => None,
    };
    let expiry = record
        .ended_at
        .filter(|_| results.is_some())
        .map(|ended| ended.plus(queries.results_kept()).to_rfc3339());
    // The record may be from before the query left the queue, or from before it was known that it would have to wait.
    let state = match (&now, record.state) {
        (Some(now), QueryState::Pending | QueryState::Running) => match now.phase {
            "queued" => QueryState::Pending,
            _ => QueryState::Running,
        },
        _ => record.state,
    };
    Ok(QueryBody {
        id: record.id.to_string(),
        state: state.as_str().to_owned(),
        kind: record.kind.clone(),
        sql: record.sql.clone(),
        labels: record.labels.clone(),
        asked_by: record.asked_by.as_ref().map(ActorBody::from),
        created_at: record.created_at.to_rfc3339(),
        started_at: record.started_at.map(Timestamp::to_rfc3339),
        ended_at: record.ended_at.map(Timestamp::to_rfc3339),
        progress: now.filter(|_| running).map(|now| progress(&now, queries, record)),
        schema: results
            .as_ref()
            .map(|(reader, _)| results::schema_json(&reader.schema())),
        rows: results.as_ref().map(|(_, manifest)| manifest.rows),
        usage: record.usage.into(),
        cost: record.cost.as_ref().map(CostBody::from),
        error: record.error.clone().map(QueryErrorBody::from),
        files,
        results_expire_at: expiry,
    })
}

fn progress(now: &Now, queries: &Queries, record: &QueryRecord) -> ProgressBody {
    ProgressBody {
        phase: now.phase.to_owned(),
        workers: now.workers as u64,
        rows: now.progress.rows,
        bytes_read: now.progress.bytes_read + now.crew.reads.bytes,
        stages: now.progress.stages,
        tasks: now.progress.tasks,
        tasks_done: now.progress.tasks_done + now.crew.tasks_done,
        task_rows: now.progress.task_rows + now.crew.rows,
        elapsed_ms: queries.age(record).as_millis() as u64,
        bytes_processed: now.planned.as_ref().map(|planned| planned.bytes_processed),
    }
}
