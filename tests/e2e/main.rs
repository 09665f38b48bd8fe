//! What a user sees: every promise of the HTTP contract, made to a real server.
//!
//! One file per resource, and one for the commands that speak it. The names of the tests, read in order, are the
//! specification.

mod admission;
mod again;
mod bills;
mod budgets;
mod cli;
mod diagnostics;
mod dialects;
mod differential;
mod errors;
mod exports;
mod formats;
mod keys;
mod kubernetes;
mod limits;
mod load;
mod money;
mod names;
mod network;
mod people;
mod profile;
mod queries;
mod registered;
mod sql;
mod statements;
mod tables;
mod tenants;
mod tpch;
mod values;
mod workers;

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves all suites, and this one needs a part of it")]
mod harness;

use harness::answers::{ApiError, Rows};
use harness::caller::Caller;
use harness::process::{freeze_process, is_alive};
use harness::wire::Wire;
use harness::{Warehouse, eventually};

/// A small shop, used wherever the rows themselves do not matter.
pub(crate) const SALES: &str = "day,product,pieces,price\n\
    2026-01-01,apple,3,0.50\n\
    2026-01-01,pear,1,0.75\n\
    2026-01-02,apple,5,0.45\n\
    2026-01-03,\"plum, dried\",,2.25\n";

/// A warehouse with [`SALES`] in `shop.sales`.
pub(crate) async fn shop() -> Warehouse {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    warehouse.load_csv("shop.sales", SALES).await;
    warehouse
}
