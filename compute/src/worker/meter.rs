//! What a query used of its worker.
//!
//! A worker has one query at a time, so what the process used while it ran is what the query used.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::physical_plan::ExecutionPlan;
use wasmhouse_storage::queries::Usage;

use super::memory;
use crate::task::PartUsage;

/// Runs from the task's arrival to its end.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    cpu_at_start: Duration,
    /// Rows that came out of the plan.
    pub(super) rows: Arc<AtomicU64>,
}

impl Meter {
    pub(super) fn start() -> Self {
        memory::reset_peak();
        Self {
            started: Instant::now(),
            cpu_at_start: process_cpu(),
            rows: Arc::default(),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// The reading at the end. What was billed and written is added by those who know it.
    pub(super) fn read(&self, plan: Option<&Arc<dyn ExecutionPlan>>) -> Usage {
        let cpu = process_cpu();
        *last_read() = cpu;
        Usage {
            rows_returned: self.rows(),
            cpu_ms: millis(cpu.saturating_sub(self.cpu_at_start)),
            wall_ms: millis(self.started.elapsed()),
            peak_memory_bytes: memory::peak(),
            bytes_read: plan.map_or(0, bytes_read),
            ..Usage::default()
        }
    }
}

/// What this process used since it last said so, for queries that another worker is the head of.
pub(super) fn read_since_last() -> PartUsage {
    let cpu = process_cpu();
    let before = std::mem::replace(&mut *last_read(), cpu);
    let usage = PartUsage {
        cpu_ms: millis(cpu.saturating_sub(before)),
        peak_memory_bytes: memory::peak(),
    };
    memory::reset_peak();
    usage
}

/// The CPU time of this process when it was last said.
fn last_read() -> MutexGuard<'static, Duration> {
    static LAST_READ: Mutex<Duration> = Mutex::new(Duration::ZERO);
    LAST_READ.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that the plan's scans have fetched so far.
pub(super) fn bytes_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.sum_by_name("bytes_scanned"))
        .map_or(0, |value| value.as_usize() as u64);
    plan.children()
        .into_iter()
        .fold(own, |sum, child| sum + bytes_read(child))
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
