//! Datasets and tables, as names and sizes. Rows are a matter of [`crate::queries`].

use std::sync::Arc;

use arrow::datatypes::Schema;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::{Catalog, Dataset, Relation, RelationKind};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{DatasetName, TableName};
use wasmhouse_storage::tables::{CommitLine, TableSnapshot, Tables as DeltaTables};

use crate::access::Caller;
use crate::error::{Error, Result};

/// Datasets, tables and views of a project. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tables {
    catalog: Catalog,
    delta: DeltaTables,
    bucket: Bucket,
}

/// A table or view in a list.
pub(crate) struct Listed {
    pub(crate) name: TableName,
    pub(crate) kind: RelationKind,
    /// Rows and stored bytes of a table.
    pub(crate) size: Option<(u64, u64)>,
    pub(crate) created_at: Timestamp,
}

/// Everything about a table or view.
pub(crate) struct Described {
    pub(crate) name: TableName,
    pub(crate) kind: RelationKind,
    pub(crate) schema: Schema,
    pub(crate) created_at: Timestamp,
    /// What a view means.
    pub(crate) sql: Option<String>,
    /// What is in a table.
    pub(crate) contents: Option<Contents>,
}

/// What is in a table.
pub(crate) struct Contents {
    pub(crate) snapshot: Arc<TableSnapshot>,
    /// What an engine that reads Delta Lake opens.
    pub(crate) location: String,
}

impl Tables {
    pub(crate) fn new(catalog: Catalog, delta: DeltaTables, bucket: Bucket) -> Self {
        Self { catalog, delta, bucket }
    }

    /// The project's datasets, by name.
    pub(crate) async fn datasets(&self, caller: &Caller) -> Result<Vec<Dataset>> {
        Ok(self.catalog.datasets(&caller.project).await?)
    }

    /// Creates a dataset.
    pub(crate) async fn create_dataset(&self, caller: &Caller, name: &DatasetName) -> Result<()> {
        Ok(self.catalog.create_dataset(&caller.project, name).await?)
    }

    /// Deletes a dataset, with all that is in it if `cascade`.
    pub(crate) async fn drop_dataset(&self, caller: &Caller, name: &DatasetName, cascade: bool) -> Result<()> {
        Ok(self.catalog.drop_dataset(&caller.project, name, cascade).await?)
    }

    /// Fails if the project has no such dataset.
    pub(crate) async fn must_have_dataset(&self, caller: &Caller, name: &DatasetName) -> Result<()> {
        match self.datasets(caller).await?.iter().any(|dataset| dataset.name == *name) {
            true => Ok(()),
            false => Err(Error::NotFound(format!("no dataset named {name}; create it first"))),
        }
    }

    /// Everything in a dataset, by name.
    pub(crate) async fn list(&self, caller: &Caller, dataset: &DatasetName) -> Result<Vec<Listed>> {
        self.must_have_dataset(caller, dataset).await?;
        let mut listed = Vec::new();
        for relation in self.catalog.relations(&caller.project, Some(dataset)).await? {
            let (size, created_at) = match &relation {
                Relation::Table(table) => {
                    let snapshot = self.delta.snapshot(&table.location, table.version).await?;
                    (Some((snapshot.rows(), snapshot.bytes())), table.created_at)
                }
                Relation::View(view) => (None, view.created_at),
            };
            listed.push(Listed {
                name: relation.name().clone(),
                kind: relation.kind(),
                size,
                created_at,
            });
        }
        Ok(listed)
    }

    /// Everything about one table or view.
    pub(crate) async fn describe(&self, caller: &Caller, name: &TableName) -> Result<Described> {
        let relation = self.find(caller, name).await?;
        let kind = relation.kind();
        let described = match relation {
            Relation::Table(table) => {
                let snapshot = self.delta.snapshot(&table.location, table.version).await?;
                let location = self.bucket.public_url(&table.location.path());
                Described {
                    name: table.name,
                    kind,
                    schema: snapshot.schema().as_ref().clone(),
                    created_at: table.created_at,
                    sql: None,
                    contents: Some(Contents { snapshot, location }),
                }
            }
            Relation::View(view) => Described {
                name: view.name,
                kind,
                schema: serde_json::from_str(&view.columns).map_err(|error| Error::Internal(error.into()))?,
                created_at: view.created_at,
                sql: Some(view.sql),
                contents: None,
            },
        };
        Ok(described)
    }

    /// Deletes a table or view.
    pub(crate) async fn drop(&self, caller: &Caller, name: &TableName) -> Result<()> {
        let kind = self.find(caller, name).await?.kind();
        self.catalog.drop_relation(&caller.project, name, kind).await?;
        Ok(())
    }

    /// The commits of a table, newest first.
    pub(crate) async fn versions(&self, caller: &Caller, name: &TableName, limit: usize) -> Result<Vec<CommitLine>> {
        match self.find(caller, name).await? {
            Relation::Table(table) => Ok(self.delta.history(&table.location, limit).await?),
            Relation::View(_) => Err(Error::InvalidRequest(format!("{name} is a view, and has no versions"))),
        }
    }

    async fn find(&self, caller: &Caller, name: &TableName) -> Result<Relation> {
        let found = self.catalog.relation(&caller.project, name).await?;
        found.ok_or_else(|| Error::NotFound(format!("no table named {name}")))
    }
}
