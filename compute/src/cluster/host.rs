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

use tokio::time::{Instant, MissedTickBehavior};
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

/// How long the catalog may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that ends by itself within this is not started again at once.
const SHORT_LIFE: Duration = Duration::from_secs(5);

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
    /// How long a gateway may be silent before its worker ends.
    pub lease: Duration,
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
            let goes_well = match next {
                Ok((process, offer)) => {
                    let is_registered = self.register(&offer, stop).await;
                    if is_registered {
                        offered(&offer.url);
                    }
                    let goes_well = !is_registered || self.look_after(process, &offer.id, stop).await;
                    last = Some(offer.id);
                    goes_well
                }
                Err(error) => {
                    warn!("a worker could not be started: {}", causes(&error));
                    false
                }
            };
            if !goes_well {
                stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
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
            match self.asked(self.workers.register(offer)).await {
                Ok(()) => return true,
                Err(error) => warn!(worker = %offer.id, "a worker could not be registered: {error}"),
            }
            stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
        }
    }

    /// Says that the worker lives until it is to end or ends by itself, and records how. Whether that is how workers end.
    async fn look_after(&self, mut process: Process, id: &WorkerId, stop: &CancellationToken) -> bool {
        let began = Instant::now();
        let mut watch = Watch::default();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_draining = false;
        loop {
            tokio::select! {
                end = process.ended() => {
                    info!(worker = %id, "the worker has ended: {}", Error::from(end.clone()));
                    self.record_end(id, Ending::from(&end)).await;
                    return end == End::Asked || began.elapsed() > SHORT_LIFE;
                }
                () = stop.cancelled(), if !is_draining => {
                    is_draining = true;
                    info!(worker = %id, "the worker takes no more queries");
                    beat.reset_immediately();
                }
                _ = beat.tick() => {
                    let verdict = self.judge(id, &mut watch, is_draining).await;
                    if verdict == Verdict::Stays {
                        continue;
                    }
                    // It may have been quicker.
                    let how = match process.end(false).await {
                        End::OutOfMemory => Ending::OutOfMemory,
                        End::Asked | End::Lost(_) => Ending::Stopped,
                    };
                    self.record_end(id, how).await;
                    return verdict != Verdict::IsUnknown;
                }
            }
        }
    }

    /// What is to become of the worker now.
    async fn judge(&self, id: &WorkerId, watch: &mut Watch, is_draining: bool) -> Verdict {
        let standing = match self.asked(self.workers.renew(id)).await {
            Ok(standing) => standing,
            // Whoever has the worker has it still; nor could it say so.
            Err(error) => {
                warn!(worker = %id, "the catalog does not answer: {error}");
                return watch.sees_nothing(Instant::now(), is_draining, self.config.lease);
            }
        };
        let silence = watch.sees(Instant::now(), standing.as_ref());
        let verdict = verdict(standing.as_ref(), silence, &self.config, self.clock.now(), is_draining);
        match verdict {
            Verdict::IsUnknown => {
                warn!(worker = %id, "the worker is not registered any more: another one may have its address");
            }
            Verdict::Drains => {
                if let Err(error) = self.asked(self.workers.drain(id)).await {
                    warn!(worker = %id, "the worker could not be drained: {error}");
                }
                return Verdict::Stays;
            }
            // Unless somebody has just leased it.
            Verdict::IsIdle => match self.asked(self.workers.retire(id)).await {
                Ok(true) => {}
                Ok(false) => return Verdict::Stays,
                Err(error) => {
                    warn!(worker = %id, "the catalog does not answer: {error}");
                    return Verdict::Stays;
                }
            },
            Verdict::Stays | Verdict::Goes => {}
        }
        verdict
    }

    /// What the catalog answers, or that it does not: a host must hear of its process's end and its own meanwhile.
    async fn asked<T>(&self, answer: impl Future<Output = wasmhouse_storage::Result<T>>) -> Result<T, String> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| causes(&error)),
            Err(_) => Err("it is silent".to_owned()),
        }
    }

    /// How a worker ended is for whoever waits for its answer. If it cannot be recorded, the next one at this address says
    /// that this one is gone.
    async fn record_end(&self, id: &WorkerId, how: Ending) {
        if let Err(error) = self.asked(self.workers.ended(id, how)).await {
            warn!(worker = %id, "the end of a worker was not recorded: {error}");
        }
    }
}

impl From<&End> for Ending {
    fn from(end: &End) -> Self {
        match end {
            End::OutOfMemory => Self::OutOfMemory,
            End::Asked => Self::Stopped,
            End::Lost(_) => Self::Lost,
        }
    }
}

/// What a host has seen of its worker's gateway, by the host's own clock: those of gateways may say anything.
#[derive(Debug, Default)]
struct Watch {
    /// The gateway's last word, and when it was new.
    word: Option<(Timestamp, Instant)>,
    /// Since when the catalog has not answered.
    blind_since: Option<Instant>,
}

impl Watch {
    /// How long the worker's gateway has been silent, while the catalog answered.
    fn sees(&mut self, now: Instant, standing: Option<&Standing>) -> Duration {
        // Nobody could say anything while the catalog was away.
        if self.blind_since.take().is_some() {
            self.word = None;
        }
        let word = standing.filter(|standing| standing.is_leased);
        let word = word.and_then(|standing| standing.leased_until);
        match (word, self.word) {
            (Some(word), Some((last, at))) if word == last => now.duration_since(at),
            (word, _) => {
                self.word = word.map(|word| (word, now));
                Duration::ZERO
            }
        }
    }

    /// A worker that drains while nobody can say whether it is leased ends when its gateway must have ended it.
    fn sees_nothing(&mut self, now: Instant, is_draining: bool, lease: Duration) -> Verdict {
        let blind_since = *self.blind_since.get_or_insert(now);
        match is_draining && now.duration_since(blind_since) > lease {
            true => Verdict::Goes,
            false => Verdict::Stays,
        }
    }
}

/// What is to become of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stays,
    Goes,
    /// The catalog does not know it any more, or says that it has ended. It goes.
    IsUnknown,
    /// It stays, and nobody is to lease it again.
    Drains,
    /// It has had nothing to do for so long that it goes, unless somebody has just found something.
    IsIdle,
}

/// `silence` is for how long nothing has been heard of the gateway that has the worker.
fn verdict(
    standing: Option<&Standing>,
    silence: Duration,
    config: &HostConfig,
    now: Timestamp,
    is_draining: bool,
) -> Verdict {
    let Some(standing) = standing else {
        return Verdict::IsUnknown;
    };
    if standing.state == WorkerState::Spent || silence > config.lease {
        return Verdict::Goes;
    }
    match (standing.is_leased, standing.state) {
        (true, WorkerState::Ready) if is_draining => Verdict::Drains,
        (true, _) => Verdict::Stays,
        (false, WorkerState::Draining) => Verdict::Goes,
        (false, _) if is_draining => Verdict::IsIdle,
        (false, _) if standing.project.is_some() && now.since(standing.free_since) >= config.idle => Verdict::IsIdle,
        (false, _) => Verdict::Stays,
    }
}

#[cfg(test)]
mod tests;
