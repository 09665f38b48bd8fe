//! Which program a process is. A plan of one build is read by workers of the same build only.

use std::fs::File;
use std::path::Path;

use crate::{Error, Result};

/// The build of a program: BLAKE3 of its file, in hexadecimal.
pub fn build_of(program: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    File::open(program)
        .and_then(|file| hasher.update_reader(file).map(drop))
        .map_err(|error| Error::Internal(error.into()))?;
    Ok(hasher.finalize().to_hex().to_string())
}
