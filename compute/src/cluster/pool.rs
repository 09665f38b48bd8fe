//! Where workers come from: this machine, or the catalog in which they offer themselves, whoever starts them.
//!
//! How many a gateway may hold at once and who may have one is the gateway's to say; whoever asks here has been let in.

use std::sync::Arc;
use std::time::Duration;

use wasmhouse_storage::BoxError;
use wasmhouse_storage::clock::Clock;

use super::children::Children;
use super::kubernetes::{KubernetesConfig, Scaler};
use super::lease::{Lease, Leased};
use super::process::ProcessConfig;
use super::registered::{Registered, RegisteredConfig};
use super::ticket::{Errand, PublicKey, Signer};
use crate::Result;
use crate::task::Task;

/// The workers that a gateway can have. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    source: Source,
    /// Who starts workers, if they are pods.
    scaler: Option<Arc<Scaler>>,
    /// What the workers of a query show each other.
    tickets: Arc<Signer>,
}

#[derive(Clone)]
enum Source {
    Children(Arc<Children>),
    Registered(Arc<Registered>),
}

impl Pool {
    /// Child processes of this one, at most so many, one of them always warm.
    pub async fn of_children(config: ProcessConfig, most: usize) -> Result<Self> {
        Self::of(Source::Children(Children::start(config, most).await?), None)
    }

    /// The workers that are registered in the catalog.
    pub fn of_registered(config: RegisteredConfig) -> Result<Self> {
        Self::of(Source::Registered(Registered::new(config, Clock::System)), None)
    }

    /// The workers that are registered in the catalog, of which Kubernetes starts as many as are wanted.
    pub async fn of_kubernetes(config: RegisteredConfig, pods: KubernetesConfig) -> Result<Self, BoxError> {
        let registered = Registered::new(config, Clock::System);
        let scaler = Scaler::start(pods, Arc::clone(&registered)).await?;
        Ok(Self::of(Source::Registered(registered), Some(Arc::new(scaler)))?)
    }

    fn of(source: Source, scaler: Option<Arc<Scaler>>) -> Result<Self> {
        Ok(Self {
            source,
            scaler,
            tickets: Arc::new(Signer::new(Clock::System)?),
        })
    }

    /// A worker for this task, started if need be; one that others start is waited for, but not longer than `patience`.
    pub async fn lease(&self, task: &Task, patience: Duration) -> Result<Lease> {
        let errand = Errand::from(task);
        let leased = match &self.source {
            Source::Children(children) => {
                let lease = children.lease(&errand.project).await?;
                children.keep_one_warm();
                Leased::Child(Box::new(lease))
            }
            Source::Registered(registered) => Leased::Registered(registered.lease(&errand, patience).await?),
        };
        Ok(Lease::new(leased, errand))
    }

    /// Further workers for a query that has one, as many of the wanted ones as answer. Children are started; registered workers
    /// must be free, and are waited for, but not longer than `patience`, only where pods are being started.
    pub async fn lease_more(&self, task: &Task, wanted: usize, patience: Duration) -> Result<Vec<Lease>> {
        let errand = Errand::from(task);
        let leased: Vec<Leased> = match &self.source {
            Source::Children(children) => {
                let starting = (0..wanted).map(|_| children.lease(&errand.project));
                let leases = futures::future::try_join_all(starting).await;
                children.keep_one_warm();
                leases?
                    .into_iter()
                    .map(|lease| Leased::Child(Box::new(lease)))
                    .collect()
            }
            Source::Registered(registered) => {
                let scaler = self.scaler.as_deref();
                let start_time = scaler.map_or(Duration::ZERO, Scaler::start_time);
                let are_started = || scaler.is_some_and(Scaler::starts_more);
                let leases = registered
                    .lease_more(&errand, wanted, patience.min(start_time), are_started)
                    .await?;
                leases.into_iter().map(Leased::Registered).collect()
            }
        };
        let leases: Vec<Lease> = leased
            .into_iter()
            .map(|leased| Lease::new(leased, errand.clone()))
            .collect();
        let key = self.public_key();
        let told = futures::future::join_all(leases.iter().map(|lease| lease.serve(&key))).await;
        // One that does not answer ends, and the query goes on without it.
        let heard = leases.into_iter().zip(told).filter(|(_, told)| told.is_ok());
        Ok(heard.map(|(lease, _)| lease).collect())
    }

    /// What the workers of this attempt show each other, for as long as it may take.
    pub fn ticket(&self, task: &Task, time: Duration) -> Result<String> {
        self.tickets.sign(&Errand::from(task), time)
    }

    /// What workers check these tickets with.
    pub fn public_key(&self) -> PublicKey {
        self.tickets.public_key()
    }

    /// Starts no more workers to be warm, and lets nobody wait for one any more.
    pub fn close(&self) {
        match &self.source {
            Source::Children(children) => children.close(),
            Source::Registered(registered) => registered.close(),
        }
    }

    /// Ends the idle workers of this machine, and gives up those of others.
    pub async fn end(&self) -> Result<()> {
        match &self.source {
            Source::Children(children) => {
                children.end_idle();
                Ok(())
            }
            Source::Registered(registered) => registered.end().await,
        }
    }

    /// What is to be done again and again: says that this gateway still has its workers, and ends those of this machine that
    /// have had nothing to do for so `long`.
    pub async fn look_after(&self, long: Duration) -> Result<()> {
        match &self.source {
            Source::Children(children) => {
                children.sweep(long);
                Ok(())
            }
            Source::Registered(registered) => registered.renew().await,
        }
    }

    /// Forgets the workers of other machines that are long gone.
    pub async fn forget(&self) -> Result<()> {
        match &self.source {
            Source::Children(_) => Ok(()),
            Source::Registered(registered) => registered.forget().await,
        }
    }
}
