//! What a request must be before a route looks at it: sent in a way that we can answer well, and packed in one that we
//! can unpack.

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;

use futures::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader};

use super::error::ApiError;
use crate::error::Error;

/// Bytes of an unpacked body that are handed on at a time.
const UNPACKED_AT_ONCE: usize = 64 << 10;

/// For routes that give rows: refuses a protocol in which a body simply ends when its connection does.
pub(super) async fn tells_cuts(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.version() < Version::HTTP_11 {
        let message = "HTTP/1.0 cannot tell a cut answer from a whole one; use HTTP/1.1";
        let refused = ApiError::from(Error::InvalidRequest(message.to_owned()));
        return Err(refused.with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED));
    }
    Ok(next.run(request).await)
}

/// Unpacks gzip, all of its members: files that were packed one by one and put together are one file.
pub(super) async fn unpack_gzip(mut request: Request, next: Next) -> Response {
    let encoding = request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if matches!(encoding, Some(b"gzip" | b"x-gzip")) {
        request.headers_mut().remove(CONTENT_ENCODING);
        request.headers_mut().remove(CONTENT_LENGTH);
        request = request.map(|packed| {
            let packed = packed.into_data_stream().map_err(std::io::Error::other);
            let mut unpacked = GzipDecoder::new(StreamReader::new(packed));
            unpacked.multiple_members(true);
            Body::from_stream(ReaderStream::with_capacity(unpacked, UNPACKED_AT_ONCE))
        });
    }
    next.run(request).await
}

/// Refuses a body that is still packed: whoever unpacks also takes the header away.
pub(super) async fn is_unpacked(request: Request, next: Next) -> Result<Response, ApiError> {
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding.as_bytes() != b"identity"
    {
        let message = format!("a body in the content-encoding {encoding:?} cannot be read; use gzip, zstd or none");
        let refused = ApiError::from(Error::InvalidRequest(message));
        return Err(refused.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    Ok(next.run(request).await)
}
