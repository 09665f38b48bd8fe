//! The one builder of the engine's session for one query, the same on every worker.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::config::{ConfigOptions, Dialect};
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion_spark::SessionStateBuilderSpark;
use serde::{Deserialize, Serialize};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::ViewRecord;
use wasmhouse_storage::ids::{DatasetName, ProjectId};
use wasmhouse_storage::tables::{Keys, footers};

use crate::dependencies::Doubtful;
use crate::sql::{Limits, blame, dialect, parse};
use crate::{Code, SqlError, dependencies, membership};

/// What a query may use of the machine it runs on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resources {
    /// Memory that operators may hold before they spill.
    pub memory_bytes: u64,
    /// Disk they may spill to.
    pub spill_bytes: u64,
    /// Where they spill to.
    pub spill_dir: std::path::PathBuf,
    /// Threads, and so partitions of a plan.
    pub threads: usize,
}

/// Memory for footers of files that were read before.
const FOOTERS_BYTES: usize = 256 << 20;

/// The dataset of a session that was given none. No dataset can have this name, so a name of one part finds nothing.
const NOWHERE: &str = "no dataset";

/// What a process keeps between the queries of one project: footers of files it has read, the store, every function.
pub struct Engine {
    /// A session of nobody, with all functions and rules; making them costs more than a small query.
    blank: SessionState,
    /// The same with the functions of Apache Spark, which replace others of their names. Made when it is first asked for.
    spark: OnceLock<SessionState>,
    threads: usize,
    memory_bytes: u64,
}

impl Engine {
    /// An engine that reads from `bucket` and uses `resources`.
    pub fn new(bucket: &Bucket, resources: &Resources) -> Result<Self, DataFusionError> {
        Ok(Self {
            blank: blank(runtime(bucket, resources)?, Dialect::Generic)?,
            spark: OnceLock::new(),
            threads: resources.threads,
            memory_bytes: resources.memory_bytes,
        })
    }

    /// What the sessions of this process share.
    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        self.blank.runtime_env()
    }

    /// The session of one query.
    pub fn session(
        &self,
        project: &ProjectId,
        dataset: Option<&DatasetName>,
        settings: &BTreeMap<String, String>,
        now_us: i64,
    ) -> Result<SessionState, SqlError> {
        let default_dataset = dataset.map_or(NOWHERE, DatasetName::as_str);
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(project.as_str(), default_dataset)
            // The engine's own would show the folders of this process; the view of the catalog brings another.
            .with_information_schema(false);
        self.session_with(config, settings, now_us)
    }

    /// The session of a part of a query, on whatever worker: its plan is made, and names functions.
    pub(crate) fn session_of_task(
        &self,
        config: SessionConfig,
        settings: &BTreeMap<String, String>,
        now_us: i64,
    ) -> Result<SessionState, SqlError> {
        // The size of batches may have been chosen for what travels between workers.
        let batch_size = config.options().execution.batch_size;
        let mut state = self.session_with(config, settings, now_us)?;
        state.config_mut().options_mut().execution.batch_size = batch_size;
        Ok(state)
    }

    fn session_with(
        &self,
        mut config: SessionConfig,
        settings: &BTreeMap<String, String>,
        now_us: i64,
    ) -> Result<SessionState, SqlError> {
        config = config
            .with_target_partitions(self.threads)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.collect_spans = true;
        options.execution.collect_statistics = true;
        // With one task per partition this option reads every row once per task; one session, one rule for all.
        options.execution.enable_file_stream_work_stealing = false;
        apply(settings, options)?;
        options.execution.sort_spill_reservation_bytes =
            sort_reservation(self.memory_bytes, options.execution.target_partitions);

        // A builder would register every function again, which costs more than a small query.
        let mut state = self.blank_of(config.options().sql_parser.dialect)?.clone();
        *state.config_mut() = config;
        state.register_catalog_list(Arc::new(MemoryCatalogProviderList::new()));
        if !settings.is_empty() {
            update_functions(&mut state)?;
        }
        state.mark_start_execution();
        state.execution_props_mut().query_execution_start_time = chrono::DateTime::from_timestamp_micros(now_us);
        Ok(state)
    }

    /// The session of `state` as the query of a view sees it: the names, the dialect and the functions are those that it was
    /// written with.
    pub(crate) fn session_of_view(&self, state: &SessionState, view: &ViewRecord) -> Result<SessionState, SqlError> {
        let mut config = state.config().clone();
        let asked = config.options().sql_parser.dialect;
        let written = dialect::named(&view.dialect)?;
        config.options_mut().sql_parser.dialect = written;
        config.options_mut().catalog.default_schema = view
            .default_dataset
            .as_ref()
            .map_or(NOWHERE, DatasetName::as_str)
            .to_owned();
        if has_spark(asked) == has_spark(written) {
            let mut state = state.clone();
            *state.config_mut() = config;
            return Ok(state);
        }

        let mut other = self.blank_of(written)?.clone();
        *other.config_mut() = config;
        other.register_catalog_list(Arc::clone(state.catalog_list()));
        update_functions(&mut other)?;
        other.mark_start_execution();
        other.execution_props_mut().query_execution_start_time = state.execution_props().query_execution_start_time;
        Ok(other)
    }

    fn blank_of(&self, dialect: Dialect) -> Result<&SessionState, SqlError> {
        if !has_spark(dialect) {
            return Ok(&self.blank);
        }
        if let Some(spark) = self.spark.get() {
            return Ok(spark);
        }
        let spark = blank(Arc::clone(self.blank.runtime_env()), dialect).map_err(|error| blame::sql_error(&error))?;
        Ok(self.spark.get_or_init(|| spark))
    }
}

/// Whether a statement of this dialect has the functions of Apache Spark.
fn has_spark(dialect: Dialect) -> bool {
    dialect == Dialect::Spark
}

/// A session of nobody, with the functions of `dialect`.
fn blank(runtime: Arc<RuntimeEnv>, dialect: Dialect) -> Result<SessionState, DataFusionError> {
    let builder = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_create_default_catalog_and_schema(false))
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(membership::rules(dependencies::rules(Optimizer::new().rules)));
    let builder = if has_spark(dialect) {
        builder.with_spark_features()
    } else {
        builder
    };
    let mut blank = builder.build();
    datafusion_functions_json::register_all(&mut blank)?;
    blank.register_relation_planner(Arc::new(Doubtful))?;
    Ok(blank)
}

/// A sort that has filled its share of the memory needs some more to bring it into order before it can spill. With the
/// engine's fixed 10 MB it fails instead, for any memory from 128 MiB up; with an eighth for all partitions it spills.
fn sort_reservation(memory_bytes: u64, partitions: usize) -> usize {
    const AT_LEAST: u64 = 10 << 20;
    let share = memory_bytes / (8 * partitions.max(1) as u64);
    share.max(AT_LEAST.min(memory_bytes / 4)) as usize
}

fn runtime(bucket: &Bucket, resources: &Resources) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let consumers_named = std::num::NonZeroUsize::new(3).expect("three is not zero");
    let pool = TrackConsumersPool::new(FairSpillPool::new(resources.memory_bytes as usize), consumers_named);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![resources.spill_dir.clone()]))
        .with_max_temp_directory_size(resources.spill_bytes);
    let footers = CacheManagerConfig::default()
        .with_file_metadata_cache(Some(footers(bucket, FOOTERS_BYTES)))
        .with_metadata_cache_limit(FOOTERS_BYTES);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_cache_manager(footers)
        // A staged upload is read once; a cached listing of it would outlive it.
        .with_object_list_cache_limit(0)
        .build_arc()?;
    runtime.register_object_store(&Bucket::root_url(), bucket.store());
    Ok(runtime)
}

/// Options that a tenant may set for one query: the dialect, how to plan and display; never what the process may use.
fn apply(settings: &BTreeMap<String, String>, options: &mut ConfigOptions) -> Result<(), SqlError> {
    const OPEN: [&str; 6] = [
        "datafusion.optimizer.",
        "datafusion.spark.",
        "datafusion.sql_parser.",
        "datafusion.explain.",
        "datafusion.format.",
        "datafusion.execution.",
    ];
    // Planning cost and file formats are the house's to decide. How the text is read was decided before, by the gateway, and
    // the worker must not understand it otherwise.
    const CLOSED: [&str; 8] = [
        "datafusion.sql_parser.recursion_limit",
        "datafusion.sql_parser.enable_ident_normalization",
        "datafusion.execution.parquet.",
        "datafusion.execution.enable_file_stream_work_stealing",
        "datafusion.execution.meta_fetch_concurrency",
        "datafusion.execution.planning_concurrency",
        "datafusion.execution.spill_compression",
        "datafusion.execution.sort_spill_reservation_bytes",
    ];
    // Of the formats, what a scan leaves out and when; never what it makes of a file.
    const SCANS: [&str; 6] = [
        "datafusion.execution.parquet.bloom_filter_on_read",
        "datafusion.execution.parquet.enable_page_index",
        "datafusion.execution.parquet.force_filter_selections",
        "datafusion.execution.parquet.pruning",
        "datafusion.execution.parquet.pushdown_filters",
        "datafusion.execution.parquet.reorder_filters",
    ];
    // The engine takes 0 partitions for "as many as there are".
    const COUNTED: [(&str, RangeInclusive<usize>); 3] = [
        ("datafusion.execution.target_partitions", 1..=65_536),
        ("datafusion.execution.batch_size", 1..=65_536),
        ("datafusion.optimizer.max_passes", 0..=16),
    ];
    let settings_known: BTreeSet<String> = match settings.is_empty() {
        true => BTreeSet::new(),
        false => options.entries().into_iter().map(|entry| entry.key).collect(),
    };
    options.sql_parser.dialect = dialect::dialect_of(settings)?;
    for (name, value) in settings {
        let name = name.to_lowercase();
        if name == dialect::SETTING {
            continue;
        }
        let is_open = OPEN.iter().any(|prefix| name.starts_with(prefix));
        let is_closed = CLOSED.iter().any(|prefix| name.starts_with(prefix)) && !SCANS.contains(&name.as_str());
        if !is_open || is_closed {
            return Err(SqlError::new(
                Code::NotAllowed,
                format!("the setting {name} cannot be changed by a query"),
            ));
        }
        // The engine takes what is behind the name of an option for a part of it, and passes it over.
        if !settings_known.contains(&name) {
            let message =
                format!("there is no setting {name}; `select name from information_schema.df_settings` lists them");
            return Err(SqlError::new(Code::InvalidSql, message));
        }
        let bounds = COUNTED.iter().find(|(counted, _)| *counted == name);
        if let Some((_, bounds)) = bounds
            && value.parse().is_ok_and(|count| !bounds.contains(&count))
        {
            let message = format!(
                "the setting {name} cannot be changed by a query to {value}; it may be from {} to {}",
                bounds.start(),
                bounds.end()
            );
            return Err(SqlError::new(Code::NotAllowed, message));
        }
        options.set(&name, value).map_err(|_| {
            let message = format!("the setting {name} cannot be {value:?}; `show {name}` tells a value that it can be");
            SqlError::new(Code::InvalidSql, message)
        })?;
    }
    Ok(())
}

/// The plan of one statement, read as the gateway reads it.
pub(crate) async fn logical_plan(state: &SessionState, sql: &str) -> Result<LogicalPlan, DataFusionError> {
    dependencies::logical_plan(state, statement(state, sql)?).await
}

/// The plan that is run.
pub(crate) async fn physical_plan(
    state: &SessionState,
    logical: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let optimized = dependencies::transparent(state.optimize(logical)?)?;
    let planned = state.query_planner().create_physical_plan(&optimized, state).await;
    match planned {
        // The engine's rule that sorts in parallel moves some sorts of a window to where a join loses their order, which its
        // own check then refuses.
        Err(error) if blame::is_refused_by_engine(&error) => {
            let mut state = state.clone();
            state.config_mut().options_mut().optimizer.repartition_sorts = false;
            state.query_planner().create_physical_plan(&optimized, &state).await
        }
        planned => planned,
    }
}

/// The tree of one statement, read as the gateway reads it.
pub(crate) fn statement(state: &SessionState, sql: &str) -> Result<Statement, SqlError> {
    parse::read(sql, state.config().options().sql_parser.dialect, &Limits::default())
}

/// Columns written as SQL declares them: `id bigint not null, name varchar`, and the keys among them.
pub(crate) async fn declared_columns(state: &SessionState, text: &str) -> Result<SchemaRef, SqlError> {
    let unreadable = |error: DataFusionError| {
        let why = blame::sql_error(&error).message;
        SqlError::new(
            Code::InvalidSql,
            format!("the columns `{text}` cannot be read: {why}; write `id bigint, name varchar`"),
        )
    };
    let plan = logical_plan(state, &format!("create table declared ({text})"))
        .await
        .map_err(unreadable)?;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            let columns = with_microseconds(create.input.schema().as_arrow());
            Ok(Keys::of_constraints(&create.constraints, &columns).kept_with(columns))
        }
        _ => Err(SqlError::new(
            Code::InvalidSql,
            format!("`{text}` is not a list of columns"),
        )),
    }
}

/// The type that SQL writes as `text`.
pub(crate) async fn sql_type(state: &SessionState, text: &str) -> Result<DataType, SqlError> {
    let not_a_type = || SqlError::new(Code::TypeMismatch, format!("{text} is not a type"));
    let columns = declared_columns(state, &format!("value {text}"))
        .await
        .map_err(|_| not_a_type())?;
    match columns.fields().as_ref() {
        [field] => Ok(field.data_type().clone()),
        _ => Err(not_a_type()),
    }
}

/// Microseconds, as tables hold them, for every timestamp that was declared without saying otherwise.
pub fn with_microseconds(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => field
                .as_ref()
                .clone()
                .with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
            _ => field.as_ref().clone(),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Some functions, `now` for example, remember the options they were made for.
fn update_functions(state: &mut SessionState) -> Result<(), SqlError> {
    let options = Arc::clone(state.config().options());
    let known: Vec<_> = state.scalar_functions().values().cloned().collect();
    for function in known {
        if let Some(updated) = function.inner().with_updated_config(&options) {
            state
                .register_udf(Arc::new(updated))
                .map_err(|error| blame::sql_error(&error))?;
        }
    }
    Ok(())
}
