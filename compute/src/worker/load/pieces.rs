//! An upload as it comes from the store: in pieces, in their order, a few of them ahead.

use bytes::Bytes;
use datafusion::error::DataFusionError;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::ObjectStoreExt;

use super::Staged;

/// The size of a piece.
const PIECE_BYTES: u64 = 4 << 20;

/// Pieces that are fetched ahead.
const PIECES_IN_FLIGHT: usize = 2;

pub(super) type Pieces = BoxStream<'static, object_store::Result<Bytes>>;

/// The upload from its start to its end.
pub(super) async fn open(staged: &Staged) -> Result<Pieces, DataFusionError> {
    let bytes = staged.store.head(&staged.path).await?.size;
    let staged = staged.clone();
    let fetch = move |start: u64| {
        let staged = staged.clone();
        async move {
            staged
                .store
                .get_range(&staged.path, start..bytes.min(start + PIECE_BYTES))
                .await
        }
    };
    let starts = (0..bytes).step_by(PIECE_BYTES as usize);
    Ok(stream::iter(starts)
        .map(fetch)
        .buffered(PIECES_IN_FLIGHT)
        .fuse()
        .boxed())
}
