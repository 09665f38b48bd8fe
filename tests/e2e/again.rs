//! What is tried again, and how often: what a worker is to blame for, and never what the asker is.

use serde_json::json;

use crate::Warehouse;
use crate::workers::{THREE_WORKERS, numbers, runs_on_its_workers};

const ATTEMPTS: &str = "wasmhouse_attempts_total";

#[tokio::test]
async fn what_the_asker_is_to_blame_for_is_tried_once() {
    let warehouse = numbers(THREE_WORKERS).await;
    let pairs = "select count(*) from s.numbers a join s.numbers b on a.g = b.g where a.n + b.n > 7";

    for (body, code) in [
        (
            json!({ "sql": "select sum(1 / (n - 599999)) from s.numbers" }),
            "execution_failed",
        ),
        (json!({ "sql": "select sum(cast(t as date)) from s.numbers" }), ""),
        (json!({ "sql": "select nothing from s.numbers" }), ""),
        (
            json!({ "sql": "select sum(n) from s.numbers", "max_bytes": 1 }),
            "over_budget",
        ),
        (json!({ "sql": pairs, "timeout_ms": 300 }), "timeout"),
    ] {
        let before = warehouse.counted(ATTEMPTS).await;
        let error = warehouse.ask(body.clone()).await.expect_err("it has no answer");
        assert!(code.is_empty() || error.code == code, "{body}: {error}");
        assert_eq!(warehouse.counted(ATTEMPTS).await, before + 1, "{body}: {error}");
    }

    let before = warehouse.counted(ATTEMPTS).await;
    let id = warehouse.send(pairs).await;
    runs_on_its_workers(&warehouse, &id).await;
    warehouse
        .post(&format!("/v1/queries/{id}/cancel"), json!({}))
        .await
        .expect("it is cancelled");
    assert_eq!(warehouse.ended(&id).await["state"], "cancelled");
    assert_eq!(warehouse.counted(ATTEMPTS).await, before + 1);
}

/// A table that no compression makes small, in two files: 400,000 rows of 64 letters.
async fn letters(warehouse: &Warehouse) {
    warehouse.dataset("s").await;
    let rows =
        "select value as k, md5(cast(value as varchar)) || md5(cast(value + 1 as varchar)) as t from generate_series";
    warehouse
        .sql(&format!("create table s.letters as {rows}(1, 200000)"))
        .await;
    warehouse
        .sql(&format!("insert into s.letters {rows}(200001, 400000)"))
        .await;
}

#[tokio::test]
async fn a_join_that_one_worker_has_no_memory_for_is_done_by_all_that_it_may_have() {
    let warehouse = Warehouse::start_with(
        "[workers]\nmax = 8\nthreads = 1\nmemory_mib = 28\nprocess_mib = 1024\n[queries]\nworkers_max = 4\n",
    )
    .await;
    letters(&warehouse).await;
    let before = warehouse.counted(ATTEMPTS).await;

    let id = warehouse
        .send("select count(*) as n from s.letters x join s.letters y on x.k = y.k where x.t >= y.t")
        .await;

    assert_eq!(warehouse.ended(&id).await["state"], "done");
    let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await.expect("rows");
    assert_eq!(rows["rows"], json!([{ "n": 400_000 }]));
    assert_eq!(warehouse.counted(ATTEMPTS).await, before + 2);
    assert_eq!(warehouse.bills_of(&id).await.len(), 1);
}

#[tokio::test]
async fn a_sort_whose_partitions_have_too_little_memory_is_done_with_one() {
    let warehouse = Warehouse::start_with("[workers]\nthreads = 16\nmemory_mib = 24\nprocess_mib = 1024\n").await;
    letters(&warehouse).await;
    let before = warehouse.counted(ATTEMPTS).await;

    let half = warehouse
        .sql(
            "select count(*), count(distinct left(t, 1)) from (select t, row_number() over (order by t) as r from s.letters) \
             where r % 2 = 0",
        )
        .await;

    assert_eq!(half, json!([[200_000, 16]]));
    assert_eq!(warehouse.counted(ATTEMPTS).await, before + 2);
}

#[tokio::test]
async fn a_query_that_no_means_are_enough_for_is_told_so_after_its_second_attempt() {
    let warehouse = Warehouse::start_with(
        "[workers]\nmax = 4\nthreads = 2\nmemory_mib = 16\nprocess_mib = 1024\n[queries]\nworkers_max = 2\n",
    )
    .await;
    letters(&warehouse).await;
    let before = warehouse.counted(ATTEMPTS).await;

    let error = warehouse
        .refused("select count(*) from s.letters x join s.letters y on x.k = y.k where x.t >= y.t")
        .await;

    assert_eq!(error.code, "out_of_memory", "{error}");
    assert_eq!(warehouse.counted(ATTEMPTS).await, before + 2);
    let id = error.query_id.expect("the query");
    assert!(warehouse.bills_of(&id).await.is_empty());
}
