//! What is recorded of a query, and the words for how far it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Usage;
use crate::audit::{Actor, Who};
use crate::catalog::Effect;
use crate::clock::Timestamp;
use crate::ids::{KeyId, ProjectId, QueryId};
use crate::ledger::{LedgerLine, SignedReceipt};
use crate::money::Cost;
use crate::tables::{TableLocation, Version};
use crate::{Error, Result};

/// How far a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryState {
    /// Admitted, and waiting for a worker.
    Pending,
    /// A worker has it.
    Running,
    /// Its files are written and it is about to be committed, or was.
    Committing,
    /// It answered.
    Done,
    /// It could not be answered.
    Failed,
    /// Somebody asked to stop it.
    Cancelled,
    /// Its caller left before the last row.
    Abandoned,
    /// Its gateway died.
    Lost,
}

/// A query to be recorded.
#[derive(Clone, Debug)]
pub struct NewQuery {
    /// Its id, made by whoever received it.
    pub id: QueryId,
    /// Who pays.
    pub project: ProjectId,
    /// Who asks, and from where.
    pub asked_by: Actor,
    /// The caller's own name for this request: asking twice under one name is asking once.
    pub request_id: Option<String>,
    /// A digest of all that was asked, so that another request under the same name is told apart.
    pub fingerprint: String,
    /// The statement.
    pub sql: String,
    /// What kind of statement it is, for lists and bills: `select`, `insert`, …
    pub kind: String,
    /// The caller's own words about it.
    pub labels: BTreeMap<String, String>,
    /// The gateway process that looks after it.
    pub owner: String,
    /// Until when the owner need not be heard of.
    pub lease_until: Timestamp,
    /// Whether it runs at once: `create` and `start` in one step, which is one wait for the disk less.
    pub started: bool,
}

/// What became of a query that was to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is recorded now.
    New(QueryRecord),
    /// The same request was recorded earlier; this is its query.
    Existing(QueryRecord),
}

/// Everything that is recorded about one query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryRecord {
    /// Its id.
    pub id: QueryId,
    /// Who pays.
    pub project: ProjectId,
    /// Who asked, and from where. None from before that was kept.
    pub asked_by: Option<Actor>,
    /// The caller's own name for the request.
    pub request_id: Option<String>,
    /// A digest of all that was asked.
    pub fingerprint: String,
    /// The statement.
    pub sql: String,
    /// What kind of statement it is.
    pub kind: String,
    /// The caller's own words about it.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: QueryState,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When a worker first had it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The gateway process that looks after it.
    pub owner: String,
    /// Until when the owner need not be heard of.
    pub lease_until: Timestamp,
    /// Whether somebody asked to stop it.
    pub cancel_requested: bool,
    /// How often a worker had it.
    pub attempts: u32,
    /// What it used; all zero while it is live.
    pub usage: Usage,
    /// What it costs. None while it is live, and if it ended before that was kept.
    pub cost: Option<Cost>,
    /// Why it was not answered.
    pub error: Option<QueryError>,
    /// The manifest of its results as JSON. Lists leave it out.
    pub results: Option<String>,
    /// Whether it had results that are not kept any more.
    pub results_expired: bool,
    /// How its plan ran, as JSON. Only for writing: it is read by [`super::Queries::profile`].
    pub profile: Option<String>,
    /// What it was about to commit.
    pub target: Option<WriteIntent>,
}

/// Why a query was not answered, as its caller is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryError {
    /// A stable code for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The line in the statement, from 1.
    pub line: Option<u32>,
    /// The column in that line, from 1.
    pub column: Option<u32>,
}

/// What a write is about to commit: enough to find the commit and finish the query without its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteIntent {
    /// The table whose log will hold the commit.
    pub location: TableLocation,
    /// The newest version of that table when this was recorded: the commit is a later one.
    pub since: Option<Version>,
    /// What the commit means for the catalog; the version is the one expected, see [`Effect::at_version`].
    pub effect: Effect,
    /// What the query used up to its commit.
    pub usage: Usage,
    /// What it costs, if it is committed. None from a gateway that did not say.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// What is signed about it, if it is committed.
    #[serde(default)]
    pub receipt: Option<SignedReceipt>,
}

/// How a query ends.
#[derive(Clone, Debug)]
pub struct End {
    /// How; a final state.
    pub state: QueryState,
    /// What it used.
    pub usage: Usage,
    /// Why it was not answered.
    pub error: Option<QueryError>,
    /// The manifest of its results as JSON.
    pub results: Option<String>,
    /// How its plan ran, as JSON. Kept as long as its results.
    pub profile: Option<String>,
    /// What it changes in the catalog.
    pub effect: Effect,
    /// What it costs, or why nothing.
    pub cost: Cost,
    /// What is signed about it.
    pub receipt: Option<SignedReceipt>,
}

/// What became of an end.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// The query has ended, and this is its line.
    Ended(Box<LedgerLine>),
    /// Nothing was changed: it had ended before, or its owner was heard of since it was found lost. This is its state.
    Already(QueryState),
}

impl Settled {
    /// The line that was written, if one was.
    pub fn line(self) -> Option<LedgerLine> {
        match self {
            Self::Ended(line) => Some(*line),
            Self::Already(_) => None,
        }
    }
}

/// Which queries a list shows: the newest first, those of one project, and of these
#[derive(Clone, Debug)]
pub struct Filter {
    /// only those in this state,
    pub state: Option<QueryState>,
    /// only those of this kind,
    pub kind: Option<String>,
    /// only those with this label of this value,
    pub label: Option<(String, String)>,
    /// only those recorded after this instant,
    pub created_after: Option<Timestamp>,
    /// only those that he asked,
    pub asked_by: Option<Who>,
    /// only those that were asked with this key,
    pub with_key: Option<KeyId>,
    /// only those that were asked with this token,
    pub with_token: Option<String>,
    /// only those before this one: the last id of the page before,
    pub before: Option<QueryId>,
    /// and not more than this many, nor more than [`MAX_PAGE`].
    pub limit: u32,
}

impl Filter {
    /// Every text that is compared with what is stored.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let label = self
            .label
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        self.kind.as_deref().into_iter().chain(label)
    }
}

impl NewQuery {
    /// Every text that is stored as it is.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let labels = self
            .labels
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        [self.sql.as_str(), self.kind.as_str(), self.owner.as_str()]
            .into_iter()
            .chain(self.request_id.as_deref())
            .chain(labels)
    }

    pub(super) fn into_record(self, now: Timestamp) -> QueryRecord {
        QueryRecord {
            id: self.id,
            project: self.project,
            asked_by: Some(self.asked_by),
            request_id: self.request_id,
            fingerprint: self.fingerprint,
            sql: self.sql,
            kind: self.kind,
            labels: self.labels,
            state: if self.started {
                QueryState::Running
            } else {
                QueryState::Pending
            },
            created_at: now,
            started_at: self.started.then_some(now),
            ended_at: None,
            owner: self.owner,
            lease_until: self.lease_until,
            cancel_requested: false,
            attempts: u32::from(self.started),
            usage: Usage::default(),
            cost: None,
            error: None,
            results: None,
            results_expired: false,
            profile: None,
            target: None,
        }
    }
}

impl QueryRecord {
    /// The record once the query has ended so.
    #[must_use]
    pub fn ended(self, end: &End, now: Timestamp) -> Self {
        Self {
            state: end.state,
            ended_at: Some(now),
            usage: end.usage,
            cost: Some(end.cost.clone()),
            error: end.error.clone(),
            results: end.results.clone(),
            profile: end.profile.clone(),
            ..self
        }
    }
}

impl Created {
    /// The record, new or not.
    pub fn record(&self) -> &QueryRecord {
        match self {
            Self::New(record) | Self::Existing(record) => record,
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            state: None,
            kind: None,
            label: None,
            created_after: None,
            asked_by: None,
            with_key: None,
            with_token: None,
            before: None,
            limit: 100,
        }
    }
}

impl QueryState {
    pub(super) const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Committing,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Abandoned,
        Self::Lost,
    ];

    /// Whether nothing can change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Committing => false,
            Self::Done | Self::Failed | Self::Cancelled | Self::Abandoned | Self::Lost => true,
        }
    }

    /// The word for it, as stored and as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Committing => "committing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for QueryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QueryState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| Error::Invalid(format!("'{text}' is not a state of a query")))
    }
}
