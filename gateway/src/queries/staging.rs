//! Uploads, put where a worker can read them.
//!
//! An upload is staged in the bucket as it arrives, a few megabytes at a time. So a load can be tried again on another
//! worker without asking the sender again, and the gateway never holds a file.

use std::pin::pin;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use wasmhouse_compute::cuts::{Cut, Cutter};
use wasmhouse_compute::task::LoadFormat;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::ids::{ProjectId, QueryId};

use super::Queries;
use crate::error::{Error, Result};

/// An upload that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    /// Where it lies in the bucket.
    pub(crate) path: String,
    /// How long it is, unpacked.
    pub(crate) bytes: u64,
    /// The BLAKE3 hash of these bytes, in hexadecimal digits.
    pub(crate) digest: String,
    /// Where workers that share it can cut it.
    pub(crate) cuts: Vec<Cut>,
}

impl Queries {
    /// Stages an upload in `format` of at most `limit` bytes. One that breaks off is not staged.
    pub(crate) async fn stage(
        &self,
        project: &ProjectId,
        upload: impl Stream<Item = Result<Bytes>>,
        format: &LoadFormat,
        limit: u64,
    ) -> Result<Staged> {
        let house = &self.0;
        // Who could not wait anyway hears it before it sends a large file.
        house.admission.refuse_if_full(project)?;
        let path = Bucket::staging_path(project, &QueryId::new(house.clock.now()));
        let mut out = BufWriter::new(house.bucket.store(), path.clone());
        let staged = match write(&mut out, &path, upload, format, limit).await {
            Ok(staged) => staged,
            Err(error) => {
                if let Err(abort) = out.abort().await {
                    tracing::warn!("an upload that failed could not be aborted: {abort}");
                }
                return Err(error);
            }
        };
        out.shutdown().await.map_err(|error| Error::Unavailable(error.into()))?;
        tracing::debug!(bytes = staged.bytes, "an upload of {} bytes was staged", staged.bytes);
        Ok(staged)
    }
}

/// Writes the upload to `path` as it arrives.
async fn write(
    out: &mut BufWriter,
    path: &Path,
    upload: impl Stream<Item = Result<Bytes>>,
    format: &LoadFormat,
    limit: u64,
) -> Result<Staged> {
    let mut upload = pin!(upload);
    let mut hash = blake3::Hasher::new();
    let mut cutter = Cutter::new(format);
    let mut bytes = 0u64;
    while let Some(part) = upload.try_next().await? {
        bytes += part.len() as u64;
        if bytes > limit {
            return Err(Error::TooLarge(format!(
                "the file is larger than the {} MiB that one may have",
                limit >> 20
            )));
        }
        hash.update(&part);
        cutter.see(&part);
        out.put(part).await.map_err(|error| Error::Unavailable(error.into()))?;
    }
    Ok(Staged {
        path: path.to_string(),
        bytes,
        digest: hash.finalize().to_hex().to_string(),
        cuts: cutter.finish(),
    })
}
