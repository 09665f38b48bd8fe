//! One query from its record to its end: plan, run, settle. Read [`drive`] aloud.
//!
//! Up to the commit everything can be stopped or tried again (see [`super::attempt`]); from the commit on nothing is
//! stopped half-way (see [`super::settle`]).

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use futures::FutureExt;
use metrics::gauge;
use tokio::sync::OnceCell;
use tracing::error;
use wasmhouse_compute::sql::{Kind, Statement};
use wasmhouse_compute::task::{Action, Task};
use wasmhouse_compute::{Code, SqlError, causes};
use wasmhouse_storage::audit::Deed;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::budgets::Scope;
use wasmhouse_storage::catalog::{Effect, RelationKind, View};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{ProjectId, QueryId, TableName, TableUid};
use wasmhouse_storage::queries::QueryRecord;
use wasmhouse_storage::tables::TableLocation;

use super::attempt::{plan_only, work_on};
use super::define::{Defined, define};
use super::given::{given, shown};
use super::landed::{Commit, Landed, Lenient, nothing};
use super::live::Live;
use super::settle::{report, settle};
use super::target::{self, How, Target};
use super::{House, Options, Queries, Work, leftovers, slice};
use crate::access::{Act, Caller};
use crate::billing::Terms;
use crate::billing::price::Counts;
use crate::billing::spending::{Reserved, scopes};
use crate::error::{Error, Result};
use crate::sight::Sight;

/// How long a query that may be recorded with its end runs without a record.
const RECORD_AFTER: Duration = Duration::from_millis(50);

/// A query on its way.
pub(super) struct Flight {
    pub(super) record: QueryRecord,
    caller: Caller,
    /// Set once the record is written.
    on_record: OnceCell<()>,
    pub(super) work: Work,
    pub(super) options: Options,
    pub(super) live: Arc<Live>,
    /// The prices that it was accepted at, and what it may cost.
    pub(super) terms: Terms,
}

/// Owns a query: runs it within its limits, settles it, and only then says how it ended.
pub(super) async fn drive(queries: Queries, flight: Flight) {
    let house = &queries.0;
    gauge!("wasmhouse_queries_running").increment(1.0);

    let landed = AssertUnwindSafe(run_on_record(house, &flight)).catch_unwind().await;
    let landed = landed.unwrap_or_else(|_| Err(Error::Internal("a panic while the query ran".into())));
    let denied = match &landed {
        Err(Error::Denied(what)) => Some(what.clone()),
        _ => None,
    };
    let changes_rights = landed.as_ref().is_ok_and(|landed| landed.effect.changes_rights());
    let record = settle(house, &flight, landed).await;
    flight.tell_spending(house, &record);
    if changes_rights {
        house.callers.forget();
    }
    if let Some(what) = denied {
        flight.write_down_denial(house, &what).await;
    }
    leftovers::remove(house, &flight, &record).await;

    report(&record, &flight.live.now());
    gauge!("wasmhouse_queries_running").decrement(1.0);
    flight.live.end(record);
    house.live.leave(&flight.record.id);
}

/// Runs a query that is recorded before anybody but its caller can want to know of it.
async fn run_on_record(house: &House, flight: &Flight) -> Result<Landed> {
    let mut run = pin!(within_limits(house, flight));
    // The run goes on meanwhile: it may be the one who writes the record, or hold what the writer waits for.
    let recorded = async {
        if !flight.is_recorded() {
            tokio::time::sleep(RECORD_AFTER).await;
        }
        flight.put_on_record(house).await
    };
    tokio::select! {
        landed = &mut run => landed,
        recorded = recorded => {
            recorded?;
            run.await
        }
    }
}

/// Runs until it lands, its time is up, or it is not wanted any more. Dropping the run kills its worker.
async fn within_limits(house: &House, flight: &Flight) -> Result<Landed> {
    let time = flight.time(house);
    tokio::select! {
        biased;
        () = flight.live.cancel.cancelled() => Err(SqlError::new(Code::Cancelled, "the query was cancelled").into()),
        () = flight.live.left.cancelled() => Err(SqlError::new(Code::Cancelled, "the caller left before the query ended").into()),
        landed = run(house, flight) => landed,
        () = tokio::time::sleep(time) => {
            let waited = flight.live.now().phase == "queued";
            let message = match waited {
                true => "no worker became free for the query",
                false => "the query did not end",
            };
            if !waited {
                flight.learn_at_least(house, time);
            }
            let message = format!("{message} in the {} ms it had; give it more with `timeout_ms`", time.as_millis());
            Err(SqlError::new(Code::Timeout, message).into())
        }
    }
}

async fn run(house: &House, flight: &Flight) -> Result<Landed> {
    let Flight {
        record, work, options, ..
    } = flight;
    let (project, dataset) = (&record.project, options.dataset.as_ref());
    let sight = flight.sight(house);
    if house.spending.bounds(&flight.caller.budgets) {
        house.spending.refresh(project, &flight.caller.budgets).await?;
    }
    // What it costs whatever it reads.
    flight.check_price(house, 0)?;
    match work {
        Work::Load(load) => {
            let target = target::of_load(house, sight, &record.id, load).await?;
            let action = Action::Load {
                staged: load.staged.path.clone(),
                cuts: load.staged.cuts.clone(),
                format: load.format.clone(),
                declared: load.declared.clone(),
                at: target.at.clone(),
                schema: target.schema.clone(),
            };
            work_on(house, flight, slice::Slice::default(), action, Some(target)).await
        }
        Work::Export {
            statement,
            name,
            format,
        } => {
            let slice = resolve(house, sight, options, statement, None).await?;
            let to = Bucket::export_path(project, name, &record.id)?.to_string();
            work_on(house, flight, slice, Action::Export { to, format: *format }, None).await
        }
        Work::Statement(statement) => match define(sight, dataset, &statement.kind).await? {
            Defined::Done => nothing(house, flight).await,
            Defined::Names { effect, lenient } => names(house, flight, effect, lenient).await,
            Defined::Truncate { at, uid } => truncate(house, flight, at, uid).await,
            Defined::NotHere => statement_on_worker(house, flight, statement).await,
        },
    }
}

/// A statement that only changes names: the end of the query is all there is to do.
async fn names(house: &House, flight: &Flight, effect: Effect, lenient: Lenient) -> Result<Landed> {
    Ok(Landed {
        effect,
        lenient,
        ..nothing(house, flight).await?
    })
}

async fn truncate(house: &House, flight: &Flight, at: TableLocation, uid: TableUid) -> Result<Landed> {
    let target = Target {
        at,
        schema: None,
        how: How::Truncate(uid),
    };
    let commit = Commit {
        target,
        files: Vec::new(),
        schema: String::new(),
    };
    Ok(Landed {
        commit: Some(commit),
        ..nothing(house, flight).await?
    })
}

async fn statement_on_worker(house: &House, flight: &Flight, statement: &Statement) -> Result<Landed> {
    let Flight { record, options, .. } = flight;
    let (sight, dataset) = (flight.sight(house), options.dataset.as_ref());
    match &statement.kind {
        Kind::Insert { into, .. } => {
            let name = slice::table_name(sight, dataset, into).await?;
            let Some(target) = target::of_statement(house, sight, dataset, &record.id, &statement.kind).await? else {
                return nothing(house, flight).await;
            };
            let slice = resolve(house, sight, options, statement, Some(&name)).await?;
            let action = Action::Write {
                at: target.at.clone(),
                schema: target.schema.clone(),
            };
            work_on(house, flight, slice, action, Some(target)).await
        }
        Kind::CreateTable { .. } => {
            let slice = resolve(house, sight, options, statement, None).await?;
            let Some(target) = target::of_statement(house, sight, dataset, &record.id, &statement.kind).await? else {
                return nothing(house, flight).await;
            };
            let action = Action::Write {
                at: target.at.clone(),
                schema: None,
            };
            work_on(house, flight, slice, action, Some(target)).await
        }
        Kind::CreateView {
            name: written,
            if_not_exists,
            or_replace,
            query,
        } => {
            let name = target::new_name(sight, dataset, written).await?;
            let there = sight.relation(&name).await?;
            if there.is_some() && *if_not_exists {
                return nothing(house, flight).await;
            }
            if let Some(relation) = there.filter(|relation| !*or_replace || relation.kind() == RelationKind::Table) {
                return Err(target::taken(&relation, written));
            }
            let slice = resolve(house, sight, options, statement, None).await?;
            if slice.relations.iter().any(|relation| *relation.name() == name) {
                let message = format!("the view {name} would read itself");
                return Err(SqlError::new(Code::InvalidSql, message).into());
            }
            let depends = own_reads(house, sight, options, statement).await?;
            let mut task = flight.task(house, slice, Action::Return);
            if *if_not_exists {
                // It was decided above, and the planner does not know it.
                task.sql.clone_from(query);
            }
            let planned = plan_only(house, task).await?;
            must_differ(&planned.schema)?;
            let view = View {
                sql: query.clone(),
                dialect: statement.dialect.to_string(),
                default_dataset: options.dataset.clone(),
                columns: planned.schema,
                depends,
            };
            let effect = Effect::CreateView {
                name,
                view,
                or_replace: *or_replace,
            };
            let lenient = if *if_not_exists { Lenient::Taken } else { Lenient::No };
            names(house, flight, effect, lenient).await
        }
        Kind::ShowGrants(what) => {
            let slice = shown(house, &flight.caller, what).await?;
            work_on(house, flight, slice, Action::Return, None).await
        }
        _ => {
            let slice = resolve(house, sight, options, statement, None).await?;
            work_on(house, flight, slice, Action::Return, None).await
        }
    }
}

/// A view is read by the names of its columns.
fn must_differ(schema: &str) -> Result<()> {
    let schema: Schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
    let mut names = HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => {
            let message = format!(
                "the view would have two columns called {}; give one of them another name with `as`",
                twice.name()
            );
            Err(SqlError::new(Code::InvalidSql, message).into())
        }
    }
}

pub(super) async fn resolve(
    house: &House,
    sight: Sight<'_>,
    options: &Options,
    statement: &Statement,
    also: Option<&TableName>,
) -> Result<slice::Slice> {
    let slice = slice::resolve(sight, options.dataset.as_ref(), statement, also, &house.limits).await?;
    Ok(slice::Slice {
        given: given(house, sight.caller(), statement).await?,
        ..slice
    })
}

/// The names that a view reads itself, not through other views.
async fn own_reads(
    house: &House,
    sight: Sight<'_>,
    options: &Options,
    statement: &Statement,
) -> Result<Vec<TableName>> {
    let mut names = Vec::with_capacity(statement.reads.len());
    for mention in &statement.reads {
        if mention.name.is_information_schema() {
            let message = "a view over information_schema is not supported; query it directly";
            return Err(SqlError::new(Code::NotSupported, message)
                .at(mention.name.line, mention.name.column)
                .into());
        }
        // A view that is read twice is written out twice.
        for _ in 0..mention.uses.min(house.limits.expansions) {
            names.push(slice::table_name(sight, options.dataset.as_ref(), &mention.name).await?);
        }
    }
    Ok(names)
}

impl Flight {
    /// The same, whose record is written.
    pub(super) fn recorded(self) -> Self {
        Self {
            on_record: OnceCell::new_with(Some(())),
            ..self
        }
    }

    /// A query whose record is a draft.
    pub(super) fn draft(
        record: QueryRecord,
        caller: Caller,
        work: Work,
        options: Options,
        live: Arc<Live>,
        terms: Terms,
    ) -> Self {
        Self {
            record,
            caller,
            on_record: OnceCell::new(),
            work,
            options,
            live,
            terms,
        }
    }

    /// Writes down that its caller was not let.
    async fn write_down_denial(&self, house: &House, what: &str) {
        let Self { record, caller, .. } = self;
        let what = what.split(':').next().unwrap_or(what);
        let deed = Deed::denied(&caller.actor, &record.kind, what).by_query(&record.id);
        if house.quotas.denial(&record.project).is_ok()
            && let Err(error) = house.audit.record(&record.project, &deed).await
        {
            error!(query.id = %record.id, "a denial was not written down: {}", causes(&error));
        }
    }

    /// What it has cost is kept until its line is read. One that has not ended may cost what was kept for it.
    fn tell_spending(&self, house: &House, record: &QueryRecord) {
        let (project, query) = (&record.project, &record.id);
        match (&record.cost, record.state.is_final()) {
            (Some(cost), true) => {
                let bytes = match cost.free {
                    None => record.usage.bytes_processed,
                    Some(_) => record.usage.bytes_read,
                };
                house.spending.settled(project, query, cost.amount, bytes);
            }
            (_, false) if self.is_recorded() => {}
            _ => house.spending.release(project, query),
        }
    }

    /// The catalog as its caller sees it.
    pub(super) fn sight<'a>(&'a self, house: &'a House) -> Sight<'a> {
        Sight::new(&house.catalog, &self.caller)
    }

    /// How long it may take.
    pub(super) fn time(&self, house: &House) -> Duration {
        let asked = self
            .options
            .timeout
            .unwrap_or(Duration::from_millis(house.config.timeout_ms));
        asked.min(Duration::from_millis(house.config.timeout_max_ms))
    }

    /// What is left of it now.
    pub(super) fn time_left(&self, house: &House) -> Duration {
        let gone = house.clock.now().since(self.record.created_at);
        self.time(house).saturating_sub(gone)
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.on_record.initialized()
    }

    /// Writes the record unless it is written.
    pub(super) async fn put_on_record(&self, house: &House) -> Result<()> {
        self.on_record
            .get_or_try_init(async || house.records.write(&self.record).await)
            .await?;
        Ok(())
    }

    pub(super) fn task(&self, house: &House, slice: slice::Slice, action: Action) -> Task {
        let mut task = task(
            house,
            &self.record.id,
            &self.record.project,
            self.record.created_at,
            slice.query.as_deref().unwrap_or(self.text()).to_owned(),
            &self.options,
            slice,
            action,
        );
        // What names no table processes nothing.
        if !task.relations.is_empty() {
            let within = self.terms.bytes_within(self.bytes_loaded()).unwrap_or(0);
            task.unasked_bytes = task.unasked_bytes.map(|most| most.min(within));
        }
        // It needs others, however little it reads, or what it costs is compared with what others cost.
        if self.workers(house, None) > 1 || house.spending.bounds(&self.caller.budgets) {
            task.unasked_bytes = None;
        }
        task
    }

    /// Bytes of the file that it loads.
    pub(super) fn bytes_loaded(&self) -> u64 {
        match &self.work {
            Work::Load(load) => load.staged.bytes,
            Work::Statement(_) | Work::Export { .. } => 0,
        }
    }

    /// Refused if it would process so many bytes, and that or what they cost is more than it may, or than is left of a budget. From
    /// now on that is kept for it.
    pub(super) fn check_price(&self, house: &House, bytes_processed: u64) -> Result<()> {
        let counts = Counts {
            bytes_processed,
            bytes_loaded: self.bytes_loaded(),
        };
        if let Err(refusal) = self.terms.check(counts) {
            // It says what the query would cost, as a dry run does.
            house.quotas.quote(&self.record.project)?;
            return Err(refusal);
        }
        let Self { record, caller, .. } = self;
        if !house.spending.bounds(&caller.budgets) {
            return Ok(());
        }
        let cost = self.terms.cost(counts)?.amount;
        let scopes = scopes(Some(caller.actor.who.to_string()), record.labels.clone().into_iter());
        let wanted = Reserved {
            scopes,
            cost,
            bytes: bytes_processed,
        };
        let knows = |scope: &Scope| {
            let is_own = *scope == Scope::User(caller.actor.who.to_string());
            is_own || caller.can(Act::ReadBills)
        };
        let (project, budgets) = (&record.project, &caller.budgets);
        let due = house.spending.reserve(project, budgets, &record.id, wanted, knows)?;
        let warnings = due.iter().map(|spent| spent.line(knows(&spent.budget.scope))).collect();
        self.live.tell(|now| now.warnings = warnings);
        Ok(())
    }

    fn text(&self) -> &str {
        match &self.work {
            Work::Statement(statement) | Work::Export { statement, .. } => &statement.text,
            Work::Load(_) => "",
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the one place where a task is put together")]
pub(super) fn task(
    house: &House,
    query: &QueryId,
    project: &ProjectId,
    now: Timestamp,
    sql: String,
    options: &Options,
    slice: slice::Slice,
    action: Action,
) -> Task {
    Task {
        query: query.clone(),
        attempt: 0,
        project: project.clone(),
        dataset: options.dataset.clone(),
        sql,
        action,
        relations: slice.relations,
        listed: slice.listed,
        datasets: slice.datasets,
        given: slice.given,
        params: options.params.clone(),
        settings: options.settings.clone(),
        now_us: now.micros(),
        // What needs no other worker needs no further word.
        unasked_bytes: Some(house.config.bytes_of_one_worker()),
        may_be_shared: house.config.workers_max > 1,
    }
}
