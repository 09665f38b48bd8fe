//! Datasets and tables, as names and sizes. Rows are a matter of [`crate::queries`].

use std::sync::Arc;

use arrow::datatypes::Schema;
use wasmhouse_compute::sql::suggest::nearest;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::{Catalog, Dataset, Effect, Relation, RelationKind};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{DatasetName, TableName};
use wasmhouse_storage::tables::{CommitLine, Keys, TableSnapshot, Tables as DeltaTables};

use crate::access::{Act, Caller};
use crate::callers::Callers;
use crate::error::{Error, Result};
use crate::sight::Sight;

/// Datasets, tables and views of a project. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tables {
    catalog: Catalog,
    callers: Callers,
    delta: DeltaTables,
    bucket: Bucket,
}

/// A dataset, and how much is in it.
pub(crate) struct DescribedDataset {
    pub(crate) name: DatasetName,
    pub(crate) created_at: Timestamp,
    /// How many tables it has.
    pub(crate) tables: u64,
    /// How many views it has.
    pub(crate) views: u64,
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
    /// What was promised of its rows.
    pub(crate) keys: Keys,
}

impl Tables {
    pub(crate) fn new(catalog: Catalog, callers: Callers, delta: DeltaTables, bucket: Bucket) -> Self {
        Self {
            catalog,
            callers,
            delta,
            bucket,
        }
    }

    /// The project's datasets, by name.
    pub(crate) async fn datasets(&self, caller: &Caller) -> Result<Vec<Dataset>> {
        self.sight(caller).datasets().await
    }

    /// Creates a dataset.
    pub(crate) async fn create_dataset(&self, caller: &Caller, name: &DatasetName) -> Result<()> {
        caller.may(Act::CreateDataset)?;
        let effect = Effect::CreateDataset { name: name.clone() };
        Ok(self.catalog.act(&caller.project, &effect, &caller.actor).await?)
    }

    /// Deletes a dataset, with all that is in it if `cascade`.
    pub(crate) async fn drop_dataset(&self, caller: &Caller, name: &DatasetName, cascade: bool) -> Result<()> {
        self.find_dataset(caller, name).await?;
        caller.may(Act::DropDataset(name))?;
        let name = name.clone();
        let effect = Effect::DropDataset { name, cascade };
        let dropped = self.catalog.act(&caller.project, &effect, &caller.actor).await;
        // Roles in it went with it.
        self.callers.forget();
        Ok(dropped?)
    }

    /// One dataset, and how much is in it.
    pub(crate) async fn describe_dataset(&self, caller: &Caller, name: &DatasetName) -> Result<DescribedDataset> {
        let Dataset { name, created_at } = self.find_dataset(caller, name).await?;
        let (mut tables, mut views) = (0, 0);
        for relation in self.sight(caller).relations(Some(&name)).await? {
            match relation.kind() {
                RelationKind::Table => tables += 1,
                RelationKind::View => views += 1,
            }
        }
        Ok(DescribedDataset {
            name,
            created_at,
            tables,
            views,
        })
    }

    /// Fails if there is no such dataset, or the caller may not change it.
    pub(crate) async fn must_take_rows(&self, caller: &Caller, name: &DatasetName) -> Result<()> {
        self.find_dataset(caller, name).await?;
        caller.may(Act::Run)?;
        caller.may(Act::Write(name))
    }

    fn sight<'a>(&'a self, caller: &'a Caller) -> Sight<'a> {
        Sight::new(&self.catalog, caller)
    }

    /// Everything in a dataset, by name.
    pub(crate) async fn list(&self, caller: &Caller, dataset: &DatasetName) -> Result<Vec<Listed>> {
        self.find_dataset(caller, dataset).await?;
        let mut listed = Vec::new();
        for relation in self.sight(caller).relations(Some(dataset)).await? {
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
                let keys = table.keys()?;
                Described {
                    name: table.name,
                    kind,
                    schema: snapshot.schema().as_ref().clone(),
                    created_at: table.created_at,
                    sql: None,
                    contents: Some(Contents {
                        snapshot,
                        location,
                        keys,
                    }),
                }
            }
            Relation::View(view) => Described {
                name: view.name,
                kind,
                schema: serde_json::from_str(&view.columns).map_err(|error| Error::Internal(error.into()))?,
                created_at: view.created_at,
                sql: Some(view.sql).filter(|sql| !sql.is_empty()),
                contents: None,
            },
        };
        Ok(described)
    }

    /// Deletes a table or view.
    pub(crate) async fn drop(&self, caller: &Caller, name: &TableName) -> Result<()> {
        let kind = self.find(caller, name).await?.kind();
        caller.may(Act::Write(name.dataset()))?;
        let name = name.clone();
        let effect = Effect::Drop { name, kind };
        Ok(self.catalog.act(&caller.project, &effect, &caller.actor).await?)
    }

    /// The commits of a table, newest first.
    pub(crate) async fn versions(&self, caller: &Caller, name: &TableName, limit: usize) -> Result<Vec<CommitLine>> {
        match self.find(caller, name).await? {
            Relation::Table(table) => Ok(self.delta.history(&table.location, limit).await?),
            Relation::View(_) => Err(Error::InvalidRequest(format!("{name} is a view, and has no versions"))),
        }
    }

    async fn find(&self, caller: &Caller, name: &TableName) -> Result<Relation> {
        let sight = self.sight(caller);
        if let Some(found) = sight.relation(name).await? {
            return Ok(found);
        }
        let known = sight.relations(None).await?;
        let known: Vec<String> = known.iter().map(|relation| relation.name().to_string()).collect();
        let hint = did_you_mean(&name.to_string(), known.iter().map(String::as_str));
        Err(Error::NotFound(format!(
            "no table named {name}{}",
            hint.unwrap_or_default()
        )))
    }

    async fn find_dataset(&self, caller: &Caller, name: &DatasetName) -> Result<Dataset> {
        let mut known = self.datasets(caller).await?;
        if let Some(at) = known.iter().position(|dataset| dataset.name == *name) {
            return Ok(known.swap_remove(at));
        }
        let hint = did_you_mean(name.as_str(), known.iter().map(|dataset| dataset.name.as_str()));
        let hint = hint.unwrap_or_else(|| "; create it first".to_owned());
        Err(Error::NotFound(format!("no dataset named {name}{hint}")))
    }
}

/// The end of a sentence about a name that means nothing, if another one was probably meant.
fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|near| format!("; did you mean {near}?"))
}
