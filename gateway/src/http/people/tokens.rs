//! Access tokens: made of a key, good for minutes.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmhouse_storage::people::Grant;

use super::GrantBody;
use crate::access::Caller;
use crate::error::Error;
use crate::http::Door;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Body;
use crate::tokens::{LONGEST, USUAL};

/// A token to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewToken {
    /// For how many seconds it is good: 1 to 3600, 900 if absent. It ends with the key that it is made of.
    expires_in_s: Option<u64>,
    /// What it may be used for at most. Absent: for everything that the key may.
    scope: Option<Vec<GrantBody>>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// Send it as `authorization: Bearer …`.
    token: String,
    expires_at: String,
}

/// Make an access token of the key that this request shows: a JSON Web Token for a program that should not have the key.
///
/// It may do at most what the key may, and is refused when it is over, or the key is revoked, or its holder is disabled.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "people", request_body = NewToken,
    responses((status = 201, description = "Made", body = MadeToken), (status = 403, body = ErrorBody))
)]
pub(in super::super) async fn create_token(
    State(door): State<Door>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    let time = new.expires_in_s.map_or(USUAL, Duration::from_secs);
    if time.is_zero() || time > LONGEST {
        let message = format!("a token is good for 1 to {} seconds", LONGEST.as_secs());
        return Err(Error::InvalidRequest(message).into());
    }
    let scope = new
        .scope
        .as_ref()
        .map(|scope| scope.iter().map(GrantBody::read).collect());
    let scope: Option<Vec<Grant>> = scope.transpose().map_err(|error: Error| ApiError::from(error))?;
    let (token, expires_at) = door.app.tokens.issue(&caller, scope, time)?;
    let expires_at = expires_at.to_rfc3339();
    Ok((StatusCode::CREATED, Json(MadeToken { token, expires_at })))
}
