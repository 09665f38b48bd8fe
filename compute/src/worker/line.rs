//! The worker's end of a conversation with its gateway.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow_flight::FlightData;
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::head::{Stop, defect};
use super::meter::Meter;
use crate::task::{Frame, Go};

/// What may be held back so that it leaves with what follows at once: a small answer is one burst.
const BURST_BYTES: usize = 16 << 10;

/// How often the gateway hears of a query that is at work.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The wire to the gateway. What is said leaves at once, or with what is said before there is anything to wait for.
pub(super) struct Line {
    out: mpsc::Sender<Vec<FlightData>>,
    words: Streaming<FlightData>,
    held: Vec<FlightData>,
    held_bytes: usize,
}

impl Line {
    pub(super) fn new(out: mpsc::Sender<Vec<FlightData>>, words: Streaming<FlightData>) -> Self {
        Self {
            out,
            words,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    pub(super) async fn say(&mut self, frame: &Frame) -> Result<(), Stop> {
        let text = serde_json::to_vec(frame).map_err(defect)?;
        self.send(FlightData::new().with_app_metadata(text)).await
    }

    pub(super) async fn send(&mut self, data: FlightData) -> Result<(), Stop> {
        self.held_bytes += data.data_header.len() + data.app_metadata.len() + data.data_body.len();
        self.held.push(data);
        match self.held_bytes < BURST_BYTES {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.held_bytes = 0;
        let burst = std::mem::take(&mut self.held);
        self.out.send(burst).await.map_err(|_| Stop::NobodyListens)
    }

    /// The gateway has accepted the price. Anything else is a goodbye.
    pub(super) async fn word_to_go(&mut self) -> Result<Go, Stop> {
        self.flush().await?;
        match self.words.message().await {
            Ok(Some(word)) => serde_json::from_slice(&word.app_metadata).map_err(|_| Stop::NobodyListens),
            _ => Err(Stop::NobodyListens),
        }
    }

    /// Waits for `work`, saying now and then that it goes on.
    pub(super) async fn while_working<T>(
        &mut self,
        meter: &Meter,
        plan: &Arc<dyn ExecutionPlan>,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        if let Poll::Ready(done) = futures::poll!(work.as_mut()) {
            return done;
        }
        loop {
            self.flush().await?;
            match tokio::time::timeout(PROGRESS_EVERY, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => {
                    self.say(&Frame::Progress(meter.progress(plan))).await?;
                }
            }
        }
    }
}
