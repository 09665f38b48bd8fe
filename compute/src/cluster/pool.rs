//! Worker processes on this machine: as many as may be, as few as needed, one of them always warm.
//!
//! # Invariants
//! - A worker has one lease at a time, and belongs to one project from its first lease to its end.
//! - One project never holds every worker, if there is more than one: its neighbours find one.
//! - A worker whose query did not end by itself is killed, not reused: nothing is known of its state.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
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
    /// Queries that may wait for one.
    pub queue_max: usize,
    /// How long a query may wait for one.
    pub queue_timeout: Duration,
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
    /// One permit for each worker that may run a query.
    slots: Arc<Semaphore>,
    /// The same for each project.
    shares: Mutex<HashMap<ProjectId, Arc<Semaphore>>>,
    /// One permit for each query that may wait.
    queue: Semaphore,
    idle: Mutex<Vec<Process>>,
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
            slots: Arc::new(Semaphore::new(config.workers_max)),
            shares: Mutex::default(),
            queue: Semaphore::new(config.queue_max),
            idle: Mutex::new(vec![first]),
            config,
            tickets,
        })))
    }

    /// A worker for `project`, started if need be. Waits its turn, in the order of asking.
    pub async fn lease(&self, project: &ProjectId) -> Result<Lease> {
        let slot = self.0.slot(project).await?;
        let process = self.0.process_of(project).await?;
        Shared::keep_one_warm(&self.0);
        Ok(Lease::new(process, Arc::clone(&self.0), slot))
    }

    /// Further workers for a query that has one: as many as are wanted and free now, which may be none. Nobody waits for
    /// them, so a query holds no worker idle while it hopes for another.
    pub async fn lease_more(&self, project: &ProjectId, wanted: usize) -> Result<Vec<Lease>> {
        let slots: Vec<Slot> = (0..wanted).map_while(|_| self.0.free_slot(project)).collect();
        let starting = slots.into_iter().map(|slot| async {
            let process = self.0.process_of(project).await?;
            let lease = Lease::new(process, Arc::clone(&self.0), slot);
            lease.belong_to(project).await?;
            Ok(lease)
        });
        // All of them or none: a lease that is dropped frees its slot.
        let leases = futures::future::try_join_all(starting).await;
        Shared::keep_one_warm(&self.0);
        leases
    }

    /// What the workers of this attempt show each other, for as long as it may take.
    pub fn ticket(&self, project: &ProjectId, query: &QueryId, attempt: u32, time: Duration) -> Result<String> {
        self.0.tickets.sign(project, query, attempt, time)
    }

    /// Whether a query of this project would find a worker now.
    pub fn has_room(&self, project: &ProjectId) -> bool {
        self.0.slots.available_permits() > 0 && self.0.share(project).available_permits() > 0
    }

    /// Takes no more queries; what runs, runs on.
    pub fn close(&self) {
        self.0.slots.close();
        for share in self.0.shares.lock().unwrap_or_else(PoisonError::into_inner).values() {
            share.close();
        }
    }

    /// Ends the idle workers.
    pub fn end_idle(&self) {
        self.0.idle().clear();
    }
}

/// The right to one worker: one of the house's, and one of the project's share.
pub(super) struct Slot {
    _of_all: OwnedSemaphorePermit,
    _of_project: OwnedSemaphorePermit,
}

/// Counts a query that waits, however its waiting ends.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        metrics::gauge!("wasmhouse_queries_waiting").increment(1.0);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::gauge!("wasmhouse_queries_waiting").decrement(1.0);
    }
}

impl Shared {
    /// A slot, now or when it is this query's turn.
    async fn slot(&self, project: &ProjectId) -> Result<Slot> {
        if let Some(slot) = self.free_slot(project) {
            return Ok(slot);
        }
        let share = self.share(project);
        if self.slots.is_closed() {
            return Err(Error::Closing);
        }
        let _place = self.queue.try_acquire().map_err(|_| Error::NoWorkers)?;
        let _waiting = Waiting::begin();
        let turn = async {
            // The share first: who waits for that holds nothing that a neighbour could use.
            let of_project = share.acquire_owned().await?;
            let of_all = Arc::clone(&self.slots).acquire_owned().await?;
            Ok::<_, AcquireError>(Slot {
                _of_all: of_all,
                _of_project: of_project,
            })
        };
        match tokio::time::timeout(self.config.queue_timeout, turn).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Error::Closing),
            Err(_) => Err(Error::NoWorkers),
        }
    }

    /// A slot, if there is one now.
    fn free_slot(&self, project: &ProjectId) -> Option<Slot> {
        let of_project = self.share(project).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot {
            _of_all: of_all,
            _of_project: of_project,
        })
    }

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

    fn share(&self, project: &ProjectId) -> Arc<Semaphore> {
        let workers = self.config.workers_max.saturating_sub(1).max(1);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares
            .entry(project.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(workers)));
        Arc::clone(share)
    }

    /// Starts the next worker before anybody asks for it.
    pub(super) fn keep_one_warm(this: &Arc<Self>) {
        let shared = Arc::clone(this);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if shared.slots.is_closed() {
            return;
        }
        if shared.idle().iter().any(|process| process.project.is_none()) || shared.slots.available_permits() == 0 {
            return;
        }
        runtime.spawn(async move {
            match shared.start_process().await {
                Ok(process) => shared.put(process),
                Err(error) => warn!(%error, "a worker could not be started: {error}"),
            }
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle worker of this project, or one of nobody. Dead ones are dropped on the way.
    fn take(&self, project: &ProjectId) -> Option<Process> {
        let mut idle = self.idle();
        loop {
            let own = idle
                .iter()
                .rposition(|process| process.project.as_ref() == Some(project));
            let found = own.or_else(|| idle.iter().position(|process| process.project.is_none()))?;
            let mut process = idle.remove(found);
            if process.is_alive() {
                return Some(process);
            }
            info!("an idle worker had died");
        }
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
