//! What a name means, and to whom.

use serde_json::json;

use crate::{Warehouse, shop};

#[tokio::test]
async fn a_table_may_be_named_with_its_project() {
    let warehouse = shop().await;

    assert_eq!(
        warehouse.sql("select count(*) from main.shop.sales").await,
        json!([[4]])
    );
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn names_are_the_same_in_any_case_unless_they_are_quoted() {
    let warehouse = shop().await;

    assert_eq!(warehouse.sql("SELECT COUNT(*) FROM Shop.SALES").await, json!([[4]]));
    assert_eq!(
        warehouse.refused("select * from shop.\"SALES\"").await.code,
        "unknown_table"
    );
}

#[tokio::test]
async fn an_unknown_table_suggests_the_nearest() {
    let warehouse = shop().await;

    let error = warehouse.refused("select *\nfrom shop.sale").await;

    assert_eq!(error.code, "unknown_table");
    assert_eq!(error.message, "no table named shop.sale; did you mean shop.sales?");
    assert_eq!((error.line, error.column), (Some(2), Some(6)));
    assert!((400..500).contains(&error.status));
}

#[tokio::test]
async fn an_unknown_column_suggests_the_nearest() {
    let warehouse = shop().await;

    let error = warehouse.refused("select product,\n  peces\nfrom shop.sales").await;

    assert_eq!(error.code, "unknown_column");
    assert!(
        error.message.contains("peces") && error.message.contains("pieces"),
        "{error}"
    );
    assert_eq!((error.line, error.column), (Some(2), Some(3)));
}

#[tokio::test]
async fn an_unknown_dataset_is_named() {
    let warehouse = shop().await;

    let read = warehouse.refused("select * from shopp.sales").await;
    let write = warehouse.refused("create table nowhere.t (a bigint)").await;

    assert!(read.is_one_of(&["unknown_dataset", "unknown_table"]), "{read}");
    assert!(write.is_one_of(&["unknown_dataset", "not_found"]), "{write}");
    assert!(write.message.contains("nowhere"), "{write}");
}

#[tokio::test]
async fn sql_that_does_not_parse_says_where() {
    let warehouse = Warehouse::start().await;

    let error = warehouse.refused("select 1,\n  ) from t").await;

    assert_eq!(error.code, "invalid_sql");
    assert_eq!(error.line, Some(2), "{error}");
    assert!(error.column.is_some(), "{error}");
    assert_eq!(error.status, 400);
}

#[tokio::test]
async fn types_that_do_not_meet_are_named() {
    let warehouse = shop().await;

    let error = warehouse.refused("select product + day from shop.sales").await;

    assert!(error.is_one_of(&["type_mismatch", "invalid_sql"]), "{error}");
}

#[tokio::test]
async fn an_error_says_nothing_about_the_inside() {
    let warehouse = shop().await;
    let wrong = [
        "select * from shop.nothing",
        "select nothing from shop.sales",
        "select 1 / 0",
        "select cast('x' as bigint)",
        "select product + day from shop.sales",
        "select no_such_function(1)",
        "select arrow_cast(1, 'NoSuchType')",
        "insert into shop.sales values (1)",
        "select",
    ];
    let data = warehouse.data().to_string_lossy().into_owned();

    for sql in wrong {
        let error = warehouse.refused(sql).await;
        for inside in [
            "DataFusion",
            "Arrow error",
            "delta",
            "sqlx",
            "panicked",
            "wh://",
            ".rs:",
            "backtrace",
            data.as_str(),
        ] {
            assert!(!error.message.contains(inside), "{sql}\n  tells of {inside}: {error}");
        }
        assert!(
            !error.message.ends_with('.') && !error.message.contains('\n'),
            "{sql}\n  is not one sentence: {error}"
        );
        assert!(error.status < 500, "{sql}\n  {error}");
    }
}

#[tokio::test]
async fn an_error_of_a_statement_names_its_query() {
    let warehouse = shop().await;

    let error = warehouse
        .refused("select cast(product as bigint) from shop.sales")
        .await;

    let id = error.query_id.expect("a statement that ran has an id");
    let query = warehouse
        .get(&format!("/v1/queries/{id}"))
        .await
        .expect("the query is there");
    assert_eq!(query["state"], "failed");
    assert_eq!(query["error"]["code"], "execution_failed");
}

#[tokio::test]
async fn another_projects_table_is_a_missing_one() {
    let warehouse = shop().await;
    let stranger = warehouse.project("acme").await;

    let theirs = stranger.refused("select * from main.shop.sales").await;
    let missing = stranger.refused("select * from nobody.shop.sales").await;

    assert_eq!(theirs.code, missing.code);
    assert_eq!(theirs.status, missing.status);
    assert_eq!(theirs.message.replace("main", "nobody"), missing.message);
}

#[tokio::test]
async fn another_projects_resources_are_missing_ones() {
    let warehouse = shop().await;
    let stranger = warehouse.project("acme").await;
    let query = warehouse.sql("select 1").await.query_id();

    for (theirs, missing) in [
        (
            format!("/v1/queries/{query}"),
            "/v1/queries/q_00000000000070008000000000000000".to_owned(),
        ),
        (
            format!("/v1/queries/{query}/results"),
            "/v1/queries/q_00000000000070008000000000000000/results".to_owned(),
        ),
        (
            "/v1/datasets/shop/tables".to_owned(),
            "/v1/datasets/none/tables".to_owned(),
        ),
        (
            "/v1/datasets/shop/tables/sales".to_owned(),
            "/v1/datasets/none/tables/sales".to_owned(),
        ),
    ] {
        let theirs = stranger.get(&theirs).await.expect_err("it belongs to another project");
        let missing = stranger.get(&missing).await.expect_err("it is not there");
        assert_eq!(
            (theirs.status, &theirs.code),
            (missing.status, &missing.code),
            "{theirs}; {missing}"
        );
        assert_eq!(theirs.status, 404);
    }
    assert_eq!(stranger.ledger().await.len(), 0);
    let queries = stranger.get("/v1/queries").await.expect("a project lists its queries");
    let owners: Vec<&serde_json::Value> = queries["queries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|query| &query["sql"])
        .collect();
    assert!(owners.is_empty(), "{owners:?}");
}

#[tokio::test]
async fn two_projects_may_use_the_same_names() {
    let warehouse = shop().await;
    let stranger = warehouse.project("acme").await;

    stranger.sql("create schema shop").await;
    stranger.sql("create table shop.sales as select 'mine' as a").await;

    assert_eq!(stranger.sql("select * from shop.sales").await, json!([["mine"]]));
    assert_eq!(
        stranger
            .sql("select count(*) from information_schema.tables where table_schema = 'shop'")
            .await,
        json!([[1]])
    );
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn a_query_with_a_name_hides_the_table_of_that_name_and_only_where_it_is_known() {
    let warehouse = shop().await;
    let ask = async |sql: &str| {
        let rows = warehouse.ask(json!({ "sql": sql, "dataset": "shop" })).await;
        rows.unwrap_or_else(|error| panic!("{sql}\n  {error}"))
    };

    let itself = ask("with sales as (select count(*) as n from sales) select n from sales").await;
    let inner =
        ask("select n, (select count(*) from sales) from (with sales as (select 1 as n) select n from sales)").await;
    let later = ask(
        "with recursive early as (select count(*) as n from shop.sales), sales as (select 1 as n) \
         select early.n as early, sales.n as later from early, sales",
    )
    .await;

    assert_eq!(itself, json!([[4]]));
    assert_eq!(inner, json!([[1, 4]]));
    assert_eq!(later, json!([[4, 1]]));
}

#[tokio::test]
async fn a_query_with_a_name_that_nobody_reads_may_read_a_table() {
    let warehouse = shop().await;

    assert_eq!(
        warehouse
            .sql("with unused as (select * from shop.sales) select 1")
            .await,
        json!([[1]])
    );
}

#[tokio::test]
async fn a_name_that_could_be_a_path_is_refused() {
    let warehouse = shop().await;

    for name in [
        "..",
        ".",
        "a/b",
        "a\\b",
        "a%2fb",
        "",
        "Ä",
        "a b",
        "1a",
        "information_schema",
        "x".repeat(64).as_str(),
    ] {
        let error = warehouse
            .post("/v1/datasets", json!({ "name": name }))
            .await
            .expect_err(name);
        assert_eq!(error.status, 400, "{name}: {error}");
        let error = warehouse
            .post(
                "/v1/datasets/shop/tables",
                json!({ "name": name, "schema": [{ "name": "a", "type": "BIGINT" }] }),
            )
            .await;
        // A table may be called information_schema; a dataset may not.
        assert!(
            name == "information_schema" || error.is_err_and(|error| error.status < 500),
            "{name}"
        );
    }
    for path in [
        "/v1/datasets/%2e%2e/tables",
        "/v1/datasets/shop/tables/%2e%2e%2fsales",
        "/v1/datasets/shop/tables/a%00b",
    ] {
        let error = warehouse.get(path).await.expect_err(path);
        assert!(matches!(error.status, 400 | 404), "{path}: {error}");
    }
}
