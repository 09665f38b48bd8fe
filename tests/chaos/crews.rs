//! Queries of several workers, while one worker after another is killed, frozen or slowed and the gateway dies twice: each
//! ends right, or with a sentence that says what happened, and nothing is left behind.
//!
//! `WASMHOUSE_CHAOS_QUERIES` says how many queries are asked; `WASMHOUSE_CHAOS_SEED` chooses the victims.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::asked::{Asked, DATASET, QUESTIONS, TIMEOUT, nothing_is_half_there, prepare};
use crate::harness::caller::{Caller, is_final};
use crate::harness::host::Host;
use crate::harness::process::{freeze_process, is_alive, kill_process, thaw_process};
use crate::harness::{Warehouse, eventually};
use crate::{no_orphans, number_from, settled};

/// Queries that read a MiB have three workers, each of one thread so that there is something left to do when one is killed.
const SETTINGS: &str = "max = 8\nthreads = 1\n[queries]\nworkers_max = 3\nmib_per_worker = 1\n\
    [upkeep]\nevery_s = 1\nlease_s = 2\n";

/// Workers that register, where they do.
const HOSTS: usize = 6;

/// Callers who ask at the same time.
const CALLERS: usize = 3;

/// What came of all queries.
#[derive(Default)]
struct Outcome {
    right: AtomicU64,
    failed: Mutex<Vec<String>>,
    asked: AtomicU64,
}

/// A gateway, and the hosts of its workers unless these are its children.
struct House {
    warehouse: Warehouse,
    hosts: Vec<Host>,
}

impl House {
    async fn start(source: &str, hosts: usize) -> Self {
        let warehouse = Warehouse::start_with(&settings(source, "")).await;
        let mut house = Self {
            warehouse,
            hosts: Vec::new(),
        };
        for _ in 0..hosts {
            house.hosts.push(house.warehouse.host().await);
        }
        house
    }

    fn worker_pids(&self) -> Vec<u32> {
        match self.hosts.is_empty() {
            true => self.warehouse.worker_pids(),
            false => self.hosts.iter().filter_map(Host::worker_pid).collect(),
        }
    }
}

fn settings(source: &str, more: &str) -> String {
    format!("[workers]\nsource = \"{source}\"\n{SETTINGS}{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_several_workers_end_right_whatever_becomes_of_the_workers() {
    end_right("children", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_registered_workers_end_right_whatever_becomes_of_the_workers() {
    end_right("registered", HOSTS).await;
}

async fn end_right(source: &str, hosts: usize) {
    let queries = number_from("WASMHOUSE_CHAOS_QUERIES", 60);
    let seed = number_from("WASMHOUSE_CHAOS_SEED", 8841);
    println!("{queries} queries, WASMHOUSE_CHAOS_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut house = House::start(source, hosts).await;
    prepare(&house.warehouse).await;
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let id = house.warehouse.send(question).await;
        house.warehouse.ended(&id).await;
        let page = house.warehouse.get(&format!("/v1/queries/{id}/results")).await;
        answers.push(page.expect("its rows")["rows"].clone());
    }

    let outcome = Outcome::default();
    let mut seen = HashSet::new();
    let mut unanswered = Vec::new();
    // The gateway dies at the end of the first part and of the second; who has no answer then asks again.
    for part in 1..=3 {
        let caller = Caller::clone(&house.warehouse);
        let (quota, over) = (queries * part / 3, AtomicBool::new(false));
        let left = std::mem::take(&mut unanswered);
        let asking = ask(&caller, &outcome, &answers, quota, left, part < 3, &over);
        let (left, ()) = tokio::join!(asking, pull_plugs(&house, &mut chance, &mut seen, &over));
        unanswered = left;
        if part < 3 {
            println!("the gateway is killed with {} queries unanswered", unanswered.len());
            house.warehouse.kill().await;
            // What was frozen with it notices when it wakes up.
            seen.iter().copied().for_each(thaw_process);
            house.warehouse.restart().await;
        }
    }
    seen.extend(house.worker_pids());
    seen.iter().copied().for_each(thaw_process);

    let failed = outcome.failed.lock().expect("nobody panics here").clone();
    let right = outcome.right.load(Ordering::SeqCst);
    println!("{right} right, {} failed: {failed:?}", failed.len());
    assert_eq!(right + failed.len() as u64, queries);
    assert!(
        failed.len() as u64 * 1000 <= queries,
        "one in a thousand may fail: {failed:?}"
    );
    assert!(
        failed.iter().all(|why| why.contains("\"worker_crashed\"")),
        "{failed:?}"
    );
    settled(&house.warehouse).await;
    books_are_right(&house.warehouse).await;
    nothing_is_half_there(&house.warehouse).await;
    every_worker_is_free(&house.warehouse).await;

    assert!(
        house.warehouse.stop().await,
        "a gateway that is asked to end, ends well"
    );
    for host in house.hosts.drain(..) {
        assert!(host.stop().await, "a host that is asked to end, ends well");
    }
    eventually("no worker is left", async || {
        !seen.iter().any(|worker| is_alive(*worker))
    })
    .await;
    let more = "orphan_s = 1\n";
    house.warehouse.configure(&settings("children", more));
    house.warehouse.restart().await;
    no_orphans(&house.warehouse, DATASET).await;
}

/// Asks until as many queries as the quota have an end, and says which have none when the gateway is to die.
async fn ask(
    caller: &Caller,
    outcome: &Outcome,
    answers: &[Value],
    quota: u64,
    left: Vec<Asked>,
    ends_midway: bool,
    over: &AtomicBool,
) -> Vec<Asked> {
    let left = Mutex::new(left);
    let callers = (0..CALLERS).map(|_| async {
        loop {
            let again = left.lock().expect("nobody panics here").pop();
            let asked = match again {
                Some(asked) => asked,
                None => {
                    let number = outcome.asked.fetch_add(1, Ordering::SeqCst);
                    if number >= quota {
                        outcome.asked.fetch_sub(1, Ordering::SeqCst);
                        return None;
                    }
                    Asked::new(number)
                }
            };
            // The last query of each caller is on its way when the gateway dies.
            let is_last = ends_midway && asked.number + CALLERS as u64 >= quota;
            let wait_ms = if is_last { 0 } else { 60_000 };
            match one(caller, &asked, wait_ms).await {
                Some(query) if is_final(&query) => match query["state"].as_str() {
                    Some("lost") => left.lock().expect("nobody panics here").push(asked.again()),
                    Some("done") => {
                        asked.judge(caller, answers, &query).await;
                        outcome.right.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => {
                        let told = format!("{} {}: {}", asked.request_id(), query["state"], query["error"]);
                        assert!(query["error"]["code"].is_string(), "an error has a code: {query}");
                        outcome.failed.lock().expect("nobody panics here").push(told);
                    }
                },
                _ => return Some(asked),
            }
        }
    });
    let unanswered = futures::future::join_all(callers).await;
    over.store(true, Ordering::SeqCst);
    let mut unanswered: Vec<Asked> = unanswered.into_iter().flatten().collect();
    unanswered.extend(left.into_inner().expect("nobody panics here"));
    unanswered
}

/// The query resource, or nothing when the line went dead.
async fn one(caller: &Caller, asked: &Asked, wait_ms: u64) -> Option<Value> {
    asked.request(caller, wait_ms).send().await.ok()?.json().await.ok()
}

/// About twice a second something happens to a worker, until it is over.
async fn pull_plugs(house: &House, chance: &mut StdRng, seen: &mut HashSet<u32>, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(chance.random_range(100..1_000))).await;
        let workers = house.worker_pids();
        seen.extend(&workers);
        if workers.is_empty() || over.load(Ordering::SeqCst) {
            continue;
        }
        let victim = workers[chance.random_range(0..workers.len())];
        match chance.random_range(0..3) {
            0 => kill_process(victim),
            1 => freeze_process(victim),
            _ => {
                // Slow: it runs for a tenth of the time.
                for _ in 0..10 {
                    freeze_process(victim);
                    tokio::time::sleep(Duration::from_millis(90)).await;
                    thaw_process(victim);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Two queries at once get all that they deserve: no lease of a query that is over holds a worker back.
async fn every_worker_is_free(warehouse: &Warehouse) {
    eventually("no lease is left", async || {
        let sql = "select count(distinct t), count(distinct n) from crews.numbers";
        let (one, other) = (warehouse.send(sql).await, warehouse.send(sql).await);
        tasks(warehouse, &one).await == Some(3) && tasks(warehouse, &other).await == Some(3)
    })
    .await;
}

/// How many workers a query had, once it has ended.
async fn tasks(warehouse: &Warehouse, id: &str) -> Option<u64> {
    warehouse.ended(id).await;
    let profile = warehouse
        .get(&format!("/v1/queries/{id}/profile"))
        .await
        .expect("a profile");
    let stages = profile["stages"].as_array().into_iter().flatten();
    stages.filter_map(|stage| stage["tasks"].as_u64()).max()
}

/// What is done is billed once and in time; what is not done is not billed.
async fn books_are_right(warehouse: &Warehouse) {
    let ledger = warehouse.ledger().await;
    let mut page_after = String::new();
    loop {
        let page = warehouse
            .get(&format!("/v1/queries?limit=500{page_after}"))
            .await
            .expect("a project lists its queries");
        for query in page["queries"].as_array().expect("a list") {
            let lines = ledger.iter().filter(|line| line["query_id"] == query["id"]).count();
            assert_eq!(lines, 1, "{query}");
            let is_free = query["cost"]["free"].is_string();
            assert_eq!(is_free, query["state"] != "done", "{query}");
            let instant = |name: &str| chrono::DateTime::parse_from_rfc3339(query[name].as_str().expect("an instant"));
            let (began, ended) = (instant("created_at"), instant("ended_at"));
            let took = ended.expect("an instant") - began.expect("an instant");
            let latest = TIMEOUT + Duration::from_secs(2);
            let is_in_time = query["state"] == "lost" || took.to_std().is_ok_and(|took| took <= latest);
            assert!(is_in_time, "it took {took}: {query}");
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            return;
        };
        page_after = format!("&cursor={cursor}");
    }
}
