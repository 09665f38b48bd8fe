//! Worker processes on this machine: started when they are needed, one of them always warm, ended when they are not.
//!
//! How many there may be and who may have one is the gateway's to say; whoever asks here has been let in.
//!
//! # Invariants
//! - A worker has one lease at a time, and belongs to one project from its first lease to its end.
//! - A worker whose query did not end by itself is killed, not reused: nothing is known of its state.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use wasmhouse_storage::bucket::BucketConfig;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::{ProjectId, QueryId};

use super::lease::Lease;
use super::process::Process;
use super::ticket::Signer;
use crate::worker::WorkerLog;
use crate::{Error, Result};

/// How many workers there may be and what each may use.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The binary that is started as `… worker`.
    pub program: PathBuf,
    /// Workers that may run at once.
    pub workers_max: usize,
    /// The environment it gets: how to reach the network, and no secrets.
    pub environment: Vec<(String, String)>,
    /// Where tables live.
    pub bucket: BucketConfig,
    /// Memory that a query's operators may hold before they spill.
    pub memory_bytes: u64,
    /// Memory that a worker may hold in all.
    pub process_bytes: u64,
    /// Disk that a query may spill to.
    pub spill_bytes: u64,
    /// Where it spills to. The pool empties it at its start.
    pub spill_dir: PathBuf,
    /// Threads of a worker.
    pub threads: usize,
    /// How its log is written; for whoever starts the worker's own log.
    pub log: WorkerLog,
}

/// The workers of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

pub(super) struct Shared {
    config: PoolConfig,
    /// What the workers of a query show each other.
    tickets: Signer,
    idle: Mutex<Vec<Idle>>,
    pub(super) leased: AtomicUsize,
    /// Whether one is being started to be the warm one.
    is_warming: AtomicBool,
    is_closed: AtomicBool,
}

/// A worker that has nothing to do.
struct Idle {
    process: Process,
    since: Instant,
}

impl Idle {
    fn now(process: Process) -> Self {
        Self {
            process,
            since: Instant::now(),
        }
    }
}

impl Pool {
    /// Starts the pool with one warm worker.
    pub async fn start(config: PoolConfig) -> Result<Self> {
        // What workers have spilled goes with them, unless their gateway was killed.
        match std::fs::remove_dir_all(&config.spill_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::Internal(error.into())),
            _ => {}
        }
        std::fs::create_dir_all(&config.spill_dir).map_err(|error| Error::Internal(error.into()))?;
        let tickets = Signer::new(Clock::System)?;
        let first = Process::start(&config, &tickets.public_key()).await?;
        Ok(Self(Arc::new(Shared {
            idle: Mutex::new(vec![Idle::now(first)]),
            leased: AtomicUsize::new(0),
            is_warming: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            config,
            tickets,
        })))
    }

    /// A worker for `project`, started if need be.
    pub async fn lease(&self, project: &ProjectId) -> Result<Lease> {
        let process = self.0.process_of(project).await?;
        Shared::keep_one_warm(&self.0);
        Ok(Lease::new(process, Arc::clone(&self.0)))
    }

    /// Further workers for a query that has one: so many, or none when one of them cannot be had.
    pub async fn lease_more(&self, project: &ProjectId, wanted: usize) -> Result<Vec<Lease>> {
        let starting = (0..wanted).map(|_| async {
            let process = self.0.process_of(project).await?;
            let lease = Lease::new(process, Arc::clone(&self.0));
            lease.belong_to(project).await?;
            Ok(lease)
        });
        let leases = futures::future::try_join_all(starting).await;
        Shared::keep_one_warm(&self.0);
        leases
    }

    /// What the workers of this attempt show each other, for as long as it may take.
    pub fn ticket(&self, project: &ProjectId, query: &QueryId, attempt: u32, time: Duration) -> Result<String> {
        self.0.tickets.sign(project, query, attempt, time)
    }

    /// Starts no more workers to be warm.
    pub fn close(&self) {
        self.0.is_closed.store(true, Relaxed);
    }

    /// Ends the idle workers.
    pub fn end_idle(&self) {
        self.0.idle().clear();
    }

    /// Ends the workers that have had nothing to do for so long, but for one of nobody's, and forgets those that died.
    pub fn sweep(&self, longest: Duration) {
        let mut has_warm = false;
        let mut ended = Vec::new();
        {
            let mut idle = self.0.idle();
            // The last is the one that was busy last.
            for mut worker in std::mem::take(&mut *idle).into_iter().rev() {
                let is_first_warm = worker.process.project.is_none() && !std::mem::replace(&mut has_warm, true);
                if worker.process.is_alive() && (is_first_warm || worker.since.elapsed() < longest) {
                    idle.push(worker);
                } else {
                    ended.push(worker);
                }
            }
            idle.reverse();
        }
        if !ended.is_empty() {
            info!("{} idle workers ended", ended.len());
        }
        drop(ended);
        Shared::keep_one_warm(&self.0);
    }
}

impl Shared {
    /// A worker that is this project's from now on.
    async fn process_of(&self, project: &ProjectId) -> Result<Process> {
        let mut process = match self.take(project) {
            Some(process) => process,
            None => self.start_process().await?,
        };
        process.project = Some(project.clone());
        Ok(process)
    }

    async fn start_process(&self) -> Result<Process> {
        Process::start(&self.config, &self.tickets.public_key()).await
    }

    /// Starts the next worker before anybody asks for it.
    pub(super) fn keep_one_warm(this: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let is_full = this.leased.load(Relaxed) >= this.config.workers_max;
        if is_full || this.is_closed.load(Relaxed) || this.has_warm() || this.is_warming.swap(true, Relaxed) {
            return;
        }
        let shared = Arc::clone(this);
        runtime.spawn(async move {
            match shared.start_process().await {
                Ok(process) => shared.put(process),
                Err(error) => warn!(%error, "a worker could not be started: {error}"),
            }
            shared.is_warming.store(false, Relaxed);
        });
    }

    fn has_warm(&self) -> bool {
        let mut idle = self.idle();
        let mut of_nobody = idle.iter_mut().filter(|worker| worker.process.project.is_none());
        of_nobody.any(|worker| worker.process.is_alive())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle worker of this project, or one of nobody. Dead ones are dropped on the way.
    fn take(&self, project: &ProjectId) -> Option<Process> {
        let mut idle = self.idle();
        loop {
            let own = idle
                .iter()
                .rposition(|worker| worker.process.project.as_ref() == Some(project));
            let found = own.or_else(|| idle.iter().position(|worker| worker.process.project.is_none()))?;
            let mut process = idle.remove(found).process;
            if process.is_alive() {
                return Some(process);
            }
            info!("an idle worker had died");
        }
    }

    /// A worker has nothing to do. The longest idle ones end when there are more than may be.
    pub(super) fn put(&self, process: Process) {
        let mut idle = self.idle();
        idle.push(Idle::now(process));
        while idle.len() > self.config.workers_max.max(1) {
            idle.remove(0);
        }
    }
}
