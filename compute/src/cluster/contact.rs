//! How the gateway reaches one worker.

use std::time::Duration;

use tonic::transport::Channel;
use url::Url;

use super::channel::endpoint;
use super::conversation::{Conversation, order};
use super::ticket::{Errand, PublicKey};
use super::tls::Certificates;
use crate::task::{Order, PartUsage, Task};
use crate::{Error, Result, causes};

/// How long a worker that is idle may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a worker may take to take an order to end.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// A worker that can be asked. A clone asks the same one.
#[derive(Clone)]
pub(super) struct Contact {
    /// Where it listens.
    pub(super) url: Url,
    token: String,
    channel: Channel,
}

impl Contact {
    /// Connects to the worker that listens at `url`.
    pub(super) async fn make(url: Url, token: String, certificates: Option<&Certificates>) -> Result<Self> {
        let endpoint = endpoint(&url, certificates).map_err(Error::Internal)?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::WorkerLost(format!("it cannot be reached: {}", causes(&error))))?;
        Ok(Self { url, token, channel })
    }

    /// Hands a task over and listens.
    pub(super) async fn ask(&self, task: &Task) -> Result<Conversation> {
        Conversation::start(self.channel.clone(), &self.token, task).await
    }

    /// Tells the worker what it is to do parts of, before other workers ask anything of it.
    pub(super) async fn serve(&self, errand: &Errand, tickets: &PublicKey) -> Result<()> {
        let said = Order::Serve {
            tickets: tickets.clone(),
        };
        let told = tokio::time::timeout(ANSWER_TIMEOUT, self.order(errand, &said)).await;
        told.map_err(|_| Error::WorkerLost("it does not answer".to_owned()))?
            .map(drop)
    }

    /// How far the worker is with a query that another one is the head of.
    pub(super) async fn look(&self, errand: &Errand) -> Result<PartUsage> {
        let looked = tokio::time::timeout(ANSWER_TIMEOUT, self.order(errand, &Order::Look)).await;
        looked.map_err(|_| Error::WorkerLost("it does not answer".to_owned()))?
    }

    /// What the worker used for a query that another one was the head of.
    pub(super) async fn read_meter(&self, errand: &Errand) -> Result<PartUsage> {
        self.order(errand, &Order::ReadMeter).await
    }

    /// Tells the worker to end at once. It does not answer that; whether it heard it is not known.
    pub(super) async fn end(&self, errand: &Errand) {
        let _ = tokio::time::timeout(END_TIMEOUT, self.order(errand, &Order::End)).await;
    }

    async fn order(&self, errand: &Errand, said: &Order) -> Result<PartUsage> {
        order(self.channel.clone(), &self.token, errand, said).await
    }
}
