//! Text becomes one statement, under limits, and the names it mentions.
//!
//! Runs in the gateway, on text that is hostile until proven otherwise, so nothing here recurses further than
//! [`limits::Limits`] allows and nothing here plans.

pub mod blame;
mod classify;
pub(crate) mod dialect;
mod frames;
mod keys;
pub mod likeness;
mod limits;
mod names;
pub mod parse;
mod patience;
mod placeholders;
mod roles;
mod shape;
pub mod suggest;
mod unread;

pub use classify::Kind;
pub use dialect::dialect_of;
pub use limits::Limits;
pub use names::Name;
pub use parse::{Statement, parse};
pub use roles::{Roles, Shown};

#[cfg(test)]
mod tests;
