//! Workers that offer themselves in the catalog, wherever they run. Several gateways share them.
//!
//! # Invariants
//! - Who has which worker is the catalog's to say ([`Workers`]); what is kept here is which leases this gateway renews.
//! - A worker whose query did not end by itself is told to end, and its host starts a new one: nothing is known of its state.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::Url;
use wasmhouse_storage::Error as StorageError;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::{ProjectId, WorkerId};
use wasmhouse_storage::workers::{Ending, Leased, Need, Wanted, Workers};

use super::contact::Contact;
use super::process::End;
use super::ticket::Errand;
use super::tls::Certificates;
use crate::{Error, Result, causes};

/// How often one who waits asks whether another gateway, or a host, has made a worker free.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often a query that has a worker asks whether there are further ones. Several may ask at once.
const LOOK_FOR_MORE_EVERY: Duration = Duration::from_millis(500);

/// Longer than anybody waits, and a time that can be added to any instant.
const LONGEST_PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a host may take to say how its worker ended.
const ENDING_TIMEOUT: Duration = Duration::from_secs(3);

/// How this gateway is known, and to which workers.
pub struct RegisteredConfig {
    /// Where workers register.
    pub workers: Workers,
    /// This gateway's name among its neighbours.
    pub owner: String,
    /// Its build. It leases workers of no other.
    pub build: String,
    /// How long a lease lasts that is not renewed.
    pub lease: Duration,
    /// What it shows to workers, and whom it believes. None: nothing is encrypted.
    pub certificates: Option<Certificates>,
    /// Free workers that a query leaves for others when it takes further ones.
    pub spare: usize,
}

/// The workers of all gateways, as one of them sees them.
pub(super) struct Registered {
    config: RegisteredConfig,
    clock: Clock,
    held: Mutex<HashSet<WorkerId>>,
    /// Who may look for a worker: those who wait have it in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    /// A worker of this gateway's became free.
    freed: Notify,
    /// How many workers are waited for.
    missing: AtomicU64,
    /// They are more than before, or fewer.
    changed: Notify,
    /// Nobody waits any more.
    closed: CancellationToken,
}

impl Registered {
    pub(super) fn new(config: RegisteredConfig, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            config,
            clock,
            held: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            missing: AtomicU64::new(0),
            changed: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    /// A worker for this errand, as soon as there is one.
    pub(super) async fn lease(self: &Arc<Self>, errand: &Errand, patience: Duration) -> Result<RegisteredLease> {
        if let Ok(_turn) = self.turn.try_lock()
            && let Some(lease) = self.take(errand).await?
        {
            return Ok(lease);
        }
        let _missing = Missing::new(self, 1);
        let patient_until = Instant::now() + patience.min(LONGEST_PATIENCE);
        let turn = tokio::time::timeout_at(patient_until, self.turn.lock());
        let _turn = turn.await.map_err(|_| Error::NoWorker)?;
        loop {
            let freed = self.freed.notified();
            if let Some(lease) = self.take(errand).await? {
                return Ok(lease);
            }
            if Instant::now() >= patient_until || self.closed.is_cancelled() {
                return Err(Error::NoWorker);
            }
            let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
        }
    }

    /// Further workers, as many of the wanted ones as are free, or become free within `patience` while others are being
    /// started.
    pub(super) async fn lease_more(
        self: &Arc<Self>,
        errand: &Errand,
        wanted: usize,
        patience: Duration,
        are_started: impl Fn() -> bool,
    ) -> Result<Vec<RegisteredLease>> {
        let mut leases = self.take_free(errand, wanted).await?;
        if leases.len() == wanted || patience.is_zero() {
            return Ok(leases);
        }
        let missing = Missing::new(self, wanted - leases.len());
        let patient_until = Instant::now() + patience.min(LONGEST_PATIENCE);
        while leases.len() < wanted && Instant::now() < patient_until && are_started() && !self.closed.is_cancelled() {
            tokio::time::sleep(LOOK_FOR_MORE_EVERY).await;
            match self.take_free(errand, wanted - leases.len()).await {
                Ok(more) => leases.extend(more),
                Err(error) => {
                    warn!("a query goes on with the workers that it has: {}", causes(&error));
                    break;
                }
            }
            missing.are(wanted - leases.len());
        }
        Ok(leases)
    }

    /// Another number of workers is missed than before.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many workers there should be for all gateways; see [`Workers::need`].
    pub(super) async fn need_of_all(&self, idle: Duration) -> Result<Need> {
        let RegisteredConfig {
            workers, owner, build, ..
        } = &self.config;
        let missing = self.missing.load(Ordering::Relaxed);
        workers.demand(owner, build, missing).await?;
        Ok(workers.need(idle).await?)
    }

    /// Says that this gateway lives and has its workers.
    pub(super) async fn renew(&self) -> Result<()> {
        let held: Vec<WorkerId> = self.held().iter().cloned().collect();
        let until = self.clock.now().plus(self.config.lease);
        self.config
            .workers
            .renew_leases(&self.config.owner, &held, until)
            .await?;
        Ok(())
    }

    /// Forgets workers that are long gone.
    pub(super) async fn forget(&self) -> Result<()> {
        self.config.workers.forget().await?;
        Ok(())
    }

    /// Lets nobody wait any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Gives up what is still held: this gateway stops.
    pub(super) async fn end(&self) -> Result<()> {
        self.config.workers.spend_all(&self.config.owner).await?;
        Ok(())
    }

    /// A worker that answers, if there is one.
    async fn take(self: &Arc<Self>, errand: &Errand) -> Result<Option<RegisteredLease>> {
        match self.config.workers.lease(&self.wanted(&errand.project, 1)).await {
            Ok(leased) => Ok(self.reached(errand, leased).await.pop()),
            // Another gateway was quicker.
            Err(StorageError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As many of the wanted workers as are free and answer.
    async fn take_free(self: &Arc<Self>, errand: &Errand, wanted: usize) -> Result<Vec<RegisteredLease>> {
        let wanted = self.wanted(&errand.project, wanted);
        let leased = self.config.workers.lease_free(&wanted, self.config.spare).await?;
        Ok(self.reached(errand, leased).await)
    }

    fn wanted<'a>(&'a self, project: &'a ProjectId, count: usize) -> Wanted<'a> {
        Wanted {
            owner: &self.config.owner,
            project,
            build: &self.config.build,
            count,
            until: self.clock.now().plus(self.config.lease),
        }
    }

    /// Those that answer. The others are spent: their machines are gone, or frozen.
    async fn reached(self: &Arc<Self>, errand: &Errand, leased: Vec<Leased>) -> Vec<RegisteredLease> {
        // From here on each is given back, whatever happens.
        let held: Vec<Held> = leased.iter().map(|leased| Held::new(self, &leased.id)).collect();
        let contacts = futures::future::join_all(leased.into_iter().map(|leased| self.contact(errand, leased))).await;
        let reached = held
            .into_iter()
            .zip(contacts)
            .filter_map(|(held, contact)| match contact {
                Ok(contact) => Some(RegisteredLease { held, contact }),
                Err(error) => {
                    warn!(worker = %held.id, "a worker does not answer: {}", causes(&error));
                    None
                }
            });
        reached.collect()
    }

    /// A worker that has answered: a connection can be made to one that is cut off or frozen, too.
    async fn contact(&self, errand: &Errand, leased: Leased) -> Result<Contact> {
        let url = Url::parse(&leased.url).map_err(|error| Error::Internal(error.into()))?;
        let contact = Contact::make(url, leased.token, self.config.certificates.as_ref()).await?;
        contact.look(errand).await?;
        Ok(contact)
    }

    fn held(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that somebody waits for, until they are there or nobody waits any more.
struct Missing<'a> {
    registered: &'a Registered,
    count: AtomicU64,
}

impl<'a> Missing<'a> {
    fn new(registered: &'a Registered, count: usize) -> Self {
        let missing = Self {
            registered,
            count: AtomicU64::new(0),
        };
        missing.are(count);
        missing
    }

    /// So many of them are left.
    fn are(&self, count: usize) {
        let before = self.count.swap(count as u64, Ordering::Relaxed);
        // Modulo 2^64, so that the difference may be negative.
        let change = (count as u64).wrapping_sub(before);
        self.registered.missing.fetch_add(change, Ordering::Relaxed);
        self.registered.changed.notify_one();
    }
}

impl Drop for Missing<'_> {
    fn drop(&mut self) {
        self.are(0);
    }
}

/// The right to a worker. Dropped, it is given up, and the worker told to end.
struct Held {
    id: WorkerId,
    registered: Arc<Registered>,
    /// Whether it was given up.
    is_over: bool,
}

impl Held {
    fn new(registered: &Arc<Registered>, id: &WorkerId) -> Self {
        registered.held().insert(id.clone());
        Self {
            id: id.clone(),
            registered: Arc::clone(registered),
            is_over: false,
        }
    }

    /// Gives the lease up, at once or when the catalog answers. If it never does, the lease is not renewed, and lapses.
    fn release(&mut self, is_good: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.registered.held().remove(&self.id);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (registered, id) = (Arc::clone(&self.registered), self.id.clone());
        runtime.spawn(async move {
            let (workers, owner) = (&registered.config.workers, &registered.config.owner);
            let released = match is_good {
                true => workers.give_back(&id, owner).await,
                false => workers.spend(&id, owner).await,
            };
            match released {
                Ok(()) => registered.freed.notify_one(),
                Err(error) => debug!(worker = %id, "a lease was not given up, and lapses: {}", causes(&error)),
            }
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(false);
    }
}

/// A registered worker for one query. It is free for the next one by [`RegisteredLease::give_back`]; dropped, it ends.
pub(super) struct RegisteredLease {
    held: Held,
    contact: Contact,
}

impl RegisteredLease {
    pub(super) fn contact(&self) -> &Contact {
        &self.contact
    }

    pub(super) fn give_back(mut self) {
        self.held.release(true);
    }

    pub(super) async fn bury(mut self) -> Error {
        self.held.release(false);
        let workers = &self.held.registered.config.workers;
        let ending = async {
            loop {
                match workers.ending(&self.held.id).await {
                    Ok(Some(how)) => return how,
                    Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
                    Err(_) => return Ending::Lost,
                }
            }
        };
        match tokio::time::timeout(ENDING_TIMEOUT, ending).await {
            Ok(Ending::OutOfMemory) => End::OutOfMemory.into(),
            Ok(Ending::Stopped) => Error::WorkerLost("its host ended it".to_owned()),
            Ok(Ending::Lost) => Error::WorkerLost("it ended".to_owned()),
            Err(_) => Error::WorkerLost("its host does not say how it ended".to_owned()),
        }
    }

    pub(super) async fn kill(mut self, errand: &Errand) {
        self.contact.end(errand).await;
        // If it did not hear that, its host does.
        self.held.release(false);
    }
}
