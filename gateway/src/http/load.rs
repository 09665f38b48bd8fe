//! `POST …/load`: a file in, rows of a table out.
//!
//! Everything that can be wrong with the request is said before the file is read.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;
use wasmhouse_compute::task::LoadFormat;
use wasmhouse_storage::ids::TableName;

use super::Door;
use super::error::{ApiError, ErrorBody, UNREADABLE_BODY};
use super::extract::{Path, Query};
use super::queries::{QueryBody, answer, check_tags, labels_of, max_cost_of, patience};
use crate::access::Caller;
use crate::error::Error;
use crate::queries::{Load, LoadMode, Options, Work};

/// How long the next part of a file may be waited for. The file as a whole may take as long as it takes.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How to read the file and what to do with its rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct LoadOptions {
    /// `csv`, `json` (one object a line), `parquet` or `arrow`.
    #[param(required = true)]
    format: String,
    /// `append` (the default; creates the table if it is not there), `create` or `replace`.
    mode: Option<String>,
    /// CSV: the first line holds names. True unless you say otherwise.
    header: Option<bool>,
    /// CSV: one ASCII character; a comma unless you say otherwise.
    delimiter: Option<String>,
    /// CSV: a text that means NULL, besides nothing at all.
    null: Option<String>,
    /// Columns of a new table as SQL declares them: `id bigint, name varchar`. Without it they are inferred. A table that
    /// is there must have the same names and types in the same order.
    schema: Option<String>,
    /// How long the answer may wait for the end of the load.
    wait_ms: Option<u64>,
    /// Refuse a file that would cost more to load, such as `0.25`.
    max_cost: Option<String>,
    /// Time the load has once the file has arrived.
    timeout_ms: Option<u64>,
    /// Sending the same id again finds the first load instead of loading twice. 1 to 128 bytes.
    request_id: Option<String>,
    /// `key:value`, several separated by commas. At most 32, with keys of 63 and values of 255 bytes.
    labels: Option<String>,
}

/// Load a file into a table.
///
/// The body is the file, of any size up to the server's limit, also compressed with `content-encoding: gzip` or `zstd`.
/// It may take as long as it takes, but not stop for a minute.
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
    Query(options): Query<LoadOptions>,
    body: Body,
) -> Result<Response, ApiError> {
    let into = destination(&dataset, &table)?;
    let format = format_of(&options)?;
    let mode = mode_of(options.mode.as_deref())?;
    let labels = labels_of(options.labels.as_deref())?;
    check_tags(&labels, options.request_id.as_deref())?;
    let max_cost = options.max_cost.as_deref().map(max_cost_of).transpose()?;
    // Better to hear now than after the upload that there is no such dataset.
    door.app.tables.must_take_rows(&caller, into.dataset()).await?;

    let queries = &door.app.queries;
    let upload = arriving(body);
    let staged = queries
        .stage(&caller.project, upload, &format, door.upload_bytes)
        .await?;
    // The file may have taken long to arrive.
    let caller = door.app.callers.still(&caller).await?;
    let load = Load {
        into,
        mode,
        format,
        declared: options.schema,
        staged,
    };
    let options_of_query = Options {
        max_cost,
        timeout: options.timeout_ms.map(Duration::from_millis),
        labels,
        request_id: options.request_id,
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

/// The file, part by part, as it arrives. A sender who has fallen silent is not waited for.
fn arriving(body: Body) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::try_unfold(body.into_data_stream(), |mut parts| async move {
        match tokio::time::timeout(SILENCE_TIMEOUT, parts.next()).await {
            Ok(Some(Ok(part))) => Ok(Some((part, parts))),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => {
                tracing::debug!("an upload could not be read: {error}");
                Err(Error::InvalidRequest(UNREADABLE_BODY.to_owned()))
            }
            Err(_) => Err(Error::TooSlow(format!(
                "nothing of the file arrived for {} s; send it again",
                SILENCE_TIMEOUT.as_secs()
            ))),
        }
    })
}
