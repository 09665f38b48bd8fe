//! SQL as it is written elsewhere: the setting that names a dialect.

use serde_json::json;

use crate::Warehouse;
use crate::harness::answers::{ApiError, Rows};

async fn ask(warehouse: &Warehouse, dialect: &str, sql: &str) -> Result<Rows, ApiError> {
    let settings = json!({ "datafusion.sql_parser.dialect": dialect });
    warehouse
        .ask(json!({ "sql": sql, "settings": settings, "dataset": "shop" }))
        .await
}

#[tokio::test]
async fn a_statement_is_read_in_the_dialect_that_it_asks_for() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    for (dialect, sql, answer) in [
        ("spark", "select 7 as `a b`, cast(1 as long)", json!([[7, 1]])),
        ("mysql", "select 'it\\'s'", json!([["it's"]])),
        ("Spark", "select hex(255), url_decode('a%20b')", json!([["FF", "a b"]])),
        (
            "databricks",
            "select array_any_match([1, 2], x -> x > 1)",
            json!([[true]]),
        ),
        ("mysql", "select `a` from (select 1 as `a`) t limit 0, 1", json!([[1]])),
        ("postgresql", "select 'a' || E'\\n' as x", json!([["a\n"]])),
        ("duckdb", "from (values (1, 2)) as t(a, b)", json!([[1, 2]])),
        (
            "generic",
            "select count(*) from (from (values (1), (2)) as t(a)) as u where u.a = 2",
            json!([[1]]),
        ),
    ] {
        let rows = ask(&warehouse, dialect, sql).await;
        assert_eq!(rows.expect(sql), answer, "{dialect}: {sql}");
    }
    let elsewhere = ask(&warehouse, "mssql", "select hex(255)").await;
    assert_eq!(
        elsewhere.expect_err("Spark's functions are Spark's").code,
        "unknown_function"
    );
}

#[tokio::test]
async fn a_dialect_that_is_not_there_is_refused_with_those_that_are() {
    let warehouse = Warehouse::start().await;

    let error = warehouse
        .ask(json!({ "sql": "select 1", "settings": { "DataFusion.SQL_Parser.Dialect": "cobol" } }))
        .await
        .expect_err("there is no such dialect");

    assert_eq!(error.code, "invalid_sql", "{error}");
    assert!(
        error.message.contains("cobol") && error.message.contains("Spark"),
        "{error}"
    );
}

#[tokio::test]
async fn gateway_and_worker_read_in_one_dialect() {
    let warehouse = Warehouse::start().await;
    let name = "datafusion.sql_parser.dialect";

    for settings in [
        json!({ name.to_uppercase(): "mysql", name: "snowflake" }),
        json!({ format!("{name}.x"): "snowflake" }),
        json!({ "datafusion.execution.target_partitions.x": "0" }),
    ] {
        let error = warehouse
            .ask(json!({ "sql": "select 1", "settings": settings }))
            .await
            .expect_err("it says two things, or none");
        assert_eq!(error.code, "invalid_sql", "{settings}: {error}");
    }
}

#[tokio::test]
async fn a_view_keeps_the_dialect_that_it_was_written_in() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse.sql("create table shop.t as select 7 as n").await;

    let escaped = ask(&warehouse, "mysql", r"create view escaped as select 'it\'s\\' as x");
    escaped.await.expect("a view");
    assert_eq!(warehouse.sql("select x from shop.escaped").await, json!([["it's\\"]]));
    let made = ask(
        &warehouse,
        "spark",
        "create view halves as select n - 4 as half, hex(255) as h from t",
    )
    .await;
    made.expect("a view");
    warehouse
        .sql("create view shop.plain as select ascii('a') as a, [n] as list from shop.t")
        .await;

    assert_eq!(
        warehouse.sql("select half, h from shop.halves").await,
        json!([[3, "FF"]])
    );
    let both = ask(&warehouse, "spark", "select half, list from halves, plain").await;
    assert_eq!(both.expect("both are there"), json!([[3, [7]]]));
}

#[tokio::test]
async fn rows_are_written_in_any_dialect() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    for sql in [
        "create table `t` (id long, name string)",
        "insert into t values (3, 'x')",
        "insert into t select id + 1, hex(id) from t",
    ] {
        ask(&warehouse, "spark", sql).await.expect(sql);
    }

    assert_eq!(
        warehouse.sql("select id, name from shop.t order by id").await,
        json!([[3, "x"], [4, "3"]])
    );
}
