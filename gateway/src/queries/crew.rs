//! The further workers of an attempt: leased when its plan says what it reads, dismissed when its head has answered.

use std::time::Duration;

use tracing::warn;
use wasmhouse_compute::cluster::Lease;
use wasmhouse_compute::task::{Go, Task};
use wasmhouse_compute::{Error as ComputeError, causes};
use wasmhouse_storage::ids::QueryId;

use super::House;
use super::attempt::Talk;
use super::flight::{Flight, Landed};
use crate::admission::Place;

/// How long a worker may take to say what it used.
const METER_TIMEOUT: Duration = Duration::from_secs(2);

/// The workers of an attempt besides its head. Those that are not dismissed are killed.
#[derive(Default)]
pub(super) struct Crew(Vec<Hand>);

/// One of them, and then the place that it holds: a worker is gone before its place is somebody else's.
struct Hand {
    lease: Lease,
    place: Place,
}

impl Crew {
    /// As many as the query deserves and are free. Nobody waits for them, so no query holds a worker idle while it hopes for
    /// another.
    pub(super) async fn lease(house: &House, flight: &Flight, task: &Task, bytes: u64) -> Self {
        let wanted = flight.workers(house, Some(bytes)) - 1;
        let expected = flight.expected(house);
        let places: Vec<Place> = (0..wanted)
            .map_while(|_| house.admission.enter_now(&task.project, expected))
            .collect();
        match house.pool.lease_more(&task.project, places.len()).await {
            // There may be fewer than places, which others can have then.
            Ok(leases) => Self(
                leases
                    .into_iter()
                    .zip(places)
                    .map(|(lease, place)| Hand { lease, place })
                    .collect(),
            ),
            // They could not be started; the head can do it alone.
            Err(error) => {
                warn!(query.id = %task.query, "a query goes on with one worker: {}", causes(&error));
                Self::default()
            }
        }
    }

    /// What the head is told of them.
    pub(super) fn orders(&self, house: &House, flight: &Flight, task: &Task, head: &Lease) -> Result<Go, Talk> {
        if self.0.is_empty() {
            return Ok(Go::default());
        }
        let time = flight.time(house);
        Ok(Go {
            workers: [head]
                .into_iter()
                .chain(self.0.iter().map(|hand| &hand.lease))
                .map(|lease| lease.url().clone())
                .collect(),
            ticket: house.pool.ticket(&task.project, &task.query, task.attempt, time)?,
            tickets: house.pool.public_key(),
        })
    }

    /// After an answer they say what they used, and are free; after anything else nothing is known of their state, but
    /// perhaps of their end.
    pub(super) async fn dismiss(self, query: &QueryId, talked: Result<Landed, Talk>) -> Result<Landed, Talk> {
        match talked {
            Ok(mut landed) => {
                let read = |hand: Hand| async {
                    let used = tokio::time::timeout(METER_TIMEOUT, hand.lease.read_meter()).await;
                    (hand, used)
                };
                for (hand, used) in futures::future::join_all(self.0.into_iter().map(read)).await {
                    let Ok(Ok(used)) = used else {
                        // The rows are there. A worker that cannot say what they cost it is not used again.
                        warn!(query.id = %query, worker = %hand.lease.url(), "a worker did not say what it used");
                        continue;
                    };
                    landed.usage.cpu_ms = landed.usage.cpu_ms.saturating_add(used.cpu_ms);
                    landed.usage.peak_memory_bytes = landed.usage.peak_memory_bytes.max(used.peak_memory_bytes);
                    hand.lease.give_back();
                }
                Ok(landed)
            }
            Err(Talk::PeerLost(how)) => {
                let ends = futures::future::join_all(self.0.into_iter().map(|hand| async {
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
                futures::future::join_all(self.0.into_iter().map(|hand| async {
                    hand.lease.kill().await;
                    drop(hand.place);
                }))
                .await;
                Err(other)
            }
        }
    }
}
