//! Who may start now: a place for each worker that may be held, given in a fair order.
//!
//! # Invariants
//! - No more places are held than there are workers, and no project holds more than its own.
//! - A place that nobody can use is not kept free for somebody: whoever is next has it.
//! - One who stops waiting, for whatever reason, leaves the queue: a place is given back, and a turn given up, by being
//!   dropped, since whoever has one may be stopped anywhere.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmhouse_storage::ids::ProjectId;

use self::queue::{Arrival, Full, Queue};
use crate::error::{Error, Result};

pub(crate) use self::queue::Limits;

/// What one is told who has waited for as long as one may.
pub(crate) const NONE_BECAME_FREE: &str = "no worker became free in time";

/// The places of this gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Shared>);

struct Shared {
    began: Instant,
    /// How long a query may wait.
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Those who wait, by their numbers.
    waiting: HashMap<u64, oneshot::Sender<Place>>,
    is_closed: bool,
}

/// The right to hold one worker, for as long as this lives.
pub(crate) struct Place {
    shared: Arc<Shared>,
    project: ProjectId,
    expected: Duration,
    /// Since when, counted from the beginning of the admission.
    from: Duration,
}

impl Admission {
    /// Nobody runs yet.
    pub(crate) fn new(limits: Limits, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            patience,
            state: Mutex::new(State {
                queue: Queue::new(limits),
                waiting: HashMap::new(),
                is_closed: false,
            }),
        }))
    }

    /// A place for a query of this project that is expected to take so long, now or when it is its turn.
    pub(crate) async fn enter(&self, project: &ProjectId, expected: Duration) -> Result<Place> {
        let (number, turn) = {
            let mut state = self.0.state();
            if state.is_closed {
                return Err(Error::Closing);
            }
            match state.queue.arrive(project, self.0.began.elapsed(), expected) {
                Arrival::Runs => return Ok(self.0.place(project.clone(), expected)),
                Arrival::Full(full) => return Err(full.into()),
                Arrival::Waits(number) => {
                    let (sender, turn) = oneshot::channel();
                    state.waiting.insert(number, sender);
                    (number, turn)
                }
            }
        };
        let _waiting = Waiting::begin(&self.0, project, number);
        match tokio::time::timeout(self.0.patience, turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Error::Closing),
            Err(_) => Err(Error::Busy(NONE_BECAME_FREE)),
        }
    }

    /// Refuses what would be refused if it had to wait now.
    pub(crate) fn refuse_if_full(&self, project: &ProjectId) -> Result<()> {
        let state = self.0.state();
        if state.is_closed {
            return Err(Error::Closing);
        }
        match state.queue.full_for(project) {
            Some(full) if !state.queue.has_room(project) => Err(full.into()),
            _ => Ok(()),
        }
    }

    /// A further place for whoever has one, if there is one that nobody waits for.
    pub(crate) fn enter_now(&self, project: &ProjectId, expected: Duration) -> Option<Place> {
        let mut state = self.0.state();
        let taken = !state.is_closed && state.queue.take(project, expected);
        taken.then(|| self.0.place(project.clone(), expected))
    }

    /// Whether a query of this project would find a place now.
    pub(crate) fn has_room(&self, project: &ProjectId) -> bool {
        self.0.state().queue.has_room(project)
    }

    /// Nobody enters any more, and nobody waits; those who are in stay in.
    pub(crate) fn close(&self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.queue.clear();
        state.waiting.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(self: &Arc<Self>, project: ProjectId, expected: Duration) -> Place {
        Place {
            shared: Arc::clone(self),
            project,
            expected,
            from: self.began.elapsed(),
        }
    }

    /// Gives the places that are free to those whose turn it is.
    fn call_next(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut called = Vec::new();
        while let Some((number, project, expected)) = state.queue.next() {
            let place = self.place(project, expected);
            called.push((state.waiting.remove(&number), place));
        }
        // One who is gone gives the place back, which takes the lock.
        drop(state);
        for (turn, place) in called {
            if let Some(turn) = turn {
                let _ = turn.send(place);
            }
        }
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Error::Busy(match full {
            Full::House => "every worker is busy, and the queue is full",
            Full::Project => "the project has all the workers that it may have now, and its queue is full",
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let now = self.shared.began.elapsed();
        state.queue.give_back(&self.project, self.expected, self.from, now);
        self.shared.call_next(state);
    }
}

/// One who waits, until it is called or goes.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    project: &'a ProjectId,
    number: u64,
}

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Arc<Shared>, project: &'a ProjectId, number: u64) -> Self {
        metrics::gauge!("wasmhouse_queries_waiting").increment(1.0);
        Self {
            shared,
            project,
            number,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        metrics::gauge!("wasmhouse_queries_waiting").decrement(1.0);
        let mut state = self.shared.state();
        // One who has been called is in the queue no more.
        if state.waiting.remove(&self.number).is_some() {
            state.queue.leave(self.project, self.number);
        }
    }
}
