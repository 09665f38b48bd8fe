//! A part of a query whose head is another worker, or this one: the session that its plan is read and run in.
//!
//! # Invariants
//! - Nothing is done without a ticket for the attempt at a query that this worker serves.
//! - The session has the functions and options that the head's session has: the plan names functions, and brings neither.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    DistributedExec, DistributedExt, DistributedMetricsFormat, LocalWorkerContext, SessionStateBuilderExt, Worker,
    WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerPlanRewriteHandler, WorkerQueryContext,
    WorkerResolver, WorkerSessionBuilder, rewrite_distributed_plan_with_metrics,
};
use datafusion_proto::physical_plan::{ComposedPhysicalExtensionCodec, PhysicalExtensionCodec};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tonic::Status;
use url::{Host, Url};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::tables::arrived;

use super::guard::guarded;
use super::load::{self, LoadCodec};
use super::meter::{Gauge, Ran};
use super::order::SortForWindows;
use super::share;
use super::sink::{Sink, SinkCodec, SinkPlanner};
use super::whole;
use crate::cluster::{Channels, Errand, Inspector, PublicKey};
use crate::session::Engine;
use crate::task::{Go, Task};
use crate::{Error, Result};

/// How the ticket travels.
const TICKET: HeaderName = http::header::AUTHORIZATION;

/// How the session's options travel: JSON in base64, since a value may be any text.
const OPTIONS: HeaderName = HeaderName::from_static("wasmhouse-session");

/// What the options of a shared query may have. A request whose headers have more than 16 KiB is refused, and this is made longer
/// by base64, and by JSON.
const OPTIONS_BYTES: usize = 4 << 10;

/// How long workers may take to say what they counted, when the rows are there.
const METRICS_TIMEOUT: Duration = Duration::from_millis(50);

/// How many partitions each worker's part of a shared plan may have: with one there are no exchanges, and nothing to share; each
/// of very many opens a connection to every other worker.
const PARTITIONS_OF_SHARED_PLAN: RangeInclusive<usize> = 2..=64;

/// How many times smaller a file is than the logical bytes in it, more or less.
const PACKED: u64 = 4;

/// What a session needs to know that the plan does not say.
#[derive(Debug, Serialize, Deserialize)]
struct Options {
    settings: BTreeMap<String, String>,
    now_us: i64,
}

/// What a worker needs to do parts of queries.
#[derive(Clone)]
pub(super) struct Tasks {
    pub(super) engine: Arc<Engine>,
    pub(super) bucket: Bucket,
    pub(super) inspector: Arc<Inspector>,
    pub(super) channels: Channels,
    /// What its gateway has last sent it on.
    pub(super) errand: Arc<Mutex<Option<Errand>>>,
    /// What it uses for it.
    pub(super) gauge: Gauge,
}

impl Tasks {
    /// From now on this worker is for this errand, and for no other.
    pub(super) fn begin(&self, errand: &Errand) {
        *self.errand() = Some(errand.clone());
    }

    /// Other workers of the errand may ask for parts of it, with tickets that this key checks.
    pub(super) fn share(&self, tickets: &PublicKey) {
        self.inspector.trust(tickets);
    }

    /// Whether that is what the worker is on, or it is on nothing.
    pub(super) fn is_on(&self, errand: &Errand) -> bool {
        self.errand().as_ref().is_none_or(|own| own == errand)
    }

    fn errand(&self) -> MutexGuard<'_, Option<Errand>> {
        self.errand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in that shows the ticket of the errand that this worker is on.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        let ticket = headers
            .get(TICKET)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|ticket| self.inspector.inspect(ticket))
            .ok_or_else(|| Status::unauthenticated("not for you"))?;
        // Only the gateway says what this worker is on: a ticket, which other workers hold too, does not.
        match self.errand().as_ref() == Some(&ticket.errand) {
            true => Ok(()),
            false => Err(Status::permission_denied("this worker serves another query")),
        }
    }

    /// The session of a head that has other workers: the same, with a planner that gives them their parts.
    pub(super) fn session_of_head(
        &self,
        state: &SessionState,
        task: &Task,
        go: &Go,
        (bytes, largest_scan): (u64, Option<u64>),
        sink: Option<(Arc<Sink>, Arc<AtomicU64>)>,
        this: LocalWorkerContext,
    ) -> Result<SessionState, Error> {
        let (fewest, most) = PARTITIONS_OF_SHARED_PLAN.into_inner();
        let of_each = state.config().target_partitions().clamp(fewest, most);
        let partitions = (go.workers.len() * of_each) as u64;
        let headers = headers(task, go).map_err(Error::Internal)?;
        let mut state = state.clone();
        let options = state.config_mut().options_mut();
        options.execution.target_partitions = of_each;
        // What a join has found out on one worker is true of its own rows; the scans of its head's process would hear of it, and
        // those that are sent late would be told. A filter of other types than its scan's columns does not even arrive.
        options.optimizer.enable_join_dynamic_filter_pushdown = false;
        let mut builder = SessionStateBuilder::new_from_existing(state.clone());
        if let Some((sink, count)) = sink {
            builder = builder.with_query_planner(Arc::new(SinkPlanner {
                of_rows: Arc::clone(state.query_planner()),
                sink,
                bucket: self.bucket.clone(),
                count,
            }));
        }
        let builder = builder
            .with_distributed_user_codec(SinkCodec(self.bucket.clone()))
            .with_distributed_user_codec(LoadCodec(self.bucket.clone()))
            .with_distributed_desired_task_count_handler(load::desired_tasks)
            .with_distributed_desired_task_count_handler(whole::one_task)
            .with_distributed_scale_up_leaf_node_handler(load::scaled_up)
            .with_distributed_worker_resolver(Leased(go.workers.clone()))
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_local_worker_context(this)
            .with_distributed_passthrough_headers(headers)
            .and_then(|builder| {
                // Files are packed, so their bytes are fewer than those the query is billed for; some are packed so well that
                // the largest scan of all would not be shared.
                let packed = (bytes / PACKED).min(largest_scan.unwrap_or(u64::MAX));
                let share = (packed / partitions).max(1);
                builder.with_distributed_file_scan_config_bytes_per_partition(share as usize)
            })
            // Within a machine bytes cost less than packing them, which is a fifth of what a large exchange takes.
            .and_then(|builder| match are_on_one_machine(&go.workers) {
                true => builder.with_distributed_compression(None),
                false => Ok(builder),
            })
            .map_err(|error| Error::Internal(error.into()))?;
        let builder = builder.with_physical_optimizer_rule(Arc::new(SortForWindows));
        // It takes the place of the planner that is there, and calls that first.
        Ok(builder.with_distributed_planner().build())
    }

    /// Whether every node of a plan can be sent to another worker, and what its session is with it.
    pub(super) fn travels(&self, task: &Task, plan: &Arc<dyn ExecutionPlan>, state: &SessionState) -> bool {
        let options: usize = task.settings.iter().map(|(name, value)| name.len() + value.len()).sum();
        if options > OPTIONS_BYTES {
            return false;
        }
        let sinks: Arc<dyn PhysicalExtensionCodec> = Arc::new(SinkCodec(self.bucket.clone()));
        let codecs = ComposedPhysicalExtensionCodec::new(vec![sinks, Arc::new(LoadCodec(self.bucket.clone()))]);
        share::travels(plan, state, &codecs)
    }

    /// What answers the requests of other workers.
    pub(super) fn worker(&self) -> Worker {
        Worker::from_session_builder(self.clone())
            .with_runtime_env(Arc::clone(self.engine.runtime()))
            .with_version(env!("CARGO_PKG_VERSION"))
    }
}

#[async_trait]
impl WorkerSessionBuilder for Tasks {
    async fn build_session_state(&self, query: WorkerQueryContext) -> Result<SessionState, DataFusionError> {
        let external = |error| DataFusionError::External(error);
        let options = read_options(&query.headers).map_err(external)?;
        let mut builder = query.builder;
        let config = std::mem::take(builder.config()).unwrap_or_default();
        let config = config
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_user_codec(SinkCodec(self.bucket.clone()))
            .with_distributed_user_codec(LoadCodec(self.bucket.clone()))
            .with_distributed_worker_plan_rewrite_handler(Arrival(self.clone()))
            .with_distributed_passthrough_headers(ours(&query.headers))?;
        self.engine
            .session_of_task(config, &options.settings, options.now_us)
            .map_err(|error| DataFusionError::Execution(error.to_string()))
    }
}

/// Scans of a plan that arrives open files with the footers that this worker knows, a panic in it is an error, and it is one of
/// the parts that this worker does.
struct Arrival(Tasks);

impl WorkerPlanRewriteHandler for Arrival {
    fn rewrite_worker_plan(
        &self,
        event: WorkerPlanRewriteEvent<'_>,
    ) -> Result<WorkerPlanRewriteEventResponse, DataFusionError> {
        let Self(tasks) = self;
        let plan = arrived(event.plan, tasks.engine.runtime())?;
        Ok(WorkerPlanRewriteEventResponse::new(guarded(plan, &tasks.gauge.parts)?))
    }
}

/// The workers of a query are those of its lease.
struct Leased(Vec<Url>);

impl WorkerResolver for Leased {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

fn are_on_one_machine(workers: &[Url]) -> bool {
    workers.iter().all(|url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    })
}

/// What each worker of the query is told with every request.
fn headers(task: &Task, go: &Go) -> Result<HeaderMap, wasmhouse_storage::BoxError> {
    let options = serde_json::to_vec(&Options {
        settings: task.settings.clone(),
        now_us: task.now_us,
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(TICKET, HeaderValue::try_from(format!("Bearer {}", go.ticket))?);
    headers.insert(OPTIONS, HeaderValue::try_from(BASE64_URL_SAFE_NO_PAD.encode(options))?);
    Ok(headers)
}

fn read_options(headers: &HeaderMap) -> Result<Options, wasmhouse_storage::BoxError> {
    let text = headers.get(OPTIONS).ok_or("a task without options")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text)?)?)
}

/// What a worker tells the next one.
fn ours(headers: &HeaderMap) -> HeaderMap {
    [TICKET, OPTIONS]
        .into_iter()
        .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)))
        .collect()
}

/// Whether a query failed because another worker does not answer.
pub(super) fn is_lost(error: &DataFusionError) -> bool {
    use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};

    if matches!(
        error.find_root(),
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_)
    ) {
        return false;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        // What a worker says itself comes as an error of the engine again; this is what the connection says.
        if let Some(status) = error.downcast_ref::<Status>() {
            // A refusal is what the next worker would say, too.
            return matches!(status.code(), Unavailable | Cancelled | Unknown | Internal);
        }
        if error.is::<tonic::transport::Error>() {
            return true;
        }
        next = error.source();
    }
    // A worker that lost another one can only tell so in words.
    let text = error.to_string();
    [
        "transport error",
        "error trying to connect",
        "h2 protocol error",
        "connection closed",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// The plan with what all workers counted, if they say it in time.
pub(super) async fn with_metrics_of_all(plan: Arc<dyn ExecutionPlan>) -> Ran {
    let plan = match plan.children().as_slice() {
        // It analyses the plan that it has.
        [analysed] if analysed.is::<DistributedExec>() => Arc::clone(analysed),
        _ if plan.is::<DistributedExec>() => plan,
        _ => {
            return Ran {
                plan,
                is_complete: true,
            };
        }
    };
    // Tasks that nobody asked for rows, as under a limit, never say anything.
    let all = rewrite_distributed_plan_with_metrics(Arc::clone(&plan), DistributedMetricsFormat::PerTask);
    match tokio::time::timeout(METRICS_TIMEOUT, all).await {
        Ok(Ok(plan)) => Ran {
            plan,
            is_complete: true,
        },
        _ => Ran {
            plan,
            is_complete: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::runtime::Handle;
    use wasmhouse_storage::bucket::{Bucket, BucketConfig};
    use wasmhouse_storage::clock::Clock;
    use wasmhouse_storage::ids::QueryId;

    use super::*;
    use crate::cluster::Signer;
    use crate::session::Resources;

    fn tasks(folder: &TempDir, signer: &Signer) -> Tasks {
        let config = BucketConfig {
            url: Url::from_directory_path(folder.path()).expect("an absolute path"),
            options: Default::default(),
        };
        let bucket = Bucket::open(&config).expect("a bucket");
        let resources = Resources {
            memory_bytes: 1 << 24,
            spill_bytes: 1 << 24,
            spill_dir: folder.path().to_owned(),
            threads: 1,
        };
        let gauge = Gauge::new(bucket.clone());
        let inspector = Inspector::new(Clock::System);
        inspector.trust(&signer.public_key());
        Tasks {
            engine: Arc::new(Engine::new(&bucket, &resources).expect("an engine")),
            bucket,
            inspector: Arc::new(inspector),
            channels: Channels::new(Handle::current(), None),
            errand: Arc::default(),
            gauge,
        }
    }

    fn shown(ticket: &str) -> HeaderMap {
        let value = HeaderValue::try_from(format!("Bearer {ticket}")).expect("a header");
        HeaderMap::from_iter([(TICKET, value)])
    }

    #[tokio::test]
    async fn a_worker_does_parts_of_the_attempt_that_it_serves_for_who_shows_its_ticket() {
        let folder = TempDir::new().expect("a folder");
        let clock = Clock::System;
        let signer = Signer::new(clock.clone()).expect("a key");
        let tasks = tasks(&folder, &signer);
        let (query, another) = (QueryId::new(clock.now()), QueryId::new(clock.now()));
        let hour = Duration::from_secs(3600);
        let errand = |project: &str, query: &QueryId, attempt| Errand {
            project: project.parse().expect("a name"),
            query: query.clone(),
            attempt,
        };
        let ticket = |signer: &Signer, project: &str, query: &QueryId, attempt, time| {
            let ticket = signer.sign(&errand(project, query, attempt), time);
            shown(&ticket.expect("a ticket"))
        };
        let stranger = Signer::new(clock.clone()).expect("a key");

        let refused = |headers: &HeaderMap| tasks.admit(headers).expect_err("no ticket of ours").code();
        for headers in [HeaderMap::new(), shown(""), ticket(&stranger, "acme", &query, 0, hour)] {
            assert_eq!(refused(&headers), tonic::Code::Unauthenticated);
        }
        let good = ticket(&signer, "acme", &query, 0, hour);
        assert_eq!(refused(&good), tonic::Code::PermissionDenied, "it is on nothing yet");
        tasks.begin(&errand("acme", &query, 0));
        assert!(tasks.admit(&good).is_ok());
        for headers in [
            ticket(&signer, "other", &query, 0, hour),
            ticket(&signer, "acme", &query, 1, hour),
            ticket(&signer, "acme", &another, 0, hour),
        ] {
            assert_eq!(refused(&headers), tonic::Code::PermissionDenied);
        }
        // What is left of one attempt gets nothing from a worker of the next.
        tasks.begin(&errand("acme", &query, 1));
        assert_eq!(refused(&good), tonic::Code::PermissionDenied);
    }
}
