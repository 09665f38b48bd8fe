//! The parts of a query that this worker does, and how far they are. Parts are asked for by the head of the query, which may be
//! this worker itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::profile::Totals;
use crate::task::PartUsage;

/// The parts of the query at hand. A clone sees the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Arc<Mutex<Vec<Arc<Part>>>>);

/// One of them: a task.
#[derive(Debug)]
pub(super) struct Part {
    /// What does it, for as long as somebody else keeps it: its memory is not kept here.
    plan: Mutex<Weak<dyn ExecutionPlan>>,
    /// What it had counted when it was last looked at.
    counted: Mutex<Totals>,
    /// Rows that came out of it.
    rows: AtomicU64,
    partitions_left: AtomicUsize,
}

/// A partition of a part that is being read. Dropped, it is done.
#[derive(Debug)]
pub(super) struct Partition {
    part: Arc<Part>,
    /// So that there is something to look at in the end.
    _plan: Arc<dyn ExecutionPlan>,
}

impl Parts {
    /// Another query begins.
    pub(super) fn begin_anew(&self) {
        self.all().clear();
    }

    /// A part that this plan does.
    pub(super) fn add(&self, plan: &Arc<dyn ExecutionPlan>) -> Arc<Part> {
        let part = Arc::new(Part {
            plan: Mutex::new(Arc::downgrade(plan)),
            counted: Mutex::default(),
            rows: AtomicU64::new(0),
            partitions_left: AtomicUsize::new(plan.output_partitioning().partition_count()),
        });
        self.all().push(Arc::clone(&part));
        part
    }

    /// What they have counted, and how many are done.
    pub(super) fn so_far(&self) -> PartUsage {
        let mut usage = PartUsage::default();
        for part in self.all().iter() {
            let counted = part.look();
            usage.rows += part.rows.load(Relaxed);
            usage.bytes_spilled += counted.bytes_spilled;
            usage.bytes_shuffled += counted.bytes_shuffled;
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
    pub(super) fn partition(self: &Arc<Self>, plan: &Arc<dyn ExecutionPlan>) -> Partition {
        Partition {
            part: Arc::clone(self),
            _plan: Arc::clone(plan),
        }
    }

    /// What it has counted. A plan that is gone counts nothing more.
    fn look(&self) -> Totals {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let now = plan.as_ref().map(Totals::of).unwrap_or_default();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // Counters only grow; who looks at the same time may have seen less.
        *counted = counted.max_of_each(now);
        *counted
    }

    /// Another plan does it.
    pub(super) fn is_done_by(&self, plan: &Arc<dyn ExecutionPlan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(plan);
    }
}

impl Partition {
    /// So many rows came out of it.
    pub(super) fn count(&self, rows: usize) {
        self.part.rows.fetch_add(rows as u64, Relaxed);
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let Self { part, .. } = self;
        // The last look at what it counted.
        part.look();
        let _ = part
            .partitions_left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    }
}
