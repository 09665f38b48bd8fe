//! Queries of several workers: the same rows as of one, whatever becomes of the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use reqwest::Method;
use serde_json::{Value, json};

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
        .sql("create table s.few as select value as k from generate_series(1, 2000)")
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
async fn serve_is_told_how_many_workers_a_query_has_beside_its_first() {
    let mut warehouse = numbers("[queries]\nmib_per_worker = 1\n").await;
    let sql = "select g, count(*) as n from s.numbers group by g order by g limit 1";

    for further in [0, 1, 2] {
        warehouse.restart_with(&["--workers", &further.to_string()]).await;
        let id = warehouse.send(sql).await;
        warehouse.ended(&id).await;

        let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await.expect("rows");
        assert_eq!(rows["rows"], json!([{ "g": 0, "n": 600 }]));
        let profile = warehouse
            .get(&format!("/v1/queries/{id}/profile"))
            .await
            .expect("a profile");
        let stages = profile["stages"].as_array().into_iter().flatten();
        let most = stages.filter_map(|stage| stage["tasks"].as_u64()).max();
        assert_eq!(most, Some(1 + further), "{profile}");
    }
}

#[tokio::test]
async fn what_a_join_finds_out_on_one_worker_is_kept_from_the_scans_of_others() {
    let warehouse = numbers(THREE_WORKERS).await;

    // The key is wider than the column, and a filter of it was refused by whoever it was sent to late.
    let sql = "select count(*) from s.narrow a join s.few b on a.g = b.k where b.k % 1000 = 100";
    warehouse
        .sql("create table s.narrow as select cast(g as integer) as g, n from s.numbers")
        .await;
    let plan = warehouse.sql(&format!("explain analyze {sql}")).await;

    let text = plan.rows[0][1].as_str().expect("a plan");
    assert!(
        text.contains("HashJoinExec") && !text.contains("DynamicFilter"),
        "{text}"
    );
    assert_eq!(warehouse.sql(sql).await, json!([[600]]));
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
        "select n, rank() over (partition by g order by n) from s.numbers where g = 7 order by n limit 5",
        "select g, count(*) over (partition by g) from s.numbers where g in (1, 2) order by g, n limit 5",
        "select n, sum(n) over (partition by g order by n) from (select * from s.numbers order by g, n limit 1000) order by n limit 5",
        "select count(*) from (select n from s.numbers union all select g from s.numbers)",
        "select count(*) from s.numbers where n in (select g from s.numbers)",
        "select max(n) - (select avg(g) from s.numbers) from s.numbers",
        "select n from s.numbers order by t desc limit 3",
        // The engine takes a small table for one partition that has all there is.
        "select * from (select count(*) from s.few where k > 7) a, (select count(*), max(n) from s.numbers) b",
        "select count(*) from (select k from s.few limit 10) a cross join s.numbers b",
        "select count(*) from ((select k from s.few limit 10) union all select n from s.numbers)",
        "select count(*) from (select count(*) as c from s.few) a join s.numbers b on a.c = b.n",
        "select count(distinct a.n) from (select n from s.numbers limit 1000) a join s.numbers b on a.n = b.n",
        "select count(*) from (select g from s.numbers limit 100000)",
        "select max(r) from (select row_number() over (order by k) as r from s.few) a join s.numbers b on a.r = b.n",
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
async fn a_plan_that_cannot_be_sent_to_others_stays_with_one_worker() {
    let warehouse = numbers(THREE_WORKERS).await;

    for (setting, sql, rows) in [
        (
            "datafusion.optimizer.enable_piecewise_merge_join",
            "select count(*) from (select n from s.numbers where n < 300) a join s.numbers b on a.n < b.n",
            json!([[179_355_150]]),
        ),
        (
            "datafusion.optimizer.enable_window_topn",
            "select count(*), sum(n) from (select n, row_number() over (partition by g order by n) as r from s.numbers) \
             where r <= 2",
            json!([[2000, 2_001_000]]),
        ),
        (
            "datafusion.optimizer.prefer_existing_sort",
            "select count(*), max(r) from (select row_number() over (partition by g order by n) as r \
             from s.numbers where g = 7)",
            json!([[600, 600]]),
        ),
    ] {
        let asked = warehouse
            .ask(json!({ "sql": sql, "settings": { setting: "true" } }))
            .await;
        assert_eq!(asked.expect(setting), rows, "{setting}");
    }
    let long = "x".repeat(20_000);
    let asked = json!({ "sql": "select count(*) from s.numbers", "settings": { "datafusion.format.null": long } });
    assert_eq!(warehouse.ask(asked).await.expect("a long setting"), json!([[ROWS]]));
    let places = warehouse
        .sql("select count(*), max(file_row_index()), count(distinct file_row_index()) from s.numbers")
        .await;
    let (rows, last) = (places.rows[0][0].as_u64(), places.rows[0][1].as_u64());
    assert_eq!(rows, Some(ROWS));
    assert_eq!(
        places.rows[0][2].as_u64(),
        last.map(|last| last + 1),
        "every place of the longest file, from 0"
    );
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
    assert_eq!(warehouse.bills_of(id).await.len(), 1);
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

/// The numbers in a file of so many MiB that three workers share it, with what makes a row hard to find.
fn as_csv() -> String {
    let row = |n: u64| format!("{n},\"line\nof {n}, \"\"quoted\"\" and long enough\"\r\n");
    "n,t\n".to_owned() + &(1..=ROWS).map(row).collect::<String>()
}

fn as_json() -> String {
    let row = |n: u64| format!("{{\"n\": {n}, \"t\": \"line\\nof {n}, \\\"quoted\\\" and long enough\"}}\n");
    (1..=ROWS).map(row).collect()
}

fn as_batches() -> Vec<RecordBatch> {
    let starts = (1..=ROWS).step_by(50_000);
    let batch = |start: u64| {
        let numbers = start..start + 50_000;
        let texts = numbers
            .clone()
            .map(|n| format!("line\nof {n}, \"quoted\" and long enough"));
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from_iter_values(numbers.map(|n| n as i64)))),
            ("t", Arc::new(StringArray::from_iter_values(texts))),
        ];
        RecordBatch::try_from_iter(columns).expect("two columns")
    };
    starts.map(batch).collect()
}

fn as_parquet() -> Vec<u8> {
    let batches = as_batches();
    let mut file = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).expect("a file");
    for batch in &batches {
        file.write(batch).expect("written");
        file.flush().expect("a row group");
    }
    file.into_inner().expect("a file")
}

fn as_arrow() -> Vec<u8> {
    let batches = as_batches();
    let mut file = FileWriter::try_new(Vec::new(), &batches[0].schema()).expect("a file");
    batches.iter().for_each(|batch| file.write(batch).expect("written"));
    file.into_inner().expect("a file")
}

const ALL_OF_IT: &str = "select count(*), count(distinct n), sum(n), count(distinct t), min(t), max(t) from s.";

fn all_of_it() -> Value {
    let text = |n: u64| format!("line\nof {n}, \"quoted\" and long enough");
    json!([[ROWS, ROWS, ROWS * (ROWS + 1) / 2, ROWS, text(1), text(99_999)]])
}

#[tokio::test]
async fn all_workers_of_a_load_read_and_write_parts_of_the_file_and_each_row_is_there_once() {
    let warehouse = Warehouse::start_with(THREE_WORKERS).await;
    warehouse.dataset("s").await;

    for (format, file) in [
        ("csv", as_csv().into_bytes()),
        ("json", as_json().into_bytes()),
        ("parquet", as_parquet()),
        ("arrow", as_arrow()),
    ] {
        let bytes = file.len() as u64;
        let loaded = warehouse
            .load(&format!("s.{format}"), &format!("format={format}"), file)
            .await
            .expect("it fits");

        assert_eq!(loaded["usage"]["rows_written"], ROWS, "{format}");
        assert_eq!(
            loaded["usage"]["bytes_processed"], 0,
            "{format}: nothing of a table was read"
        );
        let read = loaded["usage"]["bytes_read"].as_u64().expect("bytes");
        // The engine asks for an Arrow file once for its columns and once for its rows.
        let times = if format == "arrow" { 3 } else { 2 };
        assert!(
            read >= bytes / 2 && read < times * bytes,
            "{format}: {read} of {bytes} bytes were read"
        );
        assert_eq!(
            warehouse.sql(&format!("{ALL_OF_IT}{format}")).await,
            all_of_it(),
            "{format}"
        );
        let table = warehouse
            .get(&format!("/v1/datasets/s/tables/{format}"))
            .await
            .expect("a table");
        // One worker writes one file of so few bytes, or what a reader of the engine's has.
        assert!(table["files"].as_u64() >= Some(3), "{format}: {table}");
    }
    assert!(warehouse.worker_pids().len() >= 3);
}

#[tokio::test]
async fn a_fault_of_a_file_is_named_with_its_line_by_whichever_worker_meets_it() {
    let warehouse = Warehouse::start_with(THREE_WORKERS).await;
    warehouse.dataset("s").await;
    let mut csv = as_csv();
    csv += "oh,dear\n";
    let mut json = as_json();
    json += "{\"n\": \"oh\", \"t\": \"dear\"}\n";

    for (format, file, line) in [("csv", csv, 2 * ROWS + 2), ("json", json, ROWS + 1)] {
        let options = format!("format={format}&schema=n%20BIGINT,t%20VARCHAR");
        let error = warehouse
            .load("s.t", &options, file)
            .await
            .expect_err("a number that is none");

        assert_eq!(error.code, "type_mismatch", "{error}");
        let expected = format!("line {line} of the file: column n holds ");
        assert!(error.message.contains(&expected), "{error}");
    }
    let error = warehouse
        .get("/v1/datasets/s/tables/t")
        .await
        .expect_err("nothing is there");
    assert_eq!(error.code, "not_found", "{error}");
}

#[tokio::test]
async fn a_load_whose_workers_are_killed_is_done_again_and_leaves_no_row_twice() {
    let warehouse = Warehouse::start_with(THREE_WORKERS).await;
    warehouse.dataset("s").await;
    let load = warehouse
        .request(Method::POST, "/v1/datasets/s/tables/t/load?format=csv&wait_ms=0")
        .body(as_csv())
        .send()
        .await
        .expect("an answer")
        .json::<Value>()
        .await
        .expect("a query");
    let id = load["id"].as_str().expect("an id");

    runs_on_its_workers(&warehouse, id).await;
    warehouse.kill_worker();
    let ended = warehouse.ended(id).await;

    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(warehouse.sql(&format!("{ALL_OF_IT}t")).await, all_of_it());
    assert_eq!(warehouse.bills_of(id).await.len(), 1);
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
    assert_eq!(warehouse.bills_of(id).await.len(), 1);
}

#[tokio::test]
async fn when_a_query_is_cancelled_none_of_its_workers_is_left_at_work() {
    let warehouse = numbers(THREE_WORKERS).await;
    let endless = "select count(*) from s.numbers a join s.numbers b on a.g = b.g join s.numbers c on b.g = c.g \
                   where a.n + b.n + c.n > 7";
    let id = &warehouse.send(endless).await;
    runs_on_its_workers(&warehouse, id).await;
    let at_work = warehouse.worker_pids();

    let asked = Instant::now();
    warehouse
        .post(&format!("/v1/queries/{id}/cancel"), json!({}))
        .await
        .expect("a running query can be cancelled");
    eventually(
        "its workers have ended; one more was warm for the next query",
        async || at_work.iter().filter(|worker| is_alive(**worker)).count() <= at_work.len() - 3,
    )
    .await;

    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        asked.elapsed()
    );
    assert_eq!(warehouse.ended(id).await["state"], "cancelled");
    assert_eq!(warehouse.bills_of(id).await.len(), 0, "and nobody pays for it");
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
    assert_eq!(warehouse.bills_of(id).await.len(), 1);
    eventually(
        "of the frozen ones only those are left that nobody has asked for anything",
        async || frozen.iter().filter(|worker| is_alive(**worker)).count() <= frozen.len() - 3,
    )
    .await;
}
