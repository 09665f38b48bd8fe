//! Statements that change names and need no worker: datasets, drops, truncation. What they mean is found here; it
//! happens when the query ends.

use wasmhouse_compute::sql::Kind;
use wasmhouse_compute::sql::suggest::nearest;
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::catalog::{Catalog, Effect, Relation, RelationKind};
use wasmhouse_storage::ids::{DatasetName, ProjectId, TableUid};
use wasmhouse_storage::tables::TableLocation;

use super::House;
use super::landed::Lenient;
use super::slice::{no_such, table_name};
use crate::error::Result;

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
            if !*if_exists {
                must_have_dataset(catalog, project, &name).await?;
            }
            let cascade = *cascade;
            Ok(Defined::Names {
                effect: Effect::DropDataset { name, cascade },
                lenient: if *if_exists { Lenient::Gone } else { Lenient::No },
            })
        }
        Kind::Drop { name, if_exists, view } => {
            let kind = if *view { RelationKind::View } else { RelationKind::Table };
            let known = match table_name(catalog, project, dataset, name).await {
                Err(_) if *if_exists => return Ok(Defined::Done),
                known => known?,
            };
            if !*if_exists && catalog.relation(project, &known).await?.is_none() {
                return Err(no_such(catalog, project, name, &known.to_string()).await?.into());
            }
            Ok(Defined::Names {
                effect: Effect::Drop { name: known, kind },
                lenient: if *if_exists { Lenient::Gone } else { Lenient::No },
            })
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
            uid: table.uid,
        }),
        Some(Relation::View(_)) => Err(SqlError::new(
            Code::NotSupported,
            format!("{known} is a view; only a table has rows to lose"),
        )
        .at(name.line, name.column)
        .into()),
        None if if_exists => Ok(Defined::Done),
        None => Err(no_such(catalog, project, name, &known.to_string()).await?.into()),
    }
}

async fn must_have_dataset(catalog: &Catalog, project: &ProjectId, name: &DatasetName) -> Result<()> {
    let known = catalog.datasets(project).await?;
    if known.iter().any(|dataset| dataset.name == *name) {
        return Ok(());
    }
    let hint = nearest(name.as_str(), known.iter().map(|dataset| dataset.name.as_str()));
    let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Err(SqlError::new(Code::UnknownDataset, format!("no dataset named {name}{hint}")).into())
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
