//! API keys. A key itself is in one answer, that of the request that makes it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::KeyId;
use wasmhouse_storage::people::{Key, NewKey};

use super::GrantBody;
use crate::access::Caller;
use crate::error::{Error, Result as UseResult};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Body, Path};
use crate::http::instant;
use crate::people::People;

/// What is known of a key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    id: String,
    name: String,
    /// Whose it is. Absent: the project's own, which may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    /// What it may be used for at most. Absent: for everything that its holder may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Vec<GrantBody>>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl From<&Key> for KeyBody {
    fn from(key: &Key) -> Self {
        let Key {
            id,
            name,
            principal,
            scope,
            created_at,
            expires_at,
            revoked_at,
        } = key;
        let scope = scope.as_ref().map(|scope| scope.iter().map(GrantBody::from).collect());
        Self {
            id: id.to_string(),
            name: name.clone(),
            principal: principal.as_ref().map(ToString::to_string),
            scope,
            created_at: created_at.to_rfc3339(),
            expires_at: expires_at.map(Timestamp::to_rfc3339),
            revoked_at: revoked_at.map(Timestamp::to_rfc3339),
        }
    }
}

/// Keys, the newest first, with those that are not good any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    keys: Vec<KeyBody>,
}

/// List your keys, or those of the project if you manage its people.
#[utoipa::path(get, path = "/v1/keys", tag = "people", responses((status = 200, body = KeyList)))]
pub(in super::super) async fn list_api_keys(
    State(people): State<People>,
    caller: Caller,
) -> Result<Json<KeyList>, ApiError> {
    let keys = people.keys(&caller).await?;
    Ok(Json(KeyList {
        keys: keys.iter().map(KeyBody::from).collect(),
    }))
}

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApiKey {
    /// What it is called, for lists. Names are not used twice.
    name: String,
    /// Whose it is. Absent: the project's own.
    #[serde(default)]
    principal: Option<String>,
    /// What it may be used for at most. Absent: for everything that its holder may do.
    #[serde(default)]
    scope: Option<Vec<GrantBody>>,
    /// When it ends by itself, RFC 3339. Absent: when it is revoked.
    #[serde(default)]
    expires_at: Option<String>,
}

impl NewApiKey {
    pub(in super::super) fn read(&self) -> UseResult<NewKey> {
        let scope = self.scope.as_ref();
        let scope = scope.map(|scope| scope.iter().map(GrantBody::read).collect());
        Ok(NewKey {
            name: self.name.clone(),
            principal: self.principal.as_deref().map(str::parse).transpose()?,
            scope: scope.transpose()?,
            expires_at: self.expires_at.as_deref().map(instant).transpose()?,
        })
    }
}

/// A key, this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeKey {
    /// Send it as `authorization: Bearer …`. It is not kept, and cannot be shown again.
    pub(in super::super) key: String,
}

/// Make a key. The answer is the only place where it is shown.
#[utoipa::path(
    post, path = "/v1/keys", tag = "people", request_body = NewApiKey,
    responses(
        (status = 201, description = "Made", body = MadeKey),
        (status = 403, body = ErrorBody),
        (status = 409, description = "The name is taken", body = ErrorBody),
    )
)]
pub(in super::super) async fn create_api_key(
    State(people): State<People>,
    caller: Caller,
    Body(new): Body<NewApiKey>,
) -> Result<(StatusCode, Json<MadeKey>), ApiError> {
    let key = people.create_key(&caller, &new.read()?).await?;
    Ok((StatusCode::CREATED, Json(MadeKey { key })))
}

/// Revoke a key. It opens nothing any more; other servers of the house hear of it within 5 seconds.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 204, description = "Revoked"), (status = 404, body = ErrorBody))
)]
pub(in super::super) async fn delete_api_key(
    State(people): State<People>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id: KeyId = id.parse().map_err(|_| Error::NotFound(format!("no key {id}")))?;
    people.revoke_key(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
