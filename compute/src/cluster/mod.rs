//! The gateway's side of the workers: a pool of processes, a lease on one of them, a conversation with it.

mod conversation;
mod lease;
mod pool;
mod process;

pub use conversation::{Conversation, Said};
pub use lease::Lease;
pub use pool::{Pool, PoolConfig};
