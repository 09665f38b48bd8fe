//! Queries of several workers: the same rows as of one, whatever becomes of the workers.

use serde_json::json;

use crate::{Warehouse, eventually, freeze_process, is_alive};

/// Every query that reads a MiB has three workers.
pub(super) const THREE_WORKERS: &str = "[workers]\nmax = 8\n[queries]\nworkers_max = 3\nmib_per_worker = 1\n";

/// How many rows the table of these tests has.
pub(super) const ROWS: u64 = 600_000;

/// A warehouse with a table of some MiB in two files.
pub(super) async fn numbers(settings: &str) -> Warehouse {
    let warehouse = Warehouse::start_with(settings).await;
    warehouse.dataset("s").await;
    let rows = "select value as n, value % 1000 as g, cast(value as varchar) as t from generate_series";
    warehouse
        .sql(&format!("create table s.numbers as {rows}(1, 300000)"))
        .await;
    warehouse
        .sql(&format!("insert into s.numbers {rows}(300001, 600000)"))
        .await;
    warehouse
}

/// Waits until a query has been given its three workers.
pub(super) async fn runs_on_its_workers(warehouse: &Warehouse, id: &str) {
    eventually("it runs on its workers", async || {
        let query = warehouse
            .get(&format!("/v1/queries/{id}"))
            .await
            .expect("the query is there");
        query["progress"]["phase"] == "running" && warehouse.worker_pids().len() >= 3
    })
    .await;
}

#[tokio::test]
async fn a_query_of_three_workers_has_the_rows_and_the_bill_of_one() {
    let warehouse = numbers(THREE_WORKERS).await;
    let alone = numbers("").await;

    for sql in [
        "select count(*), sum(n), min(t), max(t) from s.numbers",
        "select g, count(*), sum(n) from s.numbers group by g order by g limit 20",
        "select a.g, count(*) from s.numbers a join s.numbers b on a.n = b.n group by a.g order by a.g limit 7",
        "select n, t from s.numbers where n % 100003 = 0 order by n",
        "select g, n, rank() over (partition by g order by n desc) as r from s.numbers order by g, r limit 5",
        "select distinct g from s.numbers where g < 10 order by g",
        "select count(*) from (select n from s.numbers union all select g from s.numbers)",
        "select count(*) from s.numbers where n in (select g from s.numbers)",
        "select max(n) - (select avg(g) from s.numbers) from s.numbers",
        "select n from s.numbers order by t desc limit 3",
    ] {
        let (three, one) = (warehouse.sql(sql).await, alone.sql(sql).await);
        assert_eq!(three.rows, one.rows, "{sql}");
        assert_eq!(three.end["bytes_processed"], one.end["bytes_processed"], "{sql}");
    }
    warehouse
        .sql("create table s.copy as select * from s.numbers where n % 2 = 0")
        .await;
    assert_eq!(
        warehouse.sql("select count(*), count(distinct n) from s.copy").await,
        json!([[ROWS / 2, ROWS / 2]])
    );
    assert!(warehouse.worker_pids().len() > 3, "{:?}", warehouse.worker_pids());
}

#[tokio::test]
async fn settings_and_functions_of_a_query_hold_on_all_of_its_workers() {
    let warehouse = numbers(THREE_WORKERS).await;

    let spark = warehouse
        .ask(json!({
            "sql": "select count(distinct hex(g)) from s.numbers where hex(n) like '%F'",
            "settings": { "datafusion.sql_parser.dialect": "spark", "datafusion.execution.batch_size": "100" },
        }))
        .await;
    let json = warehouse
        .sql("select sum(json_get_int('{\"a\": ' || t || '}', 'a')) from s.numbers")
        .await;

    // The numbers that end in 15 in hexadecimal are odd, and every eighth of their last three digits is one of them.
    assert_eq!(spark.expect("a query in Spark's dialect"), json!([[125]]));
    assert_eq!(json, json!([[180_000_300_000_u64]]));
}

#[tokio::test]
async fn an_error_on_one_of_the_workers_is_the_error_of_the_query() {
    let warehouse = numbers(THREE_WORKERS).await;

    let error = warehouse.refused("select sum(1 / (n - 599999)) from s.numbers").await;

    assert_eq!(error.code, "execution_failed", "{error}");
    assert_eq!(warehouse.sql("select count(*) from s.numbers").await, json!([[ROWS]]));
}

#[tokio::test]
async fn a_query_whose_workers_are_killed_has_the_right_rows_and_one_line_in_the_ledger() {
    let warehouse = numbers(THREE_WORKERS).await;
    let heavy =
        "select count(*) as pairs from s.numbers a join s.numbers b on a.g = b.g where a.n + b.n > 7 and a.g < 400";
    let id = &warehouse.send(heavy).await;

    runs_on_its_workers(&warehouse, id).await;
    assert!(warehouse.kill_worker() >= 3);
    let ended = warehouse.ended(id).await;

    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(warehouse.ledger_of(id).await.len(), 1);
    let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await;
    // 600 rows of each of 400 groups, but for (1, 1), (2, 2) and (3, 3).
    assert_eq!(rows.expect("its rows")["rows"], json!([{ "pairs": 143_999_997 }]));
}

#[tokio::test]
async fn all_workers_of_a_query_write_files_and_each_row_is_there_once() {
    let warehouse = numbers(THREE_WORKERS).await;
    let made = warehouse
        .sql("create table s.copy as select n, t from s.numbers where n % 2 = 0")
        .await;
    let added = warehouse
        .sql("insert into s.copy select n, t from s.numbers where n % 2 = 1")
        .await;
    let exported = warehouse
        .post(
            "/v1/exports",
            json!({ "sql": "select n, t from s.numbers", "name": "all", "format": "csv" }),
        )
        .await
        .expect("an export");
    let exported = warehouse.ended(exported["id"].as_str().expect("an id")).await;

    assert_eq!(made, json!([[ROWS / 2]]));
    assert_eq!(added, json!([[ROWS / 2]]));
    assert_eq!(
        warehouse
            .sql("select count(*), count(distinct n), sum(n), min(t), max(t) from s.copy")
            .await,
        json!([[ROWS, ROWS, ROWS * (ROWS + 1) / 2, "1", "99999"]])
    );
    let table = warehouse.get("/v1/datasets/s/tables/copy").await.expect("a table");
    // Two statements, each with a file for each thread of its worker.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let alone_writes_at_most = Some(2 * threads);
    assert!(
        table["files"].as_u64() > alone_writes_at_most,
        "more than one worker has written: {table}"
    );
    assert_eq!(exported["state"], "done", "{exported}");
    let lines: usize = warehouse
        .files_in_bucket("", "csv")
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a text").lines().count() - 1)
        .sum();
    assert_eq!(lines as u64, ROWS);
}

#[tokio::test]
async fn a_value_that_a_table_cannot_hold_is_told_alike_by_whichever_worker_meets_it() {
    let warehouse = numbers(THREE_WORKERS).await;
    let alone = numbers("").await;

    for house in [&warehouse, &alone] {
        house.sql("create table s.strict (n bigint not null)").await;
        let error = house
            .refused("insert into s.strict select nullif(n, 599999) from s.numbers")
            .await;
        assert_eq!(error.code, "type_mismatch", "{error}");
        assert!(error.message.contains('n') && error.message.contains("NULL"), "{error}");
        assert_eq!(house.sql("select count(*) from s.strict").await, json!([[0]]));
    }
}

#[tokio::test]
async fn a_write_whose_workers_are_killed_is_done_again_and_leaves_no_row_twice() {
    let warehouse = numbers(THREE_WORKERS).await;
    let heavy = "create table s.pairs as select a.n as a, b.n as b from s.numbers a join s.numbers b on a.g = b.g \
                 where a.n % 10 = 0 and b.n < 12000";
    let id = &warehouse.send(heavy).await;

    runs_on_its_workers(&warehouse, id).await;
    warehouse.kill_worker();
    let ended = warehouse.ended(id).await;

    assert_eq!(ended["state"], "done", "{ended}");
    let pairs = warehouse.sql("select count(*), sum(a), sum(b) from s.pairs").await;
    let counted = warehouse
        .sql(
            "select count(*), sum(a.n), sum(b.n) from s.numbers a join s.numbers b on a.g = b.g \
             where a.n % 10 = 0 and b.n < 12000",
        )
        .await;
    assert_eq!(pairs.rows, counted.rows);
    assert_eq!(warehouse.ledger_of(id).await.len(), 1);
}

#[tokio::test]
async fn a_query_whose_workers_are_frozen_is_done_by_others_within_seconds() {
    let warehouse = numbers(THREE_WORKERS).await;
    let heavy = "select count(*) as pairs from s.numbers a join s.numbers b on a.g = b.g where a.n + b.n > 7";
    let id = &warehouse.send(heavy).await;
    runs_on_its_workers(&warehouse, id).await;
    let frozen = warehouse.worker_pids();

    for worker in &frozen {
        freeze_process(*worker);
    }
    let ended = warehouse.ended(id).await;

    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(warehouse.ledger_of(id).await.len(), 1);
    eventually(
        "of the frozen ones only those are left that nobody has asked for anything",
        async || frozen.iter().filter(|worker| is_alive(**worker)).count() <= frozen.len() - 3,
    )
    .await;
}
