//! What an Arrow IPC file or stream says of itself, looked at before the engine reads it: the engine asks the store for the
//! footer where the last bytes say that it is, and takes the answer that there is no such place for a fault of the store;
//! and of two columns with one name it keeps the first.
//!
//! The format is in "Serialization and Interprocess Communication" of the Arrow columnar format.

use std::collections::HashSet;

use datafusion::arrow::ipc::{Schema, root_as_footer, root_as_message};
use datafusion::error::DataFusionError;
use object_store::ObjectStoreExt;

use super::{Staged, malformed};
use crate::worker::head::Stop;

/// What a file begins and ends with; a stream does not.
const MAGIC: &[u8] = b"ARROW1";

/// The magic and what fills it up, or the mark and the length before the first message of a stream.
const HEAD_BYTES: u64 = 8;

/// The length of the footer and the magic.
const TAIL_BYTES: u64 = 10;

/// What a footer or a schema may have.
const SCHEMA_BYTES_MAX: u64 = 64 << 20;

/// What a file is: one that says where its batches are, or one that is read from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Stream,
}

/// Refuses a file whose end is missing, and columns that share a name. The end of a stream is missing only within a message,
/// and then the engine says so.
pub(super) async fn check(staged: &Staged, bytes: u64) -> Result<Kind, Stop> {
    let part = async |range| {
        let part = staged.store.get_range(&staged.path, range).await;
        part.map_err(|error| Stop::from(DataFusionError::from(error)))
    };
    let head = part(0..bytes.min(HEAD_BYTES)).await?;
    if !head.starts_with(MAGIC) {
        // Streams of before 2019 have no mark before the length.
        let length = head.strip_prefix(&[0xff; 4]).and_then(first_four).map(u64::from);
        let Some(length) = length.filter(|length| HEAD_BYTES + length <= bytes && *length <= SCHEMA_BYTES_MAX) else {
            return Ok(Kind::Stream);
        };
        let message = part(HEAD_BYTES..HEAD_BYTES + length).await?;
        let message = root_as_message(&message).map_err(|_| no_stream())?;
        differ(message.header_as_schema())?;
        return Ok(Kind::Stream);
    }

    let room = bytes.checked_sub(HEAD_BYTES + TAIL_BYTES).ok_or_else(cut_off)?;
    let tail = part(bytes - TAIL_BYTES..bytes).await?;
    let length = first_four(&tail).map(u64::from).ok_or_else(cut_off)?;
    if !tail.ends_with(MAGIC) || length == 0 || length > room.min(SCHEMA_BYTES_MAX) {
        return Err(cut_off());
    }
    let footer = part(bytes - TAIL_BYTES - length..bytes - TAIL_BYTES).await?;
    let footer = root_as_footer(&footer).map_err(|_| cut_off())?;
    differ(footer.schema())?;
    Ok(Kind::File)
}

fn differ(schema: Option<Schema<'_>>) -> Result<(), Stop> {
    let mut names = HashSet::new();
    let mut fields = schema.and_then(|schema| schema.fields()).into_iter().flatten();
    match fields.find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => {
            let name = twice.name().unwrap_or_default();
            Err(malformed(format!("the file has two columns named {name}")).into())
        }
    }
}

fn first_four(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|four| u32::from_le_bytes(*four))
}

fn cut_off() -> Stop {
    malformed("the file is an Arrow IPC file, and its end is missing".to_owned()).into()
}

fn no_stream() -> Stop {
    malformed("the file is not an Arrow IPC file or stream, or a part of it is missing".to_owned()).into()
}
