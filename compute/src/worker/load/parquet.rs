//! What a Parquet file says of itself, looked at before the engine reads it: a file that is cut off would end the worker,
//! and of two columns with one name the engine keeps the first.

use std::collections::HashSet;
use std::sync::Arc;

use parquet::arrow::async_reader::{self, ParquetRecordBatchStreamBuilder};

use super::{Staged, malformed};
use crate::SqlError;

/// Refuses what is not Parquet from its beginning to its end, and columns that share a name.
#[expect(
    deprecated,
    reason = "the engine's own reader believes what a footer says of its length, and ends the worker"
)]
pub(super) async fn check(staged: &Staged, bytes: u64) -> Result<(), SqlError> {
    let reader =
        async_reader::ParquetObjectReader::new(Arc::clone(&staged.store), staged.path.clone()).with_file_size(bytes);
    let Ok(file) = ParquetRecordBatchStreamBuilder::new(reader).await else {
        return Err(malformed(
            "the file is not Parquet, or a part of it is missing".to_owned(),
        ));
    };
    let mut names = HashSet::new();
    match file.schema().fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(malformed(format!("the file has two columns named {}", twice.name()))),
    }
}
