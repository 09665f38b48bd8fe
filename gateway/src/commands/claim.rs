//! What a process takes for itself on its machine: an address, a folder. Both go with the process, however it ends.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tokio::net::TcpListener;
use wasmhouse_storage::BoxError;

/// An address to listen at.
pub(super) async fn address(at: SocketAddr) -> Result<TcpListener, BoxError> {
    let listener = TcpListener::bind(at).await;
    listener.map_err(|error| format!("cannot listen on {at}: {error}").into())
}

/// Makes a folder unless it is there. Statements and rows are nobody else's to read.
pub(super) fn folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file that says that something is taken, for as long as it is open. None when it is somebody else's.
pub(super) fn lock(path: &Path) -> Result<Option<File>, BoxError> {
    let file = File::create(path).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
