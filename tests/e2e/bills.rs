//! What a query costs before and after: dry runs, caps, and the ledger.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Warehouse, shop};

#[tokio::test]
async fn a_dry_run_tells_schema_bytes_and_tables_and_leaves_no_line() {
    let warehouse = shop().await;
    let before = warehouse.ledger().await.len();

    let dry = warehouse
        .dry_run("select product, sum(pieces) as n from shop.sales group by product")
        .await
        .expect("a dry run");

    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["schema"][1]["name"], "n");
    assert!(dry["bytes_processed"].as_u64().is_some_and(|bytes| bytes > 0), "{dry}");
    assert_eq!(dry["tables"][0]["name"], "shop.sales");
    let mut columns: Vec<&str> = dry["tables"][0]["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    columns.sort_unstable();
    assert_eq!(columns, ["pieces", "product"]);
    assert_eq!(dry["tables"][0]["files"], 1);
    assert_eq!(warehouse.ledger().await.len(), before);
}

#[tokio::test]
async fn a_dry_run_of_a_write_writes_nothing() {
    let warehouse = shop().await;

    warehouse
        .dry_run("insert into shop.sales select * from shop.sales")
        .await
        .expect("a dry run");
    warehouse
        .dry_run("create table shop.copy as select * from shop.sales")
        .await
        .expect("a dry run");
    warehouse.dry_run("drop table shop.sales").await.expect("a dry run");

    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
    assert_eq!(warehouse.refused("select * from shop.copy").await.code, "unknown_table");
}

#[tokio::test]
async fn a_finished_query_processed_what_its_dry_run_said() {
    let warehouse = shop().await;
    warehouse
        .sql("insert into shop.sales select day, 'kiwi', value, 1 from shop.sales, generate_series(1, 1000)")
        .await;

    for sql in [
        "select count(*) from shop.sales",
        "select sum(pieces) from shop.sales",
        "select product, pieces from shop.sales where price > 100",
        "select * from shop.sales limit 1",
        "select a.product from shop.sales a join shop.sales b on a.pieces = b.pieces where b.pieces = 3",
        "with s as (select product from shop.sales) select count(distinct product) from s",
        "select 1",
    ] {
        let dry = warehouse.dry_run(sql).await.expect("a dry run")["bytes_processed"].as_u64();
        let rows = warehouse.sql(sql).await;
        assert_eq!(dry, Some(rows.bytes_processed()), "{sql}");
    }
}

#[tokio::test]
async fn files_that_cannot_match_are_neither_read_nor_charged() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema log").await;
    warehouse.sql("create table log.lines (at bigint, text varchar)").await;
    for part in 0..4 {
        let from = part * 1000;
        let to = from + 999;
        warehouse
            .sql(&format!(
                "insert into log.lines select value, 'line' from generate_series({from}, {to})"
            ))
            .await;
    }

    let all = warehouse
        .dry_run("select sum(at) from log.lines")
        .await
        .expect("a dry run");
    let one = warehouse
        .dry_run("select sum(at) from log.lines where at between 2100 and 2200")
        .await
        .expect("a dry run");

    assert_eq!(all["tables"][0]["files"], 4);
    assert_eq!(one["tables"][0]["files"], 1);
    assert_eq!(
        one["bytes_processed"].as_u64().map(|bytes| bytes * 4),
        all["bytes_processed"].as_u64()
    );
    assert_eq!(all["bytes_processed"], 4 * 1000 * 8);
}

#[tokio::test]
async fn a_cap_refuses_before_anything_runs() {
    let warehouse = shop().await;
    let sql = "select sum(pieces) from shop.sales";
    let bytes = warehouse.dry_run(sql).await.expect("a dry run")["bytes_processed"]
        .as_u64()
        .expect("bytes");

    let under = warehouse.ask(json!({ "sql": sql, "max_bytes": bytes })).await;
    let error = warehouse
        .ask(json!({ "sql": sql, "max_bytes": bytes - 1 }))
        .await
        .expect_err("it would read more");
    let request = warehouse
        .request(Method::POST, &format!("/v1/sql?max_bytes={}", bytes - 1))
        .body(sql);
    let text = request.send().await.expect("the gateway answers");

    assert_eq!(under.expect("exactly the cap is within it"), json!([[9]]));
    assert_eq!(error.code, "over_budget");
    assert!(error.message.contains(&bytes.to_string()), "{error}");
    assert!(text.status().is_client_error());
    let id = error.query_id.expect("a refused query has an id");
    assert_eq!(
        warehouse.ledger_of(&id).await.len(),
        0,
        "nothing ran, so nothing is charged"
    );
}

#[tokio::test]
async fn every_finished_query_has_one_line_before_the_caller_reads_its_end() {
    let warehouse = shop().await;

    for n in 0..20 {
        let rows = warehouse
            .sql(&format!("select sum(pieces) + {n} from shop.sales"))
            .await;
        let lines = warehouse.ledger_of(&rows.query_id()).await;
        assert_eq!(lines.len(), 1, "query {n}");
        assert_eq!(lines[0]["usage"]["bytes_processed"], rows.bytes_processed());
        assert_eq!(lines[0]["usage"]["rows_returned"], 1);
    }
}

#[tokio::test]
async fn a_failed_query_is_not_charged() {
    let warehouse = shop().await;
    let before = warehouse.ledger().await.len();

    warehouse
        .refused("select cast(product as bigint) from shop.sales")
        .await;
    warehouse.refused("select nothing from shop.sales").await;
    warehouse.refused("selec").await;

    assert_eq!(warehouse.ledger().await.len(), before);
}

#[tokio::test]
async fn the_ledger_is_a_chain_that_a_tenant_can_follow() {
    let warehouse = shop().await;
    let statements: Vec<String> = (0..12)
        .map(|n| format!("select sum(pieces) + {n} from shop.sales"))
        .collect();
    futures::future::join_all(statements.iter().map(|sql| warehouse.sql(sql))).await;

    let lines = warehouse.ledger().await;

    assert!(lines.len() >= 13, "{} lines", lines.len());
    let mut before = lines[0]["prev_hash"].clone();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], index + 1, "numbers have no gap");
        assert_eq!(
            line["prev_hash"],
            before,
            "line {} does not follow the one before it",
            index + 1
        );
        before = line["hash"].clone();
    }
    let queries: BTreeSet<&str> = lines.iter().filter_map(|line| line["query_id"].as_str()).collect();
    assert_eq!(queries.len(), lines.len(), "a query is charged once");
}

#[tokio::test]
async fn each_project_has_a_ledger_of_its_own() {
    let warehouse = shop().await;
    let stranger = warehouse.project("acme").await;

    stranger.sql("select 1").await;

    let lines = stranger.ledger().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["seq"], 1);
}

#[tokio::test]
async fn the_same_query_costs_the_same_when_it_is_asked_again() {
    let warehouse = shop().await;
    let sql = "select product, sum(price) from shop.sales where pieces > 2 group by product";

    let first = warehouse.sql(sql).await.bytes_processed();
    let again = warehouse.sql(sql).await.bytes_processed();

    assert_eq!(first, again);
}
