//! What a query used, as its resource and its ledger line tell it.

use serde::Serialize;
use utoipa::ToSchema;
use wasmhouse_storage::queries::Usage;

/// What a query used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageBody {
    /// Logical bytes of the referenced columns in the files that survived pruning: what is billed.
    bytes_processed: u64,
    rows_returned: u64,
    result_bytes: u64,
    rows_written: u64,
    bytes_written: u64,
    cpu_ms: u64,
    wall_ms: u64,
    peak_memory_bytes: u64,
    /// Bytes that its workers fetched from the bucket, which caches change and the bill does not.
    bytes_read: u64,
    /// Bytes that they did not fetch, since they had them from before: the footers of files.
    bytes_cached: u64,
    /// How often they asked the bucket for bytes.
    read_requests: u64,
    /// Bytes that were written to disk because memory was short.
    bytes_spilled: u64,
    /// Bytes that the workers of the query sent each other.
    bytes_shuffled: u64,
    /// Bytes of the file that it loaded, unpacked.
    bytes_loaded: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        let Usage {
            bytes_processed,
            rows_returned,
            result_bytes,
            rows_written,
            bytes_written,
            cpu_ms,
            wall_ms,
            peak_memory_bytes,
            bytes_read,
            bytes_cached,
            read_requests,
            bytes_spilled,
            bytes_shuffled,
            bytes_loaded,
        } = usage;
        Self {
            bytes_processed,
            rows_returned,
            result_bytes,
            rows_written,
            bytes_written,
            cpu_ms,
            wall_ms,
            peak_memory_bytes,
            bytes_read,
            bytes_cached,
            read_requests,
            bytes_spilled,
            bytes_shuffled,
            bytes_loaded,
        }
    }
}
