//! A staged upload, read as rows with the columns of the table it goes to.
//!
//! Columns are matched by name when the file has names, by place when it has none. A column that the table lacks is an
//! error; a column that the file lacks is NULL.

mod bytes;
mod csv;
mod faults;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::tables::stored_schema;

use self::csv::Dialect;
use self::faults::Faults;
use self::upload::Upload;
use super::head::Stop;
use crate::session::declared_columns;
use crate::sql::suggest::nearest;
use crate::task::{Action, LoadFormat, Task};
use crate::{Code, Error, SqlError};

/// Rows of a text file that are read to guess its columns. A later row that does not fit is an error that names it.
const ROWS_TO_GUESS_FROM: usize = 100_000;

/// Where an upload waits.
#[derive(Clone, Debug)]
struct Staged {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// The plan that reads the upload of `task`.
pub(super) async fn plan(state: &SessionState, task: &Task) -> Result<LogicalPlan, Stop> {
    let Action::Load {
        staged,
        format,
        declared,
        schema,
        ..
    } = &task.action
    else {
        return Err(Stop::Failed(Error::Internal("the task is not a load".into())));
    };
    let wanted = wanted_columns(state, declared.as_deref(), schema.as_deref()).await?;
    let store = state
        .runtime_env()
        .object_store_registry
        .get_store(&Bucket::root_url())?;
    let staged = Staged {
        store,
        path: Path::from(staged.as_str()),
    };
    let bytes = staged
        .store
        .head(&staged.path)
        .await
        .map_err(DataFusionError::from)?
        .size;
    if bytes == 0 && !(wanted.is_some() && may_be_empty(format)) {
        return Err(empty());
    }

    let table = match format {
        LoadFormat::Csv {
            header,
            delimiter,
            null,
        } => {
            let dialect = Dialect::new(*header, *delimiter, null.as_deref())?;
            csv_table(staged, dialect, format, wanted.as_ref()).await?
        }
        LoadFormat::Json => read_by_engine(state, staged, format, json(wanted.as_ref()), wanted.as_ref()).await?,
        LoadFormat::Parquet => {
            let reader = Arc::new(ParquetFormat::default());
            read_by_engine(state, staged, format, reader, wanted.as_ref()).await?
        }
        LoadFormat::Arrow => read_by_engine(state, staged, format, Arc::new(ArrowFormat), wanted.as_ref()).await?,
    };

    let scan = LogicalPlanBuilder::scan("upload", provider_as_source(table), None)?;
    match wanted {
        None => Ok(scan.build()?),
        Some(wanted) => {
            let present = Arc::clone(scan.schema().inner());
            Ok(scan.project(assignments(&wanted, &present)?)?.build()?)
        }
    }
}

/// No rows are rows, where the format has nothing to say besides them.
fn may_be_empty(format: &LoadFormat) -> bool {
    matches!(format, LoadFormat::Json | LoadFormat::Csv { header: false, .. })
}

fn empty() -> Stop {
    SqlError::new(Code::TypeMismatch, "the file is empty, and nothing tells its columns").into()
}

fn json(wanted: Option<&SchemaRef>) -> Arc<dyn FileFormat> {
    let rows = if wanted.is_some() { 1 } else { ROWS_TO_GUESS_FROM };
    Arc::new(JsonFormat::default().with_schema_infer_max_rec(rows))
}

async fn csv_table(
    staged: Staged,
    dialect: Dialect,
    format: &LoadFormat,
    wanted: Option<&SchemaRef>,
) -> Result<Arc<dyn TableProvider>, Stop> {
    let rows_to_guess_from = if wanted.is_some() { 0 } else { ROWS_TO_GUESS_FROM };
    let found = csv::columns(&staged, &dialect, rows_to_guess_from).await?;
    if found.fields().is_empty() && !(wanted.is_some() && may_be_empty(format)) {
        return Err(empty());
    }
    let in_file = columns_in_file(format, &found, wanted)?;
    Ok(csv::table(staged, dialect, in_file)?)
}

/// A file in a format that the engine knows.
async fn read_by_engine(
    state: &SessionState,
    staged: Staged,
    format: &LoadFormat,
    reader: Arc<dyn FileFormat>,
    wanted: Option<&SchemaRef>,
) -> Result<Arc<dyn TableProvider>, Stop> {
    let location = ListingTableUrl::parse(format!("{}/{}", Bucket::ROOT, staged.path))?;
    let options = ListingOptions::new(reader).with_file_extension("");
    let mut faults = Faults::new(staged, format.clone());
    let found = match options.infer_schema(state, &location).await {
        Ok(found) => found,
        Err(error) => return Err(faults.explain(error).await.into()),
    };
    let columns = columns_in_file(format, &found, wanted)?;
    let read_as = match format {
        LoadFormat::Json => {
            faults = faults.with_columns(&columns);
            let fields = columns.fields().iter().map(|field| bytes::field_as_text(field));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        }
        _ => Arc::clone(&columns),
    };

    let config = ListingTableConfig::new(location)
        .with_listing_options(options)
        .with_schema(read_as);
    let table = Arc::new(ListingTable::try_new(config)?);
    Ok(Arc::new(Upload::new(table, columns, faults)))
}

/// The table's columns, or those the caller declared, or nothing: then the file decides.
async fn wanted_columns(
    state: &SessionState,
    declared: Option<&str>,
    table: Option<&str>,
) -> Result<Option<SchemaRef>, Stop> {
    match (table, declared) {
        (Some(schema), _) => {
            let schema: Schema = serde_json::from_str(schema).map_err(|error| Error::Internal(error.into()))?;
            Ok(Some(Arc::new(schema)))
        }
        (None, Some(columns)) => {
            let columns = declared_columns(state, columns).await?;
            Ok(Some(stored_schema(&columns)?))
        }
        (None, None) => Ok(None),
    }
}

/// The file's columns in its own order. Text formats take the types that are wanted; the others have types of their own.
fn columns_in_file(format: &LoadFormat, found: &SchemaRef, wanted: Option<&SchemaRef>) -> Result<SchemaRef, Stop> {
    let Some(wanted) = wanted else {
        return Ok(Arc::clone(found));
    };
    match format {
        LoadFormat::Parquet | LoadFormat::Arrow => Ok(Arc::clone(found)),
        LoadFormat::Csv { header: false, .. } => {
            if found.fields().len() > wanted.fields().len() {
                return Err(SqlError::new(
                    Code::TypeMismatch,
                    format!(
                        "the file has {} columns and the table has {}",
                        found.fields().len(),
                        wanted.fields().len()
                    ),
                )
                .into());
            }
            let fields: Vec<Field> = wanted
                .fields()
                .iter()
                .take(found.fields().len())
                .map(|field| field.as_ref().clone().with_nullable(true))
                .collect();
            Ok(Arc::new(Schema::new(fields)))
        }
        LoadFormat::Csv { .. } => {
            let mut fields = Vec::with_capacity(found.fields().len());
            for field in found.fields() {
                fields.push(
                    matching(wanted, field.name())?
                        .clone()
                        .with_name(field.name())
                        .with_nullable(true),
                );
            }
            Ok(Arc::new(Schema::new(fields)))
        }
        LoadFormat::Json => {
            for field in found.fields() {
                matching(wanted, field.name())?;
            }
            let fields: Vec<Field> = wanted
                .fields()
                .iter()
                .map(|field| field.as_ref().clone().with_nullable(true))
                .collect();
            Ok(Arc::new(Schema::new(fields)))
        }
    }
}

fn matching<'a>(wanted: &'a Schema, name: &str) -> Result<&'a Field, Stop> {
    let found = wanted
        .fields()
        .iter()
        .find(|field| field.name().eq_ignore_ascii_case(name));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let hint = nearest(name, wanted.fields().iter().map(|field| field.name().as_str()))
            .map(|near| format!("; did it mean {near}?"))
            .unwrap_or_default();
        SqlError::new(
            Code::UnknownColumn,
            format!("the file has a column {name}, which the table has not{hint}"),
        )
        .into()
    })
}

/// One expression for each wanted column.
fn assignments(wanted: &Schema, present: &Schema) -> Result<Vec<Expr>, Stop> {
    for field in present.fields() {
        matching(wanted, field.name())?;
    }
    let by_name: BTreeMap<String, &str> = present
        .fields()
        .iter()
        .map(|field| (field.name().to_lowercase(), field.name().as_str()))
        .collect();
    Ok(wanted
        .fields()
        .iter()
        .map(|field| match by_name.get(&field.name().to_lowercase()) {
            Some(name) => cast(ident(*name), field.data_type().clone()).alias(field.name()),
            None => cast(lit(ScalarValue::Null), field.data_type().clone()).alias(field.name()),
        })
        .collect())
}
