//! A worker that serves one query and nobody else.

use url::Url;
use wasmhouse_storage::ids::ProjectId;

use super::children::ChildLease;
use super::contact::Contact;
use super::conversation::Conversation;
use super::registered::RegisteredLease;
use super::ticket::PublicKey;
use crate::task::{PartUsage, Task};
use crate::{Error, Result};

/// A worker for one query. It is free for the next one by [`Lease::give_back`]; dropped, it is ended.
pub struct Lease(pub(super) Leased);

pub(super) enum Leased {
    Child(Box<ChildLease>),
    Registered(RegisteredLease),
}

impl Lease {
    /// Where its worker listens.
    pub fn url(&self) -> &Url {
        &self.contact().url
    }

    /// What its worker used for a query that another one was the head of.
    pub async fn read_meter(&self) -> Result<PartUsage> {
        self.contact().read_meter().await
    }

    /// Hands the task over and listens.
    pub async fn ask(&self, task: &Task) -> Result<Conversation> {
        self.contact().ask(task).await
    }

    /// Tells its worker whose it is, and whose tickets are good.
    pub(super) async fn belong_to(&self, project: &ProjectId, tickets: &PublicKey) -> Result<()> {
        self.contact().belong_to(project, tickets).await
    }

    fn contact(&self) -> &Contact {
        match &self.0 {
            Leased::Child(lease) => lease.contact(),
            Leased::Registered(lease) => lease.contact(),
        }
    }

    /// The query ended by itself: the worker is good for the project's next one.
    pub fn give_back(self) {
        match self.0 {
            Leased::Child(lease) => lease.give_back(),
            Leased::Registered(lease) => lease.give_back(),
        }
    }

    /// The worker stopped talking. Ends it and says what that means.
    pub async fn bury(self) -> Error {
        match self.0 {
            Leased::Child(lease) => lease.bury().await,
            Leased::Registered(lease) => lease.bury().await,
        }
    }

    /// The query is not wanted any more: the worker ends with it.
    pub async fn kill(self) {
        match self.0 {
            Leased::Child(lease) => lease.kill().await,
            Leased::Registered(lease) => lease.kill().await,
        }
    }
}
