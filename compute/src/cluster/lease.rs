//! A worker that serves one query and nobody else.

use url::Url;

use super::children::ChildLease;
use super::contact::Contact;
use super::conversation::Conversation;
use super::registered::RegisteredLease;
use super::ticket::PublicKey;
use crate::task::{PartUsage, Task};
use crate::{Error, Result};

/// Sees how far a worker is with a query that another one is the head of.
pub struct Lookout(Contact);

impl Lookout {
    /// What it has done so far.
    pub async fn look(&self) -> Result<PartUsage> {
        self.0.look().await
    }
}

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

    /// A way to look at its worker while the query runs.
    pub fn lookout(&self) -> Lookout {
        Lookout(self.contact().clone())
    }

    /// Tells its worker what it is to do parts of, and which ticket is good.
    pub(super) async fn serve(&self, task: &Task, tickets: &PublicKey) -> Result<()> {
        self.contact().serve(task, tickets).await
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
