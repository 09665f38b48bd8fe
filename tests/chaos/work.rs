//! What goes on while somebody pulls the plug: loads, inserts, new tables, and a reader who counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::caller::{Caller, is_final};

/// Where everything happens.
pub(crate) const DATASET: &str = "chaos";
/// Rows of a batch, whatever way it comes in. All of them are there, or none.
pub(crate) const ROWS_OF_A_BATCH: u64 = 20_000;

/// The way a batch comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A file, appended to `chaos.loads`.
    Load,
    /// A statement, appended to `chaos.inserts`.
    Insert,
    /// A table of its own, `chaos.made_<number>`.
    Create,
}

/// One write, and what its caller was told.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) way: Way,
    pub(crate) told: Told,
}

/// What a caller knows about a write.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// It is done.
    Done,
    /// It failed, for this reason.
    Failed(String),
    /// The line went dead.
    Nothing,
}

impl Batch {
    /// Whether its caller knows how it ended and, if it failed, that a worker was the reason. All workers are killed at
    /// once, so an attempt may be given to one that is dead already.
    pub(crate) fn is_told_well(&self) -> bool {
        match &self.told {
            Told::Done => true,
            Told::Failed(why) => why.contains("\"worker_crashed\""),
            Told::Nothing => false,
        }
    }

    pub(crate) fn is_acknowledged(&self) -> bool {
        matches!(self.told, Told::Done)
    }
}

/// Numbers for batches, each given once.
#[derive(Default)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

pub(crate) async fn prepare(caller: &Caller) {
    caller.dataset(DATASET).await;
    for table in ["loads", "inserts"] {
        caller
            .sql(&format!("create table {DATASET}.{table} (batch bigint, n bigint)"))
            .await;
    }
}

/// Writes and reads until it is over, and gives the writes.
pub(crate) async fn until(caller: &Caller, numbers: &Numbers, over: &AtomicBool) -> Vec<Batch> {
    let writers = [Way::Load, Way::Insert, Way::Create].map(|way| write_until(caller, numbers, over, way));
    let (batches, ()) = tokio::join!(futures::future::join_all(writers), read_until(caller, over));
    batches.into_iter().flatten().collect()
}

async fn write_until(caller: &Caller, numbers: &Numbers, over: &AtomicBool, way: Way) -> Vec<Batch> {
    let mut batches = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let number = numbers.next();
        let told = write(caller, number, way).await;
        let is_connected = !matches!(told, Told::Nothing);
        batches.push(Batch { number, way, told });
        if !is_connected {
            break;
        }
    }
    batches
}

async fn write(caller: &Caller, number: u64, way: Way) -> Told {
    let request = match way {
        Way::Load => {
            let mut text = "batch,n\n".to_owned();
            for n in 1..=ROWS_OF_A_BATCH {
                text.push_str(&format!("{number},{n}\n"));
            }
            let options = format!("format=csv&wait_ms=60000&request_id=batch-{number}&labels=batch:{number}");
            let path = format!("/v1/datasets/{DATASET}/tables/loads/load?{options}");
            caller.request(Method::POST, &path).body(text)
        }
        Way::Insert => statement(
            caller,
            number,
            &format!("insert into {DATASET}.inserts {}", rows(number)),
        ),
        Way::Create => statement(
            caller,
            number,
            &format!("create table {DATASET}.made_{number} as {}", rows(number)),
        ),
    };
    let Ok(query) = told(request.send().await).await else {
        return Told::Nothing;
    };
    if query["state"] == "done" {
        Told::Done
    } else if is_final(&query) {
        Told::Failed(query["error"].to_string())
    } else if query["error"].is_object() {
        Told::Failed(query.to_string())
    } else {
        // Still at work after a minute, which is as good as a dead line to a caller who must go on.
        Told::Nothing
    }
}

fn rows(number: u64) -> String {
    format!("select {number} as batch, value as n from generate_series(1, {ROWS_OF_A_BATCH})")
}

/// A statement that can be found again by its label.
fn statement(caller: &Caller, number: u64, sql: &str) -> reqwest::RequestBuilder {
    caller.request(Method::POST, "/v1/queries").json(&json!({
        "sql": sql,
        "request_id": format!("batch-{number}"),
        "labels": { "batch": number.to_string() },
        "wait_ms": 60_000,
    }))
}

async fn told(response: reqwest::Result<Response>) -> reqwest::Result<Value> {
    response?.json().await
}

/// Counts batches by the rows that are seen of them; half a batch is never seen.
async fn read_until(caller: &Caller, over: &AtomicBool) {
    let sql = format!(
        "select batch, count(*) as n from {DATASET}.inserts group by batch having count(*) <> {ROWS_OF_A_BATCH}"
    );
    while !over.load(Ordering::SeqCst) {
        let request = caller
            .request(Method::POST, "/v1/sql")
            .header("accept", "application/json")
            .json(&json!({ "sql": sql }));
        let Ok(answer) = told(request.send().await).await else {
            return;
        };
        if let Some(rows) = answer["rows"].as_array() {
            assert!(rows.is_empty(), "half of a batch was seen: {rows:?}");
        }
    }
}
