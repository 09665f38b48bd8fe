//! The catalog as one caller sees it.
//!
//! # Invariants
//! - What he may not read is not there: it is not found, listed, counted or suggested.
//! - Nothing that answers a caller reads names from the catalog but through here.

use wasmhouse_storage::catalog::{Catalog, Dataset, Relation, ViewRecord};
use wasmhouse_storage::ids::{DatasetName, TableName};

use crate::access::{Act, Caller};
use crate::error::Result;

/// The catalog, for one caller.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    catalog: &'a Catalog,
    caller: &'a Caller,
}

impl<'a> Sight<'a> {
    pub(crate) fn new(catalog: &'a Catalog, caller: &'a Caller) -> Self {
        Self { catalog, caller }
    }

    /// Who looks.
    pub(crate) fn caller(&self) -> &'a Caller {
        self.caller
    }

    /// The datasets of his project, by name.
    pub(crate) async fn datasets(&self) -> Result<Vec<Dataset>> {
        let mut datasets = self.catalog.datasets(&self.caller.project).await?;
        datasets.retain(|dataset| self.reads(&dataset.name));
        Ok(datasets)
    }

    /// Whether there is such a dataset.
    pub(crate) async fn has_dataset(&self, name: &DatasetName) -> Result<bool> {
        let datasets = self.datasets().await?;
        Ok(datasets.iter().any(|dataset| dataset.name == *name))
    }

    /// Everything in a dataset, or in the project, by name.
    pub(crate) async fn relations(&self, dataset: Option<&DatasetName>) -> Result<Vec<Relation>> {
        let mut relations = self.catalog.relations(&self.caller.project, dataset).await?;
        relations.retain(|relation| self.reads(relation.name().dataset()));
        Ok(relations.into_iter().map(|relation| self.seen(relation)).collect())
    }

    /// What one name means.
    pub(crate) async fn relation(&self, name: &TableName) -> Result<Option<Relation>> {
        if !self.reads(name.dataset()) {
            return Ok(None);
        }
        let relation = self.catalog.relation(&self.caller.project, name).await?;
        Ok(relation.map(|relation| self.seen(relation)))
    }

    /// What these names mean, all at one instant, in the order of the question.
    pub(crate) async fn resolve(&self, wanted: &[TableName]) -> Result<Vec<Option<Relation>>> {
        let mut found = self.catalog.resolve(&self.caller.project, wanted).await?;
        for relation in &mut found {
            relation.take_if(|relation| !self.reads(relation.name().dataset()));
        }
        Ok(found)
    }

    fn reads(&self, dataset: &DatasetName) -> bool {
        self.caller.can(Act::Read(dataset))
    }

    /// The text of a view names what it reads, so only who reads all of that sees it.
    fn seen(&self, relation: Relation) -> Relation {
        match relation {
            Relation::View(view) if view.depends.iter().any(|inner| !self.reads(inner.dataset())) => {
                Relation::View(ViewRecord {
                    sql: String::new(),
                    depends: Vec::new(),
                    ..view
                })
            }
            other => other,
        }
    }
}
