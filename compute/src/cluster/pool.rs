//! Worker processes on this machine: as many as may be, as few as needed, one of them always warm.
//!
//! # Invariants
//! - A worker has one lease at a time, and belongs to one project from its first lease to its end.
//! - A worker whose query did not end by itself is killed, not reused: nothing is known of its state.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};
use tracing::{info, warn};
use wasmhouse_storage::bucket::BucketConfig;
use wasmhouse_storage::ids::ProjectId;

use super::lease::Lease;
use super::process::Process;
use crate::{Error, Result};

/// How many workers there may be and what each may use.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The binary that is started as `… worker`.
    pub program: PathBuf,
    /// Workers that may run at once.
    pub workers_max: usize,
    /// Queries that may wait for one.
    pub queue_max: usize,
    /// How long a query may wait for one.
    pub queue_timeout: Duration,
    /// Where tables live.
    pub bucket: BucketConfig,
    /// Memory that a query's operators may hold before they spill.
    pub memory_bytes: u64,
    /// Memory that a worker may hold in all.
    pub process_bytes: u64,
    /// Disk that a query may spill to.
    pub spill_bytes: u64,
    /// Where it spills to.
    pub spill_dir: PathBuf,
    /// Threads of a worker.
    pub threads: usize,
}

/// The workers of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

pub(super) struct Shared {
    config: PoolConfig,
    /// One permit for each worker that may run a query.
    slots: Arc<Semaphore>,
    /// One permit for each query that may wait.
    queue: Semaphore,
    idle: Mutex<Vec<Process>>,
}

impl Pool {
    /// Starts the pool with one warm worker.
    pub async fn start(config: PoolConfig) -> Result<Self> {
        std::fs::create_dir_all(&config.spill_dir).map_err(|error| Error::Internal(error.into()))?;
        let first = Process::start(&config).await?;
        Ok(Self(Arc::new(Shared {
            slots: Arc::new(Semaphore::new(config.workers_max)),
            queue: Semaphore::new(config.queue_max),
            idle: Mutex::new(vec![first]),
            config,
        })))
    }

    /// A worker for `project`, started if need be. Waits its turn, in the order of asking.
    pub async fn lease(&self, project: &ProjectId) -> Result<Lease> {
        let slots = Arc::clone(&self.0.slots);
        let permit = match Arc::clone(&slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => {
                let _place = self.0.queue.try_acquire().map_err(|_| Error::NoWorkers)?;
                metrics::gauge!("wasmhouse_queries_waiting").increment(1.0);
                let turn = tokio::time::timeout(self.0.config.queue_timeout, slots.acquire_owned()).await;
                metrics::gauge!("wasmhouse_queries_waiting").decrement(1.0);
                turn.map_err(|_| Error::NoWorkers)?.map_err(|_| Error::NoWorkers)?
            }
            Err(TryAcquireError::Closed) => return Err(Error::NoWorkers),
        };
        let mut process = match self.0.take(project) {
            Some(process) => process,
            None => Process::start(&self.0.config).await?,
        };
        process.project = Some(project.clone());
        self.keep_one_warm();
        Ok(Lease::new(process, Arc::clone(&self.0), permit))
    }

    /// Takes no more queries; what runs, runs on.
    pub fn close(&self) {
        self.0.slots.close();
    }

    /// Ends the idle workers.
    pub fn end_idle(&self) {
        self.0.idle().clear();
    }

    /// Starts the next worker before anybody asks for it.
    fn keep_one_warm(&self) {
        let shared = Arc::clone(&self.0);
        if shared.idle().iter().any(|process| process.project.is_none()) || shared.slots.available_permits() == 0 {
            return;
        }
        tokio::spawn(async move {
            match Process::start(&shared.config).await {
                Ok(process) => shared.put(process),
                Err(error) => warn!(%error, "a worker could not be started: {error}"),
            }
        });
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle worker of this project, or one of nobody. Dead ones are dropped on the way.
    fn take(&self, project: &ProjectId) -> Option<Process> {
        let mut idle = self.idle();
        idle.retain_mut(|process| {
            let alive = process.is_alive();
            if !alive {
                info!("an idle worker had died");
            }
            alive
        });
        let own = idle
            .iter()
            .rposition(|process| process.project.as_ref() == Some(project));
        let found = own.or_else(|| idle.iter().position(|process| process.project.is_none()));
        found.map(|index| idle.remove(index))
    }

    /// A worker has nothing to do. The longest idle ones end when there are more than may be.
    pub(super) fn put(&self, process: Process) {
        let mut idle = self.idle();
        idle.push(process);
        while idle.len() > self.config.workers_max.max(1) {
            idle.remove(0);
        }
    }
}
