//! Hostile SQL: a few bytes of it may cost its sender an error, and nobody else anything.
//!
//! Every statement here has killed or frozen a query engine. Each must end in an answer or in an error that says what
//! was wrong, within two seconds of its budget, while the gateway stays the same process and a neighbour's `select 1`
//! is answered as if nothing were happening. A worker may die of it; that is what workers are for.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{ApiError, Caller, Warehouse, shop};

/// What a statement is given.
const BUDGET: Duration = Duration::from_secs(5);
/// What it may take beyond that.
const GRACE: Duration = Duration::from_secs(2);
/// The slowest that a neighbour's `select 1` may be, on a machine of two cores that both work for somebody else.
const NEIGHBOURS_PATIENCE: Duration = Duration::from_secs(3);

/// Errors that a statement may end in. `internal` and `unavailable` are not among them: they would say that we broke.
const TYPED: [&str; 12] = [
    "invalid_sql",
    "invalid_request",
    "unknown_column",
    "unknown_function",
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

/// A query of 900 tables with a name, which each of so many others reads.
fn named_and_read(count: usize) -> String {
    let tables: Vec<String> = (0..900).map(|n| format!("(select 1 from t{n})")).collect();
    let mut sql = format!("with c as (select {})", tables.join(", "));
    for n in 0..count {
        sql.push_str(&format!(", d{n} as (select 1 from c)"));
    }
    format!("{sql} select * from d0")
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
        ("131,000 explains", repeated("", "explain ", 131_000, "select 1")),
        ("100,000 types in each other", format!("select cast(1 as {}int{})", "nullable(".repeat(100_000), ")".repeat(100_000))),
        ("100,000 types in angle brackets", format!("select cast(1 as {}int{})", "array<".repeat(100_000), ">".repeat(100_000))),
        ("500,000 brackets of a type", repeated("select cast(1 as int", "[]", 500_000, ")")),
        ("110,000 intervals", repeated("select ", "interval ", 110_000, "'1 day'")),
        ("50,000 terms of is distinct from", repeated("select 1", " is distinct from 1", 50_000, "")),
        ("30,000 cases added up", repeated("select case when 1 then 1 end", " + case when 1 then 1 end", 30_000, "")),
        ("25,000 keywords as names", repeated("select 1", " + from + where + select + join", 25_000, "")),
        ("40 chains in each other", format!("select {}1{}", "(".repeat(40), format!("{})", " + 1".repeat(900)).repeat(40))),
        // What the parser tries twice at each level: its time.
        ("40 casts in each other", format!("select {}1{}", "cast(".repeat(40), ")".repeat(40))),
        ("40 cases in each other", format!("select {}1{}", "case(".repeat(40), ")".repeat(40))),
        ("40 extracts in each other", format!("select {}1{}", "extract(".repeat(40), ")".repeat(40))),
        ("40 casts around half a megabyte", format!("select {}'{}'{}", "cast(".repeat(40), "x".repeat(500_000), ")".repeat(40))),
        ("40 brackets in from, twice each", repeated("select * from ", "((select * from ", 20, "t t t t")),
        ("half a megabyte of spaces in a cast", format!("select {}{}1", "cast(".repeat(40), " ".repeat(500_000))),
        // Wide and doubling statements: the planner's time.
        ("250 terms of +", repeated("select 1", "+1", 249, "")),
        ("500 terms of +", repeated("select 1", "+1", 499, "")),
        ("1,000 terms of +", repeated("select 1", "+1", 999, "")),
        ("2,000 terms of +", repeated("select 1", "+1", 2_000, "")),
        ("union all of 800", repeated("select 1", " union all select 1", 800, "")),
        ("union all of 2,000", repeated("select 1", " union all select 1", 2_000, "")),
        ("names for queries, doubled 12 times", doubling(12)),
        ("names for queries, doubled 22 times", doubling(22)),
        ("names for queries, doubled 60 times", doubling(60)),
        ("30,000 names for queries that read one of 900 tables", named_and_read(30_000)),
        ("a join of 2,000 by commas", repeated("select count(*) from (select 1) a", ", (select 1) b", 2_000, "")),
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
    let (over, is_over) = watch::channel(false);

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
        over.send_replace(true);
        broken
    };
    let (broken, slowest, ()) = tokio::join!(
        attack,
        ask_until(&neighbour, is_over.clone()),
        look_until(&warehouse, is_over)
    );

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
async fn ask_until(neighbour: &Caller, mut over: watch::Receiver<bool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !is_over_within(&mut over, Duration::from_millis(50)).await {
        let started = Instant::now();
        let rows = neighbour.try_sql("select 1").await;
        slowest = slowest.max(started.elapsed());
        assert_eq!(rows.expect("a neighbour is answered"), json!([[1]]));
    }
    slowest
}

/// Looks whether the gateway is well until the attack is over.
async fn look_until(warehouse: &Warehouse, mut over: watch::Receiver<bool>) {
    while !is_over_within(&mut over, Duration::from_millis(200)).await {
        assert_eq!(warehouse.page("/healthz").await.0, 200);
    }
}

/// Waits for the end of the attack, but not longer than this.
async fn is_over_within(over: &mut watch::Receiver<bool>, patience: Duration) -> bool {
    tokio::time::timeout(patience, over.wait_for(|over| *over))
        .await
        .is_ok()
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
    // Rows of about 350 MB, sorted by one thread in a third of that.
    let warehouse = Warehouse::start_with("[workers]\nmemory_mib = 128\n").await;
    let rows =
        "select value, lpad(cast((value * 7919) % 10000019 as varchar), 60, 'x') as k from generate_series(1, 4000000)";
    let sorted = format!("select row_number() over (order by k desc, value) as r from ({rows})");
    let ask = async |sql: String| {
        let settings = json!({ "datafusion.execution.target_partitions": "1" });
        warehouse
            .ask(json!({ "sql": sql, "settings": settings, "timeout_ms": 300_000 }))
            .await
            .expect("what does not fit in memory fits on the disk")
    };

    let answer = ask(format!("select count(*), max(r) from ({sorted})")).await;
    let plan = ask(format!("explain analyze {sorted}")).await;

    assert_eq!(answer, json!([[4_000_000, 4_000_000]]));
    let plan: Vec<&str> = plan.rows.iter().flatten().filter_map(Value::as_str).collect();
    let sort = plan
        .iter()
        .flat_map(|text| text.lines())
        .find(|line| line.contains("SortExec"));
    let sort = sort.expect("the plan sorts");
    assert!(
        sort.contains("spill_count=") && !sort.contains("spill_count=0"),
        "{sort}"
    );
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

#[tokio::test]
async fn a_setting_cannot_change_how_the_text_is_read() {
    let warehouse = Warehouse::start().await;

    for (name, value) in [
        ("datafusion.sql_parser.enable_ident_normalization", "false"),
        ("datafusion.sql_parser.recursion_limit", "1000"),
        ("DATAFUSION.SQL_PARSER.RECURSION_LIMIT", "1000"),
    ] {
        let error = warehouse
            .ask(json!({ "sql": "select 1", "settings": { name: value } }))
            .await
            .expect_err(name);
        assert_eq!(error.code, "not_allowed", "{name}: {error}");
    }
}

#[tokio::test]
async fn a_setting_that_counts_something_has_bounds() {
    let warehouse = Warehouse::start().await;

    for (name, outside) in [
        ("datafusion.execution.batch_size", ["0", "65537"].as_slice()),
        ("datafusion.execution.target_partitions", &["0", "65537"]),
        ("datafusion.optimizer.max_passes", &["17"]),
    ] {
        for value in outside {
            let error = warehouse
                .ask(json!({ "sql": "select 1", "settings": { name: value } }))
                .await
                .expect_err(name);
            assert_eq!(error.code, "not_allowed", "{name}: {error}");
            assert!(error.message.contains(name), "{error}");
        }
        let rows = warehouse
            .ask(json!({ "sql": "select 1", "settings": { name: "1" } }))
            .await;
        assert_eq!(rows.expect("one is enough"), json!([[1]]));
    }
}

#[tokio::test]
async fn a_setting_may_say_how_files_are_scanned_and_not_what_is_made_of_them() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.t as select value as n, concat('row ', value) as text from generate_series(1, 1000)")
        .await;
    let sql = "select count(*), min(text) from shop.t where n > 990 and text like 'row %'";

    for scan in [
        "pushdown_filters",
        "reorder_filters",
        "bloom_filter_on_read",
        "enable_page_index",
        "pruning",
    ] {
        for value in ["true", "false"] {
            let settings = json!({ format!("datafusion.execution.parquet.{scan}"): value });
            let rows = warehouse.ask(json!({ "sql": sql, "settings": settings })).await;
            assert_eq!(rows.expect(scan), json!([[10, "row 1000"]]), "{scan} = {value}");
        }
    }
    for format in [
        "binary_as_string",
        "schema_force_view_types",
        "max_row_group_size",
        "coerce_int96",
    ] {
        let settings = json!({ format!("datafusion.execution.parquet.{format}"): "true" });
        let refused = warehouse.ask(json!({ "sql": sql, "settings": settings })).await;
        assert_eq!(refused.expect_err(format).code, "not_allowed", "{format}");
    }
}
