//! The drawing of the house, kept true: what README.md and the tree promise about the source is read back from the source.
//!
//! A rule that fails here is either broken by mistake, or no longer right; then the drawing changes in the same commit.

mod dependencies;
mod documents;
mod doors;
mod pages;
mod repository;
