//! Money under stress: random queries with random ceilings, sent twice, cancelled, and with workers that are killed under them.
//! Whatever becomes of each, it has one line, costs what was quoted or nothing, and never more than it may.
//!
//! `WASMHOUSE_MONEY_QUERIES=10000` for as many; `WASMHOUSE_MONEY_SEED` for others.

use std::collections::BTreeMap;

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::bills::{PRICED, attos, exported, verify};
use crate::{Caller, Warehouse};

/// How many queries run at once.
const AT_ONCE: usize = 6;

/// A query that was asked, and what was said of it before.
struct Asked {
    sql: String,
    id: String,
    quote: u128,
    ceiling: Option<u128>,
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// An amount of 10^-18 units, as a decimal.
fn decimal(attos: u128) -> String {
    let digits = format!("{attos:0>19}");
    let (units, behind) = digits.split_at(digits.len() - 18);
    format!("{units}.{behind}")
}

fn statement(number: u64, random: &mut impl Rng) -> String {
    let column = ["a", "b", "c", "d"][random.random_range(0..4)];
    let bound = random.random_range(0..200_000);
    match random.random_range(0..9) {
        0 | 1 => format!("select sum({column}) from s.numbers where a > {bound}"),
        2 => format!("select {column} % 10, count(*) from s.numbers group by 1"),
        3 => format!("select count(*) from s.numbers x join s.numbers y on x.{column} = y.a where x.b < 1000"),
        4 => format!(
            "insert into s.sink select a from s.numbers where {column} < {}",
            bound / 100
        ),
        5 => format!("create table s.t{number} as select {column} as n from s.numbers where a < 1000"),
        // Its last row has no answer.
        6 => "select sum(1 / (a - 199999)) from s.numbers".to_owned(),
        7 => format!("select {bound}"),
        _ => format!("select * from s.numbers where a < {}", bound / 100),
    }
}

/// Asks one query, perhaps twice, and perhaps stops it.
async fn ask(caller: &Caller, number: u64, seed: u64) -> Asked {
    let random = &mut StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let sql = statement(number, random);
    let quote = loop {
        match caller.dry_run(&sql).await {
            Ok(quote) => break attos(quote["cost"]["amount"].as_str().expect("an amount")),
            // Its workers were killed three times.
            Err(error) if error.code == "worker_crashed" => {}
            Err(error) => panic!("{sql}: {error}"),
        }
    };
    let ceiling = match random.random_range(0..4) {
        0 => None,
        // Exactly what it costs, and a little less.
        1 => Some(quote),
        2 => Some(quote.saturating_sub(1)),
        _ => Some(quote * random.random_range(0..200) / 100),
    };
    let is_stopped = random.random_range(0..10) == 0;
    let wait_ms = if is_stopped { 0 } else { 30_000 };
    let mut body = json!({ "sql": sql, "request_id": format!("r-{number}"), "wait_ms": wait_ms });
    if let Some(ceiling) = ceiling {
        body["max_cost"] = json!(decimal(ceiling));
    }
    let query = match random.random_range(0..3) {
        0 => {
            let (first, second) = tokio::join!(caller.query(body.clone()), caller.query(body.clone()));
            let (first, second) = (first.expect("a query"), second.expect("the same query"));
            assert_eq!(first["id"], second["id"], "one request, one query");
            first
        }
        _ => caller.query(body.clone()).await.expect("a query"),
    };
    let id = query["id"].as_str().expect("an id").to_owned();
    if is_stopped {
        let _ = caller.post(&format!("/v1/queries/{id}/cancel"), json!({})).await;
    }
    // Asked again when it is over, it is still the same.
    caller.ended(&id).await;
    let again = caller.query(body).await.expect("the same query");
    assert_eq!(again["id"], id.as_str());
    Asked {
        sql,
        id,
        quote,
        ceiling,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_a_query_it_has_one_line_at_its_quote_or_free_and_all_lines_are_the_invoice() {
    let (queries, seed) = (
        setting("WASMHOUSE_MONEY_QUERIES", 150),
        setting("WASMHOUSE_MONEY_SEED", 8841),
    );
    let warehouse = Warehouse::start_with(&format!("[quotas]\nquotes_per_minute = 0\n{PRICED}")).await;
    warehouse.dataset("s").await;
    warehouse
        .sql(
            "create table s.numbers as select value as a, value % 1000 as b, value * 7 % 200000 as c, 199999 - value as d \
             from generate_series(0, 199999)",
        )
        .await;
    warehouse.sql("create table s.sink (n bigint)").await;

    let all = futures::stream::iter(0..queries).map(|number| ask(&warehouse, number, seed));
    let mut all = std::pin::pin!(all.buffer_unordered(AT_ONCE));
    let (mut asked, mut killed) = (Vec::new(), 0);
    while let Some(one) = all.next().await {
        asked.push(one);
        // Under those that run.
        if asked.len() % 10 == 0 {
            killed += warehouse.kill_worker();
        }
    }

    let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in warehouse.ledger().await {
        let id = line["query_id"].as_str().expect("an id").to_owned();
        lines.entry(id).or_default().push(line);
    }
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for Asked {
        sql,
        id,
        quote,
        ceiling,
    } in &asked
    {
        let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("it is there");
        let state = query["state"].as_str().expect("a state");
        *states.entry(state.to_owned()).or_default() += 1;
        let [line] = lines.get(id).map(Vec::as_slice).unwrap_or_default() else {
            panic!("{sql} has not one line: {:?}", lines.get(id))
        };
        assert_eq!(line["cost"], query["cost"], "{sql}: its line and its record");
        let cost = attos(query["cost"]["amount"].as_str().expect("an amount"));
        let expected = if state == "done" { *quote } else { 0 };
        assert_eq!(cost, expected, "{sql} is {state}: {query}");
        assert_eq!(
            query["cost"]["free"].is_null(),
            state == "done",
            "{sql} is {state}: {query}"
        );
        if let Some(ceiling) = ceiling {
            assert!(cost <= *ceiling, "{sql} costs {cost}, more than {ceiling}");
            assert!(state != "done" || quote <= ceiling, "{sql} was run above its ceiling");
        }
    }

    let amount = |line: &Value| attos(line["cost"]["amount"].as_str().expect("an amount"));
    let receipt = |line: &Value| {
        let text = line["receipt"]["text"].as_str().expect("a receipt");
        amount(&serde_json::from_str::<Value>(text).expect("JSON"))
    };
    let all = || lines.values().flatten();
    let invoice = warehouse
        .get(&format!("/v1/invoices/{}", chrono::Utc::now().format("%Y-%m")))
        .await;
    let invoice = attos(
        invoice.expect("an invoice")["total"]["amount"]
            .as_str()
            .expect("an amount"),
    );
    assert_eq!(
        (all().map(amount).sum::<u128>(), all().map(receipt).sum::<u128>()),
        (invoice, invoice)
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (holds, said) = verify(&exported(&warehouse, folder.path()).await).await;
    assert!(holds, "{said}");
    eprintln!(
        "{queries} queries, {killed} workers killed: {states:?}; all of them {}",
        decimal(invoice)
    );
    assert!(
        states.get("done") > Some(&0) && states.get("failed") > Some(&0),
        "{states:?}"
    );
}
