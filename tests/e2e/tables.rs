//! Datasets and tables as resources.

use serde_json::{Value, json};

use crate::{Warehouse, shop};

fn names(answer: &Value, list: &str) -> Vec<String> {
    let items = answer[list]
        .as_array()
        .unwrap_or_else(|| panic!("no list {list} in {answer}"));
    let mut names: Vec<String> = items
        .iter()
        .map(|item| item["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn datasets_are_created_listed_and_deleted() {
    let warehouse = Warehouse::start().await;

    warehouse
        .post("/v1/datasets", json!({ "name": "red" }))
        .await
        .expect("a new name");
    warehouse
        .post("/v1/datasets", json!({ "name": "blue" }))
        .await
        .expect("a new name");
    let again = warehouse
        .post("/v1/datasets", json!({ "name": "red" }))
        .await
        .expect_err("the name is taken");
    let listed = names(&warehouse.get("/v1/datasets").await.expect("a list"), "datasets");
    warehouse.delete("/v1/datasets/blue").await.expect("an empty dataset");
    let gone = warehouse.delete("/v1/datasets/blue").await.expect_err("it is gone");

    assert!(
        listed.contains(&"red".to_owned()) && listed.contains(&"blue".to_owned()),
        "{listed:?}"
    );
    assert_eq!((again.status, again.code.as_str()), (409, "already_exists"));
    assert_eq!((gone.status, gone.code.as_str()), (404, "not_found"));
    assert!(!names(&warehouse.get("/v1/datasets").await.expect("a list"), "datasets").contains(&"blue".to_owned()));
}

#[tokio::test]
async fn a_dataset_with_tables_is_deleted_only_with_cascade() {
    let warehouse = shop().await;

    let refused = warehouse.delete("/v1/datasets/shop").await.expect_err("it has a table");
    warehouse
        .delete("/v1/datasets/shop?cascade=true")
        .await
        .expect("with everything in it");

    assert_eq!((refused.status, refused.code.as_str()), (409, "conflict"));
    assert_eq!(
        warehouse
            .get("/v1/datasets/shop/tables")
            .await
            .expect_err("it is gone")
            .status,
        404
    );
}

#[tokio::test]
async fn a_table_is_created_described_and_deleted() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let schema = json!([
        { "name": "id", "type": "BIGINT", "nullable": false },
        { "name": "price", "type": "DECIMAL(10,2)", "nullable": true },
        { "name": "at", "type": "TIMESTAMP", "nullable": true },
    ]);

    warehouse
        .post("/v1/datasets/shop/tables", json!({ "name": "t", "schema": schema }))
        .await
        .expect("a new table");
    let again = warehouse
        .post("/v1/datasets/shop/tables", json!({ "name": "t", "schema": schema }))
        .await;
    let table = warehouse
        .get("/v1/datasets/shop/tables/t")
        .await
        .expect("the table is there");
    warehouse
        .sql("insert into shop.t values (1, 1.5, '2026-01-01T00:00:00')")
        .await;
    warehouse
        .delete("/v1/datasets/shop/tables/t")
        .await
        .expect("the table is there");

    assert_eq!(table["kind"], "table");
    assert_eq!(table["schema"], schema);
    assert_eq!(table["rows"], 0);
    assert_eq!(again.expect_err("the name is taken").code, "already_exists");
    assert_eq!(
        warehouse
            .get("/v1/datasets/shop/tables/t")
            .await
            .expect_err("it is gone")
            .status,
        404
    );
}

#[tokio::test]
async fn a_description_counts_rows_bytes_files_and_versions() {
    let warehouse = shop().await;
    warehouse
        .sql("insert into shop.sales values (date '2026-01-04', 'fig', 2, 1.0)")
        .await;

    let table = warehouse
        .get("/v1/datasets/shop/tables/sales")
        .await
        .expect("the table is there");

    assert_eq!(table["name"], "shop.sales");
    assert_eq!(table["rows"], 5);
    assert_eq!(table["files"], 2);
    assert!(table["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    // Five days of 4 bytes, five products of 2 bytes and their letters, four counts and five prices of 8 bytes.
    let letters = "applepearappleplum, driedfig".len() as u64;
    assert_eq!(table["logical_bytes"], 5 * 4 + 5 * 2 + letters + 4 * 8 + 5 * 8);
    assert!(table["version"].as_u64().is_some_and(|version| version >= 1));
    assert!(
        table["location"]
            .as_str()
            .is_some_and(|location| location.contains("shop/sales")),
        "{table}"
    );
    assert!(table["created_at"].as_str().is_some_and(|text| text.ends_with('Z')));
}

#[tokio::test]
async fn every_version_names_the_query_that_made_it() {
    let warehouse = shop().await;
    let insert = warehouse
        .sql("insert into shop.sales values (date '2026-01-04', 'fig', 2, 1.0)")
        .await
        .query_id();
    let truncate = warehouse.sql("truncate table shop.sales").await.query_id();

    let history = warehouse
        .get("/v1/datasets/shop/tables/sales/versions")
        .await
        .expect("a history");

    let versions = history["versions"].as_array().expect("versions").clone();
    let of = |query: &str| versions.iter().filter(|version| version["query_id"] == query).count();
    assert_eq!(
        (of(&insert), of(&truncate)),
        (1, 1),
        "one commit a statement: {versions:?}"
    );
    let mut numbers: Vec<u64> = versions
        .iter()
        .filter_map(|version| version["version"].as_u64())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert!(
        versions
            .iter()
            .all(|version| version["operation"].is_string() && version["at"].is_string()),
        "{versions:?}"
    );
}

#[tokio::test]
async fn tables_and_views_are_listed_together() {
    let warehouse = shop().await;
    warehouse
        .sql("create view shop.v as select product from shop.sales")
        .await;

    let listed = warehouse.get("/v1/datasets/shop/tables").await.expect("a list");
    let view = warehouse
        .get("/v1/datasets/shop/tables/v")
        .await
        .expect("the view is there");

    assert_eq!(names(&listed, "tables"), ["shop.sales", "shop.v"]);
    let kinds: Vec<&str> = listed["tables"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|table| table["kind"].as_str())
        .collect();
    assert!(kinds.contains(&"table") && kinds.contains(&"view"), "{kinds:?}");
    assert_eq!(view["kind"], "view");
    assert_eq!(view["schema"][0]["name"], "product");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let mut warehouse = shop().await;
    warehouse
        .sql("create view shop.apples as select * from shop.sales where product = 'apple'")
        .await;
    let before = warehouse.sql("select * from shop.sales order by price").await;

    assert!(warehouse.stop().await, "a gateway that is asked to end, ends well");
    warehouse.restart().await;

    let after = warehouse.sql("select * from shop.sales order by price").await;
    assert_eq!(before.rows, after.rows);
    assert_eq!(warehouse.sql("select count(*) from shop.apples").await, json!([[2]]));
}

#[tokio::test]
async fn writers_at_the_same_time_all_count() {
    let warehouse = shop().await;

    let inserts: Vec<String> = (0..10)
        .map(|n| format!("insert into shop.sales values (date '2026-02-01', 'writer {n}', {n}, 1)"))
        .collect();
    futures::future::join_all(inserts.iter().map(|sql| warehouse.sql(sql))).await;

    let rows = warehouse
        .sql("select count(*), count(distinct product), sum(pieces) from shop.sales where product like 'writer%'")
        .await;
    assert_eq!(rows, json!([[10, 10, 45]]));
}

#[tokio::test]
async fn a_reader_sees_one_instant() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse.sql("create table s.t (n bigint)").await;
    let write = async {
        for _ in 0..8 {
            warehouse
                .sql("insert into s.t select value from generate_series(1, 100)")
                .await;
        }
    };
    let read = async {
        for _ in 0..24 {
            let rows = warehouse
                .sql("select (select count(*) from s.t) - (select count(*) from s.t) as gap, count(*) % 100 from s.t")
                .await;
            assert_eq!(rows, json!([[0, 0]]), "half of a write was seen");
        }
    };

    futures::future::join(write, read).await;

    assert_eq!(warehouse.sql("select count(*) from s.t").await, json!([[800]]));
}

#[tokio::test]
async fn a_stranger_without_a_key_learns_nothing() {
    let warehouse = shop().await;

    for path in [
        "/v1/datasets",
        "/v1/datasets/shop/tables/sales",
        "/v1/queries",
        "/v1/ledger",
        "/v1/nothing",
    ] {
        let (status, body) = warehouse.page(path).await;
        assert!(
            status == 401 || (path == "/v1/nothing" && status == 404),
            "{path}: {status} {body}"
        );
        assert!(!body.contains("shop"), "{path}: {body}");
    }
    let wrong = warehouse
        .anonymous(reqwest::Method::GET, "/v1/datasets")
        .bearer_auth("wh_wrong")
        .send()
        .await;
    assert_eq!(wrong.expect("the gateway answers").status().as_u16(), 401);
}
