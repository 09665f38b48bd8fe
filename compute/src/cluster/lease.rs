//! A worker that serves one query and nobody else.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use url::Url;
use wasmhouse_storage::ids::ProjectId;

use super::conversation::{Conversation, order};
use super::pool::Shared;
use super::process::Process;
use crate::task::{Order, PartUsage, Task};
use crate::{Error, Result};

/// How long a worker that is idle may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A worker for one query. It returns to the pool by [`Lease::give_back`]; dropped, it is killed.
pub struct Lease {
    process: Option<Process>,
    pool: Arc<Shared>,
}

impl Lease {
    pub(super) fn new(process: Process, pool: Arc<Shared>) -> Self {
        pool.leased.fetch_add(1, Relaxed);
        Self {
            process: Some(process),
            pool,
        }
    }

    /// Where its worker listens.
    pub fn url(&self) -> &Url {
        &self.process().url
    }

    /// What its worker used for a query that another one was the head of.
    pub async fn read_meter(&self) -> Result<PartUsage> {
        self.order(&Order::ReadMeter).await
    }

    /// Tells its worker whose it is, before other workers ask anything of it.
    pub(super) async fn belong_to(&self, project: &ProjectId) -> Result<()> {
        let project = project.clone();
        let told = tokio::time::timeout(ANSWER_TIMEOUT, self.order(&Order::BelongTo { project })).await;
        told.map_err(|_| Error::WorkerLost("it does not answer".to_owned()))?
            .map(drop)
    }

    async fn order(&self, said: &Order) -> Result<PartUsage> {
        let process = self.process();
        order(process.channel.clone(), &process.token, said).await
    }

    /// Hands the task over and listens.
    pub async fn ask(&self, task: &Task) -> Result<Conversation> {
        let process = self.process();
        Conversation::start(process.channel.clone(), &process.token, task).await
    }

    fn process(&self) -> &Process {
        self.process
            .as_ref()
            .expect("a lease has its worker until it is given back")
    }

    /// The query ended by itself: the worker is good for the project's next one.
    pub fn give_back(mut self) {
        let process = self.process.take().expect("a lease is given back once");
        self.pool.put(process);
    }

    /// The worker stopped talking. Ends it and says what that means.
    pub async fn bury(mut self) -> Error {
        let process = self.process.take().expect("a lease is given back once");
        process.end(true).await
    }

    /// The query is not wanted any more: the worker ends with it.
    pub async fn kill(mut self) {
        let process = self.process.take().expect("a lease is given back once");
        process.end(false).await;
    }
}

impl Drop for Lease {
    /// Whatever became of the worker, the next query finds one warm.
    fn drop(&mut self) {
        drop(self.process.take());
        self.pool.leased.fetch_sub(1, Relaxed);
        Shared::keep_one_warm(&self.pool);
    }
}
