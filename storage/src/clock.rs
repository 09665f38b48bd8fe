//! Time, and the only place that reads it.
//!
//! # Invariants
//! - Nothing else in the product asks the machine what time it is: a test that owns the [`Clock`] owns every timestamp.
//! - A [`Timestamp`] is microseconds since 1970 in UTC, the unit of both databases and of Delta.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// An instant: microseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant this many microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// `2026-01-31T12:00:00.000000Z`, as people and HTTP write it.
    pub fn to_rfc3339(self) -> String {
        let instant = DateTime::<Utc>::from_timestamp_micros(self.0);
        // Outside the years chrono can spell, the nearest one it can is still the right order of magnitude.
        let instant = instant.unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        });
        instant.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// The instant `later` than this one.
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(later)))
    }

    /// The instant `earlier` than this one.
    pub fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(earlier)))
    }

    /// How long after `earlier` this is; nothing when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Where time comes from: the machine, or a test.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Stands still until somebody calls [`Clock::advance`].
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start`; its clones stand there too.
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.micros())))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(micros_of(since_epoch))
            }
            Self::Manual(micros) => Timestamp(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock, and all its clones, forward. The machine's clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(micros) = self {
            micros.fetch_add(micros_of(by), Ordering::SeqCst);
        }
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_and_its_clones_move_together() {
        let clock = Clock::manual(Timestamp::from_micros(1_000));
        let twin = clock.clone();

        twin.advance(Duration::from_micros(5));

        assert_eq!(clock.now(), Timestamp::from_micros(1_005));
    }

    #[test]
    fn a_timestamp_is_written_as_people_write_it() {
        let written = Timestamp::from_micros(1_700_000_000_000_001).to_rfc3339();

        assert_eq!(written, "2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn time_that_runs_backwards_is_no_time_at_all() {
        let early = Timestamp::from_micros(10);
        let late = early.plus(Duration::from_micros(7));

        assert_eq!(late.since(early), Duration::from_micros(7));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.minus(Duration::from_micros(7)), early);
    }
}
