//! `POST /v1/exports`: a query into files of the project's bucket, for other programs to read.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use axum::extract::State;
use axum::response::Response;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmhouse_compute::params::Params;
use wasmhouse_compute::sql::Kind;
use wasmhouse_compute::task::ExportFormat;
use wasmhouse_storage::results::ResultReader;

use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use super::queries::{QueryBody, Statement, answer, patience};
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{Queries, Work};

/// A query and the files it becomes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewExport {
    /// One query.
    sql: String,
    /// `parquet`, `csv`, `json` (one object a line) or `arrow`.
    format: String,
    /// The folder below the project's exports, such as `2026/sales`.
    name: String,
    #[serde(default)]
    dataset: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    params: Option<Params>,
    #[serde(default)]
    max_bytes: Option<u64>,
    /// Refuse before running if it would cost more, such as `"0.25"`.
    #[serde(default)]
    max_cost: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    wait_ms: Option<u64>,
}

/// Export a query.
///
/// The results of the query that this creates are the files: their addresses and sizes.
#[utoipa::path(
    post, path = "/v1/exports", tag = "data", request_body = NewExport,
    responses(
        (status = 200, description = "The export has ended", body = QueryBody),
        (status = 202, description = "The export still runs", body = QueryBody),
        (status = "4XX", body = ErrorBody),
    )
)]
pub(super) async fn create_export(
    State(queries): State<Queries>,
    caller: Caller,
    Body(new): Body<NewExport>,
) -> Result<Response, ApiError> {
    let format = match new.format.as_str() {
        "parquet" => ExportFormat::Parquet,
        "csv" => ExportFormat::Csv,
        "json" => ExportFormat::Json,
        "arrow" => ExportFormat::Arrow,
        other => {
            let message = format!("{other:?} is not a format; use parquet, csv, json or arrow");
            return Err(Error::InvalidRequest(message).into());
        }
    };
    let statement = Statement {
        sql: new.sql,
        dataset: new.dataset,
        params: new.params,
        max_bytes: new.max_bytes,
        max_cost: new.max_cost,
        timeout_ms: new.timeout_ms,
        labels: new.labels,
        request_id: new.request_id,
        ..Statement::default()
    };
    let (statement, options) = statement.read(&queries)?;
    if !matches!(statement.kind, Kind::Query) {
        return Err(Error::InvalidRequest("only a query can be exported".to_owned()).into());
    }
    let work = Work::Export {
        statement,
        name: new.name,
        format,
    };
    let accepted = queries.create(&caller, work, options).await?;
    answer(&queries, &accepted, patience(new.wait_ms, Duration::from_secs(60))).await
}

/// One file of an export.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportedFile {
    /// Where other programs find it.
    url: String,
    rows: u64,
    bytes: u64,
}

/// The files of an export, which are its results.
pub(super) async fn files(reader: &ResultReader) -> Result<Vec<ExportedFile>, ApiError> {
    let mut files = Vec::new();
    let mut batches = reader.stream();
    while let Some(batch) = batches.try_next().await.map_err(Error::from)? {
        let urls = batch
            .column_by_name("url")
            .and_then(|column| column.as_string_opt::<i32>());
        let rows = batch
            .column_by_name("rows")
            .and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let bytes = batch
            .column_by_name("bytes")
            .and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let (Some(urls), Some(rows), Some(bytes)) = (urls, rows, bytes) else {
            return Err(Error::Internal("the results of an export are not its files".into()).into());
        };
        for row in 0..batch.num_rows() {
            let url = urls.value(row).to_owned();
            files.push(ExportedFile {
                url,
                rows: rows.value(row),
                bytes: bytes.value(row),
            });
        }
    }
    Ok(files)
}
