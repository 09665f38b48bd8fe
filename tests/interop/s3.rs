//! A bucket on S3: the same promises on other stores, and the same readers.

use serde_json::json;

use crate::harness::Warehouse;
use crate::python::read;
use crate::stores::{BUCKET, S3};

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_on_s3_keeps_its_promises() {
    for s3 in [S3::in_process().await, S3::of_moto().await] {
        keeps_its_promises(&s3).await;
    }
}

async fn keeps_its_promises(s3: &S3) {
    let mut warehouse = Warehouse::start_with(&s3.settings()).await;
    warehouse.sql("create schema shop").await;

    warehouse
        .load_csv("shop.sales", "id,product,pieces\n1,apple,3\n2,pear,1\n")
        .await;
    warehouse
        .sql("insert into shop.sales select id + 2, product, pieces from shop.sales")
        .await;
    let large = warehouse
        .query(json!({ "sql": "select value as n from generate_series(1, 200000) order by n" }))
        .await;
    let large = large.expect("the query runs")["id"]
        .as_str()
        .expect("a query has an id")
        .to_owned();
    warehouse.kill().await;
    warehouse.restart().await;

    assert_eq!(
        warehouse.sql("select count(*), sum(pieces) from shop.sales").await,
        json!([[4, 8]])
    );
    let page = warehouse
        .get(&format!("/v1/queries/{large}/results?start_row=199999"))
        .await
        .expect("results last");
    assert_eq!(page["rows"], json!([{ "n": 200_000 }]));
    assert!(
        warehouse.files_in_bucket("tables", "parquet").is_empty(),
        "nothing is on the disk"
    );

    let table = warehouse
        .get("/v1/datasets/shop/tables/sales")
        .await
        .expect("the table is there");
    let location = table["location"].as_str().expect("a table is somewhere");
    assert!(
        location.starts_with(&format!("s3://{BUCKET}/some/prefix/")),
        "{location}"
    );
    for reader in ["polars", "deltalake"] {
        let found = read(reader, location, Some(&s3.options()));
        assert_eq!(found.rows.len(), 4, "{reader}");
        assert_eq!(
            found.rows[3],
            json!({ "id": 4, "product": "pear", "pieces": 1 }),
            "{reader}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_all_count_on_s3() {
    for s3 in [S3::in_process().await, S3::of_moto().await] {
        all_count(&s3).await;
    }
}

async fn all_count(s3: &S3) {
    let warehouse = Warehouse::start_with(&s3.settings()).await;
    warehouse.sql("create schema s").await;
    warehouse.sql("create table s.t (n bigint)").await;

    let inserts: Vec<String> = (0..12).map(|n| format!("insert into s.t values ({n})")).collect();
    futures::future::join_all(inserts.iter().map(|sql| warehouse.sql(sql))).await;

    assert_eq!(
        warehouse.sql("select count(*), count(distinct n) from s.t").await,
        json!([[12, 12]])
    );
    let table = warehouse
        .get("/v1/datasets/s/tables/t")
        .await
        .expect("the table is there");
    assert_eq!(table["version"], 12);
}
