//! What an attempt may have. One that was out of memory is followed by one with more workers or, where there are none, by one
//! with fewer partitions, each of which has more of the memory of its worker.

use wasmhouse_compute::task::Task;

use super::{House, Now};

/// How many partitions the plan of a query has.
const PARTITIONS: &str = "datafusion.execution.target_partitions";

/// What an attempt may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Means {
    /// The workers that its bytes deserve.
    #[default]
    Usual,
    /// All that one query may have, if these are more than so many.
    MoreThan(usize),
    /// As few partitions on each worker as there can be.
    FewPartitions,
}

impl Means {
    /// What to try after an attempt at `task` that was out of memory, and had what `now` says; the task is changed for it. None:
    /// there was a second attempt, or it would be the same as the first.
    pub(super) fn after_out_of_memory(self, house: &House, now: &Now, task: &mut Task) -> Option<Self> {
        let planned = now.planned.as_ref().filter(|_| self == Self::Usual)?;
        // Whether what ran unasked can be shared, nobody has looked.
        let may_be_shared = planned.is_shareable || task.runs_unasked(planned.bytes_to_read);
        let has_more = now.workers < house.config.workers_max && planned.bytes_to_read > 0;
        match task.may_be_shared && may_be_shared && has_more {
            true => {
                task.unasked_bytes = None;
                Some(Self::MoreThan(now.workers))
            }
            false => Self::with_few_partitions(now.workers, task, planned.partitions),
        }
    }

    /// What to try when there are no more workers than the `had` of an attempt that was out of memory; `now` is of one that heard
    /// that.
    pub(super) fn after_no_workers(had: usize, now: &Now, task: &mut Task) -> Option<Self> {
        let planned = now.planned.as_ref()?;
        Self::with_few_partitions(had, task, planned.partitions)
    }

    /// Whatever holds rows in memory has more of it then. A crew has two partitions for each worker at least.
    fn with_few_partitions(workers: usize, task: &mut Task, partitions: u64) -> Option<Self> {
        let fewest = if workers == 1 { 1 } else { 2 };
        if partitions <= fewest {
            return None;
        }
        task.settings.insert(PARTITIONS.to_owned(), "1".to_owned());
        task.may_be_shared = workers > 1;
        Some(Self::FewPartitions)
    }
}
