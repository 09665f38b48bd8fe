//! The life of a query: admit, plan, run, settle.
//!
//! # Invariants
//! - One task owns a query from its record to its end; see [`flight`].
//! - A caller reads the end only after the record and the ledger hold it.
//! - Rows leave the gateway only when the attempt that made them can no longer be retried.

mod attempt;
mod define;
mod flight;
mod settle;
mod slice;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasmhouse_compute::cluster::Pool;
use wasmhouse_compute::params::Params;
use wasmhouse_compute::sql::{self, Limits, Statement};
use wasmhouse_compute::task::{ExportFormat, LoadFormat, Planned, Progress};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::{DatasetName, ProjectId, QueryId, TableName};
use wasmhouse_storage::queries::{Created, Filter, NewQuery, Queries as Records, QueryRecord};
use wasmhouse_storage::results::{ResultManifest, ResultReader};
use wasmhouse_storage::tables::Tables;

use crate::access::Caller;
use crate::config::QueryConfig;
use crate::error::{Error, Result};
use flight::Flight;

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
    tables: Tables,
    bucket: Bucket,
    pool: Pool,
    clock: Clock,
    /// This gateway, as the owner of its queries.
    owner: String,
    live: Mutex<HashMap<QueryId, Arc<Live>>>,
}

/// What is asked beside the statement itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Where a name of one part is looked up.
    pub(crate) dataset: Option<DatasetName>,
    /// Values for placeholders.
    pub(crate) params: Params,
    /// Options of the engine that last for this query.
    pub(crate) settings: BTreeMap<String, String>,
    /// Refuse before running if it would read more.
    pub(crate) max_bytes: Option<u64>,
    /// Time it has.
    pub(crate) timeout: Option<Duration>,
    /// For the caller's own accounting.
    pub(crate) labels: BTreeMap<String, String>,
    /// Makes a retry of the same request find the first one.
    pub(crate) request_id: Option<String>,
}

/// What a query is to do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// One statement.
    Statement(Statement),
    /// A staged upload into a table.
    Load(Load),
    /// A query into files of the project's bucket.
    Export {
        /// The query.
        statement: Statement,
        /// The folder, below the project's exports.
        name: String,
        /// How to write.
        format: ExportFormat,
    },
}

/// A staged upload and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The table.
    pub(crate) into: TableName,
    /// What to do with what is there.
    pub(crate) mode: LoadMode,
    /// How to read it.
    pub(crate) format: LoadFormat,
    /// Columns as SQL declares them.
    pub(crate) declared: Option<String>,
    /// Where the upload was staged.
    pub(crate) staged: String,
}

/// What a load does with the rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadMode {
    /// They stay; the table is created if it is not there.
    Append,
    /// There must be no such table.
    Create,
    /// They go, and the table's columns with them.
    Replace,
}

/// A query that this gateway runs now.
pub(crate) struct Live {
    cancel: CancellationToken,
    /// Nobody waits any more for a query that was only run for the one who waited.
    left: CancellationToken,
    now: Mutex<Now>,
    end: watch::Sender<Option<Arc<Ended>>>,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// `queued`, `planning`, `running`, `committing`.
    pub(crate) phase: &'static str,
    /// Rows and bytes so far.
    pub(crate) progress: Progress,
    /// What it reads, once it is planned.
    pub(crate) planned: Option<Planned>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last state of its record.
    pub(crate) record: QueryRecord,
}

/// A query that was accepted.
pub(crate) struct Accepted {
    /// Its record when it was accepted, or when it was accepted the first time.
    pub(crate) record: QueryRecord,
    live: Option<Arc<Live>>,
}

/// What a query would do.
#[derive(Clone, Debug)]
pub(crate) struct DryRun {
    /// What it would read and the columns that would come out.
    pub(crate) planned: Planned,
    /// The names of the tables it would read, by location.
    pub(crate) names: Vec<(TableName, wasmhouse_storage::tables::TableLocation)>,
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
        records: Records,
        tables: Tables,
        bucket: Bucket,
        pool: Pool,
        clock: Clock,
    ) -> Self {
        let owner = format!("gateway-{:016x}", rand::random::<u64>());
        let limits = Limits::default();
        let live = Mutex::default();
        Self(Arc::new(House {
            config,
            lease,
            limits,
            catalog,
            records,
            tables,
            bucket,
            pool,
            clock,
            owner,
            live,
        }))
    }

    /// Reads the text as one statement that a tenant may send.
    pub(crate) fn parse(&self, sql: &str) -> Result<Statement> {
        Ok(sql::parse(sql, &self.0.limits)?)
    }

    /// Runs one statement to its end. A caller who stops waiting stops the query.
    pub(crate) async fn run(&self, caller: &Caller, statement: Statement, options: Options) -> Result<Arc<Ended>> {
        let accepted = self.create(caller, Work::Statement(statement), options).await?;
        let Some(live) = accepted.live else {
            return Ok(Arc::new(Ended {
                record: accepted.record,
            }));
        };
        let leaving = live.left.clone().drop_guard();
        let ended = wait_for_end(&live).await;
        leaving.disarm();
        Ok(ended)
    }

    /// Accepts a query. It runs whether or not anybody waits for it.
    pub(crate) async fn create(&self, caller: &Caller, work: Work, options: Options) -> Result<Accepted> {
        let house = &self.0;
        let now = house.clock.now();
        let new = NewQuery {
            id: QueryId::new(now),
            project: caller.project.clone(),
            request_id: options.request_id.clone(),
            sql: work.text(),
            kind: work.word().to_owned(),
            labels: options.labels.clone(),
            owner: house.owner.clone(),
            lease_until: now.plus(house.lease),
            started: true,
        };
        let record = match house.records.create(new).await? {
            Created::New(record) => record,
            Created::Existing(record) => {
                let live = self.live(&record.id);
                return Ok(Accepted { record, live });
            }
        };
        let live = Arc::new(Live {
            cancel: CancellationToken::new(),
            left: CancellationToken::new(),
            now: Mutex::new(Now {
                phase: "queued",
                ..Now::default()
            }),
            end: watch::Sender::new(None),
        });
        self.lock().insert(record.id.clone(), Arc::clone(&live));
        let flight = Flight {
            record: record.clone(),
            work,
            options,
            live: Arc::clone(&live),
        };
        // The task owns the query; it is awaited through `end`, and at shutdown through `drain`.
        tokio::spawn(flight::drive(self.clone(), flight));
        Ok(Accepted {
            record,
            live: Some(live),
        })
    }

    /// Waits for the end of a query, at most `patience`. None when it still runs.
    pub(crate) async fn wait(&self, accepted: &Accepted, patience: Duration) -> Option<Arc<Ended>> {
        let Some(live) = &accepted.live else {
            return Some(Arc::new(Ended {
                record: accepted.record.clone(),
            }));
        };
        tokio::time::timeout(patience, wait_for_end(live)).await.ok()
    }

    /// What the statement would read, without reading it.
    pub(crate) async fn dry_run(&self, caller: &Caller, statement: Statement, options: Options) -> Result<DryRun> {
        flight::dry_run(&self.0, caller, statement, options).await
    }

    /// One query of the caller's project.
    pub(crate) async fn get(&self, caller: &Caller, id: &QueryId) -> Result<Accepted> {
        let live = self.live(id);
        let record = self
            .0
            .records
            .get(&caller.project, id)
            .await?
            .ok_or_else(|| unknown(id))?;
        Ok(Accepted {
            live: live.filter(|_| !record.state.is_final()),
            record,
        })
    }

    /// The project's queries, newest first.
    pub(crate) async fn list(&self, caller: &Caller, filter: &Filter) -> Result<Vec<QueryRecord>> {
        Ok(self.0.records.list(&caller.project, filter).await?)
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
        self.live(id).map(|live| live.now())
    }

    /// The rows of a query that is done, while they are kept.
    pub(crate) fn results(&self, record: &QueryRecord) -> Result<(ResultReader, ResultManifest)> {
        let id = &record.id;
        if !record.state.is_final() {
            return Err(Error::Conflict(format!(
                "query {id} has not ended; wait for it, then ask again"
            )));
        }
        if let Some(error) = &record.error {
            return Err(Error::Query {
                id: id.clone(),
                error: error.clone(),
                state: record.state,
            });
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

    /// How long ago a query was created.
    pub(crate) fn age(&self, record: &QueryRecord) -> Duration {
        self.0.clock.now().since(record.created_at)
    }

    /// When the results of a query that ended then can no longer be read.
    pub(crate) fn results_kept(&self) -> Duration {
        Duration::from_secs(self.0.config.results_hours * 3600)
    }

    /// Where an upload of this project is staged, and under which name.
    pub(crate) fn staging(&self, project: &ProjectId) -> object_store::path::Path {
        Bucket::staging_path(project, &QueryId::new(self.0.clock.now()))
    }

    /// Where staged uploads are written.
    pub(crate) fn store(&self) -> Arc<dyn object_store::ObjectStore> {
        self.0.bucket.store()
    }

    /// Says that this gateway lives, and hears which of its queries others want stopped.
    pub(crate) async fn renew(&self) -> Result<()> {
        let until = self.0.clock.now().plus(self.0.lease);
        self.0.records.renew(&self.0.owner, until).await?;
        for id in self.0.records.cancel_requests(&self.0.owner).await? {
            if let Some(live) = self.live(&id) {
                live.cancel.cancel();
            }
        }
        Ok(())
    }

    /// How many queries run here now.
    pub(crate) fn running(&self) -> usize {
        self.lock().len()
    }

    /// Waits until no query runs here, at most `patience`.
    pub(crate) async fn drain(&self, patience: Duration) {
        let live: Vec<Arc<Live>> = self.lock().values().cloned().collect();
        let ends = futures::future::join_all(live.iter().map(|live| wait_for_end(live)));
        if tokio::time::timeout(patience, ends).await.is_err() {
            // Those that are left are handed back: their leases lapse and upkeep marks them lost, which is not billed.
            tracing::warn!(
                queries = self.running(),
                "{} queries did not end in time",
                self.running()
            );
        }
    }

    fn live(&self, id: &QueryId) -> Option<Arc<Live>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<QueryId, Arc<Live>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepted {
    /// True while it runs here.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }
}

impl Work {
    /// The text in its record.
    fn text(&self) -> String {
        match self {
            Work::Statement(statement) | Work::Export { statement, .. } => statement.text.clone(),
            Work::Load(load) => format!("-- load into {}", load.into),
        }
    }

    /// The kind in its record.
    fn word(&self) -> &'static str {
        match self {
            Work::Statement(statement) => statement.kind.word(),
            Work::Export { .. } => "export",
            Work::Load(_) => "load",
        }
    }
}

impl Live {
    fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn wait_for_end(live: &Live) -> Arc<Ended> {
    let mut end = live.end.subscribe();
    let ended = end
        .wait_for(Option::is_some)
        .await
        .expect("the sender lives as long as the query");
    ended.clone().expect("the condition was that it is there")
}

fn unknown(id: &QueryId) -> Error {
    Error::NotFound(format!("no query {id}"))
}
