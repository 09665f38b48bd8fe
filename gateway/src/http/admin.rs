//! What operators do: they make projects, and keys for those who have lost theirs. They see nothing in a project.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmhouse_storage::ids::ProjectId;

use super::Door;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Path};
use super::people::keys::MadeKey;
use crate::callers::Operator;
use crate::error::Error;

/// Every project, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectList {
    projects: Vec<String>,
}

/// List all projects of the house.
#[utoipa::path(
    get, path = "/v1/admin/projects", tag = "operators", security(("operator" = [])),
    responses((status = 200, body = ProjectList), (status = 401, body = ErrorBody))
)]
pub(super) async fn list_projects(State(door): State<Door>, _: Operator) -> Result<Json<ProjectList>, ApiError> {
    let projects = door.app.projects.list().await?;
    Ok(Json(ProjectList {
        projects: projects.iter().map(ToString::to_string).collect(),
    }))
}

/// A project to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProject {
    /// Lower-case letters, digits and `_`, at most 63, not starting with a digit.
    name: String,
}

/// Create a project. The answer is the only place where its first key is shown.
#[utoipa::path(
    post, path = "/v1/admin/projects", tag = "operators", security(("operator" = [])), request_body = NewProject,
    responses(
        (status = 201, description = "Created", body = MadeKey),
        (status = 401, body = ErrorBody),
        (status = 409, description = "The name is taken", body = ErrorBody),
    )
)]
pub(super) async fn create_project(
    State(door): State<Door>,
    operator: Operator,
    Body(new): Body<NewProject>,
) -> Result<(StatusCode, Json<MadeKey>), ApiError> {
    let name: ProjectId = new.name.parse().map_err(Error::from)?;
    let key = door.app.projects.create(&name, &operator.actor).await?;
    Ok((StatusCode::CREATED, Json(MadeKey { key })))
}

/// A key of a project to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProjectKey {
    /// What it is called, for lists. Names are not used twice.
    name: String,
}

/// Make a key for a project that has lost its own. Its owners see in their audit log that you did.
#[utoipa::path(
    post, path = "/v1/admin/projects/{project}/keys", tag = "operators", security(("operator" = [])),
    params(("project" = String, Path)), request_body = NewProjectKey,
    responses(
        (status = 201, description = "Made", body = MadeKey),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
pub(super) async fn create_project_key(
    State(door): State<Door>,
    operator: Operator,
    Path(project): Path<String>,
    Body(new): Body<NewProjectKey>,
) -> Result<(StatusCode, Json<MadeKey>), ApiError> {
    let project: ProjectId = project
        .parse()
        .map_err(|_| Error::NotFound(format!("no project named {project}")))?;
    let people = &door.app.people;
    let key = people.create_project_key(&project, &new.name, &operator.actor).await?;
    Ok((StatusCode::CREATED, Json(MadeKey { key })))
}
