//! The head of a query: plan, say what it would read, wait for the word to go, run, stream.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{DdlStatement, DmlStatement, Expr, LogicalPlan, Projection, WriteOp};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SQLOptions;
use datafusion_distributed::Worker;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use tracing::error;
use url::Url;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::tables::{Keys, ScanLog, Tables};

use super::line::Line;
use super::meter::Meter;
use super::sink::{self, Sink, SinkExec};
use super::task::{self, Tasks};
use super::{export, load, share, wire, write};
use crate::session::{Engine, logical_plan, physical_plan};
use crate::sql::blame;
use crate::task::{Action, ExportedFile, Frame, Go, Planned, Task};
use crate::{Code, Error, Result, SqlError, catalog_view, causes, estimate};

/// Bursts of frames that may wait for the network before the plan has to.
const BURSTS_IN_FLIGHT: usize = 4;

/// The longest text of a statement that may be done without telling the gateway first that it was taken.
const SMALL_TEXT_BYTES: usize = 256;

/// What one message of rows may weigh: the gateway holds a few of them. Only a row that is larger by itself exceeds it.
const MESSAGE_BYTES: usize = 64 << 20;

/// What a worker keeps between the queries of its project.
pub(super) struct Desk {
    pub(super) engine: Arc<Engine>,
    pub(super) tasks: Tasks,
    /// Where plans run.
    pub(super) threads: Handle,
    /// What does parts of queries in this process.
    pub(super) worker: Worker,
    /// Where it listens.
    pub(super) url: Url,
    pub(super) tables: Tables,
    pub(super) bucket: Bucket,
}

/// The answer to one task. Dropping it stops the work.
pub(super) async fn answer(
    desk: Arc<Desk>,
    task: Task,
    words: Streaming<FlightData>,
) -> impl Stream<Item = Result<FlightData, Status>> {
    let (out, bursts) = mpsc::channel(BURSTS_IN_FLIGHT);
    // Without a call there is nothing in so short a text that could take long.
    let is_small = matches!(task.action, Action::Return)
        && task.sql.len() <= SMALL_TEXT_BYTES
        && !task.sql.contains('(')
        && task.params.is_empty()
        && task.relations.is_empty()
        && task.listed.is_empty();
    let threads = desk.threads.clone();
    let mut work = Box::pin(async move { work(&desk, task, Line::new(out, words)).await });
    // A small task is done here and now; another thread that wakes up for it would cost more than it does. Of any other the
    // gateway first hears that it was taken.
    let work = match is_small && futures::poll!(work.as_mut()).is_ready() {
        true => None,
        false => Some(AbortOnDropHandle::new(threads.spawn(work))),
    };
    ReceiverStream::new(bursts).flat_map(move |burst: Vec<FlightData>| {
        let _keep = &work;
        stream::iter(burst.into_iter().map(Ok))
    })
}

/// Runs the task to its last frame.
async fn work(desk: &Desk, task: Task, mut line: Line) {
    let query = task.query.clone();
    let meter = Meter::start(desk.tasks.gauge.clone());
    let mut ran = None;
    let done = run(desk, task, &mut line, &meter, &mut ran).await;
    if matches!(done, Err(Stop::NobodyListens)) {
        return;
    }
    let ran = match ran {
        Some(plan) => Some(task::with_metrics_of_all(plan).await),
        None => None,
    };
    let report = meter.report(ran.as_ref());
    let last = match done {
        Ok(()) => Frame::End(report),
        Err(Stop::Failed(error)) => {
            let error = explain(error, &query.to_string());
            Frame::Failed { error, report }
        }
        Err(Stop::NobodyListens) => return,
    };
    // Nobody listens: the gateway has its reasons and ends this process.
    let _ = line.say(&last).await;
    let _ = line.flush().await;
}

/// Does the task. A plan that is worth a profile is left in `ran`, also when it fails.
async fn run(
    desk: &Desk,
    task: Task,
    line: &mut Line,
    meter: &Meter,
    ran: &mut Option<Arc<dyn ExecutionPlan>>,
) -> Result<(), Stop> {
    let scans = ScanLog::default();
    let state = desk
        .engine
        .session(&task.project, task.dataset.as_ref(), &task.settings, task.now_us)?;
    catalog_view::attach(&desk.engine, &state, &task, &desk.tables, &scans).await?;

    let (logical, keys, upload) = match &task.action {
        Action::Load { .. } => {
            let load = load::plan(&state, &task).await?;
            (load.rows, load.keys, Some((load.bytes, load.is_shareable)))
        }
        _ => {
            let (logical, keys) = statement(&state, &task).await?;
            (logical, keys, None)
        }
    };
    let free = matches!(logical, LogicalPlan::Explain(_));
    let plan = match row_of_constants(&state, &logical) {
        Some(plan) => plan,
        None => physical_plan(&state, &logical).await?,
    };
    let (bytes_processed, tables) = estimate::bytes_processed(&scans);
    let schema = match &task.action {
        Action::Write { schema, .. } | Action::Load { schema, .. } => {
            keys.kept_with(write::columns_of_files(schema.as_deref(), &logical, &plan.schema())?)
        }
        Action::Return | Action::Export { .. } => plan.schema(),
    };
    let (bytes_processed, tables) = match free {
        true => (0, Vec::new()),
        false => (bytes_processed, tables),
    };
    let (upload_bytes, may_be_shared) = match upload {
        Some(upload) => upload,
        None => (0, share::is_shareable(&logical, &plan)?),
    };
    let bytes_to_read = bytes_processed + upload_bytes;
    let runs_unasked = task.runs_unasked(bytes_to_read);
    let is_shareable = task.may_be_shared && !runs_unasked && may_be_shared && desk.tasks.travels(&task, &plan, &state);
    line.say(&Frame::Planned(Planned {
        schema: serde_json::to_string(schema.as_ref()).map_err(defect)?,
        bytes_processed,
        bytes_to_read,
        tables,
        partitions: state.config().target_partitions() as u64,
        is_shareable,
    }))
    .await?;
    let mut go = Go::default();
    if !runs_unasked {
        go = line.word_to_go().await?;
    } else if !is_trivial(&plan) {
        // What is said next may take long.
        line.flush().await?;
    }
    let (mut state, mut plan) = (state, plan);
    let sink = Sink::of(&task, &schema).map(Arc::new);
    let is_shared = go.workers.len() > 1;
    if is_shared {
        desk.tasks.share(&go.tickets);
        let this = desk.worker.to_local_worker_context(desk.url.clone());
        let sink = sink.map(|sink| (sink, Arc::clone(&meter.rows)));
        state = desk.tasks.session_of_head(
            &state,
            &task,
            &go,
            (bytes_to_read, share::largest_scan(&plan)),
            sink,
            this,
        )?;
        plan = physical_plan(&state, &logical).await?;
    } else if let Some(sink) = sink {
        let rows = write::dealt_out(&state, &task, upload_bytes, &plan)?;
        plan = Arc::new(SinkExec::new(rows, sink, desk.bucket.clone(), Arc::clone(&meter.rows)));
    }

    if !is_trivial(&plan) {
        *ran = Some(Arc::clone(&plan));
    }
    let done = act(desk, &state, &task, &plan, &schema, meter, line).await;
    match is_shared {
        true => done.map_err(Stop::blamed_on_crew),
        false => done,
    }
}

/// Does with the rows of the plan what the task says.
async fn act(
    desk: &Desk,
    state: &SessionState,
    task: &Task,
    plan: &Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    meter: &Meter,
    line: &mut Line,
) -> Result<(), Stop> {
    match &task.action {
        Action::Return => deliver(state, plan, meter, line).await?,
        Action::Write { .. } | Action::Load { .. } => {
            let files = sink::files(plan, state.task_ctx());
            let files = line.while_working(meter, plan, files).await?;
            line.say(&Frame::Written {
                schema: serde_json::to_string(schema.as_ref()).map_err(defect)?,
                files,
            })
            .await?;
        }
        Action::Export { to, .. } => {
            export::remove_others(desk, task, to, &[]).await?;
            let files = sink::files(plan, state.task_ctx());
            let mut files: Vec<ExportedFile> = line.while_working(meter, plan, files).await?;
            files.sort_by(|a, b| a.path.cmp(&b.path));
            export::remove_others(desk, task, to, &files).await?;
            meter.rows.store(files.iter().map(|file| file.rows).sum(), Relaxed);
            line.say(&Frame::Exported { files }).await?;
        }
    }
    Ok(())
}

/// The statement as a plan whose rows are wanted: a query, or the query inside an insert or a create. With the keys of a
/// table that it makes.
async fn statement(state: &SessionState, task: &Task) -> Result<(LogicalPlan, Keys), Stop> {
    let mut plan = logical_plan(state, &task.sql).await?;
    if !task.params.is_empty() {
        plan = plan.with_param_values(task.params.bind(state).await?)?;
    }
    let mut keys = Keys::default();
    let rows = match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            if !create.column_defaults.is_empty() {
                return Err(not_supported(
                    "column defaults are not supported; give the value with every insert",
                ));
            }
            keys = Keys::of_constraints(&create.constraints, create.input.schema().as_arrow());
            write::columns::take_places(state, task, Arc::unwrap_or_clone(create.input), None).await?
        }
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => Arc::unwrap_or_clone(create.input),
        LogicalPlan::Dml(DmlStatement {
            target,
            op: WriteOp::Insert(InsertOp::Append),
            input,
            ..
        }) => write::columns::take_places(state, task, Arc::unwrap_or_clone(input), Some(target.schema())).await?,
        other => other,
    };
    // What is left reads. The gateway has refused everything else by name; this is the second lock.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&rows)?;
    Ok((rows, keys))
}

/// The plan of one row that reads nothing: the engine's planner would think about it for longer than running it takes. None
/// for everything else, also for what is wrong with it.
fn row_of_constants(state: &SessionState, logical: &LogicalPlan) -> Option<Arc<dyn ExecutionPlan>> {
    // A subquery is another plan, which only the planner puts into this one.
    let is_subquery = |value: &Expr| {
        Ok(matches!(
            value,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)
        ))
    };
    let row = one_row(logical)?;
    if row.expr.iter().any(|value| value.exists(is_subquery).unwrap_or(true)) {
        return None;
    }
    let optimized = state.optimize(logical).ok()?;
    let row = one_row(&optimized)?;
    let nothing = row.input.schema();
    let values = row.expr.iter().zip(row.schema.fields()).map(|(value, field)| {
        let value = create_physical_expr(
            value,
            nothing,
            state.execution_props(),
            &PhysicalPlanningContext::default(),
        );
        value.map(|value| (value, field.name().clone()))
    });
    let values: Vec<_> = values.collect::<Result<_, _>>().ok()?;
    let placeholder = PlaceholderRowExec::new(Arc::clone(nothing.inner()));
    let plan = ProjectionExec::try_new(values, Arc::new(placeholder)).ok()?;
    (plan.schema() == *row.schema.inner()).then(|| Arc::new(plan) as Arc<dyn ExecutionPlan>)
}

/// The values of a plan that is one row of them.
fn one_row(plan: &LogicalPlan) -> Option<&Projection> {
    match plan {
        LogicalPlan::Projection(row) => match row.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(row),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a plan has a row of constants and nothing else to do.
fn is_trivial(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<PlaceholderRowExec>() || (plan.is::<ProjectionExec>() && plan.children().into_iter().all(is_trivial))
}

/// Rows to the caller, batch by batch, with a word of progress while there are none.
async fn deliver(
    state: &SessionState,
    plan: &Arc<dyn ExecutionPlan>,
    meter: &Meter,
    line: &mut Line,
) -> Result<(), Stop> {
    let count = Arc::clone(&meter.rows);
    let rows = execute_stream(Arc::clone(plan), state.task_ctx())?.inspect_ok(move |batch| {
        count.fetch_add(batch.num_rows() as u64, Relaxed);
    });
    let schema = wire::schema(&plan.schema());
    let rows = {
        let schema = Arc::clone(&schema);
        rows.map(move |batch| Ok(wire::rows(&batch?, &schema)?))
    };
    let mut encoded = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(rows.map_err(|error: DataFusionError| FlightError::ExternalError(Box::new(error))));
    loop {
        let data = line
            .while_working(meter, plan, async { Ok(encoded.next().await) })
            .await?;
        match data {
            None => return Ok(()),
            Some(Ok(data)) if data.data_body.len() > MESSAGE_BYTES => {
                let message = format!(
                    "a row of the result has {} bytes, more than the {MESSAGE_BYTES} that it may",
                    data.data_body.len()
                );
                return Err(SqlError::new(Code::ExecutionFailed, message).into());
            }
            Some(Ok(data)) => line.send(data).await?,
            Some(Err(FlightError::ExternalError(cause))) => {
                return Err(match cause.downcast::<DataFusionError>() {
                    Ok(error) => Stop::from(*error),
                    Err(cause) => Stop::Failed(Error::Internal(cause)),
                });
            }
            Some(Err(error)) => return Err(Stop::Failed(Error::Internal(error.into()))),
        }
    }
}

/// Why a task ends early.
pub(super) enum Stop {
    /// It failed, and the gateway is told.
    Failed(Error),
    /// The gateway has hung up.
    NobodyListens,
}

impl Stop {
    /// The same, but for a failure of the connection to another worker of the query.
    fn blamed_on_crew(self) -> Self {
        match self {
            Stop::Failed(Error::Internal(cause)) => match cause.downcast::<DataFusionError>() {
                Ok(error) if task::is_lost(&error) => Stop::Failed(Error::WorkerLost(causes(&*error))),
                Ok(error) => Stop::Failed(Error::Internal(error)),
                Err(cause) => Stop::Failed(Error::Internal(cause)),
            },
            other => other,
        }
    }
}

impl From<DataFusionError> for Stop {
    fn from(error: DataFusionError) -> Self {
        let said = blame::sql_error(&error);
        match said.code {
            Code::Internal => Stop::Failed(Error::Internal(error.into())),
            _ => Stop::Failed(Error::Sql(said)),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Stop::Failed(Error::Sql(error))
    }
}

impl From<wasmhouse_storage::Error> for Stop {
    fn from(error: wasmhouse_storage::Error) -> Self {
        Stop::Failed(Error::Storage(error))
    }
}

/// What the gateway may know. The rest is in this worker's log, under the query's id.
fn explain(failure: Error, query: &str) -> SqlError {
    match failure {
        Error::Sql(error) => error,
        Error::WorkerLost(why) => SqlError::new(
            Code::WorkerCrashed,
            format!("another worker of the query was lost: {why}"),
        ),
        Error::Storage(wasmhouse_storage::Error::Invalid(message)) => SqlError::new(Code::TypeMismatch, message),
        Error::Storage(wasmhouse_storage::Error::NotFound(message)) => SqlError::new(Code::UnknownTable, message),
        other => {
            let cause = causes(&other);
            error!(query.id = query, "the query failed for a reason that is ours: {cause}");
            SqlError::new(
                Code::Internal,
                "the query failed for a reason that is ours; tell us its id",
            )
        }
    }
}

fn not_supported(message: &str) -> Stop {
    Stop::Failed(SqlError::new(Code::NotSupported, message).into())
}

pub(super) fn defect(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}
