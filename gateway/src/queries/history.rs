//! What queries took that were like one that comes now.

use std::time::Duration;

use moka::sync::Cache;
use wasmhouse_storage::ids::ProjectId;

use super::flight::Flight;
use super::{House, Work};

/// Statements that are remembered.
const REMEMBERED: u64 = 10_000;

/// What a query is expected to take of which nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);

/// What a query took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took {
    /// How long it held its first worker.
    held: Duration,
    /// Processor time on all of them.
    cpu: Duration,
}

/// What past queries took, in this process.
pub(super) struct History(Cache<(ProjectId, u64), Took>);

impl History {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// How long a query like this one will hold its worker.
    fn expect(&self, project: &ProjectId, likeness: u64) -> Duration {
        self.seen(project, likeness).map_or(UNKNOWN, |took| took.held)
    }

    /// The processor time that a query like this one needs, if one was seen.
    fn cpu_of(&self, project: &ProjectId, likeness: u64) -> Option<Duration> {
        self.seen(project, likeness).map(|took| took.cpu)
    }

    /// A query took so much. The last ones count more than those before.
    fn learn(&self, project: &ProjectId, likeness: u64, took: Took) {
        let mean = |before: Duration, now: Duration| (before * 3 + now) / 4;
        let expected = self.seen(project, likeness).map_or(took, |before| Took {
            held: mean(before.held, took.held),
            cpu: mean(before.cpu, took.cpu),
        });
        self.0.insert((project.clone(), likeness), expected);
    }

    fn seen(&self, project: &ProjectId, likeness: u64) -> Option<Took> {
        self.0.get(&(project.clone(), likeness))
    }
}

impl Flight {
    /// Which statements this one is like.
    fn likeness(&self) -> u64 {
        match &self.work {
            Work::Statement(statement) | Work::Export { statement, .. } => statement.likeness,
            // All loads of a project: nothing else is known of a file before it is read.
            Work::Load(_) => 0,
        }
    }

    /// How long it will hold a worker, from what those took that were like it.
    pub(super) fn expected(&self, house: &House) -> Duration {
        house.history.expect(&self.record.project, self.likeness())
    }

    /// The workers that it deserves, for what it processes or, if that is known, for what those needed that were like it.
    pub(super) fn workers(&self, house: &House, bytes: u64) -> usize {
        let needed = house.history.cpu_of(&self.record.project, self.likeness());
        house.config.workers_for(bytes, needed)
    }

    /// It has held a worker for so long, and needed so much of all of them.
    pub(super) fn learn(&self, house: &House, held: Duration, cpu_ms: u64) {
        let took = Took {
            held,
            cpu: Duration::from_millis(cpu_ms),
        };
        house.history.learn(&self.record.project, self.likeness(), took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_follows_what_was_seen() {
        let history = History::new();
        let (shop, other) = ("shop".parse().expect("a name"), "other".parse().expect("a name"));
        let took = |seconds| Took {
            held: Duration::from_secs(seconds),
            cpu: Duration::from_secs(2 * seconds),
        };
        assert_eq!(history.expect(&shop, 1), UNKNOWN);
        assert_eq!(history.cpu_of(&shop, 1), None);

        history.learn(&shop, 1, took(8));
        assert_eq!(history.expect(&shop, 1), Duration::from_secs(8));
        history.learn(&shop, 1, took(4));

        assert_eq!(history.expect(&shop, 1), Duration::from_secs(7));
        assert_eq!(history.cpu_of(&shop, 1), Some(Duration::from_secs(14)));
        assert_eq!(history.expect(&shop, 2), UNKNOWN);
        assert_eq!(
            history.expect(&other, 1),
            UNKNOWN,
            "one project learns nothing of another"
        );
    }
}
