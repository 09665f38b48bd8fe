//! The gateway's side of the workers: a pool of processes, a lease on one of them, a conversation with it.

mod channel;
mod conversation;
mod lease;
mod pool;
mod process;
mod ticket;

pub(crate) use channel::{Channels, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT};
pub use conversation::{Conversation, Said};
pub use lease::Lease;
pub use pool::{Pool, PoolConfig};
pub use ticket::{Inspector, PublicKey, Signer, Ticket};
