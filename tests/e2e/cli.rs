//! `wasmhouse sql` and `wasmhouse load`, as a terminal and a script see them.

use std::fs;
use std::process::Output;

use serde_json::json;
use tempfile::TempDir;

use crate::{SALES, Warehouse, Wire, shop};

/// What a command that ended well wrote.
fn written(output: &Output) -> String {
    assert!(output.status.success(), "{}", told(output));
    String::from_utf8(output.stdout.clone()).expect("commands write UTF-8")
}

/// What a command told about an error.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The values of the line of a grid that begins with this one.
fn line_of<'a>(grid: &'a str, first: &str) -> Vec<&'a str> {
    grid.lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<&str>>())
        .find(|values| values.first() == Some(&first))
        .unwrap_or_else(|| panic!("no line {first} in\n{grid}"))
}

/// A file of this name with this text, and the directory that goes when the test does.
fn file(name: &str, text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    fs::write(&path, text).expect("the file is in a directory we made");
    let path = path
        .to_str()
        .expect("temporary directories have plain names")
        .to_owned();
    (directory, path)
}

#[tokio::test]
async fn a_pipe_is_answered_statement_by_statement_over_however_many_lines() {
    let warehouse = shop().await;
    let statements = "select product, sum(pieces) as pieces\nfrom shop.sales\ngroup by product\norder by product;\n\n\
                      select 1 as one; select\n  'a;b' as two -- the last one needs no semicolon";

    let output = warehouse.command_fed(&["sql"], statements).await;

    let written = written(&output);
    let first = [
        " product     | pieces",
        "-------------+--------",
        " apple       |      8",
        " pear        |      1",
        " plum, dried |   NULL",
        "3 rows in ",
    ]
    .join("\n");
    assert!(written.starts_with(&first), "{written}");
    let grids: Vec<&str> = written.lines().skip(6).collect();
    assert_eq!(grids[..3], [" one", "-----", "   1"], "{written}");
    assert_eq!(grids[4..7], [" two", "-----", " a;b"], "{written}");
    let footers = written.lines().filter(|line| line.contains(" in "));
    assert!(
        footers
            .clone()
            .all(|line| line.contains(" processed, ") && line.ends_with(" USD")),
        "{written}"
    );
    assert_eq!(footers.count(), 3, "{written}");
}

#[tokio::test]
async fn backslash_d_lists_tables_and_describes_one() {
    let warehouse = shop().await;

    let output = warehouse.command_fed(&["sql"], "\\d\n\\d shop.sales\n").await;

    let written = written(&output);
    assert_eq!(line_of(&written, "shop.sales")[1..3], ["table", "4"], "{written}");
    assert_eq!(line_of(&written, "column"), ["column", "type", "null"]);
    assert_eq!(line_of(&written, "day")[1], "DATE", "{written}");
    assert_eq!(line_of(&written, "pieces")[1], "BIGINT", "{written}");
    let facts = written.lines().last().unwrap_or_default();
    assert!(
        facts.starts_with("table, 4 rows, ") && facts.contains("1 file"),
        "{written}"
    );
}

#[tokio::test]
async fn an_error_in_a_pipe_is_shown_at_its_place_and_ends_the_run() {
    let warehouse = shop().await;
    let statements = "select 1 as one;\nselect *\nfrom shop.sale;\nselect 2 as two;\n";

    let output = warehouse.command_fed(&["sql"], statements).await;

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        told(&output),
        "wasmhouse: unknown_table: no table named shop.sale; did you mean shop.sales?\n2 | from shop.sale\n         ^\n"
    );
    let written = String::from_utf8_lossy(&output.stdout);
    assert!(written.contains("one") && !written.contains("two"), "{written}");
}

#[tokio::test]
async fn csv_and_json_are_the_bytes_that_curl_gets() {
    let warehouse = shop().await;
    let sql = "select * from shop.sales order by day, product";

    let csv = warehouse.command(&["sql", "--format", "csv", "-c", sql]).await;
    let json = warehouse.command(&["sql", "--format", "json", "-c", sql]).await;

    assert_eq!(written(&csv), warehouse.fetch_text(sql, "text/csv").await);
    let lines = warehouse.fetch_text(sql, "application/x-ndjson").await;
    let (rows, _) = lines.split_once("{\"$end\"").expect("the last line tells the end");
    assert_eq!(written(&json), rows);
}

#[tokio::test]
async fn a_statement_whose_answer_is_lost_is_run_once_and_answered() {
    let warehouse = shop().await;
    let wire = Wire::that_loses_the_answer_to("POST /v1/queries", &warehouse.url("")).await;
    let insert = "insert into shop.sales values (date '2026-02-01', 'fig', 1, 1)";

    let output = warehouse
        .command(&["sql", "--url", wire.url(), "--key", warehouse.key(), "-c", insert])
        .await;

    assert!(written(&output).contains(" processed"), "{}", written(&output));
    assert!(wire.has_broken());
    assert_eq!(
        warehouse
            .sql("select count(*) from shop.sales where product = 'fig'")
            .await,
        json!([[1]])
    );
}

#[tokio::test]
async fn a_file_becomes_a_table_and_the_command_says_what_it_took() {
    let warehouse = Warehouse::start().await;
    let (_directory, path) = file("sales.csv", SALES);

    let output = warehouse.command(&["load", &path, "shop.sales"]).await;

    let written = written(&output);
    let sent = format!(", {} B sent, ", SALES.len());
    assert!(written.starts_with("loaded 4 rows into shop.sales in "), "{written}");
    assert!(written.contains(&sent) && written.ends_with(" stored\n"), "{written}");
    assert_eq!(
        warehouse.sql("select count(*), sum(pieces) from shop.sales").await,
        json!([[4, 9]])
    );
}

#[tokio::test]
async fn what_is_piped_in_is_loaded_when_its_format_is_given() {
    let warehouse = Warehouse::start().await;

    let output = warehouse
        .command_fed(&["load", "-", "shop.sales", "--format", "csv"], SALES)
        .await;

    let written = written(&output);
    assert!(written.starts_with("loaded 4 rows into shop.sales in "), "{written}");
}

#[tokio::test]
async fn a_load_whose_answer_is_lost_is_sent_again_and_loaded_once() {
    let warehouse = Warehouse::start().await;
    let wire = Wire::that_loses_the_answer_to("/tables/sales/load?", &warehouse.url("")).await;
    let (_directory, path) = file("sales.csv", SALES);

    let output = warehouse
        .command(&[
            "load",
            &path,
            "shop.sales",
            "--url",
            wire.url(),
            "--key",
            warehouse.key(),
        ])
        .await;

    let written = written(&output);
    assert!(written.starts_with("loaded 4 rows into shop.sales in "), "{written}");
    assert!(wire.has_broken());
    assert_eq!(
        warehouse.sql("select count(*) from shop.sales").await,
        json!([[SALES.lines().count() - 1]])
    );
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named_and_nothing_is_made() {
    let warehouse = Warehouse::start().await;

    let output = warehouse.command(&["load", "nowhere/sales.csv", "shop.sales"]).await;

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        told(&output),
        "wasmhouse: no file nowhere/sales.csv; check the path, or give - to read what is piped in\n"
    );
    let dataset = warehouse.get("/v1/datasets/shop/tables").await;
    assert_eq!(dataset.expect_err("there is no such dataset").status, 404);
}

#[tokio::test]
async fn a_file_whose_name_does_not_say_its_format_is_named_with_the_flag_that_does() {
    let warehouse = Warehouse::start().await;
    let (_directory, path) = file("sales.xlsx", SALES);

    let unknown = warehouse.command(&["load", &path, "shop.sales"]).await;
    let said = warehouse
        .command(&["load", &path, "shop.sales", "--format", "csv"])
        .await;

    assert_eq!(unknown.status.code(), Some(1));
    let told = told(&unknown);
    assert!(told.contains(&path), "{told}");
    assert!(
        told.contains("give --format csv, tsv, json, parquet or arrow"),
        "{told}"
    );
    assert!(written(&said).starts_with("loaded 4 rows"), "{}", written(&said));
}
