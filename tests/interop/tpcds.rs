//! TPC-DS: DuckDB makes the tables and answers the same 99 queries.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::Warehouse;
use crate::harness::compare::{difference, records};
use crate::python::run;

const SCALE_FACTOR: &str = "0.01";

#[tokio::test]
async fn the_99_queries_of_tpc_ds_have_the_answers_of_duckdb_however_many_workers_there_are() {
    let folder = TempDir::new().expect("a folder");
    run("tpcds.py", &[SCALE_FACTOR, &folder.path().to_string_lossy()]);
    let mut warehouse = Warehouse::start().await;
    warehouse.dataset("tpcds").await;
    let mut tables = 0;
    for file in fs::read_dir(folder.path()).expect("the folder is there") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            let name = path.file_stem().expect("a table").to_string_lossy().into_owned();
            warehouse
                .load(
                    &format!("tpcds.{name}"),
                    "format=parquet&mode=create",
                    fs::read(&path).expect("a file"),
                )
                .await
                .expect(&name);
            tables += 1;
        }
    }
    assert_eq!(tables, 24);

    assert_all_right(&warehouse, folder.path()).await;
    // The head, and 1, 2, 3 and 7 beside it.
    for (workers, threads) in [(2, 1), (3, 2), (4, 1), (8, 1)] {
        warehouse.configure(&format!(
            "[workers]\nmax = 9\nthreads = {threads}\n[queries]\nworkers_max = {workers}\nmib_per_worker = 0\n"
        ));
        warehouse.restart().await;
        assert_all_right(&warehouse, folder.path()).await;
        assert_eq!(warehouse.worker_pids().len(), workers + 1, "{workers} workers");
    }
}

async fn assert_all_right(warehouse: &Warehouse, folder: &Path) {
    let mut wrong = Vec::new();
    let mut with_rows = 0;
    for number in 1..=99 {
        let sql = fs::read_to_string(folder.join(format!("q{number:02}.sql"))).expect("a query");
        let answer = warehouse.csv("tpcds", sql).await;
        let known = fs::read_to_string(folder.join(format!("q{number:02}.csv"))).expect("an answer");

        let (known, mut found) = (in_order(records(&known)), records(&answer));
        // The first line has names.
        found.drain(..1.min(found.len()));
        with_rows += usize::from(!known.is_empty());
        if let Some(difference) = difference(&known, &in_order(found)) {
            wrong.push(format!("Q{number}: {difference}"));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(with_rows > 60, "only {with_rows} answers have rows");
}

/// Rows in an order that does not depend on how a number is written, as far as that matters.
fn in_order(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let key = |cell: &String| match cell.parse::<f64>() {
        Ok(number) => format!("{number:.3}"),
        Err(_) => cell.clone(),
    };
    rows.sort_by_cached_key(|row| row.iter().map(key).collect::<Vec<_>>());
    rows
}
