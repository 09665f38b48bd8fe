//! What a query used.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What a query used: counts, never prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Logical bytes of the columns it referred to, in the files that were not pruned.
    pub bytes_processed: u64,
    /// Rows it answered with.
    pub rows_returned: u64,
    /// Bytes of its answer as it is kept.
    pub result_bytes: u64,
    /// Rows it wrote to tables.
    pub rows_written: u64,
    /// Bytes it wrote to tables, as stored.
    pub bytes_written: u64,
    /// Processor time on workers.
    pub cpu_ms: u64,
    /// Time from its start to its end.
    pub wall_ms: u64,
    /// The most memory it held at once.
    pub peak_memory_bytes: u64,
    /// Bytes it read from the bucket; caches make it less.
    pub bytes_read: u64,
    /// Bytes it did not have to read because a worker still knew what they say.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_cached: u64,
    /// How often it asked the bucket for bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_requests: u64,
    /// Bytes it wrote to disk because memory was short.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_spilled: u64,
    /// Bytes its workers sent each other.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_shuffled: u64,
    /// Bytes of a file that it loaded, unpacked.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_loaded: u64,
}

/// Lines of the ledger from before these were counted read as those in which they are nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl AddAssign for Usage {
    /// Both together. What is counted adds up; of what is a maximum the larger remains.
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in [
            (&mut self.bytes_processed, other.bytes_processed),
            (&mut self.rows_returned, other.rows_returned),
            (&mut self.result_bytes, other.result_bytes),
            (&mut self.rows_written, other.rows_written),
            (&mut self.bytes_written, other.bytes_written),
            (&mut self.cpu_ms, other.cpu_ms),
            (&mut self.wall_ms, other.wall_ms),
            (&mut self.bytes_read, other.bytes_read),
            (&mut self.bytes_cached, other.bytes_cached),
            (&mut self.read_requests, other.read_requests),
            (&mut self.bytes_spilled, other.bytes_spilled),
            (&mut self.bytes_shuffled, other.bytes_shuffled),
            (&mut self.bytes_loaded, other.bytes_loaded),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
    }
}
