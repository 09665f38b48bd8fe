//! Hostile SQL: a few bytes of it may cost its sender an error, and nobody else anything.
//!
//! Every statement here has killed or frozen a query engine. Each must end in an answer or in an error that says what
//! was wrong, within two seconds of its budget, while the gateway stays the same process and a neighbour's `select 1`
//! is answered as if nothing were happening. A worker may die of it; that is what workers are for.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{ApiError, Caller, Warehouse, shop};

/// What a statement is given.
const BUDGET: Duration = Duration::from_secs(5);
/// What it may take beyond that.
const GRACE: Duration = Duration::from_secs(2);
/// The slowest that a neighbour's `select 1` may be, on a machine of two cores that both work for somebody else.
const NEIGHBOURS_PATIENCE: Duration = Duration::from_secs(3);

/// Errors that a statement may end in. `internal` and `unavailable` are not among them: they would say that we broke.
const TYPED: [&str; 11] = [
    "invalid_sql",
    "invalid_request",
    "unknown_column",
    "too_complex",
    "too_large",
    "timeout",
    "out_of_memory",
    "not_allowed",
    "not_supported",
    "execution_failed",
    // It took its worker down with it, more than once, and the sender is told so.
    "worker_crashed",
];

fn repeated(first: &str, middle: &str, count: usize, last: &str) -> String {
    format!("{first}{}{last}", middle.repeat(count))
}

/// `c0 union all c0`, again and again: each level doubles what there is to plan.
fn doubling(depth: usize) -> String {
    let mut sql = "with c0 as (select 1 as a)".to_owned();
    for level in 1..=depth {
        sql.push_str(&format!(
            ", c{level} as (select * from c{0} union all select * from c{0})",
            level - 1
        ));
    }
    format!("{sql} select count(*) from c{depth}")
}

fn nested_subqueries(depth: usize) -> String {
    let mut sql = "select 1 as a".to_owned();
    for level in 0..depth {
        sql = format!("select a from ({sql}) t{level}");
    }
    sql
}

/// Columns enough to make a cross join of joins expensive to order.
fn joins(count: usize) -> String {
    let mut sql = "select count(*) from shop.sales t0".to_owned();
    for n in 1..count {
        sql.push_str(&format!(" join shop.sales t{n} on t{n}.pieces = t{}.pieces", n - 1));
    }
    sql
}

fn corpus() -> Vec<(&'static str, String)> {
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    vec![
        // Deep trees: the stack.
        ("20,000 terms of +", repeated("select 1", "+1", 20_000, "")),
        ("20,000 terms of or", repeated("select * from shop.sales where pieces = 0", " or pieces = 1", 20_000, "")),
        ("1,000 parentheses", format!("select {}1{}", "(".repeat(1_000), ")".repeat(1_000))),
        ("100,000 parentheses", format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000))),
        ("3,000 minuses", repeated("select ", "- ", 3_000, "1")),
        ("100,000 nots", repeated("select ", "not ", 100_000, "true")),
        ("5,000 cases", format!("select {}1{}", "case when true then ".repeat(5_000), " end".repeat(5_000))),
        ("5,000 functions in each other", format!("select {}1{}", "abs(".repeat(5_000), ")".repeat(5_000))),
        ("1,000 subqueries in each other", nested_subqueries(1_000)),
        ("20,000 concatenations", repeated("select 'a'", "||'a'", 20_000, "")),
        ("50,000 lists in each other", format!("select {}1{}", "[".repeat(50_000), "]".repeat(50_000))),
        // Wide and doubling statements: the planner's time.
        ("250 terms of +", repeated("select 1", "+1", 250, "")),
        ("2,000 terms of +", repeated("select 1", "+1", 2_000, "")),
        ("union all of 800", repeated("select 1", " union all select 1", 800, "")),
        ("union all of 2,000", repeated("select 1", " union all select 1", 2_000, "")),
        ("names for queries, doubled 12 times", doubling(12)),
        ("names for queries, doubled 22 times", doubling(22)),
        ("names for queries, doubled 60 times", doubling(60)),
        ("a list of 200,000 values", format!("select count(*) from shop.sales where pieces in ({})", list(200_000))),
        ("a join of 60 tables", joins(60)),
        ("10,000 columns", format!("select {}", (0..10_000).map(|n| format!("{n} as c{n}")).collect::<Vec<_>>().join(","))),
        ("cube of 24", format!("select count(*) from shop.sales group by cube({})", vec!["pieces"; 24].join(","))),
        // Strings and lists: memory that no operator asked for.
        ("a string of 2 GB", "select length(repeat('x', 2147483647))".to_owned()),
        ("a padded string of 2 GB", "select length(lpad('x', 2000000000, 'y'))".to_owned()),
        ("a padded string of 2 GB, to the right", "select length(rpad('x', 2000000000, 'y'))".to_owned()),
        ("strings of 1 MB, a million", "select sum(length(repeat('x', 1000000))) from generate_series(1, 1000000)".to_owned()),
        ("a replaced string", "select length(replace(repeat('x', 1000000), 'x', repeat('y', 100000)))".to_owned()),
        ("an array of ten billion", "select array_length(range(0, 10000000000))".to_owned()),
        ("an array repeated", "select array_length(array_repeat(1, 4000000000))".to_owned()),
        ("an aggregate of strings", "select length(string_agg(repeat('x', 100000), ',')) from generate_series(1, 100000)".to_owned()),
        ("an aggregate of arrays", "select array_length(array_agg(value)) from generate_series(1, 2000000000)".to_owned()),
        ("a sort of everything", "select value from generate_series(1, 2000000000) order by value % 1000, value desc limit 10 offset 1999999990".to_owned()),
        ("groups without number", "select count(*) from (select value, count(*) from generate_series(1, 3000000000) group by value)".to_owned()),
        // Work without end: time.
        ("a recursion without end", "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r".to_owned()),
        ("a recursion that grows", "with recursive r as (select 1 as n union all select n + 1 from r, generate_series(1, 10)) select count(*) from r".to_owned()),
        ("a series of ten billion", "select count(*) from generate_series(1, 10000000000) where value % 7 = 3".to_owned()),
        ("a product of three series", "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c where a.value + b.value = c.value".to_owned()),
        ("an expression that backtracks", "select count(*) from generate_series(1, 1000000) where regexp_like(repeat('a', 200) || value, '(a+)+$')".to_owned()),
        ("an expression with a huge count", "select regexp_like('a', '(((a{100}){100}){100}){100}')".to_owned()),
        ("a window over everything", "select sum(s) from (select sum(value) over (order by value rows between unbounded preceding and unbounded following) as s from generate_series(1, 1000000000))".to_owned()),
        // What a query may not touch.
        ("a table on a local path", "create external table t (a int) stored as csv location '/etc/passwd'".to_owned()),
        ("a copy to the local disk", "copy (select 1) to 'escaped.csv'".to_owned()),
        // Text that is not what it seems.
        ("nothing but white space", " \n\t ".to_owned()),
        ("nothing but a comment", "-- select 1".to_owned()),
        ("a zero byte", "select '\0'".to_owned()),
        ("a megabyte of a name", format!("select {}", "x".repeat(1_000_000))),
        ("an open comment", repeated("select 1 ", "/*", 100_000, "")),
        ("a division by zero", "select 1 / 0".to_owned()),
        ("a smallest number divided", "select cast(-9223372036854775808 as bigint) / -1".to_owned()),
        ("an interval without bounds", "select date '2026-01-01' + interval '999999999999 years'".to_owned()),
    ]
}

#[tokio::test]
async fn no_statement_hurts_the_gateway_or_a_neighbour() {
    let warehouse = shop().await;
    let neighbour = warehouse.project("neighbour").await;
    neighbour.sql("select 1").await;
    let gateway = warehouse.pid();
    let over = AtomicBool::new(false);

    let attack = async {
        let mut broken = Vec::new();
        for (name, sql) in corpus() {
            let started = Instant::now();
            let body = json!({ "sql": sql, "timeout_ms": BUDGET.as_millis() as u64 });
            let answer = tokio::time::timeout(BUDGET + 4 * GRACE, warehouse.ask(body)).await;
            let took = started.elapsed();
            println!("{name}: {} after {took:.1?}", outcome(&answer));

            match answer {
                Err(_) => broken.push(format!("{name} never ended")),
                Ok(Err(error)) if !error.is_one_of(&TYPED) => broken.push(format!("{name} ended in {error}")),
                Ok(Err(error)) if error.message.len() > 2_000 => {
                    broken.push(format!("{name} is told back to its sender"))
                }
                Ok(_) if took > BUDGET + GRACE => broken.push(format!("{name} took {took:?}")),
                Ok(_) => {}
            }
        }
        over.store(true, Ordering::SeqCst);
        broken
    };
    let (broken, slowest, ()) = tokio::join!(attack, ask_until(&neighbour, &over), watch(&warehouse, &over));

    println!("the neighbour waited at most {slowest:?}");
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(warehouse.pid(), gateway);
    assert!(crate::is_alive(gateway), "the gateway died");
    assert!(
        slowest < NEIGHBOURS_PATIENCE,
        "a neighbour waited {slowest:?} for `select 1`"
    );
    assert_eq!(
        warehouse.sql("select count(*) from shop.sales").await,
        json!([[4]]),
        "and the sender can go on"
    );
    assert!(!std::path::Path::new("escaped.csv").exists());
}

fn outcome(answer: &Result<Result<crate::Rows, ApiError>, tokio::time::error::Elapsed>) -> String {
    match answer {
        Ok(Ok(_)) => "answered".to_owned(),
        Ok(Err(error)) => error.code.clone(),
        Err(_) => "no end".to_owned(),
    }
}

/// Asks `select 1` until the attack is over, and gives the longest that it took.
async fn ask_until(neighbour: &Caller, over: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::SeqCst) {
        let started = Instant::now();
        let rows = neighbour.try_sql("select 1").await;
        slowest = slowest.max(started.elapsed());
        assert_eq!(rows.expect("a neighbour is answered"), json!([[1]]));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    slowest
}

async fn watch(warehouse: &Warehouse, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        assert_eq!(warehouse.page("/healthz").await.0, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_costs_time_and_not_the_answer() {
    let warehouse = shop().await;
    warehouse.sql("select 1").await;

    assert!(warehouse.kill_worker() > 0);

    assert_eq!(warehouse.sql("select sum(pieces) from shop.sales").await, json!([[9]]));
}

#[tokio::test]
async fn a_sort_that_does_not_fit_in_memory_goes_to_disk() {
    let warehouse = Warehouse::start().await;
    // About 1.6 GB of rows, sorted in whatever a worker is given by default or less.
    let sql = "select count(*), max(r) from (select row_number() over (order by k desc, value) as r from \
        (select value, lpad(cast((value * 7919) % 10000019 as varchar), 60, 'x') as k from generate_series(1, 12000000)))";

    let answer = warehouse.ask(json!({ "sql": sql, "timeout_ms": 300_000 })).await;

    match answer {
        Ok(rows) => assert_eq!(rows, json!([[12_000_000, 12_000_000]])),
        Err(error) => assert_eq!(error.code, "out_of_memory", "{error}"),
    }
}

#[tokio::test]
async fn a_statement_longer_than_the_limit_is_too_large() {
    let warehouse = Warehouse::start().await;

    let long = warehouse.refused(&format!("select '{}'", "x".repeat(1_500_000))).await;
    // The gateway does not read this to its end, so its sender may hear nothing but that the line is closed.
    let longer = format!("select '{}'", "x".repeat(20_000_000));
    let longer = warehouse
        .request(reqwest::Method::POST, "/v1/sql")
        .body(longer)
        .send()
        .await;

    assert!(long.is_one_of(&["too_large", "too_complex"]), "{long}");
    assert!(longer.is_err() || longer.is_ok_and(|response| response.status() == 413));
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn bodies_that_unpack_without_end_are_refused() {
    let warehouse = Warehouse::start().await;
    let bomb = zstd::encode_all(std::io::repeat(b' ').take(200_000_000), 19).expect("memory is always writable");

    let request = warehouse
        .request(reqwest::Method::POST, "/v1/sql")
        .header("content-encoding", "zstd")
        .body(bomb);
    let status = request.send().await.expect("the gateway answers").status().as_u16();

    assert!((400..500).contains(&status), "{status}");
    assert_eq!(warehouse.page("/healthz").await.0, 200);
}

#[tokio::test]
async fn more_callers_than_places_wait_or_are_told_to_come_back() {
    let warehouse = shop().await;

    let answers =
        futures::future::join_all((0..64).map(|_| warehouse.try_sql("select sum(pieces) from shop.sales"))).await;

    for answer in answers {
        match answer {
            Ok(rows) => assert_eq!(rows, json!([[9]])),
            Err(error) => assert!(matches!(error.status, 429 | 503), "{error}"),
        }
    }
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}
