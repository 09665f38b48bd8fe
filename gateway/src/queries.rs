//! The life of a query: admit, plan, run, settle.
//!
//! # Invariants
//! - One task owns a query from before its record to its end; see [`flight`].
//! - A caller reads the end only after the record and the ledger hold it.
//! - Rows leave the gateway only when the attempt that made them can no longer be retried.

mod attempt;
mod crew;
mod define;
mod dry_run;
mod flight;
mod given;
mod history;
mod landed;
mod leftovers;
mod live;
mod means;
mod settle;
mod slice;
mod staging;
mod target;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use wasmhouse_compute::cluster::Pool;
use wasmhouse_compute::profile::Profile;
use wasmhouse_compute::sql::{self, Limits, Statement};
use wasmhouse_compute::task::Planned;
use wasmhouse_storage::audit::Audit;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::{QueryId, TableName};
use wasmhouse_storage::ledger::Ledger;
use wasmhouse_storage::money::{Cost, Money};
use wasmhouse_storage::people::People;
use wasmhouse_storage::queries::{Created, Filter, NewQuery, Queries as Records, QueryRecord};
use wasmhouse_storage::results::{ResultManifest, ResultReader};
use wasmhouse_storage::tables::Tables;

use self::history::History;
use crate::access::{Act, Caller};
use crate::admission::Admission;
use crate::billing::Billing;
use crate::billing::spending::Spending;
use crate::callers::Callers;
use crate::config::QueryConfig;
use crate::error::{Error, Result};
use crate::quotas::Quotas;
use flight::Flight;
use live::{Live, LiveQueries};

pub(crate) use live::{Ended, Now};
pub(crate) use staging::Staged;
pub(crate) use work::{Load, LoadMode, Options, Work};

/// How long one look at a query that somebody waits for to its end lasts.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How often the record of another gateway's query is looked at while somebody waits for its end.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Statements, loads and exports, from the request to the ledger line. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queries(Arc<House>);

/// What every query of this gateway shares.
struct House {
    config: QueryConfig,
    lease: Duration,
    limits: Limits,
    catalog: Catalog,
    records: Records,
    people: People,
    audit: Audit,
    ledger: Ledger,
    /// Turns to make tables of `information_schema`.
    given: Semaphore,
    callers: Callers,
    tables: Tables,
    bucket: Bucket,
    admission: Admission,
    quotas: Quotas,
    spending: Spending,
    billing: Billing,
    pool: Pool,
    history: History,
    clock: Clock,
    /// This gateway, as the owner of its queries.
    owner: String,
    live: LiveQueries,
}

/// A query that was accepted.
pub(crate) struct Accepted {
    /// Its record when it was accepted, or when it was accepted the first time.
    pub(crate) record: QueryRecord,
    live: Option<Arc<Live>>,
}

impl Accepted {
    fn of(flight: &Flight) -> Self {
        Self {
            record: flight.record.clone(),
            live: Some(Arc::clone(&flight.live)),
        }
    }
}

/// What became of a query that somebody asked for.
enum Begun {
    /// It has a record and is to be driven.
    New(Box<Flight>),
    /// The same request was accepted earlier.
    Known(Box<Accepted>),
}

/// What a query would do.
#[derive(Clone, Debug)]
pub(crate) struct DryRun {
    /// What it would read and the columns that would come out.
    pub(crate) planned: Planned,
    /// The names of the tables it would read, by location.
    pub(crate) names: Vec<(TableName, wasmhouse_storage::tables::TableLocation)>,
    /// What it would cost,
    pub(crate) cost: Cost,
    /// and what it may.
    pub(crate) max_cost: Money,
}

impl Queries {
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where the parts of the house are handed over"
    )]
    pub(crate) fn new(
        config: QueryConfig,
        lease: Duration,
        catalog: Catalog,
        callers: Callers,
        records: Records,
        tables: Tables,
        bucket: Bucket,
        admission: Admission,
        quotas: Quotas,
        spending: Spending,
        billing: Billing,
        pool: Pool,
        clock: Clock,
        owner: String,
    ) -> Self {
        let limits = Limits::default();
        let live = LiveQueries::default();
        Self(Arc::new(House {
            config,
            lease,
            limits,
            people: People::new(&catalog),
            audit: Audit::new(&catalog),
            ledger: Ledger::new(&catalog),
            given: Semaphore::new(given::MADE_AT_ONCE),
            callers,
            catalog,
            records,
            tables,
            bucket,
            admission,
            quotas,
            spending,
            billing,
            pool,
            history: History::new(),
            clock,
            owner,
            live,
        }))
    }

    /// Reads the text as one statement that a tenant may send, in the dialect that its settings ask for.
    pub(crate) fn parse(&self, sql: &str, settings: &BTreeMap<String, String>) -> Result<Statement> {
        Ok(sql::parse(sql, sql::dialect_of(settings)?, &self.0.limits)?)
    }

    /// Runs one statement to its end. A caller who stops waiting stops the query.
    pub(crate) async fn run(&self, caller: &Caller, statement: Statement, options: Options) -> Result<Arc<Ended>> {
        let left = CancellationToken::new();
        // A query that another request has made is not this one's to stop: it does not hear this token.
        let leaving = left.clone().drop_guard();
        let work = Work::Statement(statement);
        let accepted = match work.leaves_no_trace(&options) {
            true => self.draft(caller, work, options, left)?,
            false => self.accept(caller, work, options, left).await?,
        };
        let ended = loop {
            // One that another gateway runs may take as long as it takes.
            if let Some(ended) = self.wait(&accepted, LOOK_AGAIN_AFTER).await {
                break ended;
            }
        };
        leaving.disarm();
        Ok(ended)
    }

    /// Accepts a query. It runs whether or not anybody waits for it.
    pub(crate) async fn create(&self, caller: &Caller, work: Work, options: Options) -> Result<Accepted> {
        self.accept(caller, work, options, CancellationToken::new()).await
    }

    /// Accepts a query that is recorded when it has ended, or has run for a while: until it ends nobody is told its id.
    fn draft(&self, caller: &Caller, work: Work, options: Options, left: CancellationToken) -> Result<Accepted> {
        let house = &self.0;
        caller.may(Act::Run)?;
        house.admission.refuse_if_full(&caller.project)?;
        let record = house.records.draft(self.new_query(caller, &work, &options))?;
        let live = house.live.enter(&record.id, left);
        let flight = self.flight(record, caller.clone(), work, options, live);
        let accepted = Accepted::of(&flight);
        // It is awaited through its end, and at shutdown through `drain`.
        tokio::spawn(flight::drive(self.clone(), flight));
        Ok(accepted)
    }

    /// Accepts a query that is recorded before it runs, so that it can be looked at, stopped and found again.
    async fn accept(&self, caller: &Caller, work: Work, options: Options, left: CancellationToken) -> Result<Accepted> {
        caller.may(Act::Run)?;
        let (queries, caller) = (self.clone(), caller.clone());
        let (accepted, told) = oneshot::channel();
        // One task owns the query from before its record is written, so a caller who leaves in the middle leaves no
        // record that nobody drives. It is awaited through its end, and at shutdown through `drain`.
        tokio::spawn(async move {
            match queries.begin(caller, work, options, left).await {
                Ok(Begun::New(flight)) => {
                    let _ = accepted.send(Ok(Accepted::of(&flight)));
                    flight::drive(queries, *flight).await;
                }
                Ok(Begun::Known(known)) => {
                    let _ = accepted.send(Ok(*known));
                }
                Err(error) => {
                    let _ = accepted.send(Err(error));
                }
            }
        });
        told.await.map_err(|error| Error::Internal(error.into()))?
    }

    async fn begin(&self, caller: Caller, work: Work, options: Options, left: CancellationToken) -> Result<Begun> {
        let house = &self.0;
        let project = &caller.project;
        let new = self.new_query(&caller, &work, &options);
        if let Err(full) = house.admission.refuse_if_full(project) {
            // What was accepted earlier was not refused.
            let known = house.records.of_request(
                project,
                Some(&new.asked_by.who),
                new.request_id.as_deref(),
                &new.fingerprint,
            );
            let known = known.await?.ok_or(full)?;
            return self.known(&caller, &known).await;
        }
        let id = new.id.clone();
        let live = house.live.enter(&id, left);
        match house.records.create(new).await {
            Ok(Created::New(record)) => {
                let flight = self.flight(record, caller, work, options, live).recorded();
                Ok(Begun::New(Box::new(flight)))
            }
            Ok(Created::Existing(record)) => {
                house.live.leave(&id);
                self.known(&caller, &record).await
            }
            Err(error) => {
                house.live.leave(&id);
                Err(error.into())
            }
        }
    }

    /// What the same request was accepted as earlier, if it was the same caller's.
    async fn known(&self, caller: &Caller, record: &QueryRecord) -> Result<Begun> {
        // It may have ended since it was found.
        match self.get(caller, &record.id).await {
            Ok(known) => Ok(Begun::Known(Box::new(known))),
            Err(Error::NotFound(_)) => Err(Error::Conflict(
                "somebody else has sent a request with this request id; choose another".to_owned(),
            )),
            Err(error) => Err(error),
        }
    }

    /// The prices of a query are those of the moment when it was accepted.
    fn flight(&self, record: QueryRecord, caller: Caller, work: Work, options: Options, live: Arc<Live>) -> Flight {
        let terms = self.0.billing.terms(record.created_at, options.most(), caller.defaults);
        Flight::draft(record, caller, work, options, live, terms)
    }

    fn new_query(&self, caller: &Caller, work: &Work, options: &Options) -> NewQuery {
        let house = &self.0;
        let now = house.clock.now();
        NewQuery {
            id: work.id().unwrap_or_else(|| QueryId::new(now)),
            project: caller.project.clone(),
            asked_by: caller.actor.clone(),
            request_id: options.request_id.clone(),
            fingerprint: work.fingerprint(options),
            sql: work.text(),
            kind: work.word().to_owned(),
            labels: options.labels.clone(),
            owner: house.owner.clone(),
            lease_until: now.plus(house.lease),
            // A query that must wait for a worker says so, which is one more wait for the disk.
            started: house.admission.has_room(&caller.project),
        }
    }

    /// Waits for the end of a query, at most `patience`. None when it still runs.
    pub(crate) async fn wait(&self, accepted: &Accepted, patience: Duration) -> Option<Arc<Ended>> {
        let Some(live) = &accepted.live else {
            return self.wait_for_record(&accepted.record, patience).await;
        };
        tokio::time::timeout(patience, live.ended()).await.ok()
    }

    /// Waits for the end of a query that another gateway runs, of which there is only the record to look at.
    async fn wait_for_record(&self, record: &QueryRecord, patience: Duration) -> Option<Arc<Ended>> {
        let until = tokio::time::Instant::now() + patience;
        let mut record = record.clone();
        while !record.state.is_final() {
            let next = tokio::time::Instant::now() + LOOK_EVERY;
            if next > until {
                return None;
            }
            tokio::time::sleep_until(next).await;
            // While the database does not answer there is nothing new to say.
            if let Ok(Some(newer)) = self.0.records.get(&record.project, &record.id).await {
                record = newer;
            }
        }
        let warnings = Vec::new();
        Some(Arc::new(Ended { record, warnings }))
    }

    /// What the statement would read, without reading it.
    pub(crate) async fn dry_run(&self, caller: &Caller, statement: Statement, options: Options) -> Result<DryRun> {
        dry_run::dry_run(&self.0, caller, statement, options).await
    }

    /// One of the caller's queries, or of his project's if he may see those of others.
    pub(crate) async fn get(&self, caller: &Caller, id: &QueryId) -> Result<Accepted> {
        // In this order: a query that has left since is one whose record has its end.
        let live = self.0.live.get(id);
        let record = self.0.records.get(&caller.project, id).await?;
        let record = record
            .filter(|record| is_seen(caller, record))
            .ok_or_else(|| unknown(id))?;
        Ok(Accepted {
            live: live.filter(|_| !record.state.is_final()),
            record,
        })
    }

    /// The project's queries that the caller may see, newest first.
    pub(crate) async fn list(&self, caller: &Caller, filter: Filter) -> Result<Vec<QueryRecord>> {
        match visible(caller, filter) {
            Some(filter) => Ok(self.0.records.list(&caller.project, &filter).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Asks a query to stop. It has stopped when its record says so.
    pub(crate) async fn cancel(&self, caller: &Caller, id: &QueryId) -> Result<Accepted> {
        let accepted = self.get(caller, id).await?;
        if !accepted.record.state.is_final() {
            self.0.records.request_cancel(&caller.project, id).await?;
            if let Some(live) = &accepted.live {
                live.cancel.cancel();
            }
        }
        Ok(accepted)
    }

    /// How far a query of this gateway has come.
    pub(crate) fn now(&self, id: &QueryId) -> Option<Now> {
        self.0.live.get(id).map(|live| live.now())
    }

    /// The rows of a query that is done, while they are kept.
    pub(crate) fn results(&self, record: &QueryRecord) -> Result<(ResultReader, ResultManifest)> {
        let id = &record.id;
        if let Some(error) = &record.error {
            return Err(Error::Query {
                id: id.clone(),
                error: error.clone(),
                state: record.state,
            });
        }
        if !record.state.is_final() {
            return Err(Error::Conflict(format!(
                "query {id} has not ended; wait for it, then ask again"
            )));
        }
        if record.results_expired {
            return Err(Error::NotFound(format!(
                "the results of query {id} have expired; run it again"
            )));
        }
        let manifest = record
            .results
            .as_ref()
            .ok_or_else(|| Error::NotFound(format!("query {id} has no results")))?;
        let manifest: ResultManifest = serde_json::from_str(manifest).map_err(|error| Error::Internal(error.into()))?;
        let reader = ResultReader::open(self.0.bucket.store(), &manifest)?;
        Ok((reader, manifest))
    }

    /// How the plan of a query ran.
    pub(crate) async fn profile(&self, caller: &Caller, id: &QueryId) -> Result<Profile> {
        let accepted = self.get(caller, id).await?;
        if !accepted.record.state.is_final() {
            return Err(Error::Conflict(format!(
                "query {id} has not ended; its profile is there when it has"
            )));
        }
        let profile = self.0.records.profile(&accepted.record.project, id).await?;
        let profile = profile.ok_or_else(|| {
            Error::NotFound(format!(
                "query {id} has no profile: it had no plan worth one, was stopped before its plan had ended, or is too long ago"
            ))
        })?;
        serde_json::from_str(&profile).map_err(|error| Error::Internal(error.into()))
    }

    /// How long ago a query was created.
    pub(crate) fn age(&self, record: &QueryRecord) -> Duration {
        self.0.clock.now().since(record.created_at)
    }

    /// How long results are kept.
    pub(crate) fn results_kept(&self) -> Duration {
        Duration::from_secs(self.0.config.results_hours * 3600)
    }

    /// Says that this gateway lives and which queries it looks after.
    pub(crate) async fn renew(&self) -> Result<()> {
        let until = self.0.clock.now().plus(self.0.lease);
        self.0.records.renew(&self.0.owner, &self.0.live.ids(), until).await?;
        Ok(())
    }

    /// Stops those of its queries that callers of other gateways want stopped.
    pub(crate) async fn hear_cancel_requests(&self) -> Result<()> {
        if self.running() == 0 {
            return Ok(());
        }
        for id in self.0.records.cancel_requests(&self.0.owner).await? {
            if let Some(live) = self.0.live.get(&id) {
                live.cancel.cancel();
            }
        }
        Ok(())
    }

    /// How many queries run here now.
    pub(crate) fn running(&self) -> usize {
        self.0.live.count()
    }

    /// Waits until no query runs here, at most `patience`.
    pub(crate) async fn drain(&self, patience: Duration) {
        let left = async {
            while self.running() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(patience, left).await.is_err() {
            // Those that are left are handed back: their leases lapse and upkeep marks them lost, which is not billed.
            tracing::warn!(
                queries = self.running(),
                "{} queries did not end in time",
                self.running()
            );
        }
    }
}

/// The filter that passes what the caller may see of what `filter` does. None: nothing.
fn visible(caller: &Caller, filter: Filter) -> Option<Filter> {
    let own = &caller.actor;
    match caller.can(Act::SeeQueries) {
        true => Some(filter),
        false if filter.asked_by.as_ref().is_none_or(|who| *who == own.who) => Some(Filter {
            asked_by: Some(own.who.clone()),
            with_key: own.key.clone().filter(|_| caller.is_scoped() || caller.is_by_token()),
            with_token: own.token.clone(),
            ..filter
        }),
        false => None,
    }
}

/// Whether a query is there for the caller.
fn is_seen(caller: &Caller, record: &QueryRecord) -> bool {
    let is_own = record.asked_by.as_ref().is_some_and(|actor| caller.has_done(actor));
    is_own || caller.can(Act::SeeQueries)
}

fn unknown(id: &QueryId) -> Error {
    Error::NotFound(format!("no query {id}"))
}
