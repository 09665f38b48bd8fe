//! How the gateway reaches one worker.

use std::time::Duration;

use tonic::transport::Channel;
use url::Url;
use wasmhouse_storage::ids::ProjectId;

use super::channel::endpoint;
use super::conversation::{Conversation, order};
use super::ticket::PublicKey;
use crate::task::{Order, PartUsage, Task};
use crate::{Error, Result};

/// How long a worker that is idle may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a worker may take to take an order to end.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// A worker that can be asked.
pub(super) struct Contact {
    /// Where it listens.
    pub(super) url: Url,
    token: String,
    channel: Channel,
}

impl Contact {
    /// Connects to the worker that listens at `url`.
    pub(super) async fn make(url: Url, token: String) -> Result<Self> {
        let endpoint = endpoint(&url).map_err(|error| Error::Internal(error.into()))?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::WorkerLost(format!("it cannot be reached: {error}")))?;
        Ok(Self { url, token, channel })
    }

    /// Hands a task over and listens.
    pub(super) async fn ask(&self, task: &Task) -> Result<Conversation> {
        Conversation::start(self.channel.clone(), &self.token, task).await
    }

    /// Tells the worker whose it is, before other workers ask anything of it.
    pub(super) async fn belong_to(&self, project: &ProjectId, tickets: &PublicKey) -> Result<()> {
        let said = Order::BelongTo {
            project: project.clone(),
            tickets: tickets.clone(),
        };
        let told = tokio::time::timeout(ANSWER_TIMEOUT, self.order(&said)).await;
        told.map_err(|_| Error::WorkerLost("it does not answer".to_owned()))?
            .map(drop)
    }

    /// What the worker used for a query that another one was the head of.
    pub(super) async fn read_meter(&self) -> Result<PartUsage> {
        self.order(&Order::ReadMeter).await
    }

    /// Tells the worker to end at once. It does not answer that; whether it heard it is not known.
    pub(super) async fn end(&self) {
        let _ = tokio::time::timeout(END_TIMEOUT, self.order(&Order::End)).await;
    }

    async fn order(&self, said: &Order) -> Result<PartUsage> {
        order(self.channel.clone(), &self.token, said).await
    }
}
