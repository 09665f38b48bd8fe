//! A query's rows as files in the project's bucket.

use std::fs;

use serde_json::{Value, json};

use crate::formats::{assert_holds, everything, to_arrow};
use crate::{ApiError, Warehouse, shop};

const FORMATS: [&str; 4] = ["parquet", "csv", "json", "arrow"];

/// An export that must work, once it has ended.
async fn export(warehouse: &Warehouse, sql: &str, format: &str) -> Value {
    let body = json!({ "sql": sql, "format": format, "name": format!("2026/rows_{format}") });
    let query = warehouse.post("/v1/exports", body).await.expect("the export runs");
    let query = warehouse
        .ended(query["id"].as_str().expect("an export is a query"))
        .await;
    assert_eq!(
        (query["state"].as_str(), query["kind"].as_str()),
        (Some("done"), Some("export")),
        "{query}"
    );
    query
}

/// The files of an export, as another program finds them.
fn files(export: &Value) -> Vec<Vec<u8>> {
    let files = export["files"]
        .as_array()
        .unwrap_or_else(|| panic!("an export lists its files: {export}"));
    let mut found = Vec::new();
    for file in files {
        let url = file["url"].as_str().expect("a file has an address");
        let path = url.strip_prefix("file://").unwrap_or(url);
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(file["bytes"].as_u64(), Some(bytes.len() as u64));
        found.push(bytes);
    }
    found
}

async fn load_all(warehouse: &Warehouse, table: &str, format: &str, files: Vec<Vec<u8>>) {
    for file in files {
        warehouse
            .load(table, &format!("format={format}"), file)
            .await
            .unwrap_or_else(|error| panic!("what was exported as {format} can be loaded: {error}"));
    }
}

#[tokio::test]
async fn an_export_writes_files_that_can_be_loaded_again() {
    let warehouse = shop().await;

    for format in FORMATS {
        let query = export(&warehouse, "select * from shop.sales", format).await;

        let rows = query["files"].as_array().into_iter().flatten();
        assert_eq!(
            rows.filter_map(|file| file["rows"].as_u64()).sum::<u64>(),
            4,
            "{format}"
        );
        let table = format!("shop.again_{format}");
        load_all(&warehouse, &table, format, files(&query)).await;
        let difference = warehouse
            .sql(&format!(
                "select count(*), sum(pieces), count(pieces), min(cast(day as varchar)) from {table}"
            ))
            .await;
        assert_eq!(difference, json!([[4, 9, 3, "2026-01-01"]]), "{format}");
    }
}

#[tokio::test]
async fn every_type_survives_an_export_in_every_format() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let rows = everything();
    warehouse
        .load("t.origin", "format=arrow", to_arrow(&rows))
        .await
        .expect("types that a table can hold");

    for format in FORMATS {
        let query = export(&warehouse, "select * from t.origin", format).await;

        let table = format!("t.again_{format}");
        warehouse
            .sql(&format!("create table {table} as select * from t.origin where false"))
            .await;
        load_all(&warehouse, &table, format, files(&query)).await;
        assert_holds(&warehouse, &table, &rows).await;
    }
}

#[tokio::test]
async fn an_export_of_no_rows_is_one_file_that_has_columns_where_it_can() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let none = everything().slice(0, 0);
    warehouse
        .load("t.origin", "format=arrow", to_arrow(&none))
        .await
        .expect("no rows are rows");

    for format in FORMATS {
        let query = export(&warehouse, "select * from t.origin", format).await;

        let written = files(&query);
        assert_eq!(written.len(), 1, "{format}");
        let table = format!("t.again_{format}");
        warehouse
            .sql(&format!("create table {table} as select * from t.origin"))
            .await;
        load_all(&warehouse, &table, format, written.clone()).await;
        assert_holds(&warehouse, &table, &none).await;
        match format {
            "json" => assert!(written[0].is_empty()),
            "csv" => assert!(written[0].starts_with(b"id,b,i8,")),
            _ => {
                let fresh = format!("t.fresh_{format}");
                load_all(&warehouse, &fresh, format, written).await;
                assert_holds(&warehouse, &fresh, &none).await;
            }
        }
    }
}

#[tokio::test]
async fn an_export_spells_values_as_an_answer_does() {
    let warehouse = Warehouse::start().await;
    let sql = "select arrow_cast(7, 'UInt64') as n, cast('NaN' as double) as nan, cast('-Infinity' as real) as low, \
        '' as nothing, cast(null as varchar) as missing, arrow_cast('a=', 'Binary') as bytes, [1, null] as list, \
        named_struct('a', 'x') as record, interval '1 month 2 days' as span, cast(1.5 as decimal(10, 2)) as price";

    let csv = files(&export(&warehouse, sql, "csv").await).concat();
    let lines = files(&export(&warehouse, sql, "json").await).concat();
    // What Parquet has no type for is text there, and Arrow has a type for everything.
    for format in ["parquet", "arrow"] {
        assert_eq!(files(&export(&warehouse, sql, format).await).len(), 1, "{format}");
    }

    let answer = warehouse.fetch_text(sql, "text/csv").await;
    assert_eq!(String::from_utf8_lossy(&csv), answer);
    let answer = warehouse.fetch_text(sql, "application/x-ndjson").await;
    let (rows, _) = answer
        .split_once("{\"$end\":")
        .expect("the last line of an answer is its end");
    assert_eq!(String::from_utf8_lossy(&lines), rows);
}

#[tokio::test]
async fn an_export_stays_inside_the_project() {
    let warehouse = shop().await;

    for name in ["../../escape", "/etc/cron.d/x", "a/../b", "", "a//b", "a b"] {
        let refused = warehouse
            .post(
                "/v1/exports",
                json!({ "sql": "select 1 as a", "format": "csv", "name": name }),
            )
            .await;
        let refused = match refused {
            Err(refused) => refused,
            Ok(query) => ApiError::from_json(200, &query["error"]),
        };
        assert_eq!(refused.code, "invalid_request", "{name}: {refused}");
    }
}

#[tokio::test]
async fn an_export_that_fails_leaves_no_files() {
    let warehouse = Warehouse::start().await;
    // The first part has been written when the second one fails.
    let sql = "select value from generate_series(1, 10) union all select 1 / (value - 900000) from generate_series(1, 1000000)";
    let body = json!({ "sql": sql, "format": "csv", "name": "fails" });
    let query = warehouse.post("/v1/exports", body).await.expect("it is accepted");

    let query = warehouse.ended(query["id"].as_str().expect("an id")).await;

    assert_eq!(query["error"]["code"], "execution_failed", "{query}");
    assert_eq!(warehouse.files_in_bucket("", "csv"), [] as [std::path::PathBuf; 0]);
}
