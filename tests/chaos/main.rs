//! Kill −9 at any moment, again and again, and then look: nothing that was acknowledged is missing, nothing is half there,
//! every finished query is billed once and no other is.
//!
//! The moments come from a seed that is printed; `WASMHOUSE_CHAOS_SEED` repeats them as far as a machine can repeat itself,
//! `WASMHOUSE_CHAOS_ROUNDS` says how many there are.

mod asked;
mod books;
mod crews;
mod work;

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves all suites, and this one needs a part of it")]
mod harness;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use books::Books;
use harness::caller::Caller;
use harness::{PATIENCE, Warehouse, eventually};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use work::Numbers;

/// A gateway that was killed is noticed soon, so that a round is short. Files of queries that still run must not look old.
const SETTINGS: &str = "[upkeep]\nevery_s = 1\nlease_s = 2\n";
/// At the end nothing runs, and what nobody refers to can go.
const SETTINGS_AT_THE_END: &str = "[upkeep]\nevery_s = 1\nlease_s = 2\norphan_s = 1\n";

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Workers,
    Gateway,
}

fn number_from(name: &str, otherwise: u64) -> u64 {
    env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_at_any_moment_loses_nothing_and_bills_nothing_twice() {
    let rounds = number_from("WASMHOUSE_CHAOS_ROUNDS", 10);
    let seed = number_from("WASMHOUSE_CHAOS_SEED", 8841);
    println!("{rounds} rounds, WASMHOUSE_CHAOS_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);

    let mut warehouse = Warehouse::start_with(SETTINGS).await;
    work::prepare(&warehouse).await;
    let mut books = Books::default();
    let numbers = Numbers::default();

    for round in 0..rounds {
        let victim = if chance.random_bool(0.5) {
            Victim::Workers
        } else {
            Victim::Gateway
        };
        let after = Duration::from_millis(chance.random_range(20..1_500));
        println!("round {round}: {victim:?} after {after:?}");

        let caller = Caller::clone(&warehouse);
        let over = AtomicBool::new(false);
        let kill = async {
            tokio::time::sleep(after).await;
            match victim {
                Victim::Workers => {
                    warehouse.kill_worker();
                }
                Victim::Gateway => warehouse.kill().await,
            }
            over.store(true, Ordering::SeqCst);
        };
        let (batches, ()) = tokio::join!(work::until(&caller, &numbers, &over), kill);

        if matches!(victim, Victim::Workers) {
            let untold: Vec<_> = batches.iter().filter(|batch| !batch.is_told_well()).collect();
            assert!(
                untold.is_empty(),
                "a worker that dies costs time, or a sentence that says so: {untold:?}"
            );
        } else {
            warehouse.restart().await;
        }
        books.enter(batches);
        settled(&warehouse).await;
        books.audit(&warehouse).await;
    }

    println!("{}", books.summary());
    assert!(books.acknowledged() as u64 >= rounds, "{}", books.summary());

    assert!(warehouse.stop().await, "a gateway that is asked to end, ends well");
    warehouse.configure(SETTINGS_AT_THE_END);
    warehouse.restart().await;
    no_orphans(&warehouse, work::DATASET).await;
    books.audit(&warehouse).await;
}

/// Waits until every query has an end: those of a gateway that died are lost, or finished by upkeep.
async fn settled(warehouse: &Warehouse) {
    eventually("every query has ended", async || {
        for state in ["pending", "running", "committing"] {
            let page = warehouse
                .get(&format!("/v1/queries?state={state}"))
                .await
                .expect("a project lists its queries");
            if page["queries"].as_array().is_none_or(|queries| !queries.is_empty()) {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits until the bucket holds the files of the tables and no others.
async fn no_orphans(warehouse: &Warehouse, dataset: &str) {
    let mut last = String::new();
    let patience = tokio::time::timeout(PATIENCE, async {
        loop {
            let referred = files_referred_to(warehouse, dataset).await;
            let found = warehouse.files_in_bucket("tables", "parquet");
            let staged = warehouse.files_in_bucket("staging", "*");
            if found.len() as u64 == referred && staged.is_empty() {
                return;
            }
            last = format!(
                "{referred} files are referred to, {} are there; staged: {staged:?}",
                found.len()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(patience.await.is_ok(), "files that nobody refers to stay: {last}");
}

async fn files_referred_to(warehouse: &Warehouse, dataset: &str) -> u64 {
    let tables = warehouse
        .get(&format!("/v1/datasets/{dataset}/tables"))
        .await
        .expect("a list");
    let mut referred = 0;
    for table in tables["tables"].as_array().expect("a list") {
        let (_, name) = table["name"]
            .as_str()
            .and_then(|name| name.split_once('.'))
            .expect("dataset.table");
        let table = warehouse
            .get(&format!("/v1/datasets/{dataset}/tables/{name}"))
            .await
            .expect("it is listed");
        referred += table["files"].as_u64().expect("a table counts its files");
    }
    referred
}
