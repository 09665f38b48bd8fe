//! What queries took that were like one that comes now.

use std::time::Duration;

use moka::sync::Cache;
use wasmhouse_storage::ids::ProjectId;

/// Statements that are remembered.
const REMEMBERED: u64 = 10_000;

/// What a query is expected to take of which nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);

/// What a query took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Took {
    /// How long it held its first worker.
    pub(super) held: Duration,
    /// Processor time on all of them.
    pub(super) cpu: Duration,
}

/// What past queries took, in this process.
pub(super) struct History(Cache<(ProjectId, u64), Took>);

impl History {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// How long a query like this one will hold its worker.
    pub(super) fn expect(&self, project: &ProjectId, likeness: u64) -> Duration {
        self.seen(project, likeness).map_or(UNKNOWN, |took| took.held)
    }

    /// The processor time that a query like this one needs, if one was seen.
    pub(super) fn cpu_of(&self, project: &ProjectId, likeness: u64) -> Option<Duration> {
        self.seen(project, likeness).map(|took| took.cpu)
    }

    /// A query took so much. The last ones count more than those before.
    pub(super) fn learn(&self, project: &ProjectId, likeness: u64, took: Took) {
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
