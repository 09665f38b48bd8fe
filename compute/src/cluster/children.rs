//! Workers that are child processes of their gateway: started when they are needed, one of them always warm, ended when they
//! are not.
//!
//! # Invariants
//! - A worker has one lease at a time, and belongs to one project from its first lease to its end.
//! - There are no more of them, busy and idle, than may be: an idle one makes room for one that is wanted.
//! - A worker whose query did not end by itself is killed, not reused: nothing is known of its state.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use wasmhouse_storage::ids::ProjectId;

use super::contact::Contact;
use super::process::{Process, ProcessConfig, on_loopback};
use crate::{Error, Result};

/// The workers of this machine.
pub(super) struct Children {
    config: ProcessConfig,
    /// Workers that may run at once.
    most: usize,
    /// In the order in which they became idle.
    idle: Mutex<Vec<Idle>>,
    /// How many have a lease.
    leased: AtomicUsize,
    /// Whether one is being started to be the warm one.
    is_warming: AtomicBool,
    /// Whether none are started any more to be warm.
    is_closed: AtomicBool,
}

/// A process that can be asked.
struct Child {
    process: Process,
    contact: Contact,
    /// Whose worker it is, from its first lease on.
    project: Option<ProjectId>,
}

/// A worker that has nothing to do.
struct Idle {
    child: Child,
    since: Instant,
}

impl Idle {
    fn now(child: Child) -> Self {
        Self {
            child,
            since: Instant::now(),
        }
    }
}

impl Children {
    /// Starts with one warm worker.
    pub(super) async fn start(config: ProcessConfig, most: usize) -> Result<Arc<Self>> {
        config.empty_spill_dir()?;
        let children = Self {
            config,
            most,
            idle: Mutex::default(),
            leased: AtomicUsize::new(0),
            is_warming: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        let first = children.start_child().await?;
        children.put(first);
        Ok(Arc::new(children))
    }

    /// A worker that is this project's from now on, started if need be.
    pub(super) async fn lease(self: &Arc<Self>, project: &ProjectId) -> Result<ChildLease> {
        let child = match self.take(project) {
            Some(child) => child,
            None => {
                self.make_room();
                self.start_child().await?
            }
        };
        let child = Child {
            project: Some(project.clone()),
            ..child
        };
        self.leased.fetch_add(1, Relaxed);
        Ok(ChildLease {
            child: Some(child),
            children: Arc::clone(self),
        })
    }

    /// Starts no more workers to be warm.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// Ends the idle workers.
    pub(super) fn end_idle(&self) {
        self.idle().clear();
    }

    /// Ends the workers that have had nothing to do for so long, but for one of nobody's, and forgets those that died.
    pub(super) fn sweep(self: &Arc<Self>, longest: Duration) {
        let mut has_warm = false;
        let mut ended = Vec::new();
        {
            let mut idle = self.idle();
            // The last is the one that was busy last.
            for mut worker in std::mem::take(&mut *idle).into_iter().rev() {
                let is_alive = worker.child.process.is_alive();
                let is_warm = is_alive && worker.child.project.is_none();
                let is_first_warm = is_warm && !std::mem::replace(&mut has_warm, true);
                match is_alive && (is_first_warm || worker.since.elapsed() < longest) {
                    true => idle.push(worker),
                    false => ended.push(worker),
                }
            }
            idle.reverse();
        }
        if !ended.is_empty() {
            info!(
                workers = ended.len(),
                "{} idle workers were ended, or had died",
                ended.len()
            );
        }
        drop(ended);
        self.keep_one_warm();
    }

    async fn start_child(&self) -> Result<Child> {
        let process = Process::start(&self.config, &on_loopback()).await?;
        let contact = process.contact().await?;
        Ok(Child {
            process,
            contact,
            project: None,
        })
    }

    /// Starts the next worker before anybody asks for it.
    pub(super) fn keep_one_warm(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_full() || self.is_closed.load(Relaxed) || self.has_warm() || self.is_warming.swap(true, Relaxed) {
            return;
        }
        let children = Arc::clone(self);
        runtime.spawn(async move {
            match children.start_child().await {
                Ok(child) => children.put(child),
                Err(error) => warn!(%error, "a worker could not be started: {error}"),
            }
            children.is_warming.store(false, Relaxed);
        });
    }

    fn is_full(&self) -> bool {
        self.leased.load(Relaxed) + self.idle().len() >= self.most
    }

    /// Ends the workers that have been idle longest where one more would be too many.
    fn make_room(&self) {
        let mut idle = self.idle();
        let most_idle = self.most.saturating_sub(self.leased.load(Relaxed) + 1);
        let too_many = idle.len().saturating_sub(most_idle);
        let ended: Vec<Idle> = idle.drain(..too_many).collect();
        drop(idle);
        drop(ended);
    }

    fn has_warm(&self) -> bool {
        let mut idle = self.idle();
        let mut of_nobody = idle.iter_mut().filter(|worker| worker.child.project.is_none());
        of_nobody.any(|worker| worker.child.process.is_alive())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle worker of this project, or one of nobody. Dead ones are dropped on the way.
    fn take(&self, project: &ProjectId) -> Option<Child> {
        let mut idle = self.idle();
        loop {
            let own = idle
                .iter()
                .rposition(|worker| worker.child.project.as_ref() == Some(project));
            let found = own.or_else(|| idle.iter().position(|worker| worker.child.project.is_none()))?;
            let mut child = idle.remove(found).child;
            if child.process.is_alive() {
                return Some(child);
            }
            info!("an idle worker had died");
        }
    }

    /// A worker has nothing to do.
    fn put(&self, child: Child) {
        self.idle().push(Idle::now(child));
    }
}

/// A child process for one query. It returns to the idle ones by [`ChildLease::give_back`]; dropped, it is killed.
pub(super) struct ChildLease {
    child: Option<Child>,
    children: Arc<Children>,
}

impl ChildLease {
    pub(super) fn contact(&self) -> &Contact {
        let child = self.child.as_ref();
        &child.expect("a lease has its worker until it is given back").contact
    }

    pub(super) fn give_back(mut self) {
        let child = self.child.take().expect("a lease is given back once");
        self.children.put(child);
    }

    pub(super) async fn bury(mut self) -> Error {
        let child = self.child.take().expect("a lease is given back once");
        child.process.end(true).await.into()
    }

    pub(super) async fn kill(mut self) {
        let child = self.child.take().expect("a lease is given back once");
        child.process.end(false).await;
    }
}

impl Drop for ChildLease {
    /// Whatever became of the worker, the next query finds one warm.
    fn drop(&mut self) {
        drop(self.child.take());
        self.children.leased.fetch_sub(1, Relaxed);
        self.children.keep_one_warm();
    }
}
