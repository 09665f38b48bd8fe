//! The worker's side: a disposable process that plans one statement at a time, runs it, and streams its rows.
//!
//! # Invariants
//! - A worker serves one project from its start to its end, and one query at a time.
//! - It reads and writes files of the bucket. It commits nothing.
//! - What keeps its connections alive never waits for a plan.
//! - It ends when its gateway does: its standard input closes.

mod export;
mod guard;
mod head;
mod line;
mod load;
pub mod memory;
mod meter;
mod offload;
mod order;
mod parts;
mod serve;
mod share;
mod sink;
mod task;
mod whole;
mod wire;
mod write;

pub(crate) use write::exactly;

pub use offload::STACK_BYTES;
pub use serve::{Bootstrap, Listening, Ready, WorkerLog, serve};
