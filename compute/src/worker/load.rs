//! A staged upload, read as rows with the columns of the table it goes to.
//!
//! Columns are matched by name when the file has names, by place when it has none. A column that the table lacks is an
//! error; a column that the file lacks is NULL.

mod arrow;
mod bytes;
mod codec;
mod csv;
mod declared;
mod faults;
mod json;
mod parquet;
mod parts;
mod pieces;
mod scan;
mod texts;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::tables::Keys;

pub(super) use self::codec::LoadCodec;
use self::csv::Dialect;
use self::parts::Part;
use self::scan::{Spelling, TextFile, TextTable};
pub(super) use self::scan::{desired_tasks, scaled_up};
use self::upload::Upload;
use super::head::Stop;
use super::write::exactly;
use crate::sql::suggest::nearest;
use crate::task::{Action, LoadFormat, Task};
use crate::{Code, Error, SqlError};

/// Rows of a text file that are read to guess its columns. A later row that does not fit is an error that names it.
const ROWS_TO_GUESS_FROM: usize = 100_000;

/// Batches of a text file that may wait for whoever writes them.
const BATCHES_IN_FLIGHT: usize = 2;

/// Where an upload waits.
#[derive(Clone, Debug)]
struct Staged {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// What is to be read.
pub(super) struct Plan {
    pub(super) rows: LogicalPlan,
    /// Those of a table that it makes.
    pub(super) keys: Keys,
    /// The size of the upload.
    pub(super) bytes: u64,
    /// Whether there is more than one part of it that can be read by itself.
    pub(super) is_shareable: bool,
}

/// The plan that reads the upload of `task`.
pub(super) async fn plan(state: &SessionState, task: &Task) -> Result<Plan, Stop> {
    let Action::Load {
        staged,
        cuts,
        format,
        declared,
        schema,
        ..
    } = &task.action
    else {
        return Err(Stop::Failed(Error::Internal("the task is not a load".into())));
    };
    let (wanted, keys) = declared::columns(state, declared.as_deref(), schema.as_deref(), format).await?;
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

    let parts = parts::of(bytes, cuts);
    let mut is_shareable = parts.len() > 1;
    // It reads a smaller file in one piece.
    let is_cut_by_engine = |bytes: u64| bytes >= state.config().options().optimizer.repartition_file_min_size as u64;
    let table = match format {
        LoadFormat::Csv {
            header,
            delimiter,
            null,
        } => {
            let dialect = Dialect::new(*header, *delimiter, null.as_deref())?;
            csv_table(staged, parts, dialect, format, wanted.as_ref()).await?
        }
        LoadFormat::Json => json_table(staged, parts, wanted.as_ref()).await?,
        LoadFormat::Parquet => {
            parquet::check(&staged, bytes).await?;
            is_shareable = is_cut_by_engine(bytes);
            // Spark writes times as INT96, which in nanoseconds would end in the year 2262.
            let reader = ParquetFormat::default().with_coerce_int96(Some("us".to_owned()));
            read_by_engine(state, staged, format, Arc::new(reader)).await?
        }
        LoadFormat::Arrow => {
            is_shareable = arrow::check(&staged, bytes).await? == arrow::Kind::File && is_cut_by_engine(bytes);
            read_by_engine(state, staged, format, Arc::new(ArrowFormat)).await?
        }
    };

    let scan = LogicalPlanBuilder::scan("upload", provider_as_source(table), None)?;
    let rows = match wanted {
        None => scan,
        Some(wanted) => {
            let present = Arc::clone(scan.schema().inner());
            scan.project(assignments(&wanted, &present)?)?
        }
    };
    Ok(Plan {
        rows: rows.build()?,
        keys,
        bytes,
        is_shareable,
    })
}

/// No rows are rows, where the format has nothing to say besides them.
fn may_be_empty(format: &LoadFormat) -> bool {
    matches!(format, LoadFormat::Json | LoadFormat::Csv { header: false, .. })
}

fn empty() -> Stop {
    SqlError::new(Code::TypeMismatch, "the file is empty, and nothing tells its columns").into()
}

async fn csv_table(
    staged: Staged,
    parts: Vec<Part>,
    dialect: Dialect,
    format: &LoadFormat,
    wanted: Option<&SchemaRef>,
) -> Result<Arc<dyn TableProvider>, Stop> {
    let rows_to_guess_from = if wanted.is_some() { 0 } else { ROWS_TO_GUESS_FROM };
    let found = csv::columns(&staged, size(&parts), &dialect, rows_to_guess_from).await?;
    if found.fields().is_empty() && !(wanted.is_some() && may_be_empty(format)) {
        return Err(empty());
    }
    let in_file = match wanted {
        Some(wanted) => columns_in_csv(dialect.has_header(), &found, wanted)?,
        None => found,
    };
    Ok(text_table(staged, parts, Spelling::Csv(dialect), in_file))
}

async fn json_table(
    staged: Staged,
    parts: Vec<Part>,
    wanted: Option<&SchemaRef>,
) -> Result<Arc<dyn TableProvider>, Stop> {
    let (columns, are_guessed) = match wanted {
        Some(wanted) => (nullable(wanted.fields().iter().map(AsRef::as_ref)), false),
        None => (json::columns(&staged, size(&parts), ROWS_TO_GUESS_FROM).await?, true),
    };
    if columns.fields().is_empty() {
        return Err(empty());
    }
    Ok(text_table(staged, parts, Spelling::Json { are_guessed }, columns))
}

fn text_table(staged: Staged, parts: Vec<Part>, spelling: Spelling, schema: SchemaRef) -> Arc<dyn TableProvider> {
    let file = TextFile {
        staged,
        spelling,
        schema,
    };
    Arc::new(TextTable { file, parts })
}

fn size(parts: &[Part]) -> u64 {
    parts.last().map_or(0, |last| last.end)
}

/// A file in a format that the engine knows, with the file's own types.
async fn read_by_engine(
    state: &SessionState,
    staged: Staged,
    format: &LoadFormat,
    reader: Arc<dyn FileFormat>,
) -> Result<Arc<dyn TableProvider>, Stop> {
    let location = ListingTableUrl::parse(format!("{}/{}", Bucket::ROOT, staged.path))?;
    let options = ListingOptions::new(reader).with_file_extension("");
    let found = options.infer_schema(state, &location).await;
    let found = found.map_err(|error| faults::explain(error, format))?;
    let config = ListingTableConfig::new(location)
        .with_listing_options(options)
        .with_schema(found);
    let table = Arc::new(ListingTable::try_new(config)?);
    Ok(Arc::new(Upload::new(table, format.clone())))
}

/// The columns of a CSV file in its own order, with the types that are wanted.
fn columns_in_csv(has_header: bool, found: &Schema, wanted: &Schema) -> Result<SchemaRef, Stop> {
    if has_header {
        let mut fields = Vec::with_capacity(found.fields().len());
        for field in found.fields() {
            fields.push(matching(wanted, field.name())?.clone().with_name(field.name()));
        }
        return Ok(nullable(fields.iter()));
    }
    // A table of one column takes a file of empty lines: each of them is NULL.
    let width = found.fields().len().max(usize::from(wanted.fields().len() == 1));
    if width > wanted.fields().len() {
        return Err(malformed(format!(
            "the file has {width} columns and the table has {}",
            wanted.fields().len()
        ))
        .into());
    }
    Ok(nullable(wanted.fields().iter().take(width).map(AsRef::as_ref)))
}

/// A row of a file may be short. Whether a table that is there takes that is seen where its files are written.
fn nullable<'a>(fields: impl Iterator<Item = &'a Field>) -> SchemaRef {
    let fields = fields.map(|field| field.clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
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
    let mut by_name = BTreeMap::new();
    for field in present.fields() {
        matching(wanted, field.name())?;
        if by_name.insert(field.name().to_lowercase(), field).is_some() {
            return Err(malformed(format!("the file has two columns named {}", field.name())).into());
        }
    }
    let assignments = wanted.fields().iter().map(|column| {
        let value = match by_name.get(&column.name().to_lowercase()) {
            Some(field) if field.data_type() == column.data_type() && column.is_nullable() => ident(field.name()),
            Some(field) => exactly::in_column(ident(field.name()), column),
            None => exactly::in_column(lit(ScalarValue::Null), column),
        };
        value.alias(column.name())
    });
    Ok(assignments.collect())
}

/// The file is not what it was said to be.
fn malformed(message: String) -> SqlError {
    SqlError::new(Code::TypeMismatch, message)
}
