//! The audit log: who did what in a project, from where, and whether he was let.
//!
//! # Invariants
//! - A line is never changed or removed; both databases refuse it.
//! - An act and its line are one transaction, so nothing is done that is not written down.
//! - A line names things, and never holds a key, a statement or a row.
//!
//! What was read and written by statements is in their records, each with who asked and from where.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::catalog::Catalog;
use crate::catalog::db::{self, Db};
use crate::clock::Timestamp;
use crate::ids::{AuditId, InvalidName, KeyId, PrincipalName, ProjectId, QueryId};

/// The most lines that one page holds.
pub const MAX_PAGE: u32 = 1_000;

/// Who acts. As text a principal's name, or `(project)`, `(operator name)`, `(house)`, which nobody can be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// Somebody of the project.
    Principal(PrincipalName),
    /// Whoever holds a key of the project itself.
    Project,
    /// Whoever runs the house, by the name of the key.
    Operator(String),
    /// The house by itself, or who may write to its database.
    House,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => name.fmt(f),
            Self::Project => f.write_str("(project)"),
            Self::Operator(name) => write!(f, "(operator {name})"),
            Self::House => f.write_str("(house)"),
        }
    }
}

impl FromStr for Who {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let operator = text.strip_prefix("(operator ").and_then(|rest| rest.strip_suffix(')'));
        match (text, operator) {
            ("(project)", _) => Ok(Self::Project),
            ("(house)", _) => Ok(Self::House),
            (_, Some(name)) => Ok(Self::Operator(name.to_owned())),
            (name, None) => name.parse().map(Self::Principal),
        }
    }
}

impl TryFrom<String> for Who {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

/// Who acts, with what, from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// With which key.
    pub key: Option<KeyId>,
    /// With which token that was made of it.
    pub token: Option<String>,
    /// From where. None: at the house itself.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// Who may write to the database of the house.
    pub fn house() -> Self {
        Self {
            who: Who::House,
            key: None,
            token: None,
            address: None,
        }
    }
}

/// What was done, or was not let.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who.
    pub by: Actor,
    /// What, in a word.
    pub act: String,
    /// To what.
    pub object: String,
    /// Whether it was let.
    pub is_allowed: bool,
    /// By which query, if it was one.
    pub query: Option<QueryId>,
}

impl Deed {
    /// Something that is done.
    pub fn done(by: &Actor, act: &str, object: impl fmt::Display) -> Self {
        Self {
            by: by.clone(),
            act: act.to_owned(),
            object: object.to_string(),
            is_allowed: true,
            query: None,
        }
    }

    /// The same, by a query.
    #[must_use]
    pub fn by_query(self, query: &QueryId) -> Self {
        Self {
            query: Some(query.clone()),
            ..self
        }
    }

    /// Something that was not let.
    pub fn denied(by: &Actor, act: &str, object: impl fmt::Display) -> Self {
        Self {
            is_allowed: false,
            ..Self::done(by, act, object)
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// Its id, ordered by time.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub deed: Deed,
}

/// The audit logs of all projects. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Audit {
    db: Db,
}

impl Audit {
    /// Those kept beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
        }
    }

    /// Writes down what changed nothing: something that was read, or not let.
    pub async fn record(&self, project: &ProjectId, deed: &Deed) -> Result<()> {
        db::audit::insert(&mut *self.db.writer().await?, project, deed, self.db.now()).await
    }

    /// A page of a project's lines, the newest first: those before `before`.
    pub async fn lines(&self, project: &ProjectId, before: Option<&AuditId>, limit: u32) -> Result<Vec<AuditLine>> {
        db::audit::lines(&mut *self.db.reader().await?, project, before, limit.min(MAX_PAGE)).await
    }
}
