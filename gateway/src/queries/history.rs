//! What queries took that were like one that comes now.

use std::time::Duration;

use moka::sync::Cache;
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::queries::Usage;

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
    /// Processor time on all of them, if it ended.
    cpu: Option<Duration>,
    /// What it processed, or loaded.
    bytes: u64,
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

    /// The processor time that a query like this one needs, if one was seen: for so many bytes, if they are known, or for as
    /// many as usual.
    fn cpu_of(&self, project: &ProjectId, likeness: u64, bytes: Option<u64>) -> Option<Duration> {
        let took = self.seen(project, likeness)?;
        let cpu = took.cpu?;
        Some(match bytes {
            // The same statement with other values may read a day or ten years.
            Some(bytes) if took.bytes > 0 => {
                let seconds = cpu.as_secs_f64() * (bytes as f64 / took.bytes as f64);
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
            _ => cpu,
        })
    }

    /// A query took so much. The last ones count more than those before.
    fn learn(&self, project: &ProjectId, likeness: u64, took: Took) {
        let mean = |before: Duration, now: Duration| (before * 3 + now) / 4;
        let expected = self.seen(project, likeness).map_or(took, |before| Took {
            held: mean(before.held, took.held),
            cpu: before
                .cpu
                .zip(took.cpu)
                .map(|(before, now)| mean(before, now))
                .or(took.cpu),
            bytes: match before.cpu {
                Some(_) => before.bytes / 4 * 3 + took.bytes / 4,
                None => took.bytes,
            },
        });
        self.0.insert((project.clone(), likeness), expected);
    }

    /// A query did not end in so long.
    fn learn_at_least(&self, project: &ProjectId, likeness: u64, held: Duration) {
        let nothing = Took {
            held,
            cpu: None,
            bytes: 0,
        };
        let before = self.seen(project, likeness).unwrap_or(nothing);
        let held = before.held.max(held);
        self.0.insert((project.clone(), likeness), Took { held, ..before });
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

    /// The workers that it deserves, for what it processes, as far as that is known, or for what those needed that were like
    /// it.
    pub(super) fn workers(&self, house: &House, bytes: Option<u64>) -> usize {
        let needed = house.history.cpu_of(&self.record.project, self.likeness(), bytes);
        house.config.workers_for(bytes.unwrap_or(0), needed)
    }

    /// It has held a worker for so long, and used so much of all of them.
    pub(super) fn learn(&self, house: &House, held: Duration, usage: &Usage) {
        let took = Took {
            held,
            cpu: Some(Duration::from_millis(usage.cpu_ms)),
            bytes: match &self.work {
                Work::Load(load) => load.staged.bytes,
                Work::Statement(_) | Work::Export { .. } => usage.bytes_processed,
            },
        };
        house.history.learn(&self.record.project, self.likeness(), took);
    }

    /// It did not end in so long.
    pub(super) fn learn_at_least(&self, house: &House, held: Duration) {
        house
            .history
            .learn_at_least(&self.record.project, self.likeness(), held);
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
            cpu: Some(Duration::from_secs(2 * seconds)),
            bytes: 400,
        };
        assert_eq!(history.expect(&shop, 1), UNKNOWN);
        assert_eq!(history.cpu_of(&shop, 1, None), None);

        history.learn(&shop, 1, took(8));
        assert_eq!(history.expect(&shop, 1), Duration::from_secs(8));
        history.learn(&shop, 1, took(4));

        assert_eq!(history.expect(&shop, 1), Duration::from_secs(7));
        assert_eq!(history.cpu_of(&shop, 1, None), Some(Duration::from_secs(14)));
        assert_eq!(
            history.cpu_of(&shop, 1, Some(4_000)),
            Some(Duration::from_secs(140)),
            "ten times the bytes need ten times the processor"
        );
        assert_eq!(history.cpu_of(&shop, 1, Some(0)), Some(Duration::ZERO));
        assert_eq!(history.expect(&shop, 2), UNKNOWN);
        assert_eq!(
            history.expect(&other, 1),
            UNKNOWN,
            "one project learns nothing of another"
        );
    }

    #[test]
    fn a_query_that_did_not_end_is_expected_to_take_at_least_that_long() {
        let history = History::new();
        let shop = "shop".parse().expect("a name");
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));

        history.learn_at_least(&shop, 1, minute);
        assert_eq!(history.expect(&shop, 1), minute);
        history.learn_at_least(&shop, 1, hour);
        history.learn_at_least(&shop, 1, minute);
        assert_eq!(history.expect(&shop, 1), hour);
        assert_eq!(
            history.cpu_of(&shop, 1, Some(400)),
            None,
            "what it needs in all is not known, so its bytes say how many workers it deserves"
        );
        let took = Took {
            held: hour,
            cpu: Some(hour),
            bytes: 400,
        };
        history.learn(&shop, 1, took);
        assert_eq!(history.cpu_of(&shop, 1, Some(400)), Some(hour));
    }
}
