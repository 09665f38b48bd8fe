//! What a query used of its worker.
//!
//! A worker has one query at a time, so what the process used while it ran is what the query used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::NetworkBoundaryExt;
use wasmhouse_storage::bucket::{Bucket, Reads};
use wasmhouse_storage::queries::Usage;

use super::memory;
use super::parts::Parts;
use crate::profile::{Profile, Totals};
use crate::task::{PartUsage, Progress, Report};

/// Runs from the task's arrival to its end.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    at_start: Reading,
    /// Rows that came out of the plan.
    pub(super) rows: Arc<AtomicU64>,
    gauge: Gauge,
}

impl Meter {
    /// A query begins.
    pub(super) fn start(gauge: Gauge) -> Self {
        memory::reset_peak();
        gauge.parts.begin_anew();
        Self {
            started: Instant::now(),
            at_start: gauge.now(),
            rows: Arc::default(),
            gauge,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// How far the plan has come.
    pub(super) fn progress(&self, plan: &Arc<dyn ExecutionPlan>) -> Progress {
        let parts = self.gauge.parts.so_far();
        let (stages, tasks) = stages_of(plan);
        let used = self.gauge.now().since(&self.at_start);
        Progress {
            rows: self.rows(),
            bytes_read: used.reads.bytes,
            cpu_ms: millis(used.cpu),
            stages,
            tasks,
            tasks_done: parts.tasks_done,
            task_rows: parts.rows,
        }
    }

    /// The reading at the end, with the profile of a plan that ran. What was billed and written is added by those who know it.
    pub(super) fn report(&self, ran: Option<&Ran>) -> Report {
        let (profile, mut totals) = ran.map(|ran| Profile::of(&ran.plan)).unzip();
        let is_complete = ran.is_none_or(|ran| ran.is_complete);
        let totals = totals.get_or_insert_default();
        if !is_complete {
            // What others did is theirs to say. The head's own stage reads what others send, and its tasks count for themselves.
            let parts = self.gauge.parts.so_far();
            let above = ran.map(|ran| Totals::of(&ran.plan)).unwrap_or_default();
            totals.bytes_spilled = above.bytes_spilled + parts.bytes_spilled;
            totals.bytes_shuffled = above.bytes_shuffled + parts.bytes_shuffled;
        }
        let profile = profile.map(|profile| Profile { is_complete, ..profile });
        let now = self.gauge.now();
        let used = now.since(&self.at_start);
        *self.gauge.last_read() = now;
        let usage = Usage {
            rows_returned: self.rows(),
            cpu_ms: millis(used.cpu),
            wall_ms: millis(self.started.elapsed()),
            peak_memory_bytes: memory::peak(),
            bytes_read: used.reads.bytes,
            bytes_cached: used.reads.cached_bytes,
            read_requests: used.reads.requests,
            bytes_spilled: totals.bytes_spilled,
            bytes_shuffled: totals.bytes_shuffled,
            ..Usage::default()
        };
        Report {
            usage,
            is_complete,
            profile: profile.and_then(|profile| serde_json::to_string(&profile).ok()),
        }
    }
}

/// A plan that has run.
pub(super) struct Ran {
    /// With what all tasks counted,
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// if all of them have said it.
    pub(super) is_complete: bool,
}

/// What this process has used at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    cpu: Duration,
    reads: Reads,
}

impl Reading {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            reads: self.reads - earlier.reads,
        }
    }
}

/// What the process uses, query after query. Clones are the same gauge.
#[derive(Clone, Debug)]
pub(super) struct Gauge {
    bucket: Bucket,
    /// What this process does of the query at hand for other workers to read, or for itself.
    pub(super) parts: Parts,
    last_read: Arc<Mutex<Reading>>,
}

impl Gauge {
    /// The gauge of a process that reads of `bucket`.
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            parts: Parts::default(),
            last_read: Arc::default(),
        }
    }

    /// What was used since it was last read, for a query that another worker is the head of.
    pub(super) fn so_far(&self) -> PartUsage {
        let used = self.now().since(&self.last_read());
        PartUsage {
            cpu_ms: millis(used.cpu),
            peak_memory_bytes: memory::peak(),
            reads: used.reads,
            ..self.parts.so_far()
        }
    }

    /// The same, and begins anew.
    pub(super) fn read(&self) -> PartUsage {
        let usage = self.so_far();
        *self.last_read() = self.now();
        memory::reset_peak();
        self.parts.begin_anew();
        usage
    }

    fn now(&self) -> Reading {
        Reading {
            cpu: process_cpu(),
            reads: self.bucket.reads(),
        }
    }

    fn last_read(&self) -> MutexGuard<'_, Reading> {
        self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many stages a plan has, and how many tasks these have, the head's own among both.
fn stages_of(plan: &Arc<dyn ExecutionPlan>) -> (u64, u64) {
    let mut tasks = HashMap::new();
    let _ = plan.apply(|node| {
        if let Some(boundary) = node.as_network_boundary() {
            let stage = boundary.input_stage();
            tasks.insert(stage.num(), stage.task_count() as u64);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    (1 + tasks.len() as u64, 1 + tasks.values().sum::<u64>())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time of all threads of this process, user and system.
#[expect(unsafe_code, reason = "reading the process's own usage is a system call")]
fn process_cpu() -> Duration {
    // SAFETY: an all-zero rusage is a valid value, and the call writes only into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let span = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(u64::from(time.tv_usec.unsigned_abs() as u32))
    };
    span(usage.ru_utime) + span(usage.ru_stime)
}
