//! A query's slice of the catalog, seen as the engine's catalog.
//!
//! Only what the statement mentions can be found here, at the one version that the gateway resolved. Names that are only
//! listed (for `information_schema`) have columns and no rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, Session};
use datafusion::common::exec_err;
use datafusion::datasource::{TableProvider, TableType, ViewTable};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use wasmhouse_storage::catalog::{Relation, ViewRecord};
use wasmhouse_storage::ids::{DatasetName, TableName};
use wasmhouse_storage::tables::{ScanLog, Tables};

use crate::session::with_default_dataset;
use crate::sql::blame;
use crate::task::Task;
use crate::{Error, Result, SqlError};

/// Puts the slice of `task` into the session's catalog. What its plans would read is written to `scans`.
pub async fn attach(state: &SessionState, task: &Task, tables: &Tables, scans: &ScanLog) -> Result<()> {
    let catalog = Arc::new(MemoryCatalogProvider::new());
    state.catalog_list().register_catalog(
        task.project.as_str().to_owned(),
        Arc::clone(&catalog) as Arc<dyn CatalogProvider>,
    );

    for dataset in datasets(task) {
        catalog
            .register_schema(dataset.as_str(), Arc::new(MemorySchemaProvider::new()))
            .map_err(engine)?;
    }
    for relation in &task.listed {
        register(&catalog, relation.name(), Arc::new(Listed::new(relation)?))?;
    }
    // Views come after what they read, so each finds its names in place.
    for relation in &task.relations {
        let provider: Arc<dyn TableProvider> = match relation {
            Relation::Table(table) => tables
                .snapshot(&table.location, table.version)
                .await?
                .provider(scans.clone()),
            Relation::View(view) => Arc::new(expand(state, view).await?),
        };
        register(&catalog, relation.name(), provider)?;
    }
    Ok(())
}

/// Every dataset that has to exist: those of the project if names are listed, those of the slice always.
fn datasets(task: &Task) -> BTreeSet<DatasetName> {
    let mentioned = task
        .relations
        .iter()
        .chain(&task.listed)
        .map(|relation| relation.name().dataset().clone());
    task.datasets
        .iter()
        .cloned()
        .chain(mentioned)
        .chain(task.dataset.clone())
        .collect()
}

fn register(catalog: &MemoryCatalogProvider, name: &TableName, provider: Arc<dyn TableProvider>) -> Result<()> {
    let schema = catalog
        .schema(name.dataset().as_str())
        .expect("every dataset of the slice was registered");
    if schema.table_exist(name.table()) {
        schema.deregister_table(name.table()).map_err(engine)?;
    }
    schema
        .register_table(name.table().to_owned(), provider)
        .map_err(engine)?;
    Ok(())
}

/// A view's query, planned where the view was made.
async fn expand(state: &SessionState, view: &ViewRecord) -> Result<ViewTable> {
    let state = with_default_dataset(state, view.default_dataset.as_ref());
    let plan = state.create_logical_plan(&view.sql).await.map_err(|error| {
        let cause = blame::sql_error(&error);
        SqlError::new(
            cause.code,
            format!("the view {} no longer works: {}", view.name, cause.message),
        )
    })?;
    Ok(ViewTable::new(plan, Some(view.sql.clone())))
}

fn engine(error: DataFusionError) -> Error {
    Error::Internal(error.into())
}

/// A name with columns and no rows.
#[derive(Debug)]
struct Listed {
    schema: SchemaRef,
    kind: TableType,
    definition: Option<String>,
}

impl Listed {
    fn new(relation: &Relation) -> Result<Self> {
        let (columns, kind, definition) = match relation {
            Relation::Table(table) => (&table.schema, TableType::Base, None),
            Relation::View(view) => (&view.columns, TableType::View, Some(view.sql.clone())),
        };
        let schema: Schema = serde_json::from_str(columns).map_err(|error| Error::Internal(error.into()))?;
        Ok(Self {
            schema: Arc::new(schema),
            kind,
            definition,
        })
    }
}

#[async_trait]
impl TableProvider for Listed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        // The gateway puts every table that is read into the slice itself.
        exec_err!("a listed name was read")
    }
}
