//! What a name can mean: a dataset, a table or a view.

use std::fmt;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{DatasetName, ProjectId, TableName, TableUid};
use crate::tables::{Keys, TableLocation, Version};
use crate::{Error, Result};

/// A dataset: a namespace for tables and views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name, unique in the project.
    pub name: DatasetName,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Relation {
    /// Rows in the bucket.
    Table(TableRecord),
    /// A query with a name.
    View(ViewRecord),
}

/// Which of the two a statement meant: `drop table` is not for views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelationKind {
    /// Rows in the bucket.
    Table,
    /// A query with a name.
    View,
}

/// One table, from its reservation until its files are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// This table and no other, whatever it is called.
    pub uid: TableUid,
    /// Whose it is.
    pub project: ProjectId,
    /// What it is called.
    pub name: TableName,
    /// How many tables had this name before it, and one.
    pub generation: u32,
    /// Where its log and files are.
    pub location: TableLocation,
    /// The version that queries see.
    pub version: Version,
    /// Its Arrow schema as JSON, with its keys; empty until it is published.
    pub schema: String,
    /// When it was reserved.
    pub created_at: Timestamp,
    /// How far its life has come.
    pub state: TableState,
}

impl TableRecord {
    /// What was promised of its rows.
    pub fn keys(&self) -> Result<Keys> {
        let columns: Schema = serde_json::from_str(&self.schema).map_err(|error| Error::Internal(error.into()))?;
        Keys::of_schema(&columns)
    }
}

/// How far the life of a table has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableState {
    /// A query is filling it and nobody sees it.
    Creating,
    /// Its name means it.
    Live,
    /// Nobody sees it any more; its files are still there.
    Deleted,
    /// Its files are gone.
    Purged,
}

/// What a view is, before it has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its query.
    pub sql: String,
    /// The SQL dialect that its query is written in.
    pub dialect: String,
    /// The dataset that unqualified names in the query belong to.
    pub default_dataset: Option<DatasetName>,
    /// The Arrow schema of its rows as JSON, as it was when the view was made.
    pub columns: String,
    /// The tables and views its query names.
    pub depends: Vec<TableName>,
}

/// One view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRecord {
    /// Whose it is.
    pub project: ProjectId,
    /// What it is called.
    pub name: TableName,
    /// Its query.
    pub sql: String,
    /// The SQL dialect that its query is written in.
    pub dialect: String,
    /// The dataset that unqualified names in the query belong to.
    pub default_dataset: Option<DatasetName>,
    /// The Arrow schema of its rows as JSON, as it was when the view was made.
    pub columns: String,
    /// The tables and views its query names.
    pub depends: Vec<TableName>,
    /// When it was created or last replaced.
    pub created_at: Timestamp,
}

impl Relation {
    /// What it is called.
    pub fn name(&self) -> &TableName {
        match self {
            Self::Table(table) => &table.name,
            Self::View(view) => &view.name,
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> RelationKind {
        match self {
            Self::Table(_) => RelationKind::Table,
            Self::View(_) => RelationKind::View,
        }
    }
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::View => "view",
        })
    }
}
