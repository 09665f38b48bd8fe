//! A worker that serves one query and nobody else.

use url::Url;

use super::children::ChildLease;
use super::contact::Contact;
use super::conversation::Conversation;
use super::registered::RegisteredLease;
use super::ticket::{Errand, PublicKey};
use crate::task::{PartUsage, Task};
use crate::{Error, Result};

/// Sees how far a worker is with a query that another one is the head of.
pub struct Lookout {
    contact: Contact,
    errand: Errand,
}

impl Lookout {
    /// What it has done so far.
    pub async fn look(&self) -> Result<PartUsage> {
        self.contact.look(&self.errand).await
    }
}

/// A worker for one query. It is free for the next one by [`Lease::give_back`]; dropped, it is ended.
pub struct Lease {
    leased: Leased,
    /// What it is leased for.
    errand: Errand,
}

pub(super) enum Leased {
    Child(Box<ChildLease>),
    Registered(RegisteredLease),
}

impl Lease {
    pub(super) fn new(leased: Leased, errand: Errand) -> Self {
        Self { leased, errand }
    }

    /// Where its worker listens.
    pub fn url(&self) -> &Url {
        &self.contact().url
    }

    /// What its worker used for a query that another one was the head of.
    pub async fn read_meter(&self) -> Result<PartUsage> {
        self.contact().read_meter(&self.errand).await
    }

    /// Hands the task over and listens.
    pub async fn ask(&self, task: &Task) -> Result<Conversation> {
        self.contact().ask(task).await
    }

    /// A way to look at its worker while the query runs.
    pub fn lookout(&self) -> Lookout {
        Lookout {
            contact: self.contact().clone(),
            errand: self.errand.clone(),
        }
    }

    /// Tells its worker what it is to do parts of, and which ticket is good.
    pub(super) async fn serve(&self, tickets: &PublicKey) -> Result<()> {
        self.contact().serve(&self.errand, tickets).await
    }

    fn contact(&self) -> &Contact {
        match &self.leased {
            Leased::Child(lease) => lease.contact(),
            Leased::Registered(lease) => lease.contact(),
        }
    }

    /// The query ended by itself: the worker is good for the project's next one.
    pub fn give_back(self) {
        match self.leased {
            Leased::Child(lease) => lease.give_back(),
            Leased::Registered(lease) => lease.give_back(),
        }
    }

    /// The worker stopped talking. Ends it and says what that means.
    pub async fn bury(self) -> Error {
        match self.leased {
            Leased::Child(lease) => lease.bury().await,
            Leased::Registered(lease) => lease.bury().await,
        }
    }

    /// The query is not wanted any more: the worker ends with it.
    pub async fn kill(self) {
        match self.leased {
            Leased::Child(lease) => lease.kill().await,
            Leased::Registered(lease) => lease.kill(&self.errand).await,
        }
    }
}
