//! Queries of several workers, while one worker after another is killed, frozen or slowed and the gateway dies twice: each
//! ends right, or with a sentence that says what happened, and nothing is left behind.
//!
//! `WASMHOUSE_CHAOS_QUERIES` says how many queries are asked; `WASMHOUSE_CHAOS_SEED` chooses the victims.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::caller::{Caller, is_final};
use crate::harness::process::{freeze_process, is_alive, kill_process, thaw_process};
use crate::harness::{Warehouse, eventually};
use crate::{no_orphans, number_from, settled};

/// Queries that read a MiB have three workers, each of one thread so that there is something left to do when one is killed.
const SETTINGS: &str = "[workers]\nmax = 8\nthreads = 1\n[queries]\nworkers_max = 3\nmib_per_worker = 1\n\
    [upkeep]\nevery_s = 1\nlease_s = 2\n";
const SETTINGS_AT_THE_END: &str = "[workers]\nmax = 8\nthreads = 1\n[upkeep]\nevery_s = 1\nlease_s = 2\norphan_s = 1\n";

const DATASET: &str = "crews";

/// What a query may take. One that is lost and done again has the same.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Callers who ask at the same time.
const CALLERS: usize = 3;

/// Questions of every size, from one that one worker answers in milliseconds.
const QUESTIONS: [&str; 8] = [
    "select 6 * 7",
    "select count(*), sum(n), min(t), max(t) from crews.numbers",
    "select g, count(*), sum(n) from crews.numbers group by g order by g limit 20",
    "select a.g, count(*) from crews.numbers a join crews.numbers b on a.n = b.n group by a.g order by a.g limit 7",
    "select g, n, rank() over (partition by g order by n desc) as r from crews.numbers order by g, r limit 5",
    "select count(*) as pairs from crews.numbers a join crews.numbers b on a.g = b.g where a.n + b.n > 7 and a.g < 100",
    "select count(*) from (select n from crews.numbers union all select g from crews.numbers)",
    "select count(distinct t) from crews.numbers where n % 3 = 0",
];

/// One query, from its first request to its end.
#[derive(Clone, Debug)]
struct Asked {
    number: u64,
    /// Which question; behind them come a table that is made, and a file that is loaded.
    question: usize,
    /// How often it was asked: a query that was lost with its gateway is asked again.
    times: u64,
}

impl Asked {
    fn sql(&self) -> String {
        match QUESTIONS.get(self.question) {
            Some(question) => (*question).to_owned(),
            None => format!(
                "create table {} as select n, t from crews.numbers where n % 3 = 0",
                self.table()
            ),
        }
    }

    fn table(&self) -> String {
        format!("{DATASET}.made_{}_{}", self.number, self.times)
    }

    fn is_load(&self) -> bool {
        self.question > QUESTIONS.len()
    }

    fn request_id(&self) -> String {
        format!("query-{}-{}", self.number, self.times)
    }
}

/// What came of all queries.
#[derive(Default)]
struct Outcome {
    right: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
    asked: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_several_workers_end_right_whatever_becomes_of_the_workers() {
    let queries = number_from("WASMHOUSE_CHAOS_QUERIES", 60);
    let seed = number_from("WASMHOUSE_CHAOS_SEED", 8841);
    println!("{queries} queries, WASMHOUSE_CHAOS_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut warehouse = Warehouse::start_with(SETTINGS).await;
    prepare(&warehouse).await;
    let mut answers = Vec::new();
    for question in QUESTIONS {
        answers.push(warehouse.sql(question).await.rows);
    }

    let outcome = Outcome::default();
    let mut seen = HashSet::new();
    let mut unanswered = Vec::new();
    // The gateway dies at the end of the first part and of the second; who has no answer then asks again.
    for part in 1..=3 {
        let caller = Caller::clone(&warehouse);
        let (quota, over) = (queries * part / 3, AtomicBool::new(false));
        let left = std::mem::take(&mut unanswered);
        let asking = ask(&caller, &outcome, &answers, quota, left, part < 3, &over);
        let (left, ()) = tokio::join!(asking, pull_plugs(&warehouse, &mut chance, &mut seen, &over));
        unanswered = left;
        if part < 3 {
            println!("the gateway is killed with {} queries unanswered", unanswered.len());
            warehouse.kill().await;
            // What was frozen with it notices when it wakes up.
            seen.iter().copied().for_each(thaw_process);
            warehouse.restart().await;
        }
    }

    let failed = outcome.failed.lock().expect("nobody panics here").clone();
    let right = outcome.right.load(Ordering::SeqCst);
    println!("{right} right, {} failed: {failed:?}", failed.len());
    assert_eq!(right + failed.len() as u64, queries);
    // One in a thousand, and one because a query may lose its workers as often as it is tried.
    assert!(failed.len() as u64 <= 1 + queries / 1000, "{failed:?}");
    assert!(
        failed.iter().all(|why| why.contains("\"worker_crashed\"")),
        "{failed:?}"
    );
    settled(&warehouse).await;
    books_are_right(&warehouse).await;

    assert!(warehouse.stop().await, "a gateway that is asked to end, ends well");
    eventually("no worker is left", async || {
        !seen.iter().any(|worker| is_alive(*worker))
    })
    .await;
    warehouse.configure(SETTINGS_AT_THE_END);
    warehouse.restart().await;
    no_orphans(&warehouse, DATASET).await;
}

async fn prepare(caller: &Caller) {
    caller.dataset(DATASET).await;
    let rows = "select value as n, value % 1000 as g, cast(value as varchar) as t from generate_series";
    caller
        .sql(&format!("create table crews.numbers as {rows}(1, 300000)"))
        .await;
    caller
        .sql(&format!("insert into crews.numbers {rows}(300001, 600000)"))
        .await;
}

/// Asks until as many queries as the quota have an end, and says which have none when the gateway is to die.
async fn ask(
    caller: &Caller,
    outcome: &Outcome,
    answers: &[Vec<Vec<Value>>],
    quota: u64,
    left: Vec<Asked>,
    ends_midway: bool,
    over: &AtomicBool,
) -> Vec<Asked> {
    let left = std::sync::Mutex::new(left);
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
                    let question = number as usize % (QUESTIONS.len() + 2);
                    Asked {
                        number,
                        question,
                        times: 0,
                    }
                }
            };
            // The last query of each caller is on its way when the gateway dies.
            let is_last = ends_midway && asked.number + CALLERS as u64 >= quota;
            let wait = if is_last { 0 } else { 60_000 };
            match one(caller, &asked, wait).await {
                Some(query) if is_final(&query) => match query["state"].as_str() {
                    Some("lost") => left.lock().expect("nobody panics here").push(Asked {
                        times: asked.times + 1,
                        ..asked
                    }),
                    _ => judge(caller, outcome, answers, &asked, &query).await,
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
    if asked.is_load() {
        let table = asked.table().replace("crews.", "crews/tables/");
        let path = format!(
            "/v1/datasets/{table}/load?format=csv&request_id={}&timeout_ms={}&wait_ms={wait_ms}",
            asked.request_id(),
            TIMEOUT.as_millis()
        );
        let request = caller.request(Method::POST, &path).body(file());
        return request.send().await.ok()?.json().await.ok();
    }
    let body = json!({
        "sql": asked.sql(),
        "request_id": asked.request_id(),
        "timeout_ms": TIMEOUT.as_millis() as u64,
        "wait_ms": wait_ms,
    });
    let request = caller.request(Method::POST, "/v1/queries").json(&body);
    request.send().await.ok()?.json().await.ok()
}

/// The rows of the table that is made, as a file that three workers share.
fn file() -> Bytes {
    static FILE: OnceLock<Bytes> = OnceLock::new();
    let row = |n: u64| format!("{n},\"line\nof {n:0>90}\"\n");
    let text = || "n,t\n".to_owned() + &(1..=200_000).map(|n| row(3 * n)).collect::<String>();
    FILE.get_or_init(|| text().into()).clone()
}

async fn judge(caller: &Caller, outcome: &Outcome, answers: &[Vec<Vec<Value>>], asked: &Asked, query: &Value) {
    let id = query["id"].as_str().unwrap_or_default();
    if query["state"] != "done" {
        let told = format!("{} {}: {}", asked.request_id(), query["state"], query["error"]);
        assert!(query["error"]["code"].is_string(), "an error has a code: {query}");
        outcome.failed.lock().expect("nobody panics here").push(told);
        return;
    }
    match answers.get(asked.question) {
        Some(right) => {
            let page = caller
                .get(&format!("/v1/queries/{id}/results"))
                .await
                .expect("its rows");
            let rows: Vec<Vec<Value>> = page["rows"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|row| {
                    row.as_object()
                        .into_iter()
                        .flatten()
                        .map(|(_, value)| value.clone())
                        .collect()
                })
                .collect();
            let (mut rows, mut right) = (rows, right.clone());
            // Objects have no order of columns.
            for row in rows.iter_mut().chain(&mut right) {
                row.sort_by_key(Value::to_string);
            }
            assert_eq!(rows, right, "{}", asked.sql());
        }
        None => {
            let counted = format!(
                "select count(*), count(distinct n), sum(n), count(distinct t) from {}",
                asked.table()
            );
            let counted = caller.sql(&counted).await;
            let right = json!([[200_000, 200_000, 60_000_300_000_u64, 200_000]]);
            assert_eq!(counted, right, "{asked:?}");
        }
    }
    outcome.right.fetch_add(1, Ordering::SeqCst);
}

/// About twice a second something happens to a worker, until it is over.
async fn pull_plugs(warehouse: &Warehouse, chance: &mut StdRng, seen: &mut HashSet<u32>, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(chance.random_range(100..1_000))).await;
        let workers = warehouse.worker_pids();
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
            assert_eq!(lines, usize::from(query["state"] == "done"), "{query}");
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
