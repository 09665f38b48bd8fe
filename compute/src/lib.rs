//! SQL becomes answers.
//!
//! A statement is parsed under limits ([`sql`]), planned and run by a disposable process ([`worker`]) that the gateway
//! takes from a pool ([`cluster`]). How its rows are spelled as bytes is decided in one place ([`formats`]). Nothing
//! here survives a restart (that is `storage`), and nothing here knows who asked or what it costs (that is `gateway`).

pub mod catalog_view;
pub mod cluster;
pub mod cuts;
mod dependencies;
mod error;
pub mod estimate;
pub mod formats;
pub mod given;
mod membership;
pub mod params;
pub mod profile;
pub mod session;
pub mod sql;
pub mod task;
pub mod worker;

pub use error::{Code, Error, Result, SqlError, causes};
