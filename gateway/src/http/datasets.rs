//! Datasets: the folders of tables.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::error::{ApiError, ErrorBody};
use crate::access::Caller;
use crate::error::Error;

/// A dataset.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetBody {
    name: String,
    created_at: String,
}

/// All datasets of the project, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetList {
    datasets: Vec<DatasetBody>,
}

/// A dataset to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDataset {
    /// Lower-case letters, digits and `_`, at most 63, not starting with a digit.
    name: String,
}

/// List datasets.
#[utoipa::path(get, path = "/v1/datasets", tag = "data", responses((status = 200, body = DatasetList)))]
pub(super) async fn list_datasets(State(door): State<Door>, caller: Caller) -> Result<Json<DatasetList>, ApiError> {
    let datasets = door.app.tables.datasets(&caller).await?;
    let datasets = datasets
        .into_iter()
        .map(|dataset| DatasetBody {
            name: dataset.name.to_string(),
            created_at: dataset.created_at.to_rfc3339(),
        })
        .collect();
    Ok(Json(DatasetList { datasets }))
}

/// Create a dataset.
#[utoipa::path(
    post, path = "/v1/datasets", tag = "data", request_body = NewDataset,
    responses((status = 201, description = "Created"), (status = 409, description = "The name is taken", body = ErrorBody))
)]
pub(super) async fn create_dataset(
    State(door): State<Door>,
    caller: Caller,
    body: Result<Json<NewDataset>, axum::extract::rejection::JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(new) = body?;
    door.app
        .tables
        .create_dataset(&caller, &new.name.parse().map_err(Error::from)?)
        .await?;
    Ok(StatusCode::CREATED)
}

/// How to delete a dataset.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeleteDataset {
    /// With all that is in it.
    cascade: bool,
}

/// Delete a dataset.
#[utoipa::path(
    delete, path = "/v1/datasets/{dataset}", tag = "data", params(("dataset" = String, Path), DeleteDataset),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, body = ErrorBody),
        (status = 409, description = "It is not empty", body = ErrorBody),
    )
)]
pub(super) async fn delete_dataset(
    State(door): State<Door>,
    caller: Caller,
    Path(dataset): Path<String>,
    how: Result<Query<DeleteDataset>, axum::extract::rejection::QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let dataset = dataset
        .parse()
        .map_err(|_| Error::NotFound(format!("no dataset named {dataset}")))?;
    door.app.tables.drop_dataset(&caller, &dataset, how?.cascade).await?;
    Ok(StatusCode::NO_CONTENT)
}
