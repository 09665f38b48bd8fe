//! Tables and views as resources: list, create, describe, delete, history.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::ids::TableName;
use wasmhouse_storage::tables::Key;

use super::datasets::dataset_name;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Path, Query};
use super::results::{Column, schema_json};
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{Options, Queries};
use crate::tables::{Described, Listed, Tables};

/// A table or view in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TableItem {
    name: String,
    /// `table` or `view`.
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    /// Stored bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    created_at: String,
}

/// Everything in a dataset, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TableList {
    tables: Vec<TableItem>,
}

/// A table or view.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TableBody {
    name: String,
    /// `table` or `view`.
    kind: String,
    schema: Vec<Column>,
    created_at: String,
    /// What a view means.
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<String>,
    #[serde(flatten)]
    contents: Option<TableContents>,
}

/// What is in a table.
#[derive(Debug, Serialize, ToSchema)]
struct TableContents {
    rows: u64,
    /// Stored bytes.
    bytes: u64,
    /// What a query that reads every column of every row is billed for.
    logical_bytes: u64,
    files: u64,
    version: u64,
    /// What an engine that reads Delta Lake opens.
    location: String,
    /// What was promised of its rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<TableKey>,
}

/// Columns whose values no two rows share, but for NULL. Nothing checks it; queries are planned as if it held.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TableKey {
    /// A table has at most one primary key. Its columns are never NULL, which is checked.
    #[serde(default)]
    primary: bool,
    columns: Vec<String>,
}

/// A table to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTable {
    name: String,
    schema: Vec<NewColumn>,
    /// What is promised of its rows.
    #[serde(default)]
    keys: Vec<TableKey>,
}

/// A column of a table to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewColumn {
    name: String,
    /// As SQL writes it: `BIGINT`, `DECIMAL(10,2)`, `VARCHAR`.
    #[serde(rename = "type")]
    sql_type: String,
    #[serde(default = "yes")]
    nullable: bool,
}

fn yes() -> bool {
    true
}

/// The commits of a table, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionList {
    versions: Vec<VersionItem>,
}

/// One commit.
#[derive(Debug, Serialize, ToSchema)]
struct VersionItem {
    version: u64,
    at: String,
    operation: String,
    query_id: Option<String>,
}

/// List the tables and views of a dataset.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/tables", tag = "data", params(("dataset" = String, Path)),
    responses((status = 200, body = TableList), (status = 404, body = ErrorBody))
)]
pub(super) async fn list_tables(
    State(tables): State<Tables>,
    caller: Caller,
    Path(dataset): Path<String>,
) -> Result<Json<TableList>, ApiError> {
    let listed = tables.list(&caller, &dataset_name(&dataset)?).await?;
    let tables = listed
        .into_iter()
        .map(
            |Listed {
                 name,
                 kind,
                 size,
                 created_at,
             }| TableItem {
                name: name.to_string(),
                kind: kind.to_string(),
                rows: size.map(|(rows, _)| rows),
                bytes: size.map(|(_, bytes)| bytes),
                created_at: created_at.to_rfc3339(),
            },
        )
        .collect();
    Ok(Json(TableList { tables }))
}

/// Create an empty table.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/tables", tag = "data", params(("dataset" = String, Path)), request_body = NewTable,
    responses((status = 201, body = TableBody), (status = "4XX", body = ErrorBody))
)]
pub(super) async fn create_table(
    State(queries): State<Queries>,
    State(tables): State<Tables>,
    caller: Caller,
    Path(dataset): Path<String>,
    Body(new): Body<NewTable>,
) -> Result<(StatusCode, Json<TableBody>), ApiError> {
    let name = table_name(&dataset, &new.name)?;
    tables.must_take_rows(&caller, name.dataset()).await?;
    let options = Options::default();
    let statement = queries.parse(&create_statement(&name, &new), &options.settings)?;
    queries
        .run(&caller, statement, options)
        .await
        .and_then(|ended| queries.results(&ended.record).map(drop))?;
    let described = tables.describe(&caller, &name).await?;
    Ok((StatusCode::CREATED, Json(table_body(described))))
}

/// The same wish in SQL, so that a table is created in one way only. Names are quoted; a type that is more than a type
/// does not parse as a column.
fn create_statement(name: &TableName, new: &NewTable) -> String {
    let columns = new.schema.iter().map(|column| {
        let null = if column.nullable { "" } else { " not null" };
        format!("{} {}{null}", quoted(&column.name), column.sql_type)
    });
    let keys = new.keys.iter().map(|key| {
        let kind = if key.primary { "primary key" } else { "unique" };
        let columns: Vec<String> = key.columns.iter().map(|name| quoted(name)).collect();
        format!("{kind} ({}) not enforced", columns.join(", "))
    });
    let parts: Vec<String> = columns.chain(keys).collect();
    format!("create table {name} ({})", parts.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Describe a table or view.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/tables/{table}", tag = "data",
    params(("dataset" = String, Path), ("table" = String, Path)),
    responses((status = 200, body = TableBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get_table(
    State(tables): State<Tables>,
    caller: Caller,
    Path((dataset, table)): Path<(String, String)>,
) -> Result<Json<TableBody>, ApiError> {
    let described = tables.describe(&caller, &table_name(&dataset, &table)?).await?;
    Ok(Json(table_body(described)))
}

fn table_body(described: Described) -> TableBody {
    let Described {
        name,
        kind,
        schema,
        created_at,
        sql,
        contents,
    } = described;
    TableBody {
        name: name.to_string(),
        kind: kind.to_string(),
        schema: schema_json(&schema),
        created_at: created_at.to_rfc3339(),
        sql,
        contents: contents.map(|contents| TableContents {
            rows: contents.snapshot.rows(),
            bytes: contents.snapshot.bytes(),
            logical_bytes: contents.snapshot.logical_bytes(),
            files: contents.snapshot.files() as u64,
            version: contents.snapshot.version(),
            location: contents.location,
            keys: contents.keys.iter().map(table_key).collect(),
        }),
    }
}

fn table_key(key: &Key) -> TableKey {
    TableKey {
        primary: key.primary,
        columns: key.columns.clone(),
    }
}

/// Delete a table or view.
#[utoipa::path(
    delete, path = "/v1/datasets/{dataset}/tables/{table}", tag = "data",
    params(("dataset" = String, Path), ("table" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = 404, body = ErrorBody))
)]
pub(super) async fn delete_table(
    State(tables): State<Tables>,
    caller: Caller,
    Path((dataset, table)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    tables.drop(&caller, &table_name(&dataset, &table)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many versions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListVersions {
    /// At most so many, up to 1000.
    limit: Option<usize>,
}

/// List the versions of a table, newest first.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/tables/{table}/versions", tag = "data",
    params(("dataset" = String, Path), ("table" = String, Path), ListVersions),
    responses((status = 200, body = VersionList), (status = 404, body = ErrorBody))
)]
pub(super) async fn list_versions(
    State(tables): State<Tables>,
    caller: Caller,
    Path((dataset, table)): Path<(String, String)>,
    Query(wanted): Query<ListVersions>,
) -> Result<Json<VersionList>, ApiError> {
    let limit = wanted.limit.unwrap_or(100).clamp(1, 1000);
    let commits = tables.versions(&caller, &table_name(&dataset, &table)?, limit).await?;
    let versions = commits
        .into_iter()
        .map(|commit| VersionItem {
            version: commit.version,
            at: commit.at.to_rfc3339(),
            operation: commit.operation,
            query_id: commit.query.map(|query| query.to_string()),
        })
        .collect();
    Ok(Json(VersionList { versions }))
}

/// A name that cannot be one names no table.
pub(super) fn table_name(dataset: &str, table: &str) -> Result<TableName, ApiError> {
    format!("{dataset}.{table}")
        .parse()
        .map_err(|_| Error::NotFound(format!("no table named {dataset}.{table}")).into())
}
