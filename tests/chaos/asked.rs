//! What is asked of crews: questions of every size, tables that are made, filled and loaded, exports; and whether it was done
//! right.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::caller::Caller;

pub(crate) const DATASET: &str = "crews";

/// What a query may take. One that is lost and done again has the same.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Questions of every size, from one that one worker answers in milliseconds.
pub(crate) const QUESTIONS: [&str; 8] = [
    "select 6 * 7",
    "select count(*), sum(n), min(t), max(t) from crews.numbers",
    "select g, count(*), sum(n) from crews.numbers group by g order by g limit 20",
    "select a.g, count(*) from crews.numbers a join crews.numbers b on a.n = b.n group by a.g order by a.g limit 7",
    "select g, n, rank() over (partition by g order by n desc) as r from crews.numbers order by g, r limit 5",
    "select count(*) as pairs from crews.numbers a join crews.numbers b on a.g = b.g where a.n + b.n > 7 and a.g < 100",
    "select count(*) from (select n from crews.numbers union all select g from crews.numbers)",
    "select count(distinct t) from crews.numbers where n % 3 = 0",
];

/// Ways to write; see [`Way`].
const WRITES: usize = 4;

/// The rows that are written, whatever the way: 200,000 of them.
const THIRDS: &str = "select n, t from crews.numbers where n % 3 = 0";

/// What there is to see of them.
const OF_THIRDS: [u64; 4] = [200_000, 200_000, 60_000_300_000, 200_000];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Question(usize),
    /// A table is made of a query.
    Create,
    /// A file is loaded into a new table.
    Load,
    /// Rows are added to a table, beside those of others.
    Insert,
    /// Rows become files.
    Export,
}

/// One query, from its first request to its end.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    way: Way,
    /// How often it was asked: a query that was lost with its gateway is asked again.
    times: u64,
}

/// What everything is made of.
pub(crate) async fn prepare(caller: &Caller) {
    caller.dataset(DATASET).await;
    let rows = "select value as n, value % 1000 as g, cast(value as varchar) as t from generate_series";
    caller
        .sql(&format!("create table crews.numbers as {rows}(1, 300000)"))
        .await;
    caller
        .sql(&format!("insert into crews.numbers {rows}(300001, 600000)"))
        .await;
    caller
        .sql("create table crews.kept (asked bigint, n bigint, t varchar)")
        .await;
}

impl Asked {
    pub(crate) fn new(number: u64) -> Self {
        let ways = QUESTIONS.len() + WRITES;
        let way = match (number as usize % ways).checked_sub(QUESTIONS.len()) {
            None => Way::Question(number as usize % ways),
            Some(0) => Way::Create,
            Some(1) => Way::Load,
            Some(2) => Way::Insert,
            Some(_) => Way::Export,
        };
        Self { number, way, times: 0 }
    }

    /// The same, after it was lost.
    pub(crate) fn again(self) -> Self {
        Self {
            times: self.times + 1,
            ..self
        }
    }

    /// Another number each time it is asked.
    fn key(&self) -> u64 {
        self.number * 1_000 + self.times
    }

    fn table(&self) -> String {
        format!("made_{}", self.key())
    }

    pub(crate) fn request_id(&self) -> String {
        format!("query-{}", self.key())
    }

    pub(crate) fn request(&self, caller: &Caller, wait_ms: u64) -> RequestBuilder {
        let (id, timeout_ms) = (self.request_id(), TIMEOUT.as_millis() as u64);
        let statement = |sql: String| {
            let body = json!({ "sql": sql, "request_id": id, "timeout_ms": timeout_ms, "wait_ms": wait_ms });
            caller.request(Method::POST, "/v1/queries").json(&body)
        };
        match self.way {
            Way::Question(number) => statement(QUESTIONS[number].to_owned()),
            Way::Create => statement(format!("create table {DATASET}.{} as {THIRDS}", self.table())),
            Way::Insert => {
                let rows = THIRDS.replace("n, t", &format!("{} as asked, n, t", self.key()));
                statement(format!("insert into {DATASET}.kept {rows}"))
            }
            Way::Load => {
                let options = format!("format=csv&request_id={id}&timeout_ms={timeout_ms}&wait_ms={wait_ms}");
                let path = format!("/v1/datasets/{DATASET}/tables/{}/load?{options}", self.table());
                caller.request(Method::POST, &path).body(file())
            }
            Way::Export => {
                let body = json!({
                    "sql": THIRDS,
                    "format": "parquet",
                    "name": self.table(),
                    "request_id": id,
                    "timeout_ms": timeout_ms,
                    "wait_ms": wait_ms,
                });
                caller.request(Method::POST, "/v1/exports").json(&body)
            }
        }
    }

    /// What is done must be what was asked for. `answers` are those to the questions.
    pub(crate) async fn judge(&self, caller: &Caller, answers: &[Value], query: &Value) {
        let counted = match self.way {
            Way::Question(number) => {
                let id = query["id"].as_str().unwrap_or_default();
                let page = caller.get(&format!("/v1/queries/{id}/results")).await;
                let page = page.expect("its rows");
                assert_eq!(page["rows"], answers[number], "{}", QUESTIONS[number]);
                return;
            }
            Way::Export => {
                let files = query["files"].as_array().expect("an export lists its files");
                let sum = |what: &str| files.iter().filter_map(|file| file[what].as_u64()).sum::<u64>();
                assert_eq!(sum("rows"), OF_THIRDS[0], "{query}");
                let there = files.iter().map(|file| {
                    let path = file["url"].as_str().expect("an address").trim_start_matches("file://");
                    std::fs::metadata(path)
                        .expect("a file that was exported is there")
                        .len()
                });
                assert_eq!(there.sum::<u64>(), sum("bytes"), "{query}");
                return;
            }
            Way::Create | Way::Load => self.table(),
            Way::Insert => format!("kept where asked = {}", self.key()),
        };
        let sql = format!("select count(*), count(distinct n), sum(n), count(distinct t) from {DATASET}.{counted}");
        assert_eq!(caller.sql(&sql).await, json!([OF_THIRDS]), "{self:?}");
    }
}

/// Nothing was added by a query that is not done: whoever is there is there whole.
pub(crate) async fn nothing_is_half_there(caller: &Caller) {
    let sql = format!(
        "select count(*) from (select asked from {DATASET}.kept group by asked having count(*) <> {})",
        OF_THIRDS[0]
    );
    assert_eq!(caller.sql(&sql).await, json!([[0]]));
}

/// The rows of the table that is loaded, as a file that three workers share.
fn file() -> Bytes {
    static FILE: OnceLock<Bytes> = OnceLock::new();
    let row = |n: u64| format!("{n},\"line\nof {n:0>90}\"\n");
    let text = || "n,t\n".to_owned() + &(1..=200_000).map(|n| row(3 * n)).collect::<String>();
    FILE.get_or_init(|| text().into()).clone()
}
