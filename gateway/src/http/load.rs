//! `POST …/load`: a file in, rows of a table out.
//!
//! The body is staged in the bucket as it arrives, a few megabytes at a time; then a worker reads it. So a load can be
//! tried again on another worker without asking the sender again.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use futures::StreamExt;
use object_store::buffered::BufWriter;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use utoipa::IntoParams;
use wasmhouse_compute::task::LoadFormat;
use wasmhouse_storage::ids::TableName;

use super::Door;
use super::error::{ApiError, ErrorBody};
use super::queries::{QueryBody, answer, labels_of, patience};
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{Load, LoadMode, Options, Work};

/// How to read the file and what to do with its rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LoadOptions {
    /// `csv`, `json` (one object a line), `parquet` or `arrow`.
    format: String,
    /// `append` (the default; creates the table if it is not there), `create` or `replace`.
    mode: Option<String>,
    /// CSV: the first line holds names. True unless you say otherwise.
    header: Option<bool>,
    /// CSV: one ASCII character; a comma unless you say otherwise.
    delimiter: Option<String>,
    /// CSV: a text that means NULL, besides nothing at all.
    null: Option<String>,
    /// Columns of a new table as SQL declares them: `id bigint, name varchar`. Without it they are inferred.
    schema: Option<String>,
    /// How long the answer may wait for the end of the load.
    wait_ms: Option<u64>,
    /// Time the load has once the file has arrived.
    timeout_ms: Option<u64>,
    /// Sending the same id again finds the first load instead of loading twice.
    request_id: Option<String>,
    /// `key:value`, several separated by commas.
    labels: Option<String>,
}

/// Load a file into a table.
///
/// The body is the file, of any size up to the server's limit, also compressed with `content-encoding: gzip` or `zstd`.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/tables/{table}/load", tag = "data",
    params(("dataset" = String, Path), ("table" = String, Path), LoadOptions),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The load has ended", body = QueryBody),
        (status = 202, description = "The load still runs", body = QueryBody),
        (status = "4XX", body = ErrorBody),
    )
)]
pub(super) async fn load_table(
    State(door): State<Door>,
    caller: Caller,
    Path((dataset, table)): Path<(String, String)>,
    options: Result<Query<LoadOptions>, axum::extract::rejection::QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let Query(options) = options?;
    let into = destination(&dataset, &table)?;
    let format = format_of(&options)?;
    let mode = mode_of(options.mode.as_deref())?;
    let queries = &door.app.queries;
    // Better to hear now than after the upload that there is no such dataset.
    door.app.tables.must_have_dataset(&caller, into.dataset()).await?;

    let path = queries.staging(&caller.project);
    let staged = stage(BufWriter::new(queries.store(), path.clone()), body, door.upload_bytes).await?;
    tracing::debug!(bytes = staged, "an upload of {staged} bytes was staged");

    let load = Load {
        into,
        mode,
        format,
        declared: options.schema.clone(),
        staged: path.to_string(),
    };
    let options_of_query = Options {
        timeout: options.timeout_ms.map(Duration::from_millis),
        labels: labels_of(options.labels.as_deref())?,
        request_id: options.request_id.clone(),
        ..Options::default()
    };
    let accepted = queries.create(&caller, Work::Load(load), options_of_query).await?;
    answer(queries, &accepted, patience(options.wait_ms, Duration::from_secs(60))).await
}

/// Unlike a table that is read, one that is to be made gets told what is wrong with its name.
fn destination(dataset: &str, table: &str) -> Result<TableName, ApiError> {
    Ok(format!("{dataset}.{table}").parse().map_err(Error::from)?)
}

fn format_of(options: &LoadOptions) -> Result<LoadFormat, Error> {
    match options.format.as_str() {
        "csv" => {
            let delimiter = options.delimiter.as_deref().unwrap_or(",");
            let mut letters = delimiter.chars();
            let (Some(delimiter), None) = (letters.next(), letters.next()) else {
                return Err(Error::InvalidRequest(format!(
                    "the delimiter {delimiter:?} is not one character"
                )));
            };
            Ok(LoadFormat::Csv {
                header: options.header.unwrap_or(true),
                delimiter,
                null: options.null.clone(),
            })
        }
        "json" | "jsonl" | "ndjson" => Ok(LoadFormat::Json),
        "parquet" => Ok(LoadFormat::Parquet),
        "arrow" => Ok(LoadFormat::Arrow),
        "" => Err(Error::InvalidRequest(
            "the load has no format; add ?format=csv, json, parquet or arrow".to_owned(),
        )),
        other => Err(Error::InvalidRequest(format!(
            "{other:?} is not a format; use csv, json, parquet or arrow"
        ))),
    }
}

fn mode_of(mode: Option<&str>) -> Result<LoadMode, Error> {
    match mode {
        None | Some("append") => Ok(LoadMode::Append),
        Some("create") => Ok(LoadMode::Create),
        Some("replace") => Ok(LoadMode::Replace),
        Some(other) => Err(Error::InvalidRequest(format!(
            "{other:?} is not a mode; use append, create or replace"
        ))),
    }
}

/// Writes the body to the bucket as it arrives. What a broken upload leaves is aborted.
async fn stage(mut out: BufWriter, body: Body, limit: u64) -> Result<u64, Error> {
    let mut chunks = body.into_data_stream();
    let mut bytes = 0u64;
    while let Some(chunk) = chunks.next().await {
        let written = match chunk {
            Ok(chunk) => {
                bytes += chunk.len() as u64;
                if bytes > limit {
                    Err(Error::TooLarge(format!(
                        "the file is larger than the {} MiB that one may have",
                        limit >> 20
                    )))
                } else {
                    out.put(chunk).await.map_err(|error| Error::Unavailable(error.into()))
                }
            }
            Err(error) => Err(Error::InvalidRequest(format!("the upload ended early: {error}"))),
        };
        if let Err(error) = written {
            if let Err(abort) = out.abort().await {
                tracing::warn!("an upload that failed could not be aborted: {abort}");
            }
            return Err(error);
        }
    }
    out.shutdown().await.map_err(|error| Error::Unavailable(error.into()))?;
    Ok(bytes)
}
