//! Who asks, and what he may do. It is decided here and nowhere else.
//!
//! # Invariants
//! - What is not allowed by a role is not allowed.
//! - A key allows at most what its holder may do, and at most what its scope says.
//! - What somebody may not read is not there for him: see [`crate::sight`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use wasmhouse_storage::audit::{Actor, Who};
use wasmhouse_storage::budgets::Budget;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{DatasetName, PrincipalName, ProjectId};
use wasmhouse_storage::people::{Defaults, Grant, Opened, Role};

use crate::error::{Error, Result};

/// Somebody whose key was good. Holding one is the proof.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The project that the key belongs to: outside of it there is nothing.
    pub(crate) project: ProjectId,
    /// Who it is, as it is written down.
    pub(crate) actor: Actor,
    /// What his queries may cost if they do not say.
    pub(crate) defaults: Defaults,
    /// What his project may spend.
    pub(crate) budgets: Arc<[Budget]>,
    /// When his key ends by itself.
    pub(crate) expires_at: Option<Timestamp>,
    rights: Arc<Rights>,
}

/// What a key allows.
#[derive(Debug)]
struct Rights {
    /// The roles of its holder. None: it is the project's own, and allows everything.
    held: Option<Vec<Grant>>,
    /// What it may be used for at most: each of these. With none, everything that its holder may do.
    scopes: Vec<Vec<Grant>>,
}

impl Rights {
    /// Whether what is held allows it, and each scope too.
    fn all(&self, allows: impl Fn(&[Grant]) -> bool) -> bool {
        let mut bounds = self.held.iter().chain(&self.scopes);
        bounds.all(|grants| allows(grants))
    }
}

/// Something that somebody wants to do in a project.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act<'a> {
    /// Send statements, for which the project pays.
    Run,
    /// Read the tables of a dataset, and know that they are there.
    Read(&'a DatasetName),
    /// Change the tables of a dataset.
    Write(&'a DatasetName),
    /// Make a dataset.
    CreateDataset,
    /// Drop a dataset.
    DropDataset(&'a DatasetName),
    /// See and stop the queries of others.
    SeeQueries,
    /// Read the ledger and invoices.
    ReadBills,
    /// Say who may do what, in a dataset or in the whole project.
    Grant(Option<&'a DatasetName>),
    /// Let people in and keep them out, with their keys, and say what a query may cost.
    ManagePeople,
    /// Say what the project may spend.
    SetBudgets,
    /// Read the audit log.
    ReadAudit,
}

impl Act<'_> {
    /// Whether a role allows it.
    fn is_allowed_by(&self, grant: &Grant) -> bool {
        use Role::{BillingViewer, Editor, Owner, QueryRunner, Viewer};

        let (in_project, on_dataset): (&[Role], Option<(&DatasetName, &[Role])>) = match self {
            Act::Run => (&[Owner, Editor, QueryRunner], None),
            Act::Read(dataset) => {
                const ROLES: &[Role] = &[Owner, Editor, Viewer];
                (ROLES, Some((dataset, ROLES)))
            }
            Act::Write(dataset) => (&[Owner, Editor], Some((dataset, &[Owner, Editor]))),
            Act::DropDataset(dataset) => (&[Owner, Editor], Some((dataset, &[Owner]))),
            Act::CreateDataset => (&[Owner, Editor], None),
            Act::SeeQueries | Act::ManagePeople | Act::SetBudgets | Act::ReadAudit => (&[Owner], None),
            Act::ReadBills => (&[Owner, BillingViewer], None),
            Act::Grant(dataset) => (&[Owner], dataset.map(|dataset| (dataset, &[Owner] as _))),
        };
        match &grant.dataset {
            None => in_project.contains(&grant.role),
            Some(place) => on_dataset.is_some_and(|(dataset, roles)| dataset == place && roles.contains(&grant.role)),
        }
    }
}

/// What is said of an act that is not allowed, and what would allow it.
impl fmt::Display for Act<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Run => {
                f.write_str("send statements to this project: that takes the role query_runner, editor or owner")
            }
            Act::Read(dataset) => write!(f, "read {dataset}: that takes the role viewer, editor or owner"),
            Act::Write(dataset) => write!(f, "change {dataset}: that takes the role editor or owner"),
            Act::CreateDataset => f.write_str("create datasets: that takes the role editor or owner in the project"),
            Act::DropDataset(dataset) => {
                write!(f, "drop {dataset}: that takes the role owner, or editor in the project")
            }
            Act::SeeQueries => f.write_str("see the queries of others: that takes the role owner in the project"),
            Act::ReadBills => f.write_str("read bills: that takes the role billing_viewer or owner in the project"),
            Act::Grant(Some(dataset)) => write!(f, "say who may do what in {dataset}: that takes the role owner"),
            Act::Grant(None) => {
                f.write_str("say who may do what in the project: that takes the role owner in the project")
            }
            Act::ManagePeople => {
                f.write_str("manage the people of the project: that takes the role owner in the project")
            }
            Act::SetBudgets => f.write_str("set budgets: that takes the role owner in the project"),
            Act::ReadAudit => f.write_str("read the audit log: that takes the role owner in the project"),
        }
    }
}

impl Caller {
    /// Who has opened the door with this key.
    pub(crate) fn new(opened: Opened) -> Self {
        let Opened {
            project,
            key,
            principal,
            grants,
            scope,
            expires_at,
            defaults,
            budgets,
        } = opened;
        let held = principal.is_some().then_some(grants);
        Self {
            project,
            actor: Actor {
                who: principal.map_or(Who::Project, Who::Principal),
                key: Some(key),
                token: None,
                address: None,
            },
            defaults,
            budgets: budgets.into(),
            expires_at,
            rights: Arc::new(Rights {
                held,
                scopes: scope.into_iter().collect(),
            }),
        }
    }

    /// The same, coming from somewhere.
    pub(crate) fn at(mut self, address: Option<IpAddr>) -> Self {
        self.actor.address = address;
        self
    }

    /// The same, with a token that was made of his key.
    pub(crate) fn by_token(mut self, token: String, scope: Option<Vec<Grant>>, expires_at: Timestamp) -> Self {
        let Rights { held, scopes } = self.rights.as_ref();
        self.rights = Arc::new(Rights {
            held: held.clone(),
            scopes: scopes.iter().cloned().chain(scope).collect(),
        });
        self.expires_at = Some(self.expires_at.map_or(expires_at, |end| end.min(expires_at)));
        self.actor.token = Some(token);
        self
    }

    /// The same, who may do now what `now` may, within the scopes that he has.
    pub(crate) fn with_rights_of(&self, now: &Self) -> Self {
        let (rights, of_now) = (self.rights.as_ref(), now.rights.as_ref());
        Self {
            rights: Arc::new(Rights {
                held: of_now.held.clone(),
                scopes: rights.scopes.iter().chain(&of_now.scopes).cloned().collect(),
            }),
            defaults: now.defaults,
            budgets: Arc::clone(&now.budgets),
            ..self.clone()
        }
    }

    /// Whether he shows a token that was made of a key, and not the key.
    pub(crate) fn is_by_token(&self) -> bool {
        self.actor.token.is_some()
    }

    /// Whether this is his own name.
    pub(crate) fn is_called(&self, name: &PrincipalName) -> bool {
        matches!(&self.actor.who, Who::Principal(own) if own == name)
    }

    /// Whether what this actor has done was done by him: with a key that may be used for less than its holder may do, only what
    /// was done with it.
    pub(crate) fn has_done(&self, actor: &Actor) -> bool {
        let with_key = !self.is_scoped() || actor.key == self.actor.key;
        let with_token = !self.is_by_token() || (actor.key == self.actor.key && actor.token == self.actor.token);
        actor.who == self.actor.who && with_key && with_token
    }

    /// Whether he may do it.
    pub(crate) fn can(&self, act: Act<'_>) -> bool {
        self.rights
            .all(|grants| grants.iter().any(|grant| act.is_allowed_by(grant)))
    }

    /// Says why not, if he may not.
    pub(crate) fn may(&self, act: Act<'_>) -> Result<()> {
        match self.can(act) {
            true => Ok(()),
            false => Err(Error::Denied(act.to_string())),
        }
    }

    /// Whether the key may be used for less than its holder may do.
    pub(crate) fn is_scoped(&self) -> bool {
        !self.rights.scopes.is_empty()
    }

    /// Whether everything in the project is there for him.
    pub(crate) fn sees_all(&self) -> bool {
        self.rights.all(|grants| {
            grants
                .iter()
                .any(|grant| grant.dataset.is_none() && matches!(grant.role, Role::Owner | Role::Editor | Role::Viewer))
        })
    }
}

#[cfg(test)]
mod tests;
