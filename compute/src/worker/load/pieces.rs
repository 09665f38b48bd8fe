//! A part of an upload as it comes from the store: in pieces, in their order, a few of them ahead.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::ObjectStoreExt;

use super::Staged;
use super::parts::Part;

/// The size of a piece.
const PIECE_BYTES: u64 = 4 << 20;

/// Pieces that are fetched ahead.
const PIECES_IN_FLIGHT: usize = 2;

pub(super) type Pieces = BoxStream<'static, object_store::Result<Bytes>>;

/// The part from its start to its end.
pub(super) fn open(staged: &Staged, part: &Part) -> Pieces {
    let (staged, start, end) = (staged.clone(), part.start, part.end);
    let fetch = move |start: u64| {
        let staged = staged.clone();
        async move {
            staged
                .store
                .get_range(&staged.path, start..end.min(start + PIECE_BYTES))
                .await
        }
    };
    let starts = (start..end).step_by(PIECE_BYTES as usize);
    stream::iter(starts)
        .map(fetch)
        .buffered(PIECES_IN_FLIGHT)
        .fuse()
        .boxed()
}
