//! A worker that offers itself to every gateway: a process, started again whenever one is spent, and its place in the catalog.
//!
//! The host knows the catalog and runs nothing of a tenant's; the process runs tenants' statements and knows nothing of the
//! catalog.
//!
//! # Invariants
//! - A process that is registered runs, or its end is recorded as soon as the catalog answers.
//! - A process ends when its lease was not given back in good order, when its gateway falls silent, and before another
//!   project gets a worker here.
//! - A host that is told to stop lets the query that its worker has end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::WorkerId;
use wasmhouse_storage::workers::{Ending, Offer, Standing, WorkerState, Workers};

use super::build::build_of;
use super::process::{End, Process, ProcessConfig};
use crate::worker::Listening;
use crate::{Error, Result, causes};

/// How often the worker's place in the catalog is looked at. A worker that is to end ends within this.
const BEAT: Duration = Duration::from_millis(500);

/// How long to wait before a process that did not start, or a catalog that did not answer, is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a worker is offered and what it is.
pub struct HostConfig {
    /// The process.
    pub process: ProcessConfig,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The address that others reach it at, with or without a port.
    pub advertised: String,
    /// How long a worker may be idle before it forgets its project.
    pub idle: Duration,
}

/// Offers one worker.
pub struct Host {
    config: HostConfig,
    workers: Workers,
    clock: Clock,
}

impl Host {
    /// A host that offers its worker in this catalog.
    pub fn new(config: HostConfig, workers: Workers) -> Self {
        Self {
            config,
            workers,
            clock: Clock::System,
        }
    }

    /// Offers a worker, and another when it is spent, until `stop`; then lets its query end. `offered` hears where each is.
    pub async fn serve(&self, stop: &CancellationToken, offered: impl Fn(&str)) -> Result<()> {
        self.config.process.empty_spill_dir()?;
        // What is wrong from the beginning, the operator hears at once.
        let mut next = Ok(self.start(None).await?);
        let mut last = None;
        loop {
            match next {
                Ok((process, offer)) => {
                    if self.register(&offer, stop).await {
                        offered(&offer.url);
                        self.look_after(process, &offer.id, stop).await;
                        last = Some(offer.id);
                    }
                }
                Err(error) => {
                    warn!("a worker could not be started: {}", causes(&error));
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
                }
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            next = self.start(last.clone()).await;
        }
    }

    async fn start(&self, last: Option<WorkerId>) -> Result<(Process, Offer)> {
        let listening = Listening {
            at: self.config.listen,
            advertised: Some(self.config.advertised.clone()),
        };
        let program = self.config.process.program.clone();
        let build = tokio::task::spawn_blocking(move || build_of(&program));
        let build = build.await.map_err(|error| Error::Internal(error.into()))??;
        let process = Process::start(&self.config.process, &listening).await?;
        let offer = Offer {
            id: WorkerId::new(self.clock.now()),
            url: process.ready.url.to_string(),
            token: process.token.clone(),
            build,
            replaces: last,
        };
        Ok((process, offer))
    }

    /// Registers it, as soon as the catalog answers. False when it is to stop before that.
    async fn register(&self, offer: &Offer, stop: &CancellationToken) -> bool {
        loop {
            if stop.is_cancelled() {
                return false;
            }
            match self.workers.register(offer).await {
                Ok(()) => return true,
                Err(error) => warn!(worker = %offer.id, "a worker could not be registered: {}", causes(&error)),
            }
            stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
        }
    }

    /// Says that the worker lives until it is to end or ends by itself, and records how.
    async fn look_after(&self, mut process: Process, id: &WorkerId, stop: &CancellationToken) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_draining = false;
        let how = loop {
            tokio::select! {
                end = process.ended() => {
                    info!(worker = %id, "the worker has ended: {}", Error::from(end.clone()));
                    break Ending::from(&end);
                }
                () = stop.cancelled(), if !is_draining => {
                    is_draining = true;
                    info!(worker = %id, "the worker takes no more queries");
                    self.said("a worker could not be drained", self.workers.drain(id).await);
                    beat.reset_immediately();
                }
                _ = beat.tick() => {
                    if self.is_over(id, is_draining).await {
                        let asked = process.end(false).await;
                        // It may have been quicker.
                        let how = if asked == End::OutOfMemory { Ending::OutOfMemory } else { Ending::Stopped };
                        self.record_end(id, how).await;
                        return;
                    }
                }
            }
        };
        self.record_end(id, how).await;
    }

    /// Whether the worker is to end now.
    async fn is_over(&self, id: &WorkerId, is_draining: bool) -> bool {
        let standing = match self.workers.renew(id).await {
            Ok(standing) => standing,
            // Whoever has the worker has it still.
            Err(error) => {
                warn!(worker = %id, "the catalog does not answer: {}", causes(&error));
                return false;
            }
        };
        match verdict(standing.as_ref(), self.clock.now(), self.config.idle, is_draining) {
            Verdict::Goes => true,
            Verdict::Stays => false,
            // Unless somebody has just leased it.
            Verdict::IsIdle => match self.workers.retire(id).await {
                Ok(is_retired) => is_retired,
                Err(error) => {
                    warn!(worker = %id, "the catalog does not answer: {}", causes(&error));
                    false
                }
            },
        }
    }

    /// How a worker ended is for whoever waits for its answer. If it cannot be recorded, the next one at this address says
    /// that this one is gone.
    async fn record_end(&self, id: &WorkerId, how: Ending) {
        self.said(
            "the end of a worker was not recorded",
            self.workers.ended(id, how).await,
        );
    }

    fn said(&self, what: &str, done: wasmhouse_storage::Result<()>) {
        if let Err(error) = done {
            warn!("{what}: {}", causes(&error));
        }
    }
}

impl From<&End> for Ending {
    fn from(end: &End) -> Self {
        match end {
            End::OutOfMemory => Self::OutOfMemory,
            End::Lost(_) => Self::Lost,
        }
    }
}

/// What is to become of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stays,
    Goes,
    /// It has had nothing to do for so long that it goes, unless somebody has just found something.
    IsIdle,
}

fn verdict(standing: Option<&Standing>, now: Timestamp, idle: Duration, is_draining: bool) -> Verdict {
    let Some(standing) = standing else {
        return Verdict::Goes;
    };
    if standing.state == WorkerState::Spent || standing.is_abandoned(now) {
        return Verdict::Goes;
    }
    let is_free = !standing.is_leased;
    if is_free && standing.state == WorkerState::Draining {
        return Verdict::Goes;
    }
    // The word that it drains did not reach the catalog.
    let is_idle = standing.project.is_some() && now.since(standing.free_since) >= idle;
    match is_free && (is_draining || is_idle) {
        true => Verdict::IsIdle,
        false => Verdict::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    /// A worker that has had a query a moment ago.
    fn free() -> Standing {
        Standing {
            state: WorkerState::Ready,
            project: Some("acme".parse().expect("a name")),
            is_leased: false,
            leased_until: None,
            free_since: now(),
        }
    }

    fn leased(until: Timestamp) -> Standing {
        Standing {
            is_leased: true,
            leased_until: Some(until),
            ..free()
        }
    }

    #[test]
    fn a_worker_stays_while_its_gateway_is_heard_of_however_long_its_query_takes() {
        let long_ago = Standing {
            free_since: now().minus(IDLE * 100),
            ..leased(now())
        };
        assert_eq!(verdict(Some(&long_ago), now(), IDLE, false), Verdict::Stays);
        assert_eq!(verdict(Some(&long_ago), now(), IDLE, true), Verdict::Stays);
    }

    #[test]
    fn a_worker_goes_when_it_is_spent_or_its_gateway_is_silent_or_it_is_not_known_any_more() {
        let spent = Standing {
            state: WorkerState::Spent,
            ..free()
        };
        let abandoned = leased(now().minus(Duration::from_micros(1)));
        for standing in [None, Some(&spent), Some(&abandoned)] {
            assert_eq!(verdict(standing, now(), IDLE, false), Verdict::Goes);
        }
    }

    #[test]
    fn a_worker_that_has_nothing_to_do_forgets_its_project_after_a_while() {
        let idle = Standing {
            free_since: now().minus(IDLE),
            ..free()
        };
        let of_nobody = Standing {
            project: None,
            ..idle.clone()
        };
        assert_eq!(verdict(Some(&free()), now(), IDLE, false), Verdict::Stays);
        assert_eq!(verdict(Some(&idle), now(), IDLE, false), Verdict::IsIdle);
        assert_eq!(verdict(Some(&of_nobody), now(), IDLE, false), Verdict::Stays);
    }

    #[test]
    fn a_worker_that_drains_goes_when_its_query_has_ended() {
        let draining = |standing: Standing| Standing {
            state: WorkerState::Draining,
            ..standing
        };
        let busy = draining(leased(now()));
        assert_eq!(verdict(Some(&busy), now(), IDLE, true), Verdict::Stays);
        assert_eq!(verdict(Some(&draining(free())), now(), IDLE, true), Verdict::Goes);
        // One of which the catalog does not know yet that it drains may be leased at this moment.
        assert_eq!(verdict(Some(&free()), now(), IDLE, true), Verdict::IsIdle);
    }
}
