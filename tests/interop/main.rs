//! Tables belong to their owners: other people's programs read what we wrote, where it lies.

mod python;
mod s3;
mod stores;
mod tables;
mod tpcds;

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves all suites, and this one needs a part of it")]
mod harness;
