//! The worker's side: a disposable process that plans one statement at a time, runs it, and streams its rows.
//!
//! # Invariants
//! - A worker serves one project from its start to its end, and one query at a time.
//! - It reads and writes files of the bucket. It commits nothing.
//! - It ends when its gateway does: its standard input closes.

mod export;
mod head;
mod line;
mod load;
pub mod memory;
mod meter;
mod serve;
mod sink;
mod task;
mod wire;
mod write;

pub(crate) use write::exactly;

pub use serve::{Bootstrap, Ready, WorkerLog, serve};
