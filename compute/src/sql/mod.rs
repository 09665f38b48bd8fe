//! Text becomes one statement, under limits, and the names it mentions.
//!
//! Runs in the gateway, on text that is hostile until proven otherwise, so nothing here recurses further than
//! [`limits::Limits`] allows and nothing here plans.

pub mod blame;
pub mod limits;
mod names;
pub mod parse;
pub mod suggest;

pub use limits::Limits;
pub use names::Name;
pub use parse::{Kind, Statement, parse};
