//! The gateway's side of the workers: where they come from, a lease on one of them, a conversation with it.

mod build;
mod channel;
mod children;
mod contact;
mod conversation;
mod host;
mod kubernetes;
mod lease;
mod pool;
mod process;
mod registered;
mod ticket;
mod tls;

pub use build::build_of;
pub(crate) use channel::{Channels, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT};
pub use conversation::{Conversation, Said};
pub use host::{Host, HostConfig};
pub use kubernetes::KubernetesConfig;
pub use lease::{Lease, Lookout};
pub use pool::Pool;
pub use process::ProcessConfig;
pub use registered::RegisteredConfig;
pub use ticket::{Errand, Inspector, PublicKey, Signer, Ticket};
pub(crate) use ticket::{Sealed, Unsealed, unseal};
pub use tls::Certificates;
