//! Where the rows of a write go, and what its commit will show.

use std::sync::Arc;

use wasmhouse_compute::sql::{Kind, Name};
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::catalog::{Effect, Relation};
use wasmhouse_storage::ids::{DatasetName, ProjectId, QueryId, TableName, TableUid};
use wasmhouse_storage::tables::{CommitNote, TableLocation, Tables, Version, WrittenFile};

use super::slice::table_name;
use super::{House, Load, LoadMode};
use crate::access::Act;
use crate::error::{Error, Result};
use crate::sight::Sight;

/// A table that gets rows.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Where its files live.
    pub(super) at: TableLocation,
    /// Its columns; none while it is new.
    pub(super) schema: Option<String>,
    /// What the commit does to it.
    pub(super) how: How,
}

/// What a commit does to its table.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// A table that exists gets more rows.
    Append(TableUid),
    /// A reserved table gets its first rows, and then its name.
    Publish {
        /// The reserved table.
        uid: TableUid,
        /// The table that had the name.
        replaces: Option<TableUid>,
    },
    /// A table loses its rows.
    Truncate(TableUid),
}

impl Target {
    /// The effect on the catalog, once the commit has a version.
    pub(super) fn effect(&self, version: Version, schema: &str) -> Effect {
        match &self.how {
            How::Append(uid) | How::Truncate(uid) => Effect::Advance {
                uid: uid.clone(),
                version,
            },
            How::Publish { uid, replaces: None } => Effect::Publish {
                uid: uid.clone(),
                version,
                schema: schema.to_owned(),
            },
            How::Publish {
                uid,
                replaces: Some(old),
            } => Effect::Replace {
                old: old.clone(),
                uid: uid.clone(),
                version,
                schema: schema.to_owned(),
            },
        }
    }

    /// Whether everyone reads the table already, so that a commit to it cannot be forgotten.
    pub(super) fn is_shown(&self) -> bool {
        match self.how {
            How::Append(_) | How::Truncate(_) => true,
            How::Publish { .. } => false,
        }
    }

    /// Makes the commit. A commit of this query that is there already is this one.
    pub(super) async fn commit(
        &self,
        tables: &Tables,
        files: Vec<WrittenFile>,
        schema: &str,
        note: &CommitNote,
    ) -> Result<Version> {
        Ok(match &self.how {
            How::Append(_) => tables.append(&self.at, files, note).await?,
            How::Truncate(_) => tables.truncate(&self.at, note).await?,
            How::Publish { .. } => {
                let schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
                tables.create(&self.at, &Arc::new(schema), files, note).await?
            }
        })
    }
}

/// Where the rows of a statement go. None when there is nothing to do: the table is there and may be.
pub(super) async fn of_statement(
    house: &House,
    sight: Sight<'_>,
    dataset: Option<&DatasetName>,
    id: &QueryId,
    kind: &Kind,
) -> Result<Option<Target>> {
    match kind {
        Kind::Insert { overwrite: true, into } => {
            let message = "insert overwrite is not supported yet; truncate the table, then insert";
            Err(SqlError::new(Code::NotSupported, message)
                .at(into.line, into.column)
                .into())
        }
        Kind::Insert { into, .. } => existing(sight, dataset, into).await.map(Some),
        Kind::CreateTable {
            name,
            if_not_exists,
            or_replace,
            ..
        } => {
            let known = new_name(sight, dataset, name).await?;
            let there = sight.relation(&known).await?;
            match (&there, or_replace) {
                (Some(_), false) if *if_not_exists => Ok(None),
                (Some(relation), false) => Err(taken(relation, name)),
                (Some(Relation::View(_)), true) => Err(taken(there.as_ref().expect("matched as some"), name)),
                _ => reserve(house, &sight.caller().project, &known, id, *or_replace, there)
                    .await
                    .map(Some),
            }
        }
        _ => Err(Error::Internal("the statement writes nothing".into())),
    }
}

/// Where the rows of an upload go.
pub(super) async fn of_load(house: &House, sight: Sight<'_>, id: &QueryId, load: &Load) -> Result<Target> {
    let caller = sight.caller();
    let dataset = load.into.dataset();
    if !sight.has_dataset(dataset).await? {
        return Err(Error::NotFound(format!("no dataset named {dataset}")));
    }
    caller.may(Act::Write(dataset))?;
    let there = sight.relation(&load.into).await?;
    match (there, load.mode) {
        (Some(Relation::View(_)), _) => Err(Error::InvalidRequest(format!(
            "{} is a view; rows go into a table",
            load.into
        ))),
        (Some(Relation::Table(table)), LoadMode::Append) => Ok(Target {
            at: table.location,
            schema: Some(table.schema),
            how: How::Append(table.uid),
        }),
        (Some(Relation::Table(_)), LoadMode::Create) => {
            Err(Error::AlreadyExists(format!("the table {} exists already", load.into)))
        }
        (there, mode) => reserve(house, &caller.project, &load.into, id, mode == LoadMode::Replace, there).await,
    }
}

async fn existing(sight: Sight<'_>, dataset: Option<&DatasetName>, name: &Name) -> Result<Target> {
    let known = table_name(sight, dataset, name).await?;
    let there = sight.relation(&known).await?;
    if there.is_some() {
        sight.caller().may(Act::Write(known.dataset()))?;
    }
    match there {
        Some(Relation::Table(table)) => Ok(Target {
            at: table.location,
            schema: Some(table.schema),
            how: How::Append(table.uid),
        }),
        Some(Relation::View(_)) => {
            let message = format!("{known} is a view; rows go into a table");
            Err(SqlError::new(Code::NotSupported, message)
                .at(name.line, name.column)
                .into())
        }
        None => Err(super::slice::no_such(sight, name, &known.to_string()).await?.into()),
    }
}

/// The name of something that does not exist yet, and that the caller may make.
pub(super) async fn new_name(sight: Sight<'_>, dataset: Option<&DatasetName>, name: &Name) -> Result<TableName> {
    let place = |message: String| Error::Sql(SqlError::new(Code::InvalidSql, message).at(name.line, name.column));
    if let Some(other) = name
        .project
        .as_deref()
        .filter(|other| *other != sight.caller().project.as_str())
    {
        return Err(SqlError::new(
            Code::UnknownDataset,
            format!(
                "no dataset named {other}.{}",
                name.dataset.as_deref().unwrap_or_default()
            ),
        )
        .at(name.line, name.column)
        .into());
    }
    let dataset = match (&name.dataset, dataset) {
        (Some(written), _) => written
            .parse()
            .map_err(|error: wasmhouse_storage::ids::InvalidName| place(error.to_string()))?,
        (None, Some(dataset)) => dataset.clone(),
        (None, None) => {
            return Err(place(format!(
                "{name} has no dataset; write dataset.{name}, or send a `dataset` with the query"
            )));
        }
    };
    if !sight.has_dataset(&dataset).await? {
        let message = format!("no dataset named {dataset}; create it with `create schema {dataset}`");
        return Err(SqlError::new(Code::UnknownDataset, message)
            .at(name.line, name.column)
            .into());
    }
    sight.caller().may(Act::Write(&dataset))?;
    TableName::new(dataset, &name.table).map_err(|error| place(error.to_string()))
}

async fn reserve(
    house: &House,
    project: &ProjectId,
    name: &TableName,
    id: &QueryId,
    replace: bool,
    there: Option<Relation>,
) -> Result<Target> {
    let table = if replace {
        house.catalog.reserve_replacement(project, name, id).await?
    } else {
        house.catalog.reserve_table(project, name, id).await?
    };
    let replaces = there.and_then(|relation| match relation {
        Relation::Table(table) => Some(table.uid),
        Relation::View(_) => None,
    });
    Ok(Target {
        at: table.location,
        schema: None,
        how: How::Publish {
            uid: table.uid,
            replaces,
        },
    })
}

pub(super) fn taken(relation: &Relation, name: &Name) -> Error {
    let message = format!("{} exists already, as a {}", relation.name(), relation.kind());
    SqlError::new(Code::AlreadyExists, message)
        .at(name.line, name.column)
        .into()
}
