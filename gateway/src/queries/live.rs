//! The queries that this gateway looks after now: how far each has come, and how it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasmhouse_compute::task::{PartUsage, Planned, Progress, Report};
use wasmhouse_storage::ids::QueryId;
use wasmhouse_storage::queries::{QueryRecord, Usage};

/// The queries that this gateway looks after, each from before its record is written until after it has ended.
#[derive(Default)]
pub(super) struct LiveQueries(Mutex<HashMap<QueryId, Arc<Live>>>);

/// A query that this gateway looks after.
pub(crate) struct Live {
    pub(super) cancel: CancellationToken,
    /// Nobody waits any more for a query that was only run for the one who waited.
    pub(super) left: CancellationToken,
    now: Mutex<Now>,
    end: watch::Sender<Option<Arc<Ended>>>,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// `queued`, `planning`, `starting`, `running`, `committing`.
    pub(crate) phase: &'static str,
    /// How many workers it has.
    pub(crate) workers: usize,
    /// How far its head is.
    pub(crate) progress: Progress,
    /// What its other workers have done.
    pub(crate) crew: PartUsage,
    /// What it reads, once it is planned.
    pub(crate) planned: Option<Planned>,
    /// The last word of its head.
    pub(crate) report: Option<Report>,
    /// What earlier attempts used.
    pub(crate) spent: Usage,
    /// Budgets that are nearly spent with it.
    pub(crate) warnings: Vec<String>,
}

impl Now {
    /// Another attempt begins.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            phase: "queued",
            spent: self.unanswered(),
            ..Self::default()
        };
    }

    /// What was used up to now, if there is no answer.
    pub(super) fn unanswered(&self) -> Usage {
        // The last word of a head knows more than the last look at it.
        let (mut used, is_complete) = match &self.report {
            Some(report) => (report.usage, report.is_complete),
            None => {
                let usage = Usage {
                    cpu_ms: self.progress.cpu_ms,
                    bytes_read: self.progress.bytes_read,
                    ..Usage::default()
                };
                (usage, false)
            }
        };
        used += of_crew(&self.crew, is_complete);
        used += self.spent;
        Usage {
            // Nobody has an answer.
            rows_returned: 0,
            ..used
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last state of its record.
    pub(crate) record: QueryRecord,
    /// Budgets that are nearly spent with it, if it ran here.
    pub(crate) warnings: Vec<String>,
}

/// What the other workers of a query add to the word of its head.
pub(super) fn of_crew(crew: &PartUsage, is_complete: bool) -> Usage {
    let uncounted = match is_complete {
        true => Usage::default(),
        false => Usage {
            bytes_spilled: crew.bytes_spilled,
            bytes_shuffled: crew.bytes_shuffled,
            ..Usage::default()
        },
    };
    Usage {
        cpu_ms: crew.cpu_ms,
        peak_memory_bytes: crew.peak_memory_bytes,
        bytes_read: crew.reads.bytes,
        bytes_cached: crew.reads.cached_bytes,
        read_requests: crew.reads.requests,
        ..uncounted
    }
}

impl LiveQueries {
    /// A query comes under this gateway's care. `left` says that its caller does not want it any more.
    pub(super) fn enter(&self, id: &QueryId, left: CancellationToken) -> Arc<Live> {
        let live = Arc::new(Live {
            cancel: CancellationToken::new(),
            left,
            now: Mutex::new(Now {
                phase: "queued",
                ..Now::default()
            }),
            end: watch::Sender::new(None),
        });
        self.lock().insert(id.clone(), Arc::clone(&live));
        live
    }

    /// The query has ended, or was none.
    pub(super) fn leave(&self, id: &QueryId) {
        self.lock().remove(id);
    }

    pub(super) fn get(&self, id: &QueryId) -> Option<Arc<Live>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn ids(&self) -> Vec<QueryId> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueryId, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    pub(super) fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells everyone who waits how the query ended.
    pub(super) fn end(&self, record: QueryRecord) {
        let warnings = self.now().warnings;
        self.end.send_replace(Some(Arc::new(Ended { record, warnings })));
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Arc<Ended> {
        let mut end = self.end.subscribe();
        let ended = end
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives as long as the query");
        ended.clone().expect("the condition was that it is there")
    }
}
