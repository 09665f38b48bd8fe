//! Who asks. What they may do is decided here and nowhere else.

use wasmhouse_storage::ids::ProjectId;

/// Somebody whose key was good. Holding one is the proof.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The project that the key belongs to: all that it may see and change.
    pub(crate) project: ProjectId,
}
