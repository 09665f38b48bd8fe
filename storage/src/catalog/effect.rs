//! What the end of a query does to the catalog: every name that is given, taken or shows something else.
//!
//! # Invariants
//! - An effect happens in the transaction that ends its query, or not at all.
//! - Where there is a Delta commit it comes first. An effect only shows what is already in the bucket.

use serde::{Deserialize, Serialize};

use super::db::{self, Transaction, names, relations};
use super::{Relation, RelationKind, View, lock_dataset, taken};
use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::ids::{DatasetName, PrincipalName, ProjectId, TableName, TableUid};
use crate::people::{self, Grant};
use crate::tables::Version;
use crate::{Error, Result};

/// What a query that ends well changes in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "lowercase")]
pub enum Effect {
    /// Nothing: it only read.
    #[default]
    None,
    /// The table it reserved and filled gets its name.
    Publish {
        /// The reserved table.
        uid: TableUid,
        /// The version to show.
        version: Version,
        /// Its Arrow schema as JSON.
        schema: String,
    },
    /// The table it reserved and filled gets its name, and the table that had the name goes.
    Replace {
        /// The table that has the name.
        old: TableUid,
        /// The reserved table.
        uid: TableUid,
        /// The version to show.
        version: Version,
        /// Its Arrow schema as JSON.
        schema: String,
    },
    /// A table that has its name already shows a later version.
    Advance {
        /// The table.
        uid: TableUid,
        /// The version to show.
        version: Version,
    },
    /// There is one more dataset.
    CreateDataset {
        /// Its name.
        name: DatasetName,
    },
    /// There is one dataset less.
    DropDataset {
        /// Its name.
        name: DatasetName,
        /// Whether all that is in it goes too. Otherwise it must be empty.
        cascade: bool,
    },
    /// A view gets a name.
    CreateView {
        /// The name.
        name: TableName,
        /// What it stands for.
        view: View,
        /// Whether it may take the place of a view of that name.
        or_replace: bool,
    },
    /// A table or view loses its name. The files of a table stay until upkeep removes them.
    Drop {
        /// The name.
        name: TableName,
        /// What it must be.
        kind: RelationKind,
    },
    /// Roles are given.
    Grant {
        /// To whom, and which.
        grants: Vec<(PrincipalName, Grant)>,
        /// By whom.
        by: Actor,
    },
    /// Roles are taken away.
    Revoke {
        /// From whom, and which.
        grants: Vec<(PrincipalName, Grant)>,
    },
}

impl Effect {
    /// The same effect, showing the version that the commit turned out to have.
    pub fn at_version(mut self, committed: Version) -> Self {
        match &mut self {
            Self::None
            | Self::CreateDataset { .. }
            | Self::DropDataset { .. }
            | Self::CreateView { .. }
            | Self::Drop { .. }
            | Self::Grant { .. }
            | Self::Revoke { .. } => {}
            Self::Publish { version, .. } | Self::Replace { version, .. } | Self::Advance { version, .. } => {
                *version = committed;
            }
        }
        self
    }
}

impl Effect {
    /// What of it is written down in the audit log, in a word, and to what it is done. What becomes of rows is in the record of the
    /// query alone.
    pub(crate) fn deeds(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::None | Self::Publish { .. } | Self::Replace { .. } | Self::Advance { .. } => Vec::new(),
            Self::CreateDataset { name } => vec![("create_dataset", name.to_string())],
            Self::DropDataset { name, .. } => vec![("drop_dataset", name.to_string())],
            Self::CreateView { name, .. } => vec![("create_view", name.to_string())],
            Self::Drop { name, kind } => match kind {
                RelationKind::Table => vec![("drop_table", name.to_string())],
                RelationKind::View => vec![("drop_view", name.to_string())],
            },
            Self::Grant { grants, .. } => grants
                .iter()
                .map(|(to, grant)| ("grant", format!("{grant} to {to}")))
                .collect(),
            Self::Revoke { grants, .. } => grants
                .iter()
                .map(|(from, grant)| ("revoke", format!("{grant} from {from}")))
                .collect(),
        }
    }

    /// Whether somebody may do more, or less, than before.
    pub fn changes_rights(&self) -> bool {
        match self {
            Self::DropDataset { .. } | Self::Grant { .. } | Self::Revoke { .. } => true,
            Self::None
            | Self::Publish { .. }
            | Self::Replace { .. }
            | Self::Advance { .. }
            | Self::CreateDataset { .. }
            | Self::CreateView { .. }
            | Self::Drop { .. } => false,
        }
    }
}

/// Does what `effect` says, in the transaction `tx` of the query's end.
pub(crate) async fn apply(tx: &mut Transaction, project: &ProjectId, effect: &Effect, now: Timestamp) -> Result<()> {
    match effect {
        Effect::None => Ok(()),
        Effect::Publish { uid, version, schema } => publish(tx, project, None, uid, *version, schema, now).await,
        Effect::Replace {
            old,
            uid,
            version,
            schema,
        } => publish(tx, project, Some(old), uid, *version, schema, now).await,
        Effect::Advance { uid, version } => advance(tx, project, uid, *version).await,
        Effect::CreateDataset { name } => create_dataset(tx, project, name, now).await,
        Effect::DropDataset { name, cascade } => drop_dataset(tx, project, name, *cascade, now).await,
        Effect::CreateView { name, view, or_replace } => create_view(tx, project, name, view, *or_replace, now).await,
        Effect::Drop { name, kind } => drop_relation(tx, project, name, *kind, now).await,
        Effect::Grant { grants, by } => {
            for (to, grant) in grants {
                if let Some(dataset) = &grant.dataset {
                    lock_dataset(tx, project, dataset).await?;
                }
                people::give(tx, project, to, grant, by, now).await?;
            }
            Ok(())
        }
        Effect::Revoke { grants } => {
            for (from, grant) in grants {
                people::take(tx, project, from, grant).await?;
            }
            Ok(())
        }
    }
}

async fn create_dataset(tx: &mut Transaction, project: &ProjectId, name: &DatasetName, now: Timestamp) -> Result<()> {
    match names::insert_dataset(tx, project, name, now).await? {
        true => Ok(()),
        false => Err(Error::AlreadyExists(format!("dataset {name} already exists"))),
    }
}

async fn drop_dataset(
    tx: &mut Transaction,
    project: &ProjectId,
    name: &DatasetName,
    cascade: bool,
    now: Timestamp,
) -> Result<()> {
    lock_dataset(tx, project, name).await?;
    if !cascade && relations::any_in(tx, project, name).await? {
        return Err(Error::Conflict(format!("dataset {name} is not empty")));
    }
    relations::delete_all_in(tx, project, name, now).await?;
    names::delete_dataset(tx, project, name).await?;
    db::people::delete_grants_on(tx, project, name).await
}

async fn create_view(
    tx: &mut Transaction,
    project: &ProjectId,
    name: &TableName,
    view: &View,
    or_replace: bool,
    now: Timestamp,
) -> Result<()> {
    lock_dataset(tx, project, name.dataset()).await?;
    match relations::live(tx, project, name).await? {
        Some(Relation::View(_)) if or_replace => relations::delete_view(tx, project, name).await?,
        Some(relation) => return Err(taken(&relation)),
        None => {}
    }
    relations::insert_view(tx, project, name, view, now).await
}

async fn drop_relation(
    tx: &mut Transaction,
    project: &ProjectId,
    name: &TableName,
    kind: RelationKind,
    now: Timestamp,
) -> Result<()> {
    lock_dataset(tx, project, name.dataset()).await?;
    match relations::live(tx, project, name).await? {
        None => Err(Error::NotFound(format!("no {kind} named {name}"))),
        Some(other) if other.kind() != kind => {
            Err(Error::Invalid(format!("{name} is a {}, not a {kind}", other.kind())))
        }
        Some(Relation::Table(table)) => relations::delete_table(tx, &table.uid, now).await.map(drop),
        Some(Relation::View(_)) => relations::delete_view(tx, project, name).await,
    }
}

async fn publish(
    tx: &mut Transaction,
    project: &ProjectId,
    old: Option<&TableUid>,
    uid: &TableUid,
    version: Version,
    schema: &str,
    now: Timestamp,
) -> Result<()> {
    let Some(table) = relations::table(tx, project, uid).await? else {
        return Err(Error::NotFound(format!("no table was reserved as {uid}")));
    };
    lock_dataset(tx, project, table.name.dataset()).await?;

    match (relations::live(tx, project, &table.name).await?, old) {
        (None, None) => {}
        (Some(Relation::Table(live)), Some(old)) if live.uid == *old => {
            relations::delete_table(tx, old, now).await?;
        }
        (_, Some(_)) => return Err(Error::Conflict(format!("{} was replaced by somebody else", table.name))),
        (Some(live), None) => return Err(taken(&live)),
    }
    if !relations::publish_table(tx, uid, version, schema).await? {
        return Err(Error::Conflict(format!("{} is not being created any more", table.name)));
    }
    Ok(())
}

/// A table that was dropped after the commit keeps what it was given: the drop came second, as everyone may see.
async fn advance(tx: &mut Transaction, project: &ProjectId, uid: &TableUid, version: Version) -> Result<()> {
    if relations::table(tx, project, uid).await?.is_none() {
        return Err(Error::NotFound(format!("no table {uid}")));
    }
    relations::advance_table(tx, uid, version).await
}
