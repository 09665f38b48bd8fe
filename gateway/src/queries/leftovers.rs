//! What a query leaves in the bucket that nobody reads again.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tracing::debug;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::queries::{QueryRecord, QueryState};

use super::flight::Flight;
use super::{House, Work};
use crate::error::{Error, Result};

/// Removes it, as far as that can be done now: an upload that was loaded or not, and the files of an export that did not end
/// well, which look like those of one that did.
pub(super) async fn remove(house: &House, flight: &Flight, record: &QueryRecord) {
    let removed = match &flight.work {
        Work::Load(load) => remove_object(house, &load.staged.path).await,
        Work::Export { name, .. } if record.state.is_final() && record.state != QueryState::Done => {
            remove_export(house, flight, name).await
        }
        Work::Export { .. } | Work::Statement(_) => Ok(()),
    };
    if let Err(error) = removed {
        debug!(query.id = %record.id, "what a query left behind was not removed: {error}");
    }
}

/// An upload. What cannot be removed now, upkeep removes.
async fn remove_object(house: &House, path: &str) -> Result<()> {
    let removed = house.bucket.store().delete(&Path::from(path)).await;
    removed.map_err(unavailable)
}

async fn remove_export(house: &House, flight: &Flight, name: &str) -> Result<()> {
    let folder = Bucket::export_path(&flight.record.project, name, &flight.record.id)?;
    Ok(house.bucket.remove_below(&folder, |_| true).await?)
}

fn unavailable(error: object_store::Error) -> Error {
    Error::Unavailable(error.into())
}
