//! Who may start: a full house is shared fairly, and says so at once when it is too full.

use serde_json::json;

use crate::{Warehouse, eventually};

/// Takes long enough for others to come meanwhile, and stops when it is told to.
const LONG: &str =
    "select count(*) from generate_series(1, 60000) a, generate_series(1, 60000) b where a.value <> b.value";

/// Takes a worker for a good part of a second.
const HEAVY: &str =
    "select count(*) from generate_series(1, 7000) a, generate_series(1, 7000) b where a.value < b.value";

#[tokio::test]
async fn a_project_with_a_long_queue_does_not_keep_a_neighbour_waiting() {
    let warehouse = Warehouse::start_with("[workers]\nmax = 2\nmax_per_project = 2\nthreads = 1\n").await;
    let neighbour = warehouse.project("neighbour").await;
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(warehouse.send(HEAVY).await);
    }

    for _ in 0..4 {
        assert_eq!(neighbour.sql("select 1").await, json!([[1]]));
    }

    let mut still = 0;
    for id in &ids {
        let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("the query");
        still += u32::from(query["state"] == "running" || query["state"] == "pending");
    }
    assert!(
        still > ids.len() as u32 / 3,
        "its four answers came before those of {still} heavy queries"
    );
    for id in &ids {
        assert_eq!(warehouse.ended(id).await["state"], "done");
    }
}

#[tokio::test]
async fn a_full_queue_answers_at_once_and_says_when_to_come_back() {
    let settings = "[workers]\nmax = 1\n[queries]\nqueue_max_per_project = 1\n";
    let warehouse = Warehouse::start_with(settings).await;
    let neighbour = warehouse.project("neighbour").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(warehouse.send(LONG).await);
    }
    eventually("one runs and one waits", async || {
        let mut phases = Vec::new();
        for id in &ids {
            let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("the query");
            phases.push(query["progress"]["phase"].as_str().unwrap_or_default().to_owned());
        }
        phases.sort();
        phases == ["queued", "running"]
    })
    .await;

    let refused = warehouse
        .request(reqwest::Method::POST, "/v1/sql")
        .body("select 1")
        .send()
        .await
        .expect("an answer");
    let waits = neighbour.query(json!({ "sql": "select 1", "wait_ms": 0 })).await;

    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
    let error: serde_json::Value = refused.json().await.expect("an error");
    assert_eq!(error["error"]["code"], "busy", "{error}");
    let message = error["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("and its queue is full"), "{message}");
    let waits = waits.expect("a neighbour has a queue of his own");
    for id in &ids {
        warehouse
            .post(&format!("/v1/queries/{id}/cancel"), json!({}))
            .await
            .expect("it is stopped");
    }
    let ended = neighbour.ended(waits["id"].as_str().expect("an id")).await;
    assert_eq!(ended["state"], "done", "{ended}");
}

#[tokio::test]
async fn workers_that_are_idle_end_but_for_one() {
    let settings = "[workers]\nmax = 4\nidle_s = 0\n[upkeep]\nevery_s = 1\n";
    let warehouse = Warehouse::start_with(settings).await;
    let queries = [HEAVY; 3].map(|sql| warehouse.sql(sql));
    futures::future::join_all(queries).await;

    eventually("one worker is left", async || warehouse.worker_pids().len() == 1).await;
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_warm_worker_that_died_is_replaced_before_anybody_asks() {
    let warehouse = Warehouse::start_with("[upkeep]\nevery_s = 1\n").await;
    let before = warehouse.worker_pids();
    assert_eq!(warehouse.kill_worker(), 1);

    eventually("another one is there", async || {
        let now = warehouse.worker_pids();
        now.len() == 1 && now != before
    })
    .await;
}
