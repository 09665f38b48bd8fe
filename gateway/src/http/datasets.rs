//! Datasets: the folders of tables.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::ids::DatasetName;

use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Path, Query};
use crate::access::Caller;
use crate::error::Error;
use crate::tables::{DescribedDataset, Tables};

/// A dataset in a list.
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

/// A dataset, and how much is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetDetail {
    name: String,
    created_at: String,
    /// How many tables it has.
    tables: u64,
    /// How many views it has.
    views: u64,
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
pub(super) async fn list_datasets(State(tables): State<Tables>, caller: Caller) -> Result<Json<DatasetList>, ApiError> {
    let datasets = tables.datasets(&caller).await?;
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
    State(tables): State<Tables>,
    caller: Caller,
    Body(new): Body<NewDataset>,
) -> Result<StatusCode, ApiError> {
    let name: DatasetName = new.name.parse().map_err(Error::from)?;
    tables.create_dataset(&caller, &name).await?;
    Ok(StatusCode::CREATED)
}

/// Describe a dataset.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}", tag = "data", params(("dataset" = String, Path)),
    responses((status = 200, body = DatasetDetail), (status = 404, body = ErrorBody))
)]
pub(super) async fn get_dataset(
    State(tables): State<Tables>,
    caller: Caller,
    Path(dataset): Path<String>,
) -> Result<Json<DatasetDetail>, ApiError> {
    let described = tables.describe_dataset(&caller, &dataset_name(&dataset)?).await?;
    let DescribedDataset {
        name,
        created_at,
        tables,
        views,
    } = described;
    Ok(Json(DatasetDetail {
        name: name.to_string(),
        created_at: created_at.to_rfc3339(),
        tables,
        views,
    }))
}

/// How to delete a dataset.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
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
    State(tables): State<Tables>,
    caller: Caller,
    Path(dataset): Path<String>,
    Query(how): Query<DeleteDataset>,
) -> Result<StatusCode, ApiError> {
    tables
        .drop_dataset(&caller, &dataset_name(&dataset)?, how.cascade)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A name that cannot be one names no dataset.
pub(super) fn dataset_name(text: &str) -> Result<DatasetName, ApiError> {
    text.parse()
        .map_err(|_| Error::NotFound(format!("no dataset named {text}")).into())
}
