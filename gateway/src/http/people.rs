//! The people of a project, their roles, and what was done.

pub(super) mod audit;
pub(super) mod grants;
pub(super) mod keys;
pub(super) mod tokens;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use wasmhouse_storage::audit::{Actor, Who};
use wasmhouse_storage::ids::PrincipalName;
use wasmhouse_storage::people::{Defaults, Grant, Principal, PrincipalKind};

use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Path};
use super::queries::max_cost_of;
use crate::access::Caller;
use crate::error::{Error, Result as UseResult};
use crate::people::People;

/// A role, in the project or in one of its datasets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantBody {
    /// `owner`, `editor`, `viewer`, `query_runner`, `function_publisher` or `billing_viewer`.
    role: String,
    /// Where. Absent: in the whole project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataset: Option<String>,
}

impl From<&Grant> for GrantBody {
    fn from(grant: &Grant) -> Self {
        Self {
            role: grant.role.to_string(),
            dataset: grant.dataset.as_ref().map(ToString::to_string),
        }
    }
}

impl GrantBody {
    fn read(&self) -> UseResult<Grant> {
        let dataset = self.dataset.as_deref().map(str::parse).transpose()?;
        Ok(Grant::new(self.role.parse()?, dataset)?)
    }
}

/// Who acted, with which key, from where.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActorBody {
    /// A user or a service account; `(project)` for a key of the project itself, `(operator …)`, or `(house)`.
    who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The `jti` of the token that was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The address that the connection came from. Absent: it was done at the house itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl From<&Actor> for ActorBody {
    fn from(actor: &Actor) -> Self {
        let Actor {
            who,
            key,
            token,
            address,
        } = actor;
        Self {
            who: who.to_string(),
            key: key.as_ref().map(ToString::to_string),
            token: token.clone(),
            address: address.map(|address| address.to_string()),
        }
    }
}

/// Somebody in the project: a person, or a program.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrincipalBody {
    name: String,
    /// `user` or `service_account`.
    kind: &'static str,
    created_at: String,
    /// Since when he is kept out.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    /// What his queries may cost if they do not say. Absent: what the project says.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost: Option<String>,
    /// How many bytes they may process if they do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    grants: Vec<GrantBody>,
}

impl From<&Principal> for PrincipalBody {
    fn from(principal: &Principal) -> Self {
        let Principal {
            name,
            kind,
            created_at,
            disabled_at,
            defaults,
            grants,
        } = principal;
        Self {
            name: name.to_string(),
            kind: kind.as_str(),
            created_at: created_at.to_rfc3339(),
            disabled_at: disabled_at.map(|at| at.to_rfc3339()),
            max_cost: defaults.max_cost.map(|most| most.to_string()),
            max_bytes: defaults.max_bytes,
            grants: grants.iter().map(GrantBody::from).collect(),
        }
    }
}

/// Everybody in the project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrincipalList {
    principals: Vec<PrincipalBody>,
}

/// Somebody to let in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrincipal {
    /// Such as `ada@example.com` or `etl`: at most 128 lower-case letters, digits and `. _ - + @`.
    name: String,
    /// `user`, which is also meant by nothing, or `service_account`.
    #[serde(default)]
    kind: Option<String>,
}

/// List the users and service accounts of the project.
#[utoipa::path(
    get, path = "/v1/principals", tag = "people",
    responses((status = 200, body = PrincipalList), (status = 403, body = ErrorBody))
)]
pub(super) async fn list_principals(
    State(people): State<People>,
    caller: Caller,
) -> Result<Json<PrincipalList>, ApiError> {
    let all = people.list(&caller).await?;
    Ok(Json(PrincipalList {
        principals: all.iter().map(PrincipalBody::from).collect(),
    }))
}

/// Let a user or a service account in. He may do nothing until he is given a role.
#[utoipa::path(
    post, path = "/v1/principals", tag = "people", request_body = NewPrincipal,
    responses(
        (status = 201, description = "Created", body = PrincipalBody),
        (status = 403, body = ErrorBody),
        (status = 409, description = "The name is taken", body = ErrorBody),
    )
)]
pub(super) async fn create_principal(
    State(people): State<People>,
    caller: Caller,
    Body(new): Body<NewPrincipal>,
) -> Result<(StatusCode, Json<PrincipalBody>), ApiError> {
    let name: PrincipalName = new.name.parse().map_err(Error::from)?;
    let kind = new.kind.as_deref().map(str::parse).transpose().map_err(Error::from)?;
    people
        .create(&caller, &name, kind.unwrap_or(PrincipalKind::User))
        .await?;
    let created = people.get(&caller, &name).await?;
    Ok((StatusCode::CREATED, Json(PrincipalBody::from(&created))))
}

/// Describe a user or a service account.
#[utoipa::path(
    get, path = "/v1/principals/{name}", tag = "people", params(("name" = String, Path)),
    responses((status = 200, body = PrincipalBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get_principal(
    State(people): State<People>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<PrincipalBody>, ApiError> {
    let found = people.get(&caller, &principal_name(&name)?).await?;
    Ok(Json(PrincipalBody::from(&found)))
}

/// What changes about somebody. What is absent stays as it is; what is null is not said any more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PrincipalChange {
    /// Whether he is kept out, with all his keys.
    disabled: Option<bool>,
    /// What his queries may cost if they do not say.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    max_cost: Option<Option<String>>,
    /// How many bytes they may process if they do not say.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u64>)]
    max_bytes: Option<Option<u64>>,
}

/// Keep somebody out, let him in again, or say what his queries may cost.
#[utoipa::path(
    patch, path = "/v1/principals/{name}", tag = "people", params(("name" = String, Path)),
    request_body = PrincipalChange,
    responses((status = 200, body = PrincipalBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn change_principal(
    State(people): State<People>,
    caller: Caller,
    Path(name): Path<String>,
    Body(change): Body<PrincipalChange>,
) -> Result<Json<PrincipalBody>, ApiError> {
    let name = principal_name(&name)?;
    let PrincipalChange {
        disabled,
        max_cost,
        max_bytes,
    } = change;
    if max_cost.is_some() || max_bytes.is_some() {
        let known = people.get(&caller, &name).await?.defaults;
        let defaults = changed(known, max_cost, max_bytes)?;
        people.set_defaults(&caller, Some(&name), defaults).await?;
    }
    if let Some(disabled) = disabled {
        people.set_disabled(&caller, &name, disabled).await?;
    }
    let found = people.get(&caller, &name).await?;
    Ok(Json(PrincipalBody::from(&found)))
}

/// The project, and who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectBody {
    project: String,
    /// What a query may cost if neither it nor its asker says. Absent: what the house says.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost: Option<String>,
    /// How many bytes it may process if neither it nor its asker says. Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    /// Who asks.
    you: ActorBody,
    /// What he may do. A key of the project itself may do everything, and has no grants.
    grants: Vec<GrantBody>,
}

/// Describe the project, and who you are in it.
#[utoipa::path(get, path = "/v1/project", tag = "people", responses((status = 200, body = ProjectBody)))]
pub(super) async fn get_project(State(people): State<People>, caller: Caller) -> Result<Json<ProjectBody>, ApiError> {
    project(&people, &caller).await
}

/// What changes about the project. What is absent stays as it is; what is null is not said any more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProjectChange {
    /// What a query may cost if neither it nor its asker says.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    max_cost: Option<Option<String>>,
    /// How many bytes it may process if neither it nor its asker says.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u64>)]
    max_bytes: Option<Option<u64>>,
}

/// Say what a query may cost that does not say.
#[utoipa::path(
    patch, path = "/v1/project", tag = "people", request_body = ProjectChange,
    responses((status = 200, body = ProjectBody), (status = 403, body = ErrorBody))
)]
pub(super) async fn change_project(
    State(people): State<People>,
    caller: Caller,
    Body(change): Body<ProjectChange>,
) -> Result<Json<ProjectBody>, ApiError> {
    let known = people.defaults(&caller).await?;
    let defaults = changed(known, change.max_cost, change.max_bytes)?;
    people.set_defaults(&caller, None, defaults).await?;
    project(&people, &caller).await
}

async fn project(people: &People, caller: &Caller) -> Result<Json<ProjectBody>, ApiError> {
    let defaults = people.defaults(caller).await?;
    let grants = match &caller.actor.who {
        Who::Principal(name) => people.get(caller, name).await?.grants,
        Who::Project | Who::Operator(_) | Who::House => Vec::new(),
    };
    Ok(Json(ProjectBody {
        project: caller.project.to_string(),
        max_cost: defaults.max_cost.map(|most| most.to_string()),
        max_bytes: defaults.max_bytes,
        you: ActorBody::from(&caller.actor),
        grants: grants.iter().map(GrantBody::from).collect(),
    }))
}

/// A name that cannot be one is nobody's.
fn principal_name(text: &str) -> Result<PrincipalName, ApiError> {
    text.parse()
        .map_err(|_| Error::NotFound(format!("nobody named {text} is in the project")).into())
}

fn changed(known: Defaults, cost: Option<Option<String>>, bytes: Option<Option<u64>>) -> UseResult<Defaults> {
    let max_cost = match cost {
        None => known.max_cost,
        Some(said) => said.as_deref().map(max_cost_of).transpose()?,
    };
    Ok(Defaults {
        max_cost,
        max_bytes: bytes.unwrap_or(known.max_bytes),
    })
}

/// Tells what is null from what is absent.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(value).map(Some)
}
