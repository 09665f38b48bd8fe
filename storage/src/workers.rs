//! Workers that offer themselves to every gateway, and which gateway has which.
//!
//! A worker is one process. Its host registers it and says again and again that it lives; a gateway leases it for a query
//! and says again and again that it holds the lease.
//!
//! # Invariants
//! - A worker has one lease at a time: who takes one takes it in the statement that finds it free.
//! - It belongs to one project from its first lease to its end. A worker for another project is another process.
//! - Nobody gets a lease on a worker that is not heard of, is told to go, or is of another build.
//! - A worker whose gateway is not heard of any more is ended by its host, and so are its tasks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Result;
use crate::catalog::Catalog;
use crate::catalog::db::{self, Db};
use crate::clock::Timestamp;
use crate::ids::{ProjectId, WorkerId};

/// How long a worker that is not heard of is still believed to live.
pub const ALIVE_FOR: Duration = Duration::from_secs(10);

/// How long it is remembered how a worker ended.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// How many leases one statement renews.
const RENEWED_AT_ONCE: usize = 500;

/// The workers registered in one catalog. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Workers {
    db: Db,
}

/// A worker that offers itself.
#[derive(Clone)]
pub struct Offer {
    /// This process, and no other that listens where it does.
    pub id: WorkerId,
    /// Where gateways and other workers reach it.
    pub url: String,
    /// What a gateway has to know to be served.
    pub token: String,
    /// Which program it is. Only gateways of the same one lease it.
    pub build: String,
    /// The one that it was started in place of.
    pub replaces: Option<WorkerId>,
}

/// What a gateway wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The gateway.
    pub owner: &'a str,
    /// Whose query the workers are for.
    pub project: &'a ProjectId,
    /// The gateway's own build.
    pub build: &'a str,
    /// How many.
    pub count: usize,
    /// How long the lease lasts if it is not renewed.
    pub until: Timestamp,
}

/// A worker that a gateway has.
#[derive(Clone)]
pub struct Leased {
    /// The process.
    pub id: WorkerId,
    /// Where it listens.
    pub url: String,
    /// What to show it.
    pub token: String,
}

/// What there is and what is waited for, of all gateways of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Somebody has them.
    pub(crate) leased: u64,
    /// Nobody has them, and only the project whose they are could.
    pub(crate) kept: u64,
    /// Whoever waits can have them, or those that are about to be started in their place.
    pub(crate) anybodys: u64,
    /// Somebody waits for so many that are not there.
    pub(crate) missing: u64,
}

/// How many workers there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Whether there are so many or not.
    pub wanted: u64,
    /// Those of them that are somebody's.
    pub taken: u64,
}

/// What its host learns of a worker when it says that it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may be leased.
    pub state: WorkerState,
    /// Whose it is, if it ever had a lease.
    pub project: Option<ProjectId>,
    /// Whether a gateway has it.
    pub is_leased: bool,
    /// How long that gateway's word lasts, by its clock. It is another as often as the gateway is heard of.
    pub leased_until: Option<Timestamp>,
    /// Since when it has nothing to do, unless it is leased.
    pub free_since: Timestamp,
}

/// Whether a worker may be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It may, when nobody has it.
    Ready,
    /// Its host was told to stop: who has it may end what it does with it.
    Draining,
    /// It is to be ended now.
    Spent,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its host ended it.
    Stopped,
    /// It held more memory than it may.
    OutOfMemory,
    /// It ended by itself, or nobody knows.
    Lost,
}

impl Workers {
    /// The workers registered in `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
        }
    }

    /// A worker offers itself. The one that it replaces has ended, and so has whoever was at the same address before.
    pub async fn register(&self, offer: &Offer) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        db::workers::end_others(&mut tx, offer).await?;
        db::workers::insert(&mut tx, offer, now, now.plus(ALIVE_FOR)).await?;
        tx.commit().await
    }

    /// The worker lives. None when it is not registered any more.
    pub async fn renew(&self, id: &WorkerId) -> Result<Option<Standing>> {
        let until = self.db.now().plus(ALIVE_FOR);
        db::workers::renew(&mut *self.db.writer().await?, id, until).await
    }

    /// The worker gets no lease any more; the one it has, if any, goes on.
    pub async fn drain(&self, id: &WorkerId) -> Result<()> {
        db::workers::drain(&mut *self.db.writer().await?, id).await
    }

    /// The worker gets no lease any more, if it has none. False when it has one.
    pub async fn retire(&self, id: &WorkerId) -> Result<bool> {
        db::workers::retire(&mut *self.db.writer().await?, id).await
    }

    /// The process is gone. One that was spent still counts as one that comes, until it is replaced.
    pub async fn ended(&self, id: &WorkerId, how: Ending) -> Result<()> {
        db::workers::end(&mut *self.db.writer().await?, id, how).await
    }

    /// How a worker ended. None while nobody has said that it did.
    pub async fn ending(&self, id: &WorkerId) -> Result<Option<Ending>> {
        db::workers::ending(&mut *self.db.reader().await?, id).await
    }

    /// As many workers as are wanted, or none. When there are none because other projects' workers hold the places, as many
    /// of these as are idle make room, and asking again later finds others.
    pub async fn lease(&self, wanted: &Wanted<'_>) -> Result<Vec<Leased>> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        let leased = db::workers::lease(&mut tx, wanted, now).await?;
        if leased.len() == wanted.count {
            tx.commit().await?;
            return Ok(leased);
        }
        drop(tx);

        let coming = db::workers::coming(&mut *self.db.reader().await?, wanted, now).await?;
        let missing = wanted
            .count
            .saturating_sub(usize::try_from(coming).unwrap_or(usize::MAX));
        if missing > 0 {
            let missing = Wanted {
                count: missing,
                ..*wanted
            };
            db::workers::spend_idle(&mut *self.db.writer().await?, &missing, now).await?;
        }
        Ok(Vec::new())
    }

    /// As many of the wanted workers as are free, but for `spare` that whoever comes next may want. Nobody makes room.
    pub async fn lease_free(&self, wanted: &Wanted<'_>, spare: usize) -> Result<Vec<Leased>> {
        let now = self.db.now();
        let mut writer = self.db.writer().await?;
        let mut count = wanted.count;
        if spare > 0 {
            let free = db::workers::free(&mut writer, wanted.build, now).await?;
            count = count.min(usize::try_from(free).unwrap_or(usize::MAX).saturating_sub(spare));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        db::workers::lease(&mut writer, &Wanted { count, ..*wanted }, now).await
    }

    /// The gateway lives and still has these workers. Says how many of them are left.
    ///
    /// One that it has lost sight of is not renewed, so that its host ends it.
    pub async fn renew_leases(&self, owner: &str, workers: &[WorkerId], until: Timestamp) -> Result<u64> {
        let mut renewed = 0;
        for some in workers.chunks(RENEWED_AT_ONCE) {
            renewed += db::workers::renew_leases(&mut *self.db.writer().await?, owner, some, until).await?;
        }
        Ok(renewed)
    }

    /// The query is over, and the worker good for the project's next.
    pub async fn give_back(&self, id: &WorkerId, owner: &str) -> Result<()> {
        self.release(id, owner, true).await
    }

    /// The query is over, and the worker is to end.
    pub async fn spend(&self, id: &WorkerId, owner: &str) -> Result<()> {
        self.release(id, owner, false).await
    }

    /// The gateway stops: nobody knows what becomes of the workers that it has not given back. Says how many.
    pub async fn spend_all(&self, owner: &str) -> Result<u64> {
        let now = self.db.now();
        db::workers::spend_all(&mut *self.db.writer().await?, owner, now).await
    }

    async fn release(&self, id: &WorkerId, owner: &str, is_good: bool) -> Result<()> {
        let now = self.db.now();
        db::workers::release(&mut *self.db.writer().await?, id, owner, is_good, now).await
    }

    /// The queries of a gateway wait for so many workers of its build. It counts for as long as a worker that is not heard of is believed to
    /// live.
    pub async fn demand(&self, owner: &str, build: &str, count: u64) -> Result<()> {
        let until = self.db.now().plus(ALIVE_FOR);
        db::workers::demand(&mut *self.db.writer().await?, owner, build, count, until).await
    }

    /// How many workers there should be for all gateways: those that were needed within `idle`, and those that are missed.
    /// Gateways of different builds say the same.
    pub async fn need(&self, idle: Duration) -> Result<Need> {
        let now = self.db.now();
        let mut need = Need { wanted: 0, taken: 0 };
        for counts in db::workers::counts(&mut *self.db.reader().await?, now, now.minus(idle)).await? {
            let taken = counts.leased + counts.kept;
            need.taken += taken;
            // Of those that anybody can have, who waits has one in a moment.
            need.wanted += taken + counts.anybodys.max(counts.missing);
        }
        Ok(need)
    }

    /// Forgets the workers that have not been heard of for long. Says how many.
    pub async fn forget(&self) -> Result<u64> {
        let now = self.db.now();
        let mut connection = self.db.writer().await?;
        db::workers::forget_demands(&mut connection, now).await?;
        db::workers::forget(&mut connection, now.minus(REMEMBERED_FOR)).await
    }
}

impl Ending {
    /// The word for it in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::OutOfMemory => "out_of_memory",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Stopped, Self::OutOfMemory, Self::Lost]
            .into_iter()
            .find(|how| how.as_str() == text)
            .ok_or_else(|| format!("'{text}' is no end of a worker"))
    }
}

impl FromStr for WorkerState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ready" => Ok(Self::Ready),
            "draining" => Ok(Self::Draining),
            "spent" => Ok(Self::Spent),
            _ => Err(format!("'{text}' is no state of a worker")),
        }
    }
}

/// The token is not for logs.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("id", &self.id)
            .field("url", &self.url)
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("id", &self.id)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
