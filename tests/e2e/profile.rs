//! How a query ran: told while it runs, and kept when it has ended.

use serde_json::{Value, json};

use crate::workers::{ROWS, THREE_WORKERS, numbers, runs_on_its_workers};
use crate::{Warehouse, eventually};

const BY_GROUP: &str = "select g, count(*) from s.numbers where n > 1 group by g";

/// Runs a statement and reads its profile.
async fn profile_of(warehouse: &Warehouse, sql: &str) -> Value {
    let id = warehouse.send(sql).await;
    assert_eq!(warehouse.ended(&id).await["state"], "done");
    warehouse
        .get(&format!("/v1/queries/{id}/profile"))
        .await
        .expect("a profile")
}

/// All operators of a profile.
fn operators(profile: &Value) -> Vec<&Value> {
    let stages = profile["stages"].as_array().expect("stages").iter();
    stages
        .flat_map(|stage| stage["operators"].as_array().expect("operators"))
        .collect()
}

fn sum(profile: &Value, name: &str) -> u64 {
    let numbers = operators(profile)
        .into_iter()
        .filter_map(|operator| operator[name].as_u64());
    numbers.sum()
}

#[tokio::test]
async fn a_query_of_one_worker_has_one_stage_that_says_what_each_operator_did() {
    let warehouse = numbers("").await;

    let profile = profile_of(&warehouse, BY_GROUP).await;

    assert_eq!(profile["stages"].as_array().map(Vec::len), Some(1), "{profile}");
    assert_eq!(profile["stages"][0]["operators"][0]["rows"], 1000);
    assert_eq!(profile["is_complete"], true);
    let scans: Vec<&Value> = operators(&profile)
        .into_iter()
        .filter(|operator| operator["name"] == "DataSourceExec")
        .collect();
    let [scan] = scans.as_slice() else {
        panic!("one table, one scan: {profile}")
    };
    assert!(scan["rows"].as_u64() >= Some(ROWS - 1), "{scan}");
    assert!(scan["bytes_read"].as_u64() > Some(0), "{scan}");
    assert_eq!(sum(&profile, "bytes_shuffled"), 0);
}

#[tokio::test]
async fn a_query_of_three_workers_has_stages_of_tasks_that_add_up_to_its_usage() {
    let warehouse = numbers(THREE_WORKERS).await;

    let profile = profile_of(&warehouse, BY_GROUP).await;
    let queries = warehouse.get("/v1/queries?limit=1").await.expect("a list");
    let usage = &queries["queries"][0]["usage"];

    assert_eq!(profile["is_complete"], true, "{profile}");
    let stages = profile["stages"].as_array().expect("stages");
    assert!(stages.len() >= 3, "scan, aggregate, head: {profile}");
    assert!(
        stages.iter().any(|stage| stage["tasks"].as_u64() >= Some(2)),
        "somebody else had a share: {profile}"
    );
    let reads: Vec<u64> = operators(&profile)
        .into_iter()
        .filter_map(|operator| operator["reads_stage"].as_u64())
        .collect();
    assert_eq!(
        reads.len(),
        stages.len() - 1,
        "each stage but the head's is read by one: {profile}"
    );
    for operator in operators(&profile) {
        let shares = operator["tasks"].as_array().into_iter().flatten();
        let shares: Vec<u64> = shares.filter_map(|share| share["rows"].as_u64()).collect();
        if !shares.is_empty() {
            assert_eq!(Some(shares.iter().sum()), operator["rows"].as_u64(), "{operator}");
        }
    }
    for number in ["bytes_shuffled", "bytes_spilled"] {
        assert_eq!(Some(sum(&profile, number)), usage[number].as_u64(), "{number}");
    }
    // Besides what operators read there are logs and footers.
    assert!(
        usage["bytes_read"].as_u64() > Some(sum(&profile, "bytes_read")),
        "{usage}"
    );
    assert!(sum(&profile, "bytes_shuffled") > 0, "{profile}");
}

#[tokio::test]
async fn a_query_says_what_was_read_of_the_bucket_and_what_its_workers_still_knew() {
    for settings in ["", THREE_WORKERS] {
        let warehouse = numbers(settings).await;
        let sums = "select sum(n) from s.numbers";
        let usage_of = async |sql: &str| {
            let id = warehouse.send(sql).await;
            warehouse.ended(&id).await["usage"].clone()
        };
        let number = |usage: &Value, name: &str| usage[name].as_u64().expect("a number");

        let first = usage_of(sums).await;
        // Whoever reads it again has the footers, and reads rows alone.
        eventually("a worker reads what it has read before", async || {
            let again = usage_of(sums).await;
            assert!(
                number(&again, "bytes_read") > 0 && number(&again, "read_requests") > 0,
                "{again}"
            );
            assert_eq!(
                again["bytes_processed"], first["bytes_processed"],
                "caches change no bill"
            );
            number(&again, "bytes_cached") > 0
        })
        .await;
        let nothing = usage_of("select 1").await;

        for name in ["bytes_read", "bytes_cached", "read_requests"] {
            assert_eq!(number(&nothing, name), 0, "{name}: {nothing}");
        }
    }
}

#[tokio::test]
async fn progress_counts_the_tasks_and_the_bytes_of_all_workers() {
    let warehouse = numbers(THREE_WORKERS).await;
    let heavy = "select count(*) from s.numbers a join s.numbers b on a.g = b.g where a.n + b.n > 7";
    let id = &warehouse.send(heavy).await;
    runs_on_its_workers(&warehouse, id).await;

    eventually("the scans are done and the join is not", async || {
        let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("the query");
        let number = |name: &str| query["progress"][name].as_u64().unwrap_or(0);
        assert_ne!(query["state"], "done", "it ended before anybody saw it at work");
        let is_half_done = number("tasks_done") > 0 && number("tasks_done") < number("tasks");
        is_half_done && number("stages") > 1 && number("bytes_read") > 0
    })
    .await;
    let cancelled = warehouse.post(&format!("/v1/queries/{id}/cancel"), json!({})).await;

    let usage = &cancelled.expect("cancelled")["usage"];
    assert!(usage["cpu_ms"].as_u64() > Some(0), "what it used is known: {usage}");
    assert_eq!(usage["bytes_processed"], 0, "and costs nothing: {usage}");
    assert!(warehouse.bills_of(id).await.is_empty());
}

#[tokio::test]
async fn a_query_that_failed_says_what_it_used_and_how_far_it_came() {
    for settings in ["", THREE_WORKERS] {
        let warehouse = numbers(settings).await;
        let id = warehouse.send("select sum(1 / (n - 599999)) from s.numbers").await;

        let ended = warehouse.ended(&id).await;
        let profile = warehouse
            .get(&format!("/v1/queries/{id}/profile"))
            .await
            .expect("a profile");

        assert_eq!(ended["state"], "failed");
        assert!(ended["usage"]["cpu_ms"].as_u64() > Some(0), "{ended}");
        assert!(!operators(&profile).is_empty());
        assert!(warehouse.bills_of(&id).await.is_empty());
        let counted = warehouse.page("/metrics").await.1;
        assert!(
            counted.lines().any(|line| {
                let unbilled = line.strip_prefix("wasmhouse_worker_cpu_milliseconds_total{billed=\"no\"} ");
                unbilled.is_some_and(|number| number != "0")
            }),
            "{counted}"
        );
    }
}

#[tokio::test]
async fn explain_analyze_shows_the_stages_of_all_workers() {
    let warehouse = numbers(THREE_WORKERS).await;

    for (sql, operator) in [
        (BY_GROUP, "AggregateExec"),
        ("select n from s.numbers limit 3", "limit=3"),
    ] {
        let plan = warehouse.sql(&format!("explain analyze {sql}")).await;
        let text = json!(plan.rows).to_string();
        assert!(text.contains(operator) && text.contains("output_rows"), "{text}");
        assert!(sql != BY_GROUP || text.contains("Stage"), "{text}");
    }
}

#[tokio::test]
async fn there_is_no_profile_of_a_query_that_runs_or_had_no_plan_or_is_somebody_elses() {
    let warehouse = Warehouse::start().await;
    let other = warehouse.project("other").await;
    let constant = warehouse.send("select 1").await;
    warehouse.ended(&constant).await;
    let path = |id: &str| format!("/v1/queries/{id}/profile");

    let none = warehouse.get(&path(&constant)).await.expect_err("no plan");
    let theirs = other.get(&path(&constant)).await.expect_err("not theirs");
    let long = warehouse
        .send("select count(*) from generate_series(1, 90000) a, generate_series(1, 90000) b where a.value <> b.value")
        .await;
    let running = warehouse.get(&path(&long)).await.expect_err("it runs");

    assert_eq!((none.code.as_str(), theirs.code.as_str()), ("not_found", "not_found"));
    assert!(none.message.contains("has no profile"), "{none}");
    assert!(theirs.message.contains("no query"), "{theirs}");
    assert!(running.message.contains("has not ended"), "{running}");
}
