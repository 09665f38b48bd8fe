//! One attempt at a query: a worker, a conversation, what it left behind. Lost workers are replaced; see [`work_on`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use metrics::counter;
use tracing::warn;
use wasmhouse_compute::cluster::{Conversation, Lease, Said};
use wasmhouse_compute::task::{Action, Frame, Planned, PlannedTable, Report, Task};
use wasmhouse_compute::{Code, Error as ComputeError, SqlError};
use wasmhouse_storage::catalog::Relation;
use wasmhouse_storage::queries::{QueryState, Usage};
use wasmhouse_storage::results::ResultWriter;
use wasmhouse_storage::tables::TableLocation;

use super::crew::Crew;
use super::flight::Flight;
use super::landed::{self, Landed};
use super::means::Means;
use super::target::Target;
use super::{House, Now, slice};
use crate::billing::receipt::ReadTable;
use crate::error::{Error, Result};

/// How often a query is tried when its worker is lost.
const ATTEMPTS: u32 = 4;

/// How long it is waited before the second attempt. Before each further one it is twice as long.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long a plan is expected to take of which nothing else is wanted.
const PLAN_ONLY: Duration = Duration::from_millis(50);

/// How long a worker may take to hear that a plan was all that was wanted.
const DECLINE_TIMEOUT: Duration = Duration::from_secs(2);

/// Gives the task to a worker, and to another one if that one is lost.
pub(super) async fn work_on(
    house: &House,
    flight: &Flight,
    slice: slice::Slice,
    action: Action,
    target: Option<Target>,
) -> Result<Landed> {
    let mut task = flight.task(house, slice, action);
    // One that was let in stays in, however many workers it loses.
    let _place = house.admission.enter(&task.project, flight.expected(house)).await?;
    let mut lost = 0;
    let mut means = Means::default();
    // Why the usual means were not enough.
    let mut out_of_memory = None;
    loop {
        counter!("wasmhouse_attempts_total").increment(1);
        let tried = attempt(house, flight, &task, means, target.as_ref()).await;
        let now = flight.live.now();
        match tried {
            Err(Attempt::Lost(why)) if lost + 1 < ATTEMPTS => {
                warn!(query.id = %task.query, attempt = task.attempt, "a worker was lost, the query is tried again: {why}");
                counter!("wasmhouse_attempts_lost_total").increment(1);
                // Whatever ended one may be over in a moment, and others try again, too.
                tokio::time::sleep(BACKOFF * 2u32.pow(lost)).await;
                lost += 1;
            }
            Err(Attempt::Lost(why)) => return Err(ComputeError::WorkerLost(why).into()),
            Err(Attempt::Over(error)) if is_out_of_memory(&error) => {
                let Some(others) = means.after_out_of_memory(house, &now, &mut task) else {
                    return Err(error);
                };
                warn!(query.id = %task.query, "a query was out of memory and is tried again with other means: {error}");
                (means, out_of_memory) = (others, Some(error));
            }
            Err(Attempt::Over(error)) => return Err(error),
            Err(Attempt::NoMore(had)) => {
                means = match (Means::after_no_workers(had, &now, &mut task), out_of_memory.take()) {
                    (Some(others), _) => others,
                    (None, error) => {
                        return Err(error.unwrap_or_else(|| Error::Internal("no workers were wanted".into())));
                    }
                };
            }
            Ok(landed) => return Ok(landed),
        }
        task.attempt += 1;
    }
}

pub(super) fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Sql(error) if error.code == Code::OutOfMemory)
}

/// Why an attempt has no answer.
enum Attempt {
    /// The worker is gone; another may do better.
    Lost(String),
    /// There is no answer, and another worker would say the same.
    Over(Error),
    /// More workers than these were to help, and there are no more.
    NoMore(usize),
}

impl<E: Into<Error>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Attempt::Over(error.into())
    }
}

async fn attempt(
    house: &House,
    flight: &Flight,
    task: &Task,
    means: Means,
    target: Option<&Target>,
) -> Result<Landed, Attempt> {
    flight.live.tell(Now::begin_anew);
    let lease = lease(house, task).await?;
    let began = Instant::now();
    if flight.record.state == QueryState::Pending {
        flight.put_on_record(house).await?;
        house.records.start(&task.query).await?;
    }
    flight.live.tell(|now| {
        now.phase = "planning";
        now.workers = 1;
    });

    let mut crew = Crew::default();
    let talked = match ask(house, &lease, task).await {
        Ok(talk) => converse(house, flight, talk, &lease, &mut crew, (task, means), target).await,
        Err(error) => Err(error),
    };
    let talked = crew.dismiss(flight, task, talked).await;
    if let Ok(landed) = &talked {
        flight.learn(house, began.elapsed(), &landed.usage);
    }
    hang_up(lease, talked).await
}

/// A worker for a query whose turn it is.
async fn lease(house: &House, task: &Task) -> Result<Lease, Attempt> {
    let patience = Duration::from_millis(house.config.queue_timeout_ms);
    match house.pool.lease(task, patience).await {
        Err(ComputeError::WorkerLost(why)) => Err(Attempt::Lost(why)),
        lease => Ok(lease?),
    }
}

/// Hands the task over. A worker that does not take it in the time it has for planning is frozen.
async fn ask(house: &House, lease: &Lease, task: &Task) -> Result<Conversation, Talk> {
    let budget = Duration::from_millis(house.config.planning_timeout_ms);
    match tokio::time::timeout(budget, lease.ask(task)).await {
        Ok(talk) => Ok(talk?),
        Err(_) => Err(Talk::Silent("it does not take the task".to_owned())),
    }
}

/// Ends a conversation: a worker that answered is good for another query, one that did not is not.
async fn hang_up<T>(lease: Lease, talked: Result<T, Talk>) -> Result<T, Attempt> {
    match talked {
        Ok(answer) => {
            lease.give_back();
            Ok(answer)
        }
        Err(Talk::Answered(error)) => {
            lease.give_back();
            Err(Attempt::Over(error))
        }
        Err(Talk::NoMore(had)) => {
            lease.give_back();
            Err(Attempt::NoMore(had))
        }
        Err(Talk::Unwanted(error)) => {
            lease.kill().await;
            Err(Attempt::Over(error))
        }
        Err(Talk::PeerLost(why)) => {
            lease.kill().await;
            Err(Attempt::Lost(why))
        }
        Err(Talk::Silent(how)) => match lease.bury().await {
            ComputeError::WorkerLost(why) => Err(Attempt::Lost(format!("{how} ({why})"))),
            error => Err(Attempt::Over(error.into())),
        },
    }
}

/// Why a conversation has no answer.
pub(super) enum Talk {
    /// The worker said why.
    Answered(Error),
    /// We do not want to hear more.
    Unwanted(Error),
    /// The worker stopped talking.
    Silent(String),
    /// The worker lost another one.
    PeerLost(String),
    /// More workers than these were to help, and there are no more.
    NoMore(usize),
}

impl From<ComputeError> for Talk {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::WorkerLost(why) => Talk::Silent(why),
            error => Talk::Unwanted(error.into()),
        }
    }
}

impl From<wasmhouse_storage::Error> for Talk {
    fn from(error: wasmhouse_storage::Error) -> Self {
        Talk::Unwanted(error.into())
    }
}

/// Hears the plan, accepts its price, and takes everything down until the last word.
async fn converse(
    house: &House,
    flight: &Flight,
    mut talk: Conversation,
    head: &Lease,
    crew: &mut Crew,
    (task, means): (&Task, Means),
    target: Option<&Target>,
) -> Result<Landed, Talk> {
    let failed = |report| flight.live.tell(|now| now.report = Some(report));
    let planned = hear_plan(house, &mut talk, failed).await?;
    let waits = !task.runs_unasked(planned.bytes_to_read);
    if let Err(refusal) = flight.check_price(house, planned.bytes_processed) {
        decline(talk).await?;
        return Err(Talk::Answered(refusal));
    }
    let (bytes_processed, bytes_to_read) = (planned.bytes_processed, planned.bytes_to_read);
    // What reads nothing has nothing to share.
    let is_shareable = planned.is_shareable && bytes_to_read > 0;
    let schema = Arc::new(serde_json::from_str::<Schema>(&planned.schema).map_err(defect)?);
    let reads = reads(task, &planned);
    flight.live.tell(|now| now.planned = Some(planned));
    if waits {
        if is_shareable {
            let wanted = match means {
                Means::MoreThan(_) => house.config.workers_max,
                Means::Usual | Means::FewPartitions => flight.workers(house, Some(bytes_to_read)),
            };
            *crew = Crew::lease(house, flight, task, wanted - 1).await;
        }
        if let Means::MoreThan(had) = means
            && crew.len() < had
        {
            decline(talk).await?;
            return Err(Talk::NoMore(had));
        }
        talk.go(&crew.orders(house, flight, task, head)?).await?;
    }
    flight.live.tell(|now| now.phase = "running");

    let mut rows: Option<ResultWriter> = None;
    let mut written = None;
    let mut exported = None;
    let Report { usage, profile, .. } = loop {
        match talk.next().await? {
            Said::Rows(batch) => {
                let writer = rows.get_or_insert_with(|| landed::result_writer(house, flight, batch.schema()));
                writer.push(&batch).await?;
            }
            Said::Frame(Frame::Progress(progress)) => flight.live.tell(|now| now.progress = progress),
            Said::Frame(Frame::Written { schema, files }) => written = Some((schema, files)),
            Said::Frame(Frame::Exported { files }) => exported = Some(files),
            Said::Frame(Frame::End(report)) => {
                flight.live.tell(|now| now.report = Some(report.clone()));
                break report;
            }
            Said::Frame(Frame::Failed { error, report }) => {
                flight.live.tell(|now| now.report = Some(report));
                return Err(match error.code {
                    Code::WorkerCrashed => Talk::PeerLost(error.message),
                    _ => Talk::Answered(error.into()),
                });
            }
            Said::Frame(Frame::Planned(_)) => return Err(Talk::Unwanted(Error::Internal("a second plan".into()))),
        }
    };

    let usage = Usage {
        bytes_processed,
        bytes_loaded: flight.bytes_loaded(),
        ..usage
    };
    let landed = match (target, written, exported) {
        (Some(target), Some((schema, files)), _) => landed::of_files(house, flight, usage, target, schema, files).await,
        (None, None, Some(files)) => landed::of_export(house, flight, usage, &files).await,
        (None, None, None) => {
            let none = || landed::result_writer(house, flight, talk.schema().unwrap_or(schema));
            landed::of_rows(usage, rows.unwrap_or_else(none).finish().await?)
        }
        _ => Err(Talk::Unwanted(Error::Internal(
            "the worker wrote what nobody asked for, or did not write".into(),
        ))),
    };
    Ok(Landed {
        profile,
        reads,
        ..landed?
    })
}

/// What the plan reads, by the names that tables have now.
fn reads(task: &Task, planned: &Planned) -> Vec<ReadTable> {
    let name_of = |location: &TableLocation| {
        let mut tables = task.relations.iter().filter_map(|relation| match relation {
            Relation::Table(table) => Some(table),
            Relation::View(_) => None,
        });
        let found = tables.find(|table| table.location == *location);
        found.map(|table| table.name.to_string()).unwrap_or_default()
    };
    let read = |table: &PlannedTable| ReadTable {
        name: name_of(&table.location),
        version: table.version,
        columns: table.columns.clone(),
        files: table.files,
        files_hash: table.files_hash.clone(),
        bytes: table.bytes,
    };
    planned.tables.iter().map(read).collect()
}

/// Waits for the plan. If there is none, `failed` is told what looking for it took.
async fn hear_plan(house: &House, talk: &mut Conversation, failed: impl FnOnce(Report)) -> Result<Planned, Talk> {
    let budget = Duration::from_millis(house.config.planning_timeout_ms);
    match tokio::time::timeout(budget, talk.next()).await {
        Ok(said) => match said? {
            Said::Frame(Frame::Planned(planned)) => Ok(planned),
            Said::Frame(Frame::Failed { error, report }) => {
                failed(report);
                Err(Talk::Answered(error.into()))
            }
            Said::Frame(_) | Said::Rows(_) => Err(Talk::Unwanted(Error::Internal("an answer without a plan".into()))),
        },
        Err(_) => {
            let message = format!(
                "planning the statement took longer than {} ms; write it with fewer parts",
                budget.as_millis()
            );
            Err(Talk::Unwanted(SqlError::new(Code::TooComplex, message).into()))
        }
    }
}

pub(super) fn defect(error: impl std::error::Error + Send + Sync + 'static) -> Talk {
    Talk::Unwanted(Error::Internal(error.into()))
}

/// Asks a worker for the plan and lets it go; another worker, if that one is lost.
pub(super) async fn plan_only(house: &House, mut task: Task) -> Result<Planned> {
    task.unasked_bytes = None;
    task.may_be_shared = false;
    let _place = house.admission.enter(&task.project, PLAN_ONLY).await?;
    loop {
        let lost = match attempt_plan(house, &task).await {
            Ok(planned) => return Ok(planned),
            Err(Attempt::Over(error)) => return Err(error),
            Err(Attempt::Lost(why)) => why,
            Err(Attempt::NoMore(_)) => return Err(Error::Internal("a plan alone wants no workers".into())),
        };
        task.attempt += 1;
        if task.attempt == ATTEMPTS {
            return Err(ComputeError::WorkerLost(lost).into());
        }
    }
}

async fn attempt_plan(house: &House, task: &Task) -> Result<Planned, Attempt> {
    let lease = lease(house, task).await?;
    let planned = match ask(house, &lease, task).await {
        Ok(mut talk) => match hear_plan(house, &mut talk, drop).await {
            Ok(planned) => decline(talk).await.map(|()| planned),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    hang_up(lease, planned).await
}

/// The plan was all that was wanted.
async fn decline(talk: Conversation) -> Result<(), Talk> {
    match tokio::time::timeout(DECLINE_TIMEOUT, talk.decline()).await {
        Ok(declined) => Ok(declined?),
        Err(_) => Err(Talk::Silent("it does not put the query away".to_owned())),
    }
}
