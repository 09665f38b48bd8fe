//! The parts of a query that this worker does, and how far they are. Parts are asked for by the head of the query, which may be
//! this worker itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::meter::bytes_read;
use crate::task::PartUsage;

/// The parts of the query at hand. A clone sees the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Arc<Mutex<Vec<Arc<Part>>>>);

/// One of them: a task.
#[derive(Debug)]
pub(super) struct Part {
    /// What does it, for as long as somebody else keeps it: its memory is not kept here.
    plan: Weak<dyn ExecutionPlan>,
    /// What it had read when it was last looked at.
    bytes_read: AtomicU64,
    partitions_left: AtomicUsize,
}

/// A partition of a part that is being read. Dropped, it is done.
#[derive(Debug)]
pub(super) struct Partition(Arc<Part>);

impl Parts {
    /// Another query begins.
    pub(super) fn begin_anew(&self) {
        self.all().clear();
    }

    /// A part that this plan does.
    pub(super) fn add(&self, plan: &Arc<dyn ExecutionPlan>) -> Arc<Part> {
        let part = Arc::new(Part {
            plan: Arc::downgrade(plan),
            bytes_read: AtomicU64::new(0),
            partitions_left: AtomicUsize::new(plan.output_partitioning().partition_count()),
        });
        self.all().push(Arc::clone(&part));
        part
    }

    /// What they have read, and how many are done.
    pub(super) fn so_far(&self) -> PartUsage {
        let mut usage = PartUsage::default();
        for part in self.all().iter() {
            usage.bytes_read += part.look();
            usage.tasks_done += u64::from(part.partitions_left.load(Relaxed) == 0);
        }
        usage
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// A partition of it is read from now on.
    pub(super) fn partition(self: &Arc<Self>) -> Partition {
        Partition(Arc::clone(self))
    }

    /// What it has read.
    fn look(&self) -> u64 {
        let now = self.plan.upgrade().map_or(0, |plan| bytes_read(&plan));
        self.bytes_read.fetch_max(now, Relaxed).max(now)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let Self(part) = self;
        // The last look at what it read.
        part.look();
        let _ = part
            .partitions_left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    }
}
