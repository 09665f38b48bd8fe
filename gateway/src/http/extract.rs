//! What a handler takes out of a request. Whatever is wrong with it is answered as every other error is: these are
//! axum's extractors, with our way of saying no.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::error::Error;

/// How long a body that is not an upload may take. It is small, so only somebody who does not mean it takes longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The parts of the path that have a name.
pub(super) struct Path<T>(pub(super) T);

/// What follows the question mark.
pub(super) struct Query<T>(pub(super) T);

/// The body, in JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(found.0))
    }
}

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = axum::extract::Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(found.0))
    }
}

impl<T, S> FromRequest<S> for Body<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let found = in_time(axum::Json::<T>::from_request(request, state)).await??;
        Ok(Self(found.0))
    }
}

/// The body, as text.
pub(super) async fn text(request: Request) -> Result<String, ApiError> {
    let bytes = in_time(Bytes::from_request(request, &())).await??;
    let text = String::from_utf8(bytes.to_vec());
    Ok(text.map_err(|_| Error::InvalidRequest("the body is not UTF-8 text".to_owned()))?)
}

async fn in_time<T>(arriving: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(BODY_TIMEOUT, arriving).await.map_err(|_| {
        Error::TooSlow(format!(
            "the request did not arrive within {} s; send it again",
            BODY_TIMEOUT.as_secs()
        ))
    })
}
