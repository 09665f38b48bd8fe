//! How the plan of a query ran, as its resource tells it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use wasmhouse_compute::profile::{Operator, Profile, Stage, TaskShare, Totals};

use super::query_id;
use crate::access::Caller;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Path;
use crate::queries::Queries;

/// How a query ran: the stages of its plan, and their operators.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ProfileBody {
    /// The first is the head's, whose rows are the query's; the others are those that stages read.
    stages: Vec<StageBody>,
    /// Operators that are not shown, because the plan has too many.
    left_out: usize,
    /// Whether every task has said what it counted. If not, the numbers are those of the head alone.
    is_complete: bool,
}

/// A part of the plan that ran in as many tasks, each over a share of the rows.
#[derive(Debug, Serialize, ToSchema)]
struct StageBody {
    /// 0 is the head's.
    stage: usize,
    tasks: usize,
    /// The operator whose rows leave the stage, and after each operator those that it reads.
    operators: Vec<OperatorBody>,
}

/// What one operator did, in all tasks of its stage together.
#[derive(Debug, Serialize, ToSchema)]
struct OperatorBody {
    /// The place in the list of the operator that reads its rows. The first has none.
    parent: Option<usize>,
    /// What it is, in the words of the engine.
    name: String,
    /// What it is told to do, in a line as `explain` shows it.
    detail: String,
    /// Rows that came out of it.
    rows: u64,
    /// Their bytes in memory.
    bytes: u64,
    /// Time that it worked, of all threads together, without the time of those below it.
    time_us: u64,
    /// Bytes that it fetched from storage.
    bytes_read: u64,
    /// Bytes that it wrote to disk because memory was short.
    bytes_spilled: u64,
    /// Bytes that came to it from other workers.
    bytes_shuffled: u64,
    /// Rows of its busiest task, in multiples of the mean: 1 is even.
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<f64>,
    /// Its rows and time by task, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<TaskShareBody>,
    /// The stage whose rows it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    reads_stage: Option<usize>,
    /// What else it counted, by the engine's names. What is zero is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counters: BTreeMap<String, u64>,
    /// What else it measured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    times_us: BTreeMap<String, u64>,
}

/// What one task of a stage did of an operator's work.
#[derive(Debug, Serialize, ToSchema)]
struct TaskShareBody {
    task: u64,
    rows: u64,
    time_us: u64,
}

/// Get how a query ran.
///
/// It is kept with the results, and as long. Statements that have no plan, as `create schema`, have no profile, nor has one row of
/// constants.
#[utoipa::path(
    get, path = "/v1/queries/{id}/profile", tag = "statements", params(("id" = String, Path)),
    responses(
        (status = 200, body = ProfileBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "The query has not ended", body = ErrorBody),
    )
)]
pub(in crate::http) async fn get_profile(
    State(queries): State<Queries>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ProfileBody>, ApiError> {
    Ok(Json(queries.profile(&caller, &query_id(&id)?).await?.into()))
}

impl From<Profile> for ProfileBody {
    fn from(profile: Profile) -> Self {
        let Profile {
            stages,
            left_out,
            is_complete,
        } = profile;
        let stages = stages.into_iter().map(
            |Stage {
                 stage,
                 tasks,
                 operators,
             }| StageBody {
                stage,
                tasks,
                operators: operators.into_iter().map(OperatorBody::from).collect(),
            },
        );
        Self {
            stages: stages.collect(),
            left_out,
            is_complete,
        }
    }
}

impl From<Operator> for OperatorBody {
    fn from(operator: Operator) -> Self {
        let Operator {
            parent,
            name,
            detail,
            totals,
            skew,
            tasks,
            reads_stage,
            counters,
            times_us,
        } = operator;
        let Totals {
            rows,
            bytes,
            time_us,
            bytes_read,
            bytes_spilled,
            bytes_shuffled,
        } = totals;
        let tasks = tasks
            .into_iter()
            .map(|TaskShare { task, rows, time_us }| TaskShareBody { task, rows, time_us });
        Self {
            parent,
            name,
            detail,
            rows,
            bytes,
            time_us,
            bytes_read,
            bytes_spilled,
            bytes_shuffled,
            skew,
            tasks: tasks.collect(),
            reads_stage,
            counters,
            times_us,
        }
    }
}
