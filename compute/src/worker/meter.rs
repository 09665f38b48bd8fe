//! What a query used of its worker.
//!
//! A worker has one query at a time, so what the process used while it ran is what the query used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{DistributedExec, NetworkBoundaryExt};
use wasmhouse_storage::queries::Usage;

use super::memory;
use super::parts::Parts;
use crate::profile::{Profile, Totals};
use crate::task::{PartUsage, Progress, Report};

/// Runs from the task's arrival to its end.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    cpu_at_start: Duration,
    /// Rows that came out of the plan.
    pub(super) rows: Arc<AtomicU64>,
    /// What this process does of its own query for others to read.
    parts: Parts,
}

impl Meter {
    /// A reading from now on. `parts` are those of the query that begins.
    pub(super) fn start(parts: Parts) -> Self {
        memory::reset_peak();
        parts.begin_anew();
        Self {
            started: Instant::now(),
            cpu_at_start: process_cpu(),
            rows: Arc::default(),
            parts,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// How far the plan has come.
    pub(super) fn progress(&self, plan: &Arc<dyn ExecutionPlan>) -> Progress {
        let parts = self.parts.so_far();
        let (stages, tasks) = stages_of(plan);
        Progress {
            rows: self.rows(),
            bytes_read: bytes_read_above(plan) + parts.bytes_read,
            cpu_ms: millis(process_cpu().saturating_sub(self.cpu_at_start)),
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
            let parts = self.parts.so_far();
            let above = ran.map(|ran| Totals::of(&ran.plan)).unwrap_or_default();
            totals.bytes_read = parts.bytes_read;
            totals.bytes_spilled = above.bytes_spilled + parts.bytes_spilled;
            totals.bytes_shuffled = above.bytes_shuffled + parts.bytes_shuffled;
        }
        let profile = profile.map(|profile| Profile { is_complete, ..profile });
        let cpu = process_cpu();
        *last_read() = cpu;
        let usage = Usage {
            rows_returned: self.rows(),
            cpu_ms: millis(cpu.saturating_sub(self.cpu_at_start)),
            wall_ms: millis(self.started.elapsed()),
            peak_memory_bytes: memory::peak(),
            bytes_read: totals.bytes_read,
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

/// What this process used since that was last read, for a query that another worker is the head of.
pub(super) fn so_far(parts: &Parts) -> PartUsage {
    PartUsage {
        cpu_ms: millis(process_cpu().saturating_sub(*last_read())),
        peak_memory_bytes: memory::peak(),
        ..parts.so_far()
    }
}

/// The same, and begins anew.
pub(super) fn read(parts: &Parts) -> PartUsage {
    let usage = so_far(parts);
    *last_read() = process_cpu();
    memory::reset_peak();
    parts.begin_anew();
    usage
}

/// The CPU time of this process when it was last read.
fn last_read() -> MutexGuard<'static, Duration> {
    static LAST_READ: Mutex<Duration> = Mutex::new(Duration::ZERO);
    LAST_READ.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that a plan's scans have fetched so far.
pub(super) fn bytes_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.sum_by_name("bytes_scanned"))
        .map_or(0, |value| value.as_usize() as u64);
    let below = plan.children().into_iter().map(bytes_read);
    own + below.sum::<u64>()
}

/// The same, but for the stages that are tasks of this worker and of others.
fn bytes_read_above(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    match plan.is::<DistributedExec>() {
        // A head's own stage reads what others send.
        true => 0,
        false => bytes_read(plan),
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
