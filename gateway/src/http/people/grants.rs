//! Roles: who has which, where.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{GrantBody, principal_name};
use crate::access::Caller;
use crate::error::Error;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Body, Query};
use crate::people::People;

/// A role that somebody has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GrantedBody {
    principal: String,
    #[serde(flatten)]
    grant: GrantBody,
    granted_at: String,
    granted_by: String,
}

/// Roles, by who has them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GrantList {
    grants: Vec<GrantedBody>,
}

/// List your roles, and those of others where you say who may do what.
#[utoipa::path(get, path = "/v1/grants", tag = "people", responses((status = 200, body = GrantList)))]
pub(in super::super) async fn list_grants(
    State(people): State<People>,
    caller: Caller,
) -> Result<Json<GrantList>, ApiError> {
    let grants = people.grants(&caller).await?;
    let grants = grants.into_iter().map(|granted| GrantedBody {
        principal: granted.principal.to_string(),
        grant: GrantBody::from(&granted.grant),
        granted_at: granted.at.to_rfc3339(),
        granted_by: granted.by,
    });
    Ok(Json(GrantList {
        grants: grants.collect(),
    }))
}

/// A role to give, or to take away.
#[derive(Debug, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhoseGrant {
    /// Who.
    principal: String,
    /// `owner`, `editor`, `viewer`, `query_runner`, `function_publisher` or `billing_viewer`.
    role: String,
    /// Where. Absent: in the whole project.
    #[serde(default)]
    dataset: Option<String>,
}

impl WhoseGrant {
    fn grant(&self) -> GrantBody {
        GrantBody {
            role: self.role.clone(),
            dataset: self.dataset.clone(),
        }
    }
}

/// Give somebody a role. One that he has already stays as it is.
#[utoipa::path(
    post, path = "/v1/grants", tag = "people", request_body = WhoseGrant,
    responses((status = 204, description = "He has it"), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(in super::super) async fn create_grant(
    State(people): State<People>,
    caller: Caller,
    Body(new): Body<WhoseGrant>,
) -> Result<StatusCode, ApiError> {
    let grant = new.grant().read()?;
    let name = new.principal.parse().map_err(Error::from)?;
    people.grant(&caller, &name, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a role away.
#[utoipa::path(
    delete, path = "/v1/grants", tag = "people", params(WhoseGrant),
    responses((status = 204, description = "He does not have it"), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(in super::super) async fn delete_grant(
    State(people): State<People>,
    caller: Caller,
    Query(which): Query<WhoseGrant>,
) -> Result<StatusCode, ApiError> {
    let grant = which.grant().read()?;
    people
        .revoke(&caller, &principal_name(&which.principal)?, &grant)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
