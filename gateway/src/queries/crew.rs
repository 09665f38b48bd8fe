//! The further workers of an attempt: leased when its plan says what it reads, dismissed when its head has answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmhouse_compute::cluster::{Lease, Lookout};
use wasmhouse_compute::task::{Action, Go, PartUsage, Task};
use wasmhouse_compute::{Error as ComputeError, causes};
use wasmhouse_storage::ids::QueryId;

use super::House;
use super::attempt::{Talk, is_out_of_memory};
use super::flight::Flight;
use super::landed::Landed;
use super::live::{Live, of_crew};
use crate::admission::Place;

/// How long a worker may take to say what it used.
const METER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one that is to be ended may take to say it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(200);

/// How often it is looked at how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The workers of an attempt besides its head. Those that are not dismissed are killed.
#[derive(Default)]
pub(super) struct Crew {
    hands: Vec<Hand>,
    watch: Option<Watched>,
}

/// Who looks at them, until they are dismissed.
struct Watched {
    watch: Arc<Watch>,
    telling: AbortOnDropHandle<()>,
}

/// One of them, and then the place that it holds: a worker is gone before its place is somebody else's.
struct Hand {
    lease: Lease,
    place: Place,
}

impl Crew {
    /// As many of the wanted ones as are free: where several gateways share workers, the catalog says in one step how many and
    /// which. Only those are waited for that can be started, and not for long, so no query holds a worker idle while it hopes for
    /// another query's.
    pub(super) async fn lease(house: &House, flight: &Flight, task: &Task, wanted: usize) -> Self {
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
                let watch = (!leases.is_empty()).then(|| Watched::start(&leases, &flight.live));
                // There may be fewer than places, which others can have then.
                let hands = leases.into_iter().zip(places);
                let hands: Vec<Hand> = hands.map(|(lease, place)| Hand { lease, place }).collect();
                flight.live.tell(|now| now.workers = 1 + hands.len());
                Self { hands, watch }
            }
            // They could not be started; the head can do it alone.
            Err(error) => {
                warn!(query.id = %task.query, "a query goes on with one worker: {}", causes(&error));
                Self::default()
            }
        }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.hands.len()
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
            ticket: house.pool.ticket(task, time)?,
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
        let Self { hands, watch } = self;
        let watch = watch.map(Watched::stop);
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
                last_words(watch.as_deref(), flight).await;
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
                last_words(watch.as_deref(), flight).await;
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

impl Watched {
    fn start(leases: &[Lease], live: &Arc<Live>) -> Self {
        let watch = Arc::new(Watch::new(leases));
        let telling = {
            let (watch, live) = (Arc::clone(&watch), Arc::clone(live));
            tokio::spawn(async move { watch.keep_telling(&live).await })
        };
        Self {
            watch,
            telling: AbortOnDropHandle::new(telling),
        }
    }

    /// Tells nothing more.
    fn stop(self) -> Arc<Watch> {
        let Self { watch, telling } = self;
        drop(telling);
        watch
    }
}

/// What those who are about to be ended have used.
async fn last_words(watch: Option<&Watch>, flight: &Flight) {
    if let Some(watch) = watch {
        let all = watch.look(LAST_WORDS_TIMEOUT).await;
        flight.live.tell(|now| now.crew = all);
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
                all += used;
                hand.lease.give_back();
            }
            _ => warn!(query.id = %query, worker = %hand.lease.url(), "a worker did not say what it used"),
        }
    }
    all
}

/// Looks at workers, and knows what each last said: of one that does not answer that is true.
struct Watch {
    workers: Vec<Lookout>,
    said: Mutex<Vec<PartUsage>>,
}

impl Watch {
    fn new(leases: &[Lease]) -> Self {
        Self {
            workers: leases.iter().map(Lease::lookout).collect(),
            said: Mutex::new(vec![PartUsage::default(); leases.len()]),
        }
    }

    /// What they have done, of which they may take so long to tell.
    async fn look(&self, patience: Duration) -> PartUsage {
        let looks = self
            .workers
            .iter()
            .map(|worker| tokio::time::timeout(patience, worker.look()));
        let looks = futures::future::join_all(looks).await;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = PartUsage::default();
        for (last, look) in said.iter_mut().zip(looks) {
            *last = look.ok().and_then(Result::ok).unwrap_or(*last);
            all += *last;
        }
        all
    }

    /// Says again and again how far they are.
    async fn keep_telling(&self, live: &Live) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let all = self.look(METER_TIMEOUT).await;
            live.tell(|now| now.crew = all);
        }
    }
}
