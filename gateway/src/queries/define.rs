//! Statements that change names and need no worker: datasets, drops, truncation. What they mean is found here; it
//! happens when the query ends.

use wasmhouse_compute::sql::suggest::nearest;
use wasmhouse_compute::sql::{Kind, Roles};
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::catalog::{Effect, Relation, RelationKind};
use wasmhouse_storage::ids::{DatasetName, PrincipalName, ProjectId, TableUid};
use wasmhouse_storage::people::Grant;
use wasmhouse_storage::tables::TableLocation;

use super::landed::Lenient;
use super::slice::{no_such, table_name};
use crate::access::Act;
use crate::error::{Error, Result};
use crate::sight::Sight;

/// What a definition leaves to do.
pub(super) enum Defined {
    /// Nothing: the names are as they should be.
    Done,
    /// Names change when the query ends.
    Names {
        /// How.
        effect: Effect,
        /// What is no failure by then.
        lenient: Lenient,
    },
    /// The table is to lose its rows, in a commit of its own.
    Truncate {
        /// Where its files live.
        at: TableLocation,
        /// The table.
        uid: TableUid,
    },
    /// This statement needs a worker.
    NotHere,
}

/// What `kind` says, if that is a matter of names.
pub(super) async fn define(sight: Sight<'_>, dataset: Option<&DatasetName>, kind: &Kind) -> Result<Defined> {
    let caller = sight.caller();
    let project = &caller.project;
    match kind {
        Kind::CreateDataset {
            project: written,
            name,
            if_not_exists,
        } => {
            let name = own_dataset(project, written.as_deref(), name)?;
            caller.may(Act::CreateDataset)?;
            Ok(Defined::Names {
                effect: Effect::CreateDataset { name },
                lenient: if *if_not_exists { Lenient::Taken } else { Lenient::No },
            })
        }
        Kind::DropDataset {
            project: written,
            name,
            if_exists,
            cascade,
        } => {
            let name = match own_dataset(project, written.as_deref(), name) {
                Err(_) if *if_exists => return Ok(Defined::Done),
                name => name?,
            };
            match sight.has_dataset(&name).await? {
                true => caller.may(Act::DropDataset(&name))?,
                false if *if_exists => return Ok(Defined::Done),
                false => return Err(no_such_dataset(sight, &name).await?),
            }
            let cascade = *cascade;
            Ok(Defined::Names {
                effect: Effect::DropDataset { name, cascade },
                lenient: if *if_exists { Lenient::Gone } else { Lenient::No },
            })
        }
        Kind::Drop { name, if_exists, view } => {
            let kind = if *view { RelationKind::View } else { RelationKind::Table };
            let known = match table_name(sight, dataset, name).await {
                Err(_) if *if_exists => return Ok(Defined::Done),
                known => known?,
            };
            match sight.relation(&known).await? {
                Some(_) => caller.may(Act::Write(known.dataset()))?,
                None if *if_exists => return Ok(Defined::Done),
                None => return Err(no_such(sight, name, &known.to_string()).await?.into()),
            }
            Ok(Defined::Names {
                effect: Effect::Drop { name: known, kind },
                lenient: if *if_exists { Lenient::Gone } else { Lenient::No },
            })
        }
        Kind::Truncate { name, if_exists } => truncate(sight, dataset, name, *if_exists).await,
        Kind::Grant(roles) => {
            let (grants, by) = (grants(sight, roles).await?, caller.actor.clone());
            Ok(Defined::Names {
                effect: Effect::Grant { grants, by },
                lenient: Lenient::No,
            })
        }
        Kind::Revoke(roles) => {
            let grants = grants(sight, roles).await?;
            Ok(Defined::Names {
                effect: Effect::Revoke { grants },
                lenient: Lenient::No,
            })
        }
        Kind::Query
        | Kind::Explain
        | Kind::ShowGrants(_)
        | Kind::Insert { .. }
        | Kind::CreateTable { .. }
        | Kind::CreateView { .. } => Ok(Defined::NotHere),
    }
}

async fn truncate(
    sight: Sight<'_>,
    dataset: Option<&DatasetName>,
    name: &wasmhouse_compute::sql::Name,
    if_exists: bool,
) -> Result<Defined> {
    let known = match table_name(sight, dataset, name).await {
        Err(_) if if_exists => return Ok(Defined::Done),
        known => known?,
    };
    let there = sight.relation(&known).await?;
    if there.is_some() {
        sight.caller().may(Act::Write(known.dataset()))?;
    }
    match there {
        Some(Relation::Table(table)) => Ok(Defined::Truncate {
            at: table.location,
            uid: table.uid,
        }),
        Some(Relation::View(_)) => Err(SqlError::new(
            Code::NotSupported,
            format!("{known} is a view; only a table has rows to lose"),
        )
        .at(name.line, name.column)
        .into()),
        None if if_exists => Ok(Defined::Done),
        None => Err(no_such(sight, name, &known.to_string()).await?.into()),
    }
}

/// Who gets or loses which roles, if the caller may say so.
async fn grants(sight: Sight<'_>, roles: &Roles) -> Result<Vec<(PrincipalName, Grant)>> {
    let caller = sight.caller();
    let dataset = match &roles.dataset {
        None => None,
        Some((written, name)) => {
            let name = own_dataset(&caller.project, written.as_deref(), name)?;
            if !sight.has_dataset(&name).await? {
                return Err(no_such_dataset(sight, &name).await?);
            }
            Some(name)
        }
    };
    caller.may(Act::Grant(dataset.as_ref()))?;
    let mut grants = Vec::new();
    for role in &roles.roles {
        let grant = Grant::new(role.parse()?, dataset.clone())?;
        for principal in &roles.principals {
            grants.push((principal.parse()?, grant.clone()));
        }
    }
    Ok(grants)
}

/// What to say of a dataset that is not there, with the nearest that is.
async fn no_such_dataset(sight: Sight<'_>, name: &DatasetName) -> Result<Error> {
    let known = sight.datasets().await?;
    let hint = nearest(name.as_str(), known.iter().map(|dataset| dataset.name.as_str()));
    let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Ok(SqlError::new(Code::UnknownDataset, format!("no dataset named {name}{hint}")).into())
}

fn own_dataset(project: &ProjectId, written: Option<&str>, name: &str) -> Result<DatasetName> {
    if written.is_some_and(|other| other != project.as_str()) {
        return Err(SqlError::new(
            Code::UnknownDataset,
            format!("no dataset named {}.{name}", written.unwrap_or_default()),
        )
        .into());
    }
    Ok(name.parse()?)
}
