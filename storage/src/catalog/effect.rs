//! The last step of every write: what the end of a query does to the catalog.
//!
//! # Invariants
//! - An effect happens in the transaction that ends its query, or not at all.
//! - The Delta commit comes first. An effect only shows what is already in the bucket.

use serde::{Deserialize, Serialize};

use super::db::{Transaction, relations};
use super::{Relation, lock_dataset, taken};
use crate::clock::Timestamp;
use crate::ids::{ProjectId, TableUid};
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
}

impl Effect {
    /// The same effect, showing the version that the commit turned out to have.
    pub fn at_version(mut self, committed: Version) -> Self {
        match &mut self {
            Self::None => {}
            Self::Publish { version, .. } | Self::Replace { version, .. } | Self::Advance { version, .. } => {
                *version = committed;
            }
        }
        self
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
