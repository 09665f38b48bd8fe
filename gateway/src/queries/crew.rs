//! The further workers of an attempt: leased when its plan says what it reads, dismissed when its head has answered.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmhouse_compute::cluster::{Lease, Lookout};
use wasmhouse_compute::task::{Action, Go, PartUsage, Task};
use wasmhouse_compute::{Error as ComputeError, causes};
use wasmhouse_storage::ids::QueryId;

use super::House;
use super::attempt::{Talk, is_out_of_memory};
use super::flight::{Flight, Landed};
use super::live::{Live, of_crew};
use crate::admission::Place;

/// How long a worker may take to say what it used.
const METER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is looked at how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The workers of an attempt besides its head. Those that are not dismissed are killed.
#[derive(Default)]
pub(super) struct Crew {
    hands: Vec<Hand>,
    /// Looks at them until they are dismissed.
    lookout: Option<AbortOnDropHandle<()>>,
}

/// One of them, and then the place that it holds: a worker is gone before its place is somebody else's.
struct Hand {
    lease: Lease,
    place: Place,
}

impl Crew {
    /// As many as the query deserves and are free. Only those are waited for that can be started, and not for long, so no
    /// query holds a worker idle while it hopes for another query's.
    pub(super) async fn lease(house: &House, flight: &Flight, task: &Task, bytes: u64) -> Self {
        let wanted = flight.workers(house, Some(bytes)) - 1;
        let expected = flight.expected(house);
        let places: Vec<Place> = (0..wanted)
            .map_while(|_| house.admission.enter_now(&task.project, expected))
            .collect();
        if places.is_empty() {
            return Self::default();
        }
        flight.live.tell(|now| now.phase = "starting");
        // What is left after the longest wait is for the work.
        let patience = flight.time_left(house) / 2;
        match house.pool.lease_more(task, places.len(), patience).await {
            Ok(leases) => {
                let lookout = (!leases.is_empty()).then(|| look_out(&leases, Arc::clone(&flight.live)));
                // There may be fewer than places, which others can have then.
                let hands = leases.into_iter().zip(places);
                let hands = hands.map(|(lease, place)| Hand { lease, place }).collect();
                Self { hands, lookout }
            }
            // They could not be started; the head can do it alone.
            Err(error) => {
                warn!(query.id = %task.query, "a query goes on with one worker: {}", causes(&error));
                Self::default()
            }
        }
    }

    /// What the head is told of them.
    pub(super) fn orders(&self, house: &House, flight: &Flight, task: &Task, head: &Lease) -> Result<Go, Talk> {
        if self.hands.is_empty() {
            return Ok(Go::default());
        }
        let time = flight.time(house);
        Ok(Go {
            workers: [head]
                .into_iter()
                .chain(self.hands.iter().map(|hand| &hand.lease))
                .map(|lease| lease.url().clone())
                .collect(),
            ticket: house.pool.ticket(&task.project, &task.query, task.attempt, time)?,
            tickets: house.pool.public_key(),
        })
    }

    /// After an answer they say what they used, and are free; after anything else nothing is known of their state, but
    /// perhaps of their end.
    pub(super) async fn dismiss(
        self,
        flight: &Flight,
        task: &Task,
        talked: Result<Landed, Talk>,
    ) -> Result<Landed, Talk> {
        let Self { hands, lookout } = self;
        drop(lookout);
        match talked {
            Ok(mut landed) => {
                let used = give_back(hands, &task.query).await;
                let is_complete = flight.live.now().report.is_some_and(|report| report.is_complete);
                landed.usage += of_crew(&used, is_complete);
                flight.live.tell(|now| now.crew = used);
                Ok(landed)
            }
            // The head has put the query away, and what it asked of others with it. What writes might still write.
            Err(Talk::Answered(error)) if matches!(task.action, Action::Return) && !is_out_of_memory(&error) => {
                let used = give_back(hands, &task.query).await;
                flight.live.tell(|now| now.crew = used);
                Err(Talk::Answered(error))
            }
            Err(Talk::PeerLost(how)) => {
                let ends = futures::future::join_all(hands.into_iter().map(|hand| async {
                    let end = hand.lease.bury().await;
                    drop(hand.place);
                    end
                }))
                .await;
                // One that was out of memory would be again.
                let answer = ends.into_iter().find(|end| !matches!(end, ComputeError::WorkerLost(_)));
                Err(answer.map_or(Talk::PeerLost(how), |error| Talk::Unwanted(error.into())))
            }
            Err(other) => {
                // Whatever is tried next, nothing of this attempt is written any more.
                futures::future::join_all(hands.into_iter().map(|hand| async {
                    hand.lease.kill().await;
                    drop(hand.place);
                }))
                .await;
                Err(other)
            }
        }
    }
}

/// Makes workers free that have nothing to do any more, and says what they used. One that cannot say it is not used again.
async fn give_back(hands: Vec<Hand>, query: &QueryId) -> PartUsage {
    let read = |hand: Hand| async {
        let used = tokio::time::timeout(METER_TIMEOUT, hand.lease.read_meter()).await;
        (hand, used)
    };
    let mut all = PartUsage::default();
    for (hand, used) in futures::future::join_all(hands.into_iter().map(read)).await {
        match used {
            Ok(Ok(used)) => {
                add(&mut all, used);
                hand.lease.give_back();
            }
            _ => warn!(query.id = %query, worker = %hand.lease.url(), "a worker did not say what it used"),
        }
    }
    all
}

/// Says again and again how far the workers are. Of one that does not answer what it last said is true.
fn look_out(leases: &[Lease], live: Arc<Live>) -> AbortOnDropHandle<()> {
    let mut watched: Vec<(Lookout, PartUsage)> = leases
        .iter()
        .map(|lease| (lease.lookout(), PartUsage::default()))
        .collect();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looks = futures::future::join_all(watched.iter().map(|(worker, _)| worker.look())).await;
            for ((_, last), look) in watched.iter_mut().zip(looks) {
                *last = look.unwrap_or(*last);
            }
            let mut all = PartUsage::default();
            watched.iter().for_each(|(_, last)| add(&mut all, *last));
            live.tell(|now| now.crew = all);
        }
    }))
}

fn add(all: &mut PartUsage, one: PartUsage) {
    all.cpu_ms = all.cpu_ms.saturating_add(one.cpu_ms);
    all.peak_memory_bytes = all.peak_memory_bytes.max(one.peak_memory_bytes);
    all.bytes_read = all.bytes_read.saturating_add(one.bytes_read);
    all.tasks_done = all.tasks_done.saturating_add(one.tasks_done);
}
