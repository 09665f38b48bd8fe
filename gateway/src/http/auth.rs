//! A key becomes a caller, before any handler runs that asks for one.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use utoipa::Modify;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::Door;
use super::error::ApiError;
use crate::access::Caller;
use crate::error::Error;

impl FromRequestParts<Door> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = header.and_then(|header| header.split_once(' '));
        match key {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(door.app.projects.open(key.trim()).await?)
            }
            _ => Err(Error::Unauthenticated.into()),
        }
    }
}

/// Says in the contract how a key is sent.
pub(super) struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, contract: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A project's key, `wh_…`."))
            .build();
        let components = contract.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}
