//! A query's slice of the catalog, seen as the engine's catalog.
//!
//! Only what the statement mentions can be found here, at the one version that the gateway resolved. Names that are only
//! listed (for `information_schema`) have columns and no rows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::information_schema::{
    INFORMATION_SCHEMA, INFORMATION_SCHEMA_TABLES, InformationSchemaProvider,
};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session,
    TableFunction,
};
use datafusion::common::exec_err;
use datafusion::config::ConfigOptions;
use datafusion::datasource::{MemTable, TableProvider, TableType, ViewTable};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use wasmhouse_storage::catalog::{Relation, ViewRecord};
use wasmhouse_storage::ids::{DatasetName, TableName};
use wasmhouse_storage::tables::{ScanLog, Tables};

use crate::session::{Engine, logical_plan};
use crate::sql::blame;
use crate::task::Task;
use crate::{Error, Result, SqlError};

/// Puts the slice of `task` into the session's catalog. What its plans would read is written to `scans`.
pub async fn attach(
    engine: &Engine,
    state: &SessionState,
    task: &Task,
    tables: &Tables,
    scans: &ScanLog,
) -> Result<()> {
    let catalog = Arc::new(MemoryCatalogProvider::new());
    state.catalog_list().register_catalog(
        task.project.as_str().to_owned(),
        Arc::clone(&catalog) as Arc<dyn CatalogProvider>,
    );

    catalog
        .register_schema(INFORMATION_SCHEMA, Arc::new(InformationSchema::new(state, task)?))
        .map_err(defect)?;
    for dataset in datasets(task) {
        catalog
            .register_schema(dataset.as_str(), Arc::new(MemorySchemaProvider::new()))
            .map_err(defect)?;
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
                .provider(&table.keys()?, scans.clone()),
            Relation::View(view) => Arc::new(expand(engine, state, view).await?),
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
        schema.deregister_table(name.table()).map_err(defect)?;
    }
    schema
        .register_table(name.table().to_owned(), provider)
        .map_err(defect)?;
    Ok(())
}

/// A view's query, planned where the view was made.
async fn expand(engine: &Engine, state: &SessionState, view: &ViewRecord) -> Result<ViewTable> {
    let state = engine.session_of_view(state, view)?;
    let plan = logical_plan(&state, &view.sql).await.map_err(|error| {
        let cause = blame::sql_error(&error);
        SqlError::new(
            cause.code,
            format!("the view {} no longer works: {}", view.name, cause.message),
        )
    })?;
    Ok(ViewTable::new(plan, Some(view.sql.clone())))
}

fn defect(error: DataFusionError) -> Error {
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

/// `information_schema`, without what the engine's own would tell of the machine it runs on.
#[derive(Debug)]
struct InformationSchema {
    /// It lies in what it tells about, and must not keep that alive.
    catalogs: Weak<dyn CatalogProviderList>,
    functions: HashMap<String, Arc<TableFunction>>,
    options: Arc<ConfigOptions>,
    /// What only the gateway knows.
    given: HashMap<String, Arc<MemTable>>,
}

impl InformationSchema {
    fn new(state: &SessionState, task: &Task) -> Result<Self> {
        let given = task.given.iter();
        let given = given.map(|given| Ok((given.name.clone(), Arc::new(given.table()?))));
        Ok(Self {
            catalogs: Arc::downgrade(state.catalog_list()),
            functions: state.table_functions().clone(),
            options: Arc::clone(state.config_options()),
            given: given.collect::<Result<_>>()?,
        })
    }

    /// The options of the session. Those of the process, `datafusion.runtime.…`, name its folders and are not among them.
    fn settings(&self) -> Result<MemTable, DataFusionError> {
        let (mut names, mut values, mut descriptions) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.options.entries() {
            let value = match entry.key.as_str() {
                // The engine's own is off, so that this one is found.
                "datafusion.catalog.information_schema" => Some("true".to_owned()),
                _ => entry.value,
            };
            names.push(entry.key);
            values.push(value);
            descriptions.push(entry.description);
        }
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, true),
            Field::new("description", DataType::Utf8, true),
        ]));
        let rows = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(StringArray::from(names)),
                Arc::new(StringArray::from(values)),
                Arc::new(StringArray::from(descriptions)),
            ],
        )?;
        MemTable::try_new(schema, vec![vec![rows]])
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        INFORMATION_SCHEMA_TABLES
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(given) = self.given.get(name) {
            return Ok(Some(Arc::clone(given) as _));
        }
        if name == "df_settings" {
            return Ok(Some(Arc::new(self.settings()?)));
        }
        let Some(catalogs) = self.catalogs.upgrade() else {
            return Ok(None);
        };
        let engine = InformationSchemaProvider::new(catalogs).with_table_functions(self.functions.clone());
        engine.table(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        INFORMATION_SCHEMA_TABLES.contains(&name) || self.given.contains_key(name)
    }
}
