//! How often a project may ask: what costs nothing must not cost others.
//!
//! Each server counts for itself, by the generic cell rate algorithm (ITU-T I.371): there is no window at whose edge twice as
//! much would pass, and whoever is refused is told when he may again.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use wasmhouse_storage::ids::ProjectId;

use crate::config::QuotaConfig;
use crate::error::{Error, Result};

/// Denials of a project that are written down in a minute.
const DENIALS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");

/// A rate for each project.
type Rate = RateLimiter<ProjectId, HashMapStateStore<ProjectId>, DefaultClock>;

/// The rates of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Quotas(Arc<Rates>);

struct Rates {
    requests: Limit,
    quotes: Limit,
    denials: Limit,
}

/// One rate, in words. None: there is no limit.
struct Limit {
    rate: Option<Rate>,
    says: String,
}

impl Quotas {
    pub(crate) fn new(config: QuotaConfig) -> Self {
        let QuotaConfig {
            requests_per_second: requests,
            quotes_per_minute: quotes,
            gib_per_day: _,
        } = config;
        Self(Arc::new(Rates {
            requests: Limit {
                rate: NonZeroU32::new(requests).map(|most| Rate::keyed(Quota::per_second(most))),
                says: format!("the project has sent more than the {requests} requests that it may in a second"),
            },
            quotes: Limit {
                rate: NonZeroU32::new(quotes).map(|most| Rate::keyed(Quota::per_minute(most))),
                says: format!("the project has had more than the {quotes} dry runs that it may in a minute"),
            },
            denials: Limit {
                rate: Some(Rate::keyed(Quota::per_minute(DENIALS_PER_MINUTE))),
                says: format!("the project was denied more than {DENIALS_PER_MINUTE} requests in a minute"),
            },
        }))
    }

    /// One more request.
    pub(crate) fn request(&self, project: &ProjectId) -> Result<()> {
        self.0.requests.count(project)
    }

    /// One more dry run.
    pub(crate) fn quote(&self, project: &ProjectId) -> Result<()> {
        self.0.quotes.count(project)
    }

    /// One more denial that is written down for ever.
    pub(crate) fn denial(&self, project: &ProjectId) -> Result<()> {
        self.0.denials.count(project)
    }

    /// Forgets projects that have not asked for so long that nothing is counted against them.
    pub(crate) fn forget_idle(&self) {
        for limit in [&self.0.requests, &self.0.quotes, &self.0.denials] {
            if let Some(rate) = &limit.rate {
                rate.retain_recent();
            }
        }
    }
}

impl Limit {
    fn count(&self, project: &ProjectId) -> Result<()> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        rate.check_key(project).map_err(|not_until| Error::TooOften {
            what: self.says.clone(),
            retry_after: not_until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_asks_too_often_is_told_when_it_may_again_and_others_are_not_held_up() {
        let quotas = Quotas::new(QuotaConfig {
            requests_per_second: 0,
            quotes_per_minute: 3,
            gib_per_day: 0,
        });
        let (often, seldom) = ("often".parse().expect("a name"), "seldom".parse().expect("a name"));

        for _ in 0..3 {
            quotas.quote(&often).expect("as many as it may");
        }
        let refused = quotas.quote(&often).expect_err("one more");

        let Error::TooOften { retry_after, .. } = &refused else {
            panic!("{refused}")
        };
        assert!(
            (1..=20).contains(&crate::error::seconds(*retry_after)),
            "a third of a minute: {retry_after:?}"
        );
        assert!(
            refused
                .to_string()
                .starts_with("the project has had more than the 3 dry runs that it may in a minute; try again in "),
            "{refused}"
        );
        quotas.quote(&seldom).expect("it has not asked yet");
        for _ in 0..10_000 {
            quotas.request(&often).expect("there is no limit of these");
        }
        quotas.forget_idle();
        assert!(quotas.quote(&often).is_err(), "who asked just now is remembered");
    }
}
