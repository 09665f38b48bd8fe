//! The records of queries: who asked what, how far it is, and how it ended.
//!
//! # Invariants
//! - A query is live until it ends and ends once: of any number of [`Queries::end`] one changes something.
//! - How a query ended, what it changed in the catalog and its ledger line are one transaction.
//! - A query that only reads and is short may be recorded when it ends ([`Queries::create_ended`]): until then nobody but
//!   its gateway knows of it, and if that dies nothing has happened.
//! - A live query has an owner, the gateway that renews its lease. A lease that lapsed means that the owner is gone, and
//!   whoever finds it ([`Queries::lost`]) ends the query.
//! - What a write is about to commit is recorded before it is committed ([`Queries::intend`]), so that whoever finds it
//!   can look for the commit and finish what was begun.

use std::collections::{BTreeMap, HashSet};

use moka::future::Cache;
use tracing::debug;

use crate::audit::{Actor, Deed, Who};
use crate::catalog::db::{self, Db};
use crate::catalog::{self, Catalog, Effect};
use crate::clock::Timestamp;
use crate::ids::{ProjectId, QueryId};
use crate::ledger::{self, LedgerLine};
use crate::{Error, Result};

mod record;
mod usage;

pub use record::{Created, End, Filter, NewQuery, QueryError, QueryRecord, QueryState, Settled, WriteIntent};
pub use usage::Usage;

/// The most records one page of a list holds.
pub const MAX_PAGE: u32 = 1_000;

/// How many leases one statement renews.
const RENEWED_AT_ONCE: usize = 500;

/// How many results are forgotten at a time.
const EXPIRED_AT_ONCE: u32 = 1_000;

/// How many projects' ledgers are remembered by their last lines.
const HEADS_REMEMBERED: u64 = 10_000;

/// The records of all queries. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Queries {
    db: Db,
    /// The number and the hash of the last line that was written here to a project's ledger. There may be later ones.
    heads: Cache<ProjectId, (i64, [u8; 32])>,
}

impl Queries {
    /// The queries recorded beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
            heads: Cache::new(HEADS_REMEMBERED),
        }
    }

    /// Records a query, or finds the one that the same request made earlier.
    pub async fn create(&self, new: NewQuery) -> Result<Created> {
        let record = self.draft(new)?;
        if self.insert(&record).await? {
            return Ok(Created::New(record));
        }
        let existing = self
            .of_request(
                &record.project,
                record.asked_by.as_ref().map(|actor| &actor.who),
                record.request_id.as_deref(),
                &record.fingerprint,
            )
            .await?;
        match existing {
            Some(existing) => Ok(Created::Existing(existing)),
            None => Err(Error::AlreadyExists(format!("query {} already exists", record.id))),
        }
    }

    /// The query that the same request of the same asker made earlier, if it made one.
    pub async fn of_request(
        &self,
        project: &ProjectId,
        asker: Option<&Who>,
        request_id: Option<&str>,
        fingerprint: &str,
    ) -> Result<Option<QueryRecord>> {
        let Some(request_id) = request_id else {
            return Ok(None);
        };
        let existing = db::queries::of_request(&mut *self.db.reader().await?, project, request_id).await?;
        match existing {
            // Nobody learns from a request id what others ask.
            Some(existing) if existing.asked_by.as_ref().map(|actor| &actor.who) != asker => Err(Error::Conflict(
                "somebody else has sent a request with this request id; choose another".to_owned(),
            )),
            Some(existing) if existing.fingerprint != fingerprint => Err(Error::Conflict(format!(
                "another request was already sent with this request id; it became {}",
                existing.id
            ))),
            existing => Ok(existing),
        }
    }

    /// The record of a query that is not recorded yet: it will be by [`Self::write`] if it turns out to be long, or by
    /// [`Self::create_ended`]. Only for a query that has no request id to be found by.
    pub fn draft(&self, new: NewQuery) -> Result<QueryRecord> {
        if let Some(word) = new.words().find(|word| word.contains('\0')) {
            let word: String = word.chars().take(40).filter(|c| *c != '\0').collect();
            return Err(Error::Invalid(format!(
                "a query cannot contain the character NUL (near '{word}')"
            )));
        }
        Ok(new.into_record(self.db.now()))
    }

    /// Records a draft.
    pub async fn write(&self, draft: &QueryRecord) -> Result<()> {
        match self.insert(draft).await? {
            true => Ok(()),
            false => Err(Error::AlreadyExists(format!("query {} already exists", draft.id))),
        }
    }

    /// A record without labels is one statement, which is a transaction by itself.
    async fn insert(&self, record: &QueryRecord) -> Result<bool> {
        if record.labels.is_empty() {
            return db::queries::insert(&mut *self.db.writer().await?, record).await;
        }
        let mut tx = self.db.begin().await?;
        let inserted = db::queries::insert(&mut tx, record).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// A worker has the query now; again, if an earlier worker died.
    pub async fn start(&self, id: &QueryId) -> Result<()> {
        let mut connection = self.db.writer().await?;
        if db::queries::start(&mut connection, id, self.db.now()).await? {
            return Ok(());
        }
        Err(over(&mut connection, id).await)
    }

    /// Records what the query is about to commit. Only after this may it commit.
    pub async fn intend(&self, id: &QueryId, intent: &WriteIntent) -> Result<()> {
        let mut connection = self.db.writer().await?;
        if db::queries::intend(&mut connection, id, intent).await? {
            return Ok(());
        }
        Err(over(&mut connection, id).await)
    }

    /// The owner lives and still looks after these queries: they are its own until `until`. Says how many of them live.
    ///
    /// A query that its owner has lost sight of is not renewed, so that whoever finds it ends it.
    pub async fn renew(&self, owner: &str, queries: &[QueryId], until: Timestamp) -> Result<u64> {
        let mut renewed = 0;
        for some in queries.chunks(RENEWED_AT_ONCE) {
            renewed += db::queries::renew(&mut *self.db.writer().await?, owner, some, until).await?;
        }
        Ok(renewed)
    }

    /// Every query that has not ended, of all projects and gateways.
    pub async fn live(&self) -> Result<HashSet<QueryId>> {
        db::queries::live(&mut *self.db.reader().await?).await
    }

    /// Ends a query, does what it changes in the catalog and writes its ledger line, all or nothing.
    ///
    /// When the effect cannot be had any more, the name is taken for example, the query is still live and the error says
    /// why; it can then be ended as failed.
    pub async fn end(&self, id: &QueryId, end: End) -> Result<Settled> {
        if !end.state.is_final() {
            return Err(Error::Internal(format!("{id} cannot end as {}", end.state).into()));
        }
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        let Some(ended) = db::queries::end(&mut tx, id, &end, now).await? else {
            let state = db::queries::state(&mut tx, id).await?;
            return state.map(Settled::Already).ok_or_else(|| unknown(id));
        };
        catalog::apply(&mut tx, &ended.project, &end.effect, now).await?;
        if let Some(by) = &ended.by {
            for (act, object) in end.effect.deeds() {
                let deed = Deed::done(by, act, object).by_query(id);
                db::audit::insert(&mut tx, &ended.project, &deed, now).await?;
            }
        }
        self.settle(tx, ended, id, &end, now).await
    }

    /// Records a draft and its end and writes its ledger line, all or nothing. A draft that was written is ended.
    pub async fn create_ended(&self, draft: &QueryRecord, end: End) -> Result<Settled> {
        if !end.state.is_final() || end.effect != Effect::None {
            return Err(Error::Internal(
                format!("{} cannot end as {} without a record", draft.id, end.state).into(),
            ));
        }
        let now = self.db.now();
        let record = draft.clone().ended(&end, now);
        if let Some(line) = self.write_at_once(&record, &end, now).await? {
            return Ok(Settled::Ended(Box::new(line)));
        }
        let mut tx = self.db.begin().await?;
        if !db::queries::insert(&mut tx, &record).await? {
            drop(tx);
            return self.end(&draft.id, end).await;
        }
        self.settle(tx, Ended::of(&record), &draft.id, &end, now).await
    }

    /// Writes the record of a query that has ended and its ledger line in one message, where that can be done. If it writes
    /// nothing, writing one after the other tells why, or does it.
    async fn write_at_once(&self, record: &QueryRecord, end: &End, now: Timestamp) -> Result<Option<LedgerLine>> {
        if record.request_id.is_some() || !record.labels.is_empty() {
            return Ok(None);
        }
        // The line that is remembered is mostly the last. If it is not, nothing is written.
        let Some(mut turn) = self.db.file_writer().await? else {
            return Ok(None);
        };
        let Some((seq, hash)) = self.heads.get(&record.project).await else {
            return Ok(None);
        };
        let line = Ended::of(record).entry(&record.id, end, now).line(seq + 1, &hash)?;
        if let Err(error) = db::at_once::write(&mut turn, record, &line).await {
            debug!(query.id = %record.id, "the end of a query is written statement by statement: {error}");
            self.heads.invalidate(&record.project).await;
            return Ok(None);
        }
        self.heads.insert(record.project.clone(), (line.seq, line.hash)).await;
        line.read().map(Some)
    }

    /// Writes the ledger line of a query that has just ended, and makes all of it last.
    async fn settle(
        &self,
        mut tx: db::Transaction,
        ended: Ended,
        id: &QueryId,
        end: &End,
        now: Timestamp,
    ) -> Result<Settled> {
        let line = ledger::append(&mut tx, ended.entry(id, end, now)).await?;
        tx.commit().await?;
        self.heads.insert(line.project.clone(), (line.seq, line.hash)).await;
        Ok(Settled::Ended(Box::new(line)))
    }

    /// Ends a query that was found lost, unless its owner was heard of since: then nothing is changed.
    pub async fn end_lost(&self, seen: &QueryRecord, end: End) -> Result<Settled> {
        let mut connection = self.db.writer().await?;
        if !db::queries::take_over(&mut connection, seen).await? {
            let state = db::queries::state(&mut connection, &seen.id).await?;
            return state.map(Settled::Already).ok_or_else(|| unknown(&seen.id));
        }
        drop(connection);
        self.end(&seen.id, end).await
    }

    /// One query of a project.
    pub async fn get(&self, project: &ProjectId, id: &QueryId) -> Result<Option<QueryRecord>> {
        db::queries::one(&mut *self.db.reader().await?, project, id).await
    }

    /// How the plan of a query ran, if it has ended and that is kept.
    pub async fn profile(&self, project: &ProjectId, id: &QueryId) -> Result<Option<String>> {
        db::queries::profile(&mut *self.db.reader().await?, project, id).await
    }

    /// A page of a project's queries, the newest first, without the manifests of their results.
    pub async fn list(&self, project: &ProjectId, filter: &Filter) -> Result<Vec<QueryRecord>> {
        if filter.words().any(|word| word.contains('\0')) {
            // No query has it, and PostgreSQL refuses to look.
            return Ok(Vec::new());
        }
        db::queries::list(
            &mut *self.db.reader().await?,
            project,
            filter,
            filter.limit.min(MAX_PAGE),
        )
        .await
    }

    /// Asks the owner to stop a query. False when it is over already or not the project's.
    pub async fn request_cancel(&self, project: &ProjectId, id: &QueryId) -> Result<bool> {
        db::queries::request_cancel(&mut *self.db.writer().await?, project, id, self.db.now()).await
    }

    /// Every live query of `owner` that somebody asked to stop.
    pub async fn cancel_requests(&self, owner: &str) -> Result<Vec<QueryId>> {
        db::queries::cancel_requests(&mut *self.db.reader().await?, owner).await
    }

    /// Live queries whose owner has not been heard of since its lease lapsed before `now`.
    pub async fn lost(&self, now: Timestamp) -> Result<Vec<QueryRecord>> {
        db::queries::lost(&mut *self.db.reader().await?, now).await
    }

    /// Forgets the manifests of results of queries that ended before `before`, and says whose objects are to be removed.
    ///
    /// They are named again until [`Queries::results_removed`] says that they are gone, so a crash leaves nothing behind.
    pub async fn expire_results(&self, before: Timestamp) -> Result<Vec<(ProjectId, QueryId)>> {
        let mut tx = self.db.begin().await?;
        let expired = db::queries::expire_results(&mut tx, before, EXPIRED_AT_ONCE).await?;
        tx.commit().await?;
        Ok(expired)
    }

    /// The objects of these expired results are gone.
    pub async fn results_removed(&self, ids: &[QueryId]) -> Result<()> {
        let mut tx = self.db.begin().await?;
        for id in ids {
            db::queries::results_removed(&mut tx, id).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn over(connection: &mut db::Connection, id: &QueryId) -> Error {
    match db::queries::state(connection, id).await {
        Ok(Some(state)) => Error::Conflict(format!("query {id} is over: {state}")),
        Ok(None) => unknown(id),
        Err(error) => error,
    }
}

fn unknown(id: &QueryId) -> Error {
    Error::NotFound(format!("no query {id}"))
}

/// What the ledger wants to know of a query that just ended.
pub(crate) struct Ended {
    pub(crate) project: ProjectId,
    pub(crate) by: Option<Actor>,
    pub(crate) kind: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Ended {
    fn of(record: &QueryRecord) -> Self {
        Self {
            project: record.project.clone(),
            by: record.asked_by.clone(),
            kind: record.kind.clone(),
            labels: record.labels.clone(),
        }
    }

    fn entry(self, id: &QueryId, end: &End, now: Timestamp) -> ledger::Charge {
        ledger::Charge {
            project: self.project,
            query: id.clone(),
            at: now,
            kind: self.kind,
            outcome: end.state,
            labels: self.labels,
            usage: end.usage,
            cost: end.cost.clone(),
            receipt: end.receipt.clone(),
            by: self.by.map(|actor| actor.who),
        }
    }
}

#[cfg(test)]
mod tests;
