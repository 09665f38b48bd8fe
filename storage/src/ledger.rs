//! The ledger: what every project has to pay for, line by line, for ever.
//!
//! # Invariants
//! - A query that has ended has one line, which says what it costs or why nothing: it is written in the transaction of its end.
//! - A line is never changed or removed; both databases refuse it. What was wrong is corrected by a later line.
//! - Each line carries the hash of the one before it, and the head of the chain is kept apart, so a line that was
//!   changed, removed or cut off at the end is noticed by anyone who recomputes the chain ([`Ledger::verify`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::Who;
use crate::catalog::Catalog;
use crate::catalog::db::{self, Db, Transaction};
use crate::clock::Timestamp;
use crate::ids::{ProjectId, QueryId};
use crate::money::Cost;
use crate::queries::{QueryState, Usage};
use crate::{Error, Result};

/// What the first line of a ledger names as the hash before it.
pub const GENESIS: [u8; 32] = [0; 32];

/// The most lines one page holds.
pub const MAX_PAGE: u32 = 1_000;

/// The ledgers of all projects. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Ledger {
    db: Db,
}

/// One line: what one query used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLine {
    /// Who pays.
    pub project: ProjectId,
    /// The number of the line in the project's ledger, from 1 and without a gap.
    pub seq: i64,
    /// The query.
    pub query: QueryId,
    /// When it ended.
    pub at: Timestamp,
    /// What kind of statement it was.
    pub kind: String,
    /// How it ended.
    pub outcome: QueryState,
    /// The caller's own words about it.
    pub labels: BTreeMap<String, String>,
    /// What it used.
    pub usage: Usage,
    /// What it costs. None on lines from before prices were kept.
    pub cost: Option<Cost>,
    /// BLAKE3 of the text of its receipt, in hexadecimal.
    pub receipt_hash: Option<String>,
    /// Who asked. None on lines from before that was kept.
    pub by: Option<Who>,
    /// All of the above as the text that was hashed.
    pub entry: String,
    /// The hash of the line before; [`GENESIS`] for the first.
    pub prev_hash: [u8; 32],
    /// BLAKE3 of `prev_hash` followed by `entry`.
    pub hash: [u8; 32],
    /// What its gateway signed about the query.
    pub receipt: Option<SignedReceipt>,
}

/// What a gateway says about a query, so that its project can prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// What it says: JSON, of which every byte is signed.
    pub text: String,
    /// The signature, Ed25519 in hexadecimal.
    pub signature: String,
    /// Which key it was signed with.
    pub key: String,
}

/// Where a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of {project} does not hold at line {seq}: {reason}")]
pub struct BrokenChain {
    /// Whose ledger it is.
    pub project: ProjectId,
    /// The first line that is wrong.
    pub seq: i64,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl LedgerLine {
    /// The line that has this text.
    pub fn read(entry: String, prev_hash: [u8; 32], hash: [u8; 32], receipt: Option<SignedReceipt>) -> Result<Self> {
        let Entry {
            project,
            seq,
            query,
            at,
            kind,
            outcome,
            labels,
            usage,
            cost,
            receipt: receipt_hash,
            by,
        } = serde_json::from_str(&entry).map_err(db::unreadable)?;
        Ok(Self {
            project,
            seq,
            query,
            at,
            kind,
            outcome,
            labels,
            usage,
            cost,
            receipt_hash,
            by,
            entry,
            prev_hash,
            hash,
            receipt,
        })
    }
}

impl Ledger {
    /// The ledgers kept beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
        }
    }

    /// A page of a project's lines: those after line `after_seq`, at most `limit` and at most [`MAX_PAGE`].
    pub async fn lines(&self, project: &ProjectId, after_seq: i64, limit: u32) -> Result<Vec<LedgerLine>> {
        let stored = db::ledger::after(&mut *self.db.reader().await?, project, after_seq, limit.min(MAX_PAGE)).await?;
        stored.into_iter().map(StoredLine::read).collect()
    }

    /// The line of one query, if it has ended.
    pub async fn line(&self, project: &ProjectId, query: &QueryId) -> Result<Option<LedgerLine>> {
        let stored = db::ledger::of_query(&mut *self.db.reader().await?, project, query).await?;
        stored.map(StoredLine::read).transpose()
    }

    /// The end of a project's ledger.
    pub async fn head(&self, project: &ProjectId) -> Result<Head> {
        let head = db::ledger::head(&mut *self.db.reader().await?, project).await?;
        head.ok_or_else(|| Error::NotFound(format!("no project named {project}")))
    }

    /// Recomputes a project's chain from its first line to its head and says how many lines hold.
    ///
    /// A chain that does not hold is an internal error whose source is a [`BrokenChain`].
    pub async fn verify(&self, project: &ProjectId) -> Result<u64> {
        let Some(head) = db::ledger::head(&mut *self.db.reader().await?, project).await? else {
            return Err(Error::NotFound(format!("no project named {project}")));
        };
        let broken = |seq, reason| {
            Error::Internal(
                BrokenChain {
                    project: project.clone(),
                    seq,
                    reason,
                }
                .into(),
            )
        };

        // Lines after the head were written since we looked, and belong to the next check.
        let (mut seq, mut hash) = (0, GENESIS);
        while seq < head.seq {
            let page = db::ledger::after(&mut *self.db.reader().await?, project, seq, MAX_PAGE).await?;
            if page.is_empty() {
                return Err(broken(seq + 1, "it is missing"));
            }
            for stored in page.into_iter().filter(|stored| stored.seq <= head.seq) {
                seq += 1;
                if stored.seq != seq {
                    return Err(broken(seq, "it is missing"));
                }
                if stored.prev_hash != hash || stored.hash != chained(&hash, &stored.entry) {
                    return Err(broken(seq, "it was changed"));
                }
                hash = stored.hash;
                if !stored.agrees() {
                    return Err(broken(seq, "it is filed under another name"));
                }
            }
        }
        if hash != head.hash {
            return Err(broken(head.seq, "it is not the line that was last written"));
        }
        // A line beyond the head is one that was written since we looked, or the head was set back.
        let beyond = db::ledger::after(&mut *self.db.reader().await?, project, head.seq, 1).await?;
        let head_now = db::ledger::head(&mut *self.db.reader().await?, project).await?;
        if let Some(line) = beyond.first()
            && head_now.is_none_or(|now| now.seq < line.seq)
        {
            return Err(broken(line.seq, "the head of the ledger does not know it"));
        }
        Ok(u64::try_from(seq).expect("lines are counted from zero"))
    }
}

/// What is to be charged; the text of a line, without its place in the chain.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(crate) project: ProjectId,
    pub(crate) query: QueryId,
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) outcome: QueryState,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) usage: Usage,
    pub(crate) cost: Cost,
    pub(crate) receipt: Option<SignedReceipt>,
    pub(crate) by: Option<Who>,
}

/// A line as it is hashed. The order of the fields is the order of the text: add new ones at the end.
#[derive(Serialize, Deserialize)]
struct Entry {
    project: ProjectId,
    seq: i64,
    query: QueryId,
    at: Timestamp,
    kind: String,
    outcome: QueryState,
    labels: BTreeMap<String, String>,
    usage: Usage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
    /// BLAKE3 of the receipt's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Who>,
}

/// The last line of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the first line.
    pub seq: i64,
    /// Its hash; [`GENESIS`] before the first line.
    pub hash: [u8; 32],
}

/// A line as it is stored. Only `entry` and the hashes are evidence; the rest is there to find it.
pub(crate) struct StoredLine {
    pub(crate) project: ProjectId,
    pub(crate) seq: i64,
    pub(crate) query: QueryId,
    pub(crate) entry: String,
    pub(crate) prev_hash: [u8; 32],
    pub(crate) hash: [u8; 32],
    pub(crate) receipt: Option<SignedReceipt>,
}

/// Writes the next line of a project's ledger, in the transaction of the query's end.
pub(crate) async fn append(tx: &mut Transaction, charge: Charge) -> Result<LedgerLine> {
    // Nobody else adds a line to this ledger until we are through.
    let head = db::ledger::advance_head(tx, &charge.project).await?;
    let stored = charge.line(head.seq, &head.hash)?;
    db::ledger::insert(tx, &stored).await?;
    db::ledger::set_head_hash(tx, &stored.project, &stored.hash).await?;
    stored.read()
}

impl Charge {
    /// Its line with the number `seq`, behind the line that has the hash `prev_hash`.
    pub(crate) fn line(self, seq: i64, prev_hash: &[u8; 32]) -> Result<StoredLine> {
        let Self {
            project,
            query,
            at,
            kind,
            outcome,
            labels,
            usage,
            cost,
            receipt,
            by,
        } = self;
        let entry = Entry {
            project,
            seq,
            query,
            at,
            kind,
            outcome,
            labels,
            usage,
            cost: Some(cost),
            receipt: receipt.as_ref().map(|receipt| receipt_hash(&receipt.text)),
            by,
        };
        let text = serde_json::to_string(&entry).map_err(db::unreadable)?;
        Ok(StoredLine {
            project: entry.project,
            seq,
            query: entry.query,
            hash: chained(prev_hash, &text),
            entry: text,
            prev_hash: *prev_hash,
            receipt,
        })
    }
}

impl StoredLine {
    pub(crate) fn read(self) -> Result<LedgerLine> {
        LedgerLine::read(self.entry, self.prev_hash, self.hash, self.receipt)
    }

    /// Whether the line is found under the names it is about, and has the receipt that it is about.
    fn agrees(&self) -> bool {
        let receipt = self.receipt.as_ref().map(|receipt| receipt_hash(&receipt.text));
        serde_json::from_str::<Entry>(&self.entry).is_ok_and(|entry| {
            let names = (&entry.project, entry.seq, &entry.query);
            names == (&self.project, self.seq, &self.query) && entry.receipt == receipt
        })
    }
}

/// The hash of a receipt, as a line has it.
pub fn receipt_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The hash of the line that follows the one with `prev_hash` and has this text.
pub fn chained(prev_hash: &[u8; 32], entry: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prev_hash);
    hasher.update(entry.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
