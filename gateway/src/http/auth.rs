//! A key becomes a caller, before any handler runs that asks for one.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use tracing::error;
use utoipa::Modify;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use wasmhouse_compute::causes;

use super::Door;
use super::error::{ApiError, NotLet};
use crate::access::Caller;
use crate::callers::Operator;
use crate::error::Error;

/// Characters of a path that are written down of a request that was not let.
const DENIED_CHARS: usize = 200;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who turned out to be asking, for whoever looks at the answer.
#[derive(Clone, Debug, Default)]
struct Asking(Arc<OnceLock<Caller>>);

impl FromRequestParts<Door> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let caller = door.app.callers.open(key(parts)?, address(parts)).await?;
        door.app.quotas.request(&caller.project)?;
        if let Some(Asking(asking)) = parts.extensions.get() {
            let _ = asking.set(caller.clone());
        }
        Ok(caller)
    }
}

impl FromRequestParts<Door> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        Ok(door.app.callers.open_as_operator(key(parts)?, address(parts)).await?)
    }
}

fn key(parts: &Parts) -> Result<&str, Error> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    // Of two keys nobody knows which is meant.
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(Error::Unauthenticated);
    };
    let header = header.to_str().ok();
    match header.and_then(|header| header.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        _ => Err(Error::Unauthenticated),
    }
}

fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get().map(|Peer(address)| *address)
}

/// Writes down what was not let. What statements were not let to do is in their records.
pub(super) async fn write_down_denials(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let asking = Asking::default();
    request.extensions_mut().insert(asking.clone());
    let path = request.uri().path();
    let path: String = path.chars().take(DENIED_CHARS).collect();
    let asked = format!("{} {path}", request.method());

    let response = next.run(request).await;

    if response.extensions().get::<NotLet>().is_some()
        && let Some(caller) = asking.0.get()
        && door.app.quotas.denial(&caller.project).is_ok()
        && let Err(error) = door.app.people.record_denial(caller, &asked).await
    {
        error!("a denial was not written down: {}", causes(&error));
    }
    response
}

/// Says in the contract how a key is sent.
pub(super) struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, contract: &mut utoipa::openapi::OpenApi) {
        let components = contract.components.get_or_insert_with(Default::default);
        for (name, of_what) in [
            ("key", "A key of a project, or of somebody in it, `wh_…`."),
            ("operator", "A key of the operators, `wh_op_…`."),
        ] {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(of_what))
                .build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}
