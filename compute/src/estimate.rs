//! What a plan would read, known before it runs and equal to what is billed after it.
//!
//! Each file's columns are counted once, however often a statement mentions them, with the logical bytes that the table's
//! log holds. Caches, retries and the number of workers change nothing.

use wasmhouse_storage::tables::ScanLog;

use crate::task::PlannedTable;

/// The bytes that a statement is billed for, and where they are.
pub fn bytes_processed(scans: &ScanLog) -> (u64, Vec<PlannedTable>) {
    let tables: Vec<PlannedTable> = scans
        .tables()
        .into_iter()
        .map(|scan| PlannedTable {
            location: scan.table,
            version: scan.version,
            columns: scan.columns,
            files: scan.files as u64,
            files_hash: scan.files_hash,
            bytes: scan.bytes,
        })
        .collect();
    (tables.iter().map(|table| table.bytes).sum(), tables)
}
