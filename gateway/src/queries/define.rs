//! Statements that change names and need no worker: datasets, drops, truncation.

use wasmhouse_compute::sql::Kind;
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::catalog::{Effect, Relation, RelationKind};
use wasmhouse_storage::ids::{DatasetName, ProjectId};
use wasmhouse_storage::tables::TableLocation;
use wasmhouse_storage::{Error as StorageError, catalog::Catalog};

use super::House;
use super::slice::table_name;
use crate::error::{Error, Result};

/// What a definition leaves to do.
pub(super) enum Defined {
    /// Nothing: the names are as they should be.
    Done,
    /// The table is to lose its rows, in a commit of its own.
    Truncate {
        /// Where its files live.
        at: TableLocation,
        /// What the commit shows.
        effect: Effect,
    },
    /// This statement needs a worker.
    NotHere,
}

/// Does what `kind` says if that is a matter of names.
pub(super) async fn define(
    house: &House,
    project: &ProjectId,
    dataset: Option<&DatasetName>,
    kind: &Kind,
) -> Result<Defined> {
    let catalog = &house.catalog;
    match kind {
        Kind::CreateDataset {
            project: written,
            name,
            if_not_exists,
        } => {
            let name = own_dataset(project, written.as_deref(), name)?;
            match catalog.create_dataset(project, &name).await {
                Err(StorageError::AlreadyExists(_)) if *if_not_exists => Ok(Defined::Done),
                created => created.map(|()| Defined::Done).map_err(Error::from),
            }
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
            match catalog.drop_dataset(project, &name, *cascade).await {
                Err(StorageError::NotFound(_)) if *if_exists => Ok(Defined::Done),
                Err(StorageError::NotFound(message)) => Err(SqlError::new(Code::UnknownDataset, message).into()),
                dropped => dropped.map(|()| Defined::Done).map_err(Error::from),
            }
        }
        Kind::Drop { name, if_exists, view } => {
            let kind = if *view { RelationKind::View } else { RelationKind::Table };
            let known = match table_name(catalog, project, dataset, name).await {
                Err(_) if *if_exists => return Ok(Defined::Done),
                known => known?,
            };
            match catalog.drop_relation(project, &known, kind).await {
                Err(StorageError::NotFound(_)) if *if_exists => Ok(Defined::Done),
                Err(StorageError::NotFound(message)) => Err(SqlError::new(Code::UnknownTable, message)
                    .at(name.line, name.column)
                    .into()),
                dropped => dropped.map(|_| Defined::Done).map_err(Error::from),
            }
        }
        Kind::Truncate { name, if_exists } => truncate(catalog, project, dataset, name, *if_exists).await,
        Kind::Query | Kind::Explain | Kind::Insert { .. } | Kind::CreateTable { .. } | Kind::CreateView { .. } => {
            Ok(Defined::NotHere)
        }
    }
}

async fn truncate(
    catalog: &Catalog,
    project: &ProjectId,
    dataset: Option<&DatasetName>,
    name: &wasmhouse_compute::sql::Name,
    if_exists: bool,
) -> Result<Defined> {
    let known = match table_name(catalog, project, dataset, name).await {
        Err(_) if if_exists => return Ok(Defined::Done),
        known => known?,
    };
    match catalog.relation(project, &known).await? {
        Some(Relation::Table(table)) => Ok(Defined::Truncate {
            at: table.location,
            effect: Effect::Advance {
                uid: table.uid,
                version: table.version,
            },
        }),
        Some(Relation::View(_)) => Err(SqlError::new(
            Code::NotSupported,
            format!("{known} is a view; only a table has rows to lose"),
        )
        .at(name.line, name.column)
        .into()),
        None if if_exists => Ok(Defined::Done),
        None => Err(SqlError::new(Code::UnknownTable, format!("no table named {known}"))
            .at(name.line, name.column)
            .into()),
    }
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
