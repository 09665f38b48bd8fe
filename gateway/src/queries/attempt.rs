//! One attempt at a query: a worker, a conversation, what it left behind. Lost workers are replaced; see [`work_on`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use metrics::counter;
use tracing::warn;
use wasmhouse_compute::cluster::{Conversation, Lease, Said};
use wasmhouse_compute::sql::{Kind, Statement};
use wasmhouse_compute::task::{Action, ExportedFile, Frame, Planned, Report, Task};
use wasmhouse_compute::{Code, Error as ComputeError, SqlError};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::queries::{QueryState, Usage};
use wasmhouse_storage::results::{ResultManifest, ResultWriter};
use wasmhouse_storage::tables::WrittenFile;

use super::crew::Crew;
use super::flight::{Commit, Flight, Landed};
use super::target::Target;
use super::{House, Now, Work, slice};
use crate::error::{Error, Result};

/// How often a query is tried when its worker is lost.
const ATTEMPTS: u32 = 4;

/// How long it is waited before the second attempt. Before each further one it is twice as long.
const BACKOFF: Duration = Duration::from_millis(100);

/// How many partitions the plan of a query has.
const PARTITIONS: &str = "datafusion.execution.target_partitions";

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
    loop {
        match attempt(house, flight, &task, target.as_ref()).await {
            Err(Attempt::Lost(why)) if lost + 1 < ATTEMPTS => {
                warn!(query.id = %task.query, attempt = task.attempt, "a worker was lost, the query is tried again: {why}");
                counter!("wasmhouse_attempts_lost_total").increment(1);
                // Whatever ended one may be over in a moment, and others try again, too.
                tokio::time::sleep(BACKOFF * 2u32.pow(lost)).await;
                lost += 1;
                task.attempt += 1;
            }
            Err(Attempt::Lost(why)) => return Err(ComputeError::WorkerLost(why).into()),
            Err(Attempt::Over(error)) if is_out_of_memory(&error) && make_thrifty(&mut task) => {
                warn!(query.id = %task.query, "a query was out of memory and is tried again with fewer partitions: {error}");
                task.attempt += 1;
            }
            Err(Attempt::Over(error)) => return Err(error),
            Ok(landed) => return Ok(landed),
        }
    }
}

pub(super) fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Sql(error) if error.code == Code::OutOfMemory)
}

/// Lets a plan have one partition, so that whatever holds rows in memory has all of it and not a share. False when it has
/// only one already.
fn make_thrifty(task: &mut Task) -> bool {
    let one = "1".to_owned();
    task.settings.insert(PARTITIONS.to_owned(), one.clone()) != Some(one)
}

/// Why an attempt has no answer.
enum Attempt {
    /// The worker is gone; another may do better.
    Lost(String),
    /// There is no answer, and another worker would say the same.
    Over(Error),
}

impl<E: Into<Error>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Attempt::Over(error.into())
    }
}

async fn attempt(house: &House, flight: &Flight, task: &Task, target: Option<&Target>) -> Result<Landed, Attempt> {
    flight.live.tell(Now::begin_anew);
    let lease = lease(house, &task.project).await?;
    let began = Instant::now();
    if flight.record.state == QueryState::Pending {
        flight.put_on_record(house).await?;
        house.records.start(&task.query).await?;
    }
    flight.live.tell(|now| now.phase = "planning");

    let mut crew = Crew::default();
    let talked = match ask(house, &lease, task).await {
        Ok(talk) => converse(house, flight, talk, &lease, &mut crew, task, target).await,
        Err(error) => Err(error),
    };
    let talked = crew.dismiss(flight, task, talked).await;
    if let Ok(landed) = &talked {
        flight.learn(house, began.elapsed(), &landed.usage);
    }
    hang_up(lease, talked).await
}

/// A worker for a query whose turn it is.
async fn lease(house: &House, project: &ProjectId) -> Result<Lease, Attempt> {
    let patience = Duration::from_millis(house.config.queue_timeout_ms);
    match house.pool.lease(project, patience).await {
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
    task: &Task,
    target: Option<&Target>,
) -> Result<Landed, Talk> {
    let failed = |report| flight.live.tell(|now| now.report = Some(report));
    let planned = hear_plan(house, &mut talk, failed).await?;
    let waits = !task.runs_unasked(planned.bytes_to_read);
    if let Some(max_bytes) = flight.options.max_bytes
        && planned.bytes_processed > max_bytes
    {
        decline(talk).await?;
        return Err(Talk::Answered(over_budget(planned.bytes_processed, max_bytes)));
    }
    let (bytes_processed, bytes_to_read) = (planned.bytes_processed, planned.bytes_to_read);
    // What reads nothing has nothing to share.
    let is_shareable = planned.is_shareable && bytes_to_read > 0;
    let schema = Arc::new(serde_json::from_str::<Schema>(&planned.schema).map_err(defect)?);
    flight.live.tell(|now| now.planned = Some(planned));
    if waits {
        if is_shareable {
            *crew = Crew::lease(house, flight, task, bytes_to_read).await;
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
                let writer = rows.get_or_insert_with(|| result_writer(house, flight, batch.schema()));
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
        ..usage
    };
    let landed = match (target, written, exported) {
        (Some(target), Some((schema, files)), _) => landed_files(house, flight, usage, target, schema, files).await,
        (None, None, Some(files)) => landed_export(house, flight, usage, &files).await,
        (None, None, None) => {
            let none = || result_writer(house, flight, talk.schema().unwrap_or(schema));
            landed_rows(usage, rows.unwrap_or_else(none).finish().await?)
        }
        _ => Err(Talk::Unwanted(Error::Internal(
            "the worker wrote what nobody asked for, or did not write".into(),
        ))),
    };
    Ok(Landed { profile, ..landed? })
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

fn over_budget(bytes: u64, max_bytes: u64) -> Error {
    let message = format!(
        "the query would process {bytes} bytes, more than the {max_bytes} of its `max_bytes`; nothing was read"
    );
    SqlError::new(Code::OverBudget, message).into()
}

fn landed_rows(usage: Usage, manifest: ResultManifest) -> Result<Landed, Talk> {
    let usage = Usage {
        rows_returned: manifest.rows,
        result_bytes: manifest.bytes,
        ..usage
    };
    Ok(Landed {
        usage,
        results: Some(manifest),
        ..Landed::default()
    })
}

/// The rows are in files; the caller is told how many.
async fn landed_files(
    house: &House,
    flight: &Flight,
    usage: Usage,
    target: &Target,
    schema: String,
    files: Vec<WrittenFile>,
) -> Result<Landed, Talk> {
    let rows_written: u64 = files.iter().map(WrittenFile::rows).sum();
    let bytes_written = files.iter().map(WrittenFile::bytes).sum();
    let results = match &flight.work {
        // Columns were declared, and nothing was written that could be counted.
        Work::Statement(Statement {
            kind: Kind::CreateTable { from_query: false, .. },
            ..
        }) => result_writer(house, flight, Arc::new(Schema::empty())).finish().await?,
        _ => one_number(house, flight, "count", rows_written).await?,
    };
    let usage = Usage {
        rows_written,
        bytes_written,
        rows_returned: results.rows,
        result_bytes: results.bytes,
        ..usage
    };
    let commit = Commit {
        target: target.clone(),
        files,
        schema,
    };
    Ok(Landed {
        usage,
        results: Some(results),
        commit: Some(commit),
        ..Landed::default()
    })
}

async fn landed_export(house: &House, flight: &Flight, usage: Usage, files: &[ExportedFile]) -> Result<Landed, Talk> {
    let urls = files
        .iter()
        .map(|file| Some(house.bucket.public_url(&file.path.as_str().into())));
    let urls = StringArray::from_iter(urls);
    let rows = UInt64Array::from_iter_values(files.iter().map(|file| file.rows));
    let bytes = UInt64Array::from_iter_values(files.iter().map(|file| file.bytes));
    let schema = Schema::new(vec![
        Field::new("url", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(urls), Arc::new(rows), Arc::new(bytes)];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).map_err(defect)?;
    let results = one_batch(house, flight, &batch).await?;
    let usage = Usage {
        rows_written: usage.rows_returned,
        bytes_written: files.iter().map(|file| file.bytes).sum(),
        rows_returned: results.rows,
        result_bytes: results.bytes,
        ..usage
    };
    Ok(Landed {
        usage,
        results: Some(results),
        ..Landed::default()
    })
}

/// The result of a statement that has none.
pub(super) async fn nothing(house: &House, flight: &Flight) -> Result<Landed> {
    let results = result_writer(house, flight, Arc::new(Schema::empty())).finish().await?;
    Ok(Landed {
        results: Some(results),
        ..Landed::default()
    })
}

async fn one_number(house: &House, flight: &Flight, name: &str, number: u64) -> Result<ResultManifest, Talk> {
    let schema = Schema::new(vec![Field::new(name, DataType::UInt64, false)]);
    let column = UInt64Array::from(vec![number]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).map_err(defect)?;
    one_batch(house, flight, &batch).await
}

async fn one_batch(house: &House, flight: &Flight, batch: &RecordBatch) -> Result<ResultManifest, Talk> {
    let mut rows = result_writer(house, flight, batch.schema());
    rows.push(batch).await?;
    Ok(rows.finish().await?)
}

fn result_writer(house: &House, flight: &Flight, schema: SchemaRef) -> ResultWriter {
    let path = Bucket::result_path(&flight.record.project, &flight.record.id);
    ResultWriter::new(
        house.bucket.store(),
        path,
        schema,
        house.config.results_inline_kib << 10,
    )
}

fn defect(error: impl std::error::Error + Send + Sync + 'static) -> Talk {
    Talk::Unwanted(Error::Internal(error.into()))
}

/// Asks a worker for the plan and lets it go; another worker, if that one is lost.
pub(super) async fn plan_only(house: &House, mut task: Task) -> Result<Planned> {
    task.unasked_bytes = None;
    let _place = house.admission.enter(&task.project, PLAN_ONLY).await?;
    loop {
        let lost = match attempt_plan(house, &task).await {
            Ok(planned) => return Ok(planned),
            Err(Attempt::Over(error)) => return Err(error),
            Err(Attempt::Lost(why)) => why,
        };
        task.attempt += 1;
        if task.attempt == ATTEMPTS {
            return Err(ComputeError::WorkerLost(lost).into());
        }
    }
}

async fn attempt_plan(house: &House, task: &Task) -> Result<Planned, Attempt> {
    let lease = lease(house, &task.project).await?;
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
