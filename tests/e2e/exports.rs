//! A query's rows as files in the project's bucket.

use std::fs;

use serde_json::json;

use crate::{ApiError, shop};

#[tokio::test]
async fn an_export_writes_files_that_can_be_loaded_again() {
    let warehouse = shop().await;

    for format in ["parquet", "csv", "json", "arrow"] {
        let body =
            json!({ "sql": "select * from shop.sales", "format": format, "name": format!("2026/sales_{format}") });
        let query = warehouse.post("/v1/exports", body).await.expect("the export runs");
        let query = warehouse
            .ended(query["id"].as_str().expect("an export is a query"))
            .await;
        assert_eq!(
            (query["state"].as_str(), query["kind"].as_str()),
            (Some("done"), Some("export")),
            "{query}"
        );

        let files = query["files"]
            .as_array()
            .unwrap_or_else(|| panic!("an export lists its files: {query}"));
        assert_eq!(
            files.iter().filter_map(|file| file["rows"].as_u64()).sum::<u64>(),
            4,
            "{format}"
        );
        let table = format!("shop.again_{format}");
        for file in files {
            let url = file["url"].as_str().expect("a file has an address");
            let path = url.strip_prefix("file://").unwrap_or(url);
            let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(file["bytes"].as_u64(), Some(bytes.len() as u64));
            warehouse
                .load(&table, &format!("format={format}"), bytes)
                .await
                .expect("what was exported can be loaded");
        }
        let difference = warehouse
            .sql(&format!(
                "select count(*), sum(pieces), count(pieces), min(cast(day as varchar)) from {table}"
            ))
            .await;
        assert_eq!(difference, json!([[4, 9, 3, "2026-01-01"]]), "{format}");
    }
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
