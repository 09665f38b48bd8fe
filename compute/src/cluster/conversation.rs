//! A conversation with a head worker: one task out, frames and rows back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{Action, FlightData};
use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use wasmhouse_storage::clock::Clock;

use super::ticket::{Errand, seal};
use crate::task::{Frame, Go, Order, PartUsage, Task};
use crate::{Error, Result};

/// What the worker says next.
#[derive(Debug)]
pub enum Said {
    /// A word about the query.
    Frame(Frame),
    /// Rows.
    Rows(RecordBatch),
}

/// An open conversation. Dropping it tells the worker to stop.
pub struct Conversation {
    /// None when the task was all there is to say.
    words: Option<mpsc::Sender<FlightData>>,
    frames: Streaming<FlightData>,
    /// The columns of the rows, once the worker has said them.
    schema: Option<SchemaRef>,
}

impl Conversation {
    pub(super) async fn start(channel: Channel, token: &str, task: &Task) -> Result<Self> {
        let (words, spoken) = mpsc::channel(2);
        let text = serde_json::to_vec(task).map_err(|error| Error::Internal(error.into()))?;
        let seal = seal(token, &Errand::from(task), &text, &Clock::System)?;
        say(&words, text).await?;
        let words = (!task.never_waits()).then_some(words);

        let request = sealed(ReceiverStream::new(spoken), &seal)?;
        let frames = client(channel)
            .do_exchange(request)
            .await
            .map_err(|status| lost(status.message()))?
            .into_inner();
        Ok(Self {
            words,
            frames,
            schema: None,
        })
    }

    /// The columns of the rows as they travel, where dictionaries are written out. Known before the first row.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    /// The price is accepted: run, with these workers.
    pub async fn go(&mut self, go: &Go) -> Result<()> {
        let text = serde_json::to_vec(go).map_err(|error| Error::Internal(error.into()))?;
        match &self.words {
            Some(words) => say(words, text).await,
            None => Ok(()),
        }
    }

    /// The plan was all we wanted. Returns when the worker has put the query away.
    pub async fn decline(mut self) -> Result<()> {
        if let Some(words) = &self.words {
            say(words, "no").await?;
        }
        match self.frames.message().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(lost("it went on")),
            Err(status) => Err(lost(status.message())),
        }
    }

    /// What the worker says next. A worker that ends without a last frame is lost.
    pub async fn next(&mut self) -> Result<Said> {
        loop {
            let data = match self.frames.message().await {
                Ok(None) => return Err(lost("it hung up")),
                Err(status) => return Err(lost(status.message())),
                Ok(Some(data)) => data,
            };
            // A word of ours has no Arrow message beside it.
            if data.data_header.is_empty() {
                return serde_json::from_slice(&data.app_metadata)
                    .map(Said::Frame)
                    .map_err(|error| Error::Internal(error.into()));
            }
            match &self.schema {
                None => {
                    let schema = Schema::try_from(&data).map_err(|error| Error::Internal(error.into()))?;
                    self.schema = Some(Arc::new(schema));
                }
                Some(schema) => {
                    // The worker sends no dictionaries: its encoder writes their values out.
                    let rows = flight_data_to_arrow_batch(&data, Arc::clone(schema), &HashMap::new());
                    return rows.map(Said::Rows).map_err(|error| Error::Internal(error.into()));
                }
            }
        }
    }
}

/// Says something to a worker whose query has another one as its head, and hears what it used of it.
pub(super) async fn order(channel: Channel, token: &str, errand: &Errand, order: &Order) -> Result<PartUsage> {
    let text = serde_json::to_vec(order).map_err(|error| Error::Internal(error.into()))?;
    let seal = seal(token, errand, &text, &Clock::System)?;
    let request = sealed(Action::new("order", text), &seal)?;
    let answer = client(channel).do_action(request).await;
    let mut answer = answer.map_err(|status| lost(status.message()))?.into_inner();
    let usage = answer.message().await.map_err(|status| lost(status.message()))?;
    let usage = usage.ok_or_else(|| lost("it hung up"))?;
    serde_json::from_slice(&usage.body).map_err(|error| Error::Internal(error.into()))
}

fn client(channel: Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

/// A request that shows that it comes from the worker's own gateway, and for which query.
fn sealed<T>(message: T, seal: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {seal}")
        .parse()
        .map_err(|_| Error::Internal("the seal is not a header".into()))?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

async fn say(words: &mpsc::Sender<FlightData>, text: impl Into<Bytes>) -> Result<()> {
    let word = FlightData::new().with_app_metadata(text);
    words.send(word).await.map_err(|_| lost("it does not listen"))
}

fn lost(why: &str) -> Error {
    Error::WorkerLost(why.to_owned())
}
