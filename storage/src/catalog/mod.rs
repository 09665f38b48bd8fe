//! The catalog: everything a name can mean.
//!
//! # Invariants
//! - Tables and views of a dataset share one namespace: a name means one thing or nothing.
//! - A name is given to a table by the [`Effect`] of the query that filled it, in one step with that query's end. Until
//!   then the table is only reserved and nobody can see it; if the query does not end well, nobody ever will.
//! - A dropped table is never undropped and its place in the bucket is never used again: the next table of that name
//!   has the next generation.
//! - The Delta log knows a table's versions; the catalog says which of them a query sees.

use crate::audit::{Actor, Deed};
use crate::bucket::Bucket;
use crate::clock::{Clock, Timestamp};
use crate::ids::{DatasetName, ProjectId, QueryId, TableName, TableUid};
use crate::{Error, Result};

pub(crate) mod db;
mod effect;
mod relation;

pub use effect::Effect;
pub use relation::{Dataset, Relation, RelationKind, TableRecord, TableState, View, ViewRecord};

pub(crate) use effect::apply;

use db::{Db, names, relations};

/// The open catalog. A clone is the same catalog.
#[derive(Clone, Debug)]
pub struct Catalog {
    db: Db,
}

impl Catalog {
    /// Opens the catalog at `url` (`sqlite:///path/to/file` or `postgres://…`), creating what is missing.
    pub async fn open(url: &str, clock: Clock) -> Result<Self> {
        Ok(Self {
            db: Db::open(url, clock).await?,
        })
    }

    /// Waits for what is being read or written and closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Queries and the ledger live in the same database, so that one transaction can change them with the catalog.
    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// Every project, by name.
    pub async fn projects(&self) -> Result<Vec<ProjectId>> {
        names::projects(&mut *self.db.reader().await?).await
    }

    /// Creates an empty dataset.
    pub async fn create_dataset(&self, project: &ProjectId, name: &DatasetName) -> Result<()> {
        let name = name.clone();
        self.apply(project, &Effect::CreateDataset { name }).await
    }

    /// Drops a dataset; with `cascade`, everything in it too.
    pub async fn drop_dataset(&self, project: &ProjectId, name: &DatasetName, cascade: bool) -> Result<()> {
        let name = name.clone();
        self.apply(project, &Effect::DropDataset { name, cascade }).await
    }

    /// Does by itself what is otherwise the end of a query.
    async fn apply(&self, project: &ProjectId, effect: &Effect) -> Result<()> {
        let mut tx = self.db.begin().await?;
        effect::apply(&mut tx, project, effect, self.db.now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Does what is otherwise the end of a query, for somebody, and writes it down.
    pub async fn act(&self, project: &ProjectId, effect: &Effect, by: &Actor) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        effect::apply(&mut tx, project, effect, now).await?;
        for (act, object) in effect.deeds() {
            db::audit::insert(&mut tx, project, &Deed::done(by, act, object), now).await?;
        }
        tx.commit().await
    }

    /// The datasets of a project, by name.
    pub async fn datasets(&self, project: &ProjectId) -> Result<Vec<Dataset>> {
        names::datasets(&mut *self.db.reader().await?, project).await
    }

    /// Makes room for a table that the query `by` will fill and then publish under `name`.
    ///
    /// Several queries may have reserved one name; the first to publish has it.
    pub async fn reserve_table(&self, project: &ProjectId, name: &TableName, by: &QueryId) -> Result<TableRecord> {
        let mut tx = self.db.begin().await?;
        lock_dataset(&mut tx, project, name.dataset()).await?;
        if let Some(relation) = relations::live(&mut tx, project, name).await? {
            return Err(taken(&relation));
        }
        let table = self.reserve(&mut tx, project, name, by).await?;
        tx.commit().await?;
        Ok(table)
    }

    /// Makes room for a table that will replace the live table `name`, if there is one then.
    pub async fn reserve_replacement(
        &self,
        project: &ProjectId,
        name: &TableName,
        by: &QueryId,
    ) -> Result<TableRecord> {
        let mut tx = self.db.begin().await?;
        lock_dataset(&mut tx, project, name.dataset()).await?;
        if let Some(relation @ Relation::View(_)) = relations::live(&mut tx, project, name).await? {
            return Err(taken(&relation));
        }
        let table = self.reserve(&mut tx, project, name, by).await?;
        tx.commit().await?;
        Ok(table)
    }

    async fn reserve(
        &self,
        tx: &mut db::Transaction,
        project: &ProjectId,
        name: &TableName,
        by: &QueryId,
    ) -> Result<TableRecord> {
        let now = self.db.now();
        let generation = relations::next_generation(tx, project, name).await?;
        let table = TableRecord {
            uid: TableUid::new(now),
            project: project.clone(),
            name: name.clone(),
            generation,
            location: Bucket::table_path(project, name, generation),
            version: 0,
            schema: String::new(),
            created_at: now,
            state: TableState::Creating,
        };
        relations::insert_table(tx, &table, by).await?;
        Ok(table)
    }

    /// Gives `view` a name; with `or_replace`, instead of the view that has it.
    pub async fn create_view(
        &self,
        project: &ProjectId,
        name: &TableName,
        view: &View,
        or_replace: bool,
    ) -> Result<()> {
        let (name, view) = (name.clone(), view.clone());
        let effect = Effect::CreateView { name, view, or_replace };
        self.apply(project, &effect).await
    }

    /// Takes the name from a table or view. A table's files stay until upkeep removes them.
    pub async fn drop_relation(&self, project: &ProjectId, name: &TableName, kind: RelationKind) -> Result<()> {
        let name = name.clone();
        self.apply(project, &Effect::Drop { name, kind }).await
    }

    /// What one name means.
    pub async fn relation(&self, project: &ProjectId, name: &TableName) -> Result<Option<Relation>> {
        relations::live(&mut *self.db.reader().await?, project, name).await
    }

    /// Everything in a dataset, or in a project, by name.
    pub async fn relations(&self, project: &ProjectId, dataset: Option<&DatasetName>) -> Result<Vec<Relation>> {
        relations::all(&mut *self.db.reader().await?, project, dataset).await
    }

    /// What these names mean, all at one instant, in the order of the question.
    pub async fn resolve(&self, project: &ProjectId, wanted: &[TableName]) -> Result<Vec<Option<Relation>>> {
        let found = relations::named(&mut *self.db.reader().await?, project, wanted).await?;
        let meaning = |name| found.iter().find(|relation| relation.name() == name).cloned();
        Ok(wanted.iter().map(meaning).collect())
    }

    /// Tables whose files nobody needs since before `older_than`: deleted ones, and reserved ones whose query is over.
    pub async fn garbage(&self, older_than: Timestamp) -> Result<Vec<TableRecord>> {
        relations::garbage(&mut *self.db.reader().await?, older_than).await
    }

    /// Remembers that a table's files are gone. Its row stays, so that its generation is not used again.
    pub async fn forget_table(&self, uid: &TableUid) -> Result<()> {
        if relations::purge_table(&mut *self.db.writer().await?, uid, self.db.now()).await? {
            Ok(())
        } else {
            Err(Error::Conflict(format!("table {uid} is in use")))
        }
    }
}

/// Nobody else changes the names below `dataset` until the transaction ends.
async fn lock_dataset(tx: &mut db::Transaction, project: &ProjectId, dataset: &DatasetName) -> Result<()> {
    if names::lock_dataset(tx, project, dataset).await? {
        Ok(())
    } else {
        Err(Error::NotFound(format!("no dataset named {dataset}")))
    }
}

fn taken(by: &Relation) -> Error {
    Error::AlreadyExists(format!("{} {} already exists", by.kind(), by.name()))
}

#[cfg(test)]
mod tests;
