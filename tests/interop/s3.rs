//! A bucket on S3: the same promises on another store, and the same readers.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Warehouse, eventually};
use crate::python::{python, read};

const BUCKET: &str = "warehouse-bucket";

/// An S3 of our own, in a process of its own.
struct S3 {
    server: Child,
    endpoint: String,
}

impl S3 {
    async fn start() -> Self {
        // Free when we looked, and nobody else looks for a port here.
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("loopback has free ports");
        let server = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &free.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python runs");
        let s3 = Self {
            server,
            endpoint: format!("http://{free}"),
        };
        let http = reqwest::Client::new();
        eventually("S3 has a bucket", async || {
            let made = http.put(format!("{}/{BUCKET}", s3.endpoint)).send().await;
            made.is_ok_and(|response| response.status().is_success())
        })
        .await;
        s3
    }

    fn settings(&self) -> String {
        format!(
            "[bucket]\nurl = \"s3://{BUCKET}/some/prefix\"\n\n[bucket.options]\naws_endpoint = \"{}\"\naws_allow_http = \"true\"\n\
             aws_region = \"us-east-1\"\naws_access_key_id = \"test\"\naws_secret_access_key = \"test\"\n",
            self.endpoint
        )
    }

    /// The same, by the names that readers know.
    fn options(&self) -> Value {
        json!({
            "aws_endpoint": self.endpoint,
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true",
            "aws_region": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        })
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn a_warehouse_on_s3_keeps_its_promises() {
    let s3 = S3::start().await;
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

#[tokio::test]
async fn writers_at_the_same_time_all_count_on_s3() {
    let s3 = S3::start().await;
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
