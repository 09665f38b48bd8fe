//! Queries as resources: create, wait, look, page, cancel, list.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{Warehouse, eventually, shop};

/// Runs until somebody stops it.
const ENDLESS: &str = "select count(*) from generate_series(1, 10000000000) a where value % 7 = 3";

fn id_of(query: &Value) -> String {
    query["id"].as_str().expect("a query has an id").to_owned()
}

#[tokio::test]
async fn a_query_that_ends_in_time_is_answered_with_its_end() {
    let warehouse = shop().await;

    let query = warehouse
        .query(json!({ "sql": "select product from shop.sales order by 1" }))
        .await
        .expect("the query runs");

    assert_eq!(query["state"], "done");
    assert_eq!(query["kind"], "select");
    assert_eq!(query["rows"], 4);
    assert_eq!(query["sql"], "select product from shop.sales order by 1");
    assert_eq!(query["schema"][0]["name"], "product");
    assert_eq!(query["usage"]["rows_returned"], 4);
    assert!(id_of(&query).starts_with("q_"));
    for instant in ["created_at", "started_at", "ended_at", "results_expire_at"] {
        assert!(
            query[instant].as_str().is_some_and(|text| text.ends_with('Z')),
            "{instant}: {query}"
        );
    }
}

#[tokio::test]
async fn a_query_that_takes_longer_is_accepted_and_can_be_watched() {
    let warehouse = Warehouse::start().await;

    let request = warehouse
        .request(Method::POST, "/v1/queries")
        .json(&json!({ "sql": ENDLESS, "wait_ms": 0 }));
    let response = request.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    let query: Value = response.json().await.expect("a query is JSON");
    let id = id_of(&query);

    assert_eq!(status, 202);
    eventually("the query runs and says for how long", async || {
        let query = warehouse
            .get(&format!("/v1/queries/{id}"))
            .await
            .expect("the query is there");
        query["state"] == "running"
            && query["progress"]["elapsed_ms"]
                .as_u64()
                .is_some_and(|elapsed| elapsed > 0)
    })
    .await;
    warehouse
        .post(&format!("/v1/queries/{id}/cancel"), json!({}))
        .await
        .expect("a running query can be cancelled");
}

#[tokio::test]
async fn a_cancelled_query_stops_within_a_second_or_so_and_frees_its_worker() {
    let warehouse = Warehouse::start().await;
    let id = warehouse.send(ENDLESS).await;
    eventually("the query runs", async || {
        warehouse
            .get(&format!("/v1/queries/{id}"))
            .await
            .is_ok_and(|query| query["state"] == "running")
    })
    .await;

    let asked = Instant::now();
    warehouse
        .post(&format!("/v1/queries/{id}/cancel"), json!({}))
        .await
        .expect("a running query can be cancelled");
    let query = warehouse.ended(&id).await;

    assert_eq!(query["state"], "cancelled", "{query}");
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        asked.elapsed()
    );
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn cancelling_what_has_ended_changes_nothing() {
    let warehouse = Warehouse::start().await;
    let id = warehouse.sql("select 1").await.query_id();

    // Whether this is answered as success or as conflict, the query stays what it was.
    let _ = warehouse.post(&format!("/v1/queries/{id}/cancel"), json!({})).await;

    assert_eq!(
        warehouse
            .get(&format!("/v1/queries/{id}"))
            .await
            .expect("the query is there")["state"],
        "done"
    );
}

#[tokio::test]
async fn a_failed_query_tells_why() {
    let warehouse = shop().await;

    let planned = warehouse
        .query(json!({ "sql": "select cast(product as bigint) from shop.sales" }))
        .await
        .expect("it is accepted");

    assert_eq!(planned["state"], "failed");
    assert_eq!(planned["error"]["code"], "execution_failed");
    assert!(
        planned["error"]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    let results = warehouse
        .get(&format!("/v1/queries/{}/results", id_of(&planned)))
        .await
        .expect_err("a failed query has no results");
    assert!(results.status < 500, "{results}");
}

#[tokio::test]
async fn results_are_read_in_pages_and_read_again() {
    let warehouse = Warehouse::start().await;
    let sql = "select value as n, 'row ' || value as text from generate_series(1, 25000) order by n";
    let query = warehouse.query(json!({ "sql": sql })).await.expect("the query runs");
    let id = id_of(&query);

    for _ in 0..2 {
        let mut next = Some(0);
        let mut seen: Vec<i64> = Vec::new();
        while let Some(start) = next {
            let page = warehouse
                .get(&format!("/v1/queries/{id}/results?start_row={start}&max_rows=7001"))
                .await
                .expect("the results are there");
            assert_eq!(page["total_rows"], 25_000);
            assert_eq!(page["start_row"], start);
            seen.extend(
                page["rows"]
                    .as_array()
                    .expect("rows")
                    .iter()
                    .map(|row| row["n"].as_i64().expect("a number")),
            );
            next = page["next_start_row"].as_i64();
        }
        assert!(seen.iter().copied().eq(1..=25_000), "{} rows", seen.len());
    }
}

#[tokio::test]
async fn a_page_is_given_in_every_format() {
    let warehouse = Warehouse::start().await;
    let query = warehouse
        .query(json!({ "sql": "select value as n from generate_series(1, 10) order by n" }))
        .await
        .expect("it runs");
    let path = format!("/v1/queries/{}/results?start_row=3&max_rows=2", id_of(&query));

    let fetch = async |accept: &str| {
        let response = warehouse
            .request(Method::GET, &path)
            .header("accept", accept)
            .send()
            .await
            .expect("the gateway answers");
        assert!(response.status().is_success(), "{accept}");
        response.text().await.expect("text")
    };
    let csv = fetch("text/csv").await;
    let lines = fetch("application/x-ndjson").await;

    assert_eq!(csv.replace("\r\n", "\n"), "n\n4\n5\n");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    assert_eq!(lines[..2], [json!({"n": 4}), json!({"n": 5})]);
    assert_eq!(lines[2]["$end"]["next_start_row"], 5);
    assert_eq!(lines[2]["$end"]["total_rows"], 10);
}

#[tokio::test]
async fn a_page_has_at_least_one_row_and_at_most_a_hundred_thousand() {
    let warehouse = Warehouse::start().await;
    let sql = "select value as n from generate_series(1, 100005) order by n";
    let query = warehouse.query(json!({ "sql": sql })).await.expect("the query runs");
    let path = format!("/v1/queries/{}/results", id_of(&query));

    let none = warehouse
        .get(&format!("{path}?max_rows=0"))
        .await
        .expect_err("a page of no rows");
    let page = warehouse
        .get(&format!("{path}?max_rows=1000000"))
        .await
        .expect("the results are there");
    let csv = warehouse
        .request(Method::GET, &format!("{path}?max_rows=1000000"))
        .header("accept", "text/csv")
        .send()
        .await
        .expect("the gateway answers");

    assert_eq!((none.status, none.code.as_str()), (400, "invalid_request"));
    assert!(none.message.contains("max_rows"), "{none}");
    assert_eq!(page["rows"].as_array().map(Vec::len), Some(100_000));
    assert_eq!(page["next_start_row"], 100_000);
    assert_eq!(page["total_rows"], 100_005);
    let header = |name: &str| csv.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("wasmhouse-next-row"), Some("100000"));
    assert_eq!(header("wasmhouse-total-rows"), Some("100005"));
}

/// Whether the answer looks like success from its first byte to its last.
async fn is_whole(request: RequestBuilder) -> bool {
    match request.send().await {
        Ok(response) if response.status().is_success() => response.text().await.is_ok(),
        _ => false,
    }
}

#[tokio::test]
async fn rows_that_have_vanished_are_never_a_short_success() {
    let warehouse = Warehouse::start_with("queries.results_inline_kib = 0\n").await;
    let body = json!({ "sql": "select value as n from generate_series(1, 300000) order by n", "request_id": "gone" });
    let id = id_of(&warehouse.query(body.clone()).await.expect("the query runs"));
    let formats = ["application/json", "application/x-ndjson", "text/csv"];
    let page = |format: &str| {
        let path = format!("/v1/queries/{id}/results?start_row=1000&max_rows=1000");
        warehouse.request(Method::GET, &path).header("accept", format)
    };
    let again = |format: &str| {
        let request = warehouse.request(Method::POST, "/v1/sql").header("accept", format);
        request.json(&body)
    };
    for format in formats {
        assert!(
            is_whole(page(format)).await && is_whole(again(format)).await,
            "{format}"
        );
    }

    let objects = warehouse.files_in_bucket("results", "*");
    assert!(!objects.is_empty(), "the rows are in the bucket");
    for object in objects {
        std::fs::remove_file(object).expect("the bucket is a folder of ours");
    }

    for format in formats {
        assert!(!is_whole(page(format)).await, "a page as {format}");
        assert!(!is_whole(again(format)).await, "all rows as {format}");
    }
}

#[tokio::test]
async fn results_outlive_the_gateway() {
    let mut warehouse = Warehouse::start().await;
    let sql = "select value as n from generate_series(1, 50000) order by n";
    let small = id_of(
        &warehouse
            .query(json!({ "sql": "select 42 as n" }))
            .await
            .expect("it runs"),
    );
    let large = id_of(&warehouse.query(json!({ "sql": sql })).await.expect("it runs"));

    warehouse.kill().await;
    warehouse.restart().await;

    let page = warehouse
        .get(&format!("/v1/queries/{small}/results"))
        .await
        .expect("results last");
    assert_eq!(page["rows"], json!([{ "n": 42 }]));
    let page = warehouse
        .get(&format!("/v1/queries/{large}/results?start_row=49999&max_rows=10"))
        .await
        .expect("results last");
    assert_eq!(page["rows"], json!([{ "n": 50000 }]));
    assert_eq!(page["next_start_row"], Value::Null);
}

#[tokio::test]
async fn a_request_that_is_sent_again_runs_once() {
    let warehouse = shop().await;
    let body =
        json!({ "sql": "insert into shop.sales values (date '2026-02-01', 'fig', 1, 1)", "request_id": "order-1" });

    let first = warehouse.query(body.clone()).await.expect("the query runs");
    let second = warehouse.query(body).await.expect("the same query is found");

    assert_eq!(first["id"], second["id"]);
    assert_eq!(second["state"], "done");
    assert_eq!(
        warehouse
            .sql("select count(*) from shop.sales where product = 'fig'")
            .await,
        json!([[1]])
    );
}

#[tokio::test]
async fn a_request_id_that_means_two_things_is_a_conflict() {
    let warehouse = Warehouse::start().await;
    warehouse
        .query(json!({ "sql": "select 1", "request_id": "one" }))
        .await
        .expect("the query runs");

    let error = warehouse
        .query(json!({ "sql": "select 2", "request_id": "one" }))
        .await
        .expect_err("it was another query");

    assert_eq!((error.status, error.code.as_str()), (409, "conflict"));
}

#[tokio::test]
async fn requests_sent_at_once_with_one_id_make_one_query() {
    let warehouse = shop().await;
    let body =
        json!({ "sql": "insert into shop.sales values (date '2026-02-01', 'fig', 1, 1)", "request_id": "order-1" });

    let all = futures::future::join_all((0..8).map(|_| warehouse.query(body.clone()))).await;

    let mut ids: Vec<String> = all
        .into_iter()
        .map(|query| id_of(&query.expect("each is answered")))
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    warehouse.ended(&ids[0]).await;
    assert_eq!(
        warehouse
            .sql("select count(*) from shop.sales where product = 'fig'")
            .await,
        json!([[1]])
    );
}

#[tokio::test]
async fn queries_are_listed_newest_first_and_can_be_filtered() {
    let warehouse = shop().await;
    warehouse
        .query(json!({ "sql": "select 1", "labels": { "team": "red" } }))
        .await
        .expect("it runs");
    warehouse
        .query(json!({ "sql": "select 2", "labels": { "team": "blue" } }))
        .await
        .expect("it runs");
    warehouse
        .query(json!({ "sql": "select cast('x' as int) from shop.sales", "labels": { "team": "blue" } }))
        .await
        .expect("accepted");

    let sqls = async |filter: &str| -> Vec<String> {
        let page = warehouse
            .get(&format!("/v1/queries?{filter}"))
            .await
            .expect("a project lists its queries");
        let queries = page["queries"].as_array().expect("a list");
        queries
            .iter()
            .map(|query| query["sql"].as_str().unwrap_or_default().to_owned())
            .collect()
    };

    assert_eq!(sqls("label=team:red").await, ["select 1"]);
    assert_eq!(sqls("label=team:blue&state=done").await, ["select 2"]);
    assert_eq!(sqls("state=failed").await, ["select cast('x' as int) from shop.sales"]);
    assert_eq!(sqls("kind=select&state=done").await, ["select 2", "select 1"]);
    assert_eq!(sqls("kind=load").await.len(), 1);
}

#[tokio::test]
async fn a_long_list_of_queries_is_read_page_by_page() {
    let warehouse = Warehouse::start().await;
    for n in 0..7 {
        warehouse
            .query(json!({ "sql": format!("select {n}") }))
            .await
            .expect("it runs");
    }

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = warehouse
            .get(&format!("/v1/queries?limit=3{cursor}"))
            .await
            .expect("a page");
        let queries = page["queries"].as_array().expect("a list");
        assert!(queries.len() <= 3);
        seen.extend(queries.iter().map(id_of));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }

    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (7, 7));
}

#[tokio::test]
async fn a_list_shows_the_beginning_of_a_long_statement() {
    let warehouse = Warehouse::start().await;
    let sql = format!("select '{}' as text", "ü".repeat(3_000));
    let id = warehouse.sql(&sql).await.query_id();

    let page = warehouse.get("/v1/queries").await.expect("a page");
    let query = warehouse
        .get(&format!("/v1/queries/{id}"))
        .await
        .expect("the query is there");

    let beginning: String = sql.chars().take(2_000).collect();
    assert_eq!(page["queries"][0]["sql"], beginning);
    assert_eq!(query["sql"], sql);
}

#[tokio::test]
async fn a_deadline_ends_a_query() {
    let warehouse = Warehouse::start().await;

    let asked = Instant::now();
    let error = warehouse
        .ask(json!({ "sql": ENDLESS, "timeout_ms": 1000 }))
        .await
        .expect_err("it cannot end by itself");

    assert_eq!(error.code, "timeout");
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_query_and_it_is_settled() {
    let warehouse = Warehouse::start().await;

    let request = warehouse
        .request(Method::POST, "/v1/sql")
        .body(ENDLESS)
        .timeout(Duration::from_millis(1500))
        .send();
    assert!(request.await.is_err(), "an endless query has no answer");

    eventually("the query of a caller who left has ended", async || {
        let page = warehouse.get("/v1/queries").await.expect("a project lists its queries");
        page["queries"]
            .as_array()
            .is_some_and(|queries| queries.len() == 1 && queries[0]["state"] == "abandoned")
    })
    .await;
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_statement_run_through_the_short_door_is_a_query_too() {
    let warehouse = Warehouse::start().await;

    let id = warehouse.sql("select 1 as n").await.query_id();

    let query = warehouse
        .get(&format!("/v1/queries/{id}"))
        .await
        .expect("the query is there");
    assert_eq!(
        (query["state"].as_str(), query["sql"].as_str()),
        (Some("done"), Some("select 1 as n"))
    );
}

#[tokio::test]
async fn a_long_read_through_the_short_door_is_listed_and_can_be_cancelled() {
    let warehouse = Warehouse::start().await;
    let running = async || {
        let page = warehouse.get("/v1/queries?state=running").await.expect("a list");
        page["queries"][0]["id"].as_str().map(str::to_owned)
    };

    let cancelled = async {
        eventually("the query is listed", async || running().await.is_some()).await;
        let id = running().await.expect("it has no end");
        warehouse
            .post(&format!("/v1/queries/{id}/cancel"), json!({}))
            .await
            .expect("a running query can be cancelled");
    };
    let (asked, ()) = tokio::join!(warehouse.ask(json!({ "sql": ENDLESS })), cancelled);

    assert_eq!(asked.expect_err("it was cancelled").code, "cancelled");
}

#[tokio::test]
async fn an_id_that_is_none_is_not_found_and_not_a_crash() {
    let warehouse = Warehouse::start().await;

    for id in [
        "q_1",
        "nonsense",
        "q_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "%00",
        "q_00000000000070008000000000000000",
    ] {
        let error = warehouse.get(&format!("/v1/queries/{id}")).await.expect_err(id);
        assert!(matches!(error.status, 400 | 404), "{id}: {error}");
    }
}
