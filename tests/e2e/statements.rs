//! The statements that change something, and the ones that only tell.

use serde_json::{Value, json};

use crate::{Warehouse, shop};

#[tokio::test]
async fn a_schema_is_created_and_dropped_with_sql() {
    let warehouse = Warehouse::start().await;

    warehouse.sql("create schema shop").await;
    let again = warehouse.refused("create schema shop").await;
    warehouse.sql("create schema if not exists shop").await;
    warehouse.sql("drop schema shop").await;
    let gone = warehouse.refused("create table shop.t (a bigint)").await;
    warehouse.sql("drop schema if exists shop").await;

    assert_eq!(again.code, "already_exists");
    assert!(gone.is_one_of(&["unknown_dataset", "not_found"]), "{gone}");
}

#[tokio::test]
async fn a_schema_with_tables_is_dropped_only_with_cascade() {
    let warehouse = shop().await;

    let refused = warehouse.refused("drop schema shop").await;
    warehouse.sql("drop schema shop cascade").await;

    assert_eq!(refused.code, "conflict", "{refused}");
    assert_eq!(warehouse.refused("select * from shop.sales").await.status / 100, 4);
}

#[tokio::test]
async fn a_table_is_created_filled_emptied_and_dropped() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    warehouse
        .sql("create table shop.t (id bigint not null, name varchar, price decimal(10,2), day date)")
        .await;
    assert_eq!(warehouse.sql("select * from shop.t").await, json!([]));

    warehouse
        .sql("insert into shop.t values (1, 'a', 1.25, date '2026-01-01'), (2, null, null, null)")
        .await;
    warehouse.sql("insert into shop.t (name, id) values ('c', 3)").await;
    assert_eq!(
        warehouse.sql("select * from shop.t order by id").await,
        json!([
            [1, "a", "1.25", "2026-01-01"],
            [2, null, null, null],
            [3, "c", null, null]
        ])
    );

    warehouse.sql("truncate table shop.t").await;
    assert_eq!(warehouse.sql("select count(*) from shop.t").await, json!([[0]]));

    warehouse.sql("drop table shop.t").await;
    assert_eq!(warehouse.refused("select * from shop.t").await.code, "unknown_table");
    warehouse.sql("drop table if exists shop.t").await;
}

#[tokio::test]
async fn a_query_becomes_a_table() {
    let warehouse = shop().await;

    warehouse
        .sql("create table shop.totals as select product, sum(pieces) as pieces from shop.sales group by product")
        .await;
    warehouse
        .sql("create table shop.nothing as select * from shop.totals where false")
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.totals order by product").await,
        json!([["apple", 8], ["pear", 1], ["plum, dried", null]])
    );
    assert_eq!(warehouse.sql("select count(*) from shop.nothing").await, json!([[0]]));
}

#[tokio::test]
async fn a_new_table_has_the_types_that_its_rows_have_in_the_end() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    warehouse
        .sql("create table shop.t as select cast(1 as tinyint) as a, null as b union all select 1000000, 'x'")
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.t order by a").await,
        json!([[1, null], [1_000_000, "x"]])
    );
}

#[tokio::test]
async fn a_table_that_is_there_is_not_created_again() {
    let warehouse = shop().await;

    let refused = warehouse.refused("create table shop.sales as select 1 as a").await;
    warehouse
        .sql("create table if not exists shop.sales as select 1 as a")
        .await;

    assert_eq!(refused.code, "already_exists");
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn a_dropped_table_can_be_made_again_with_another_schema() {
    let warehouse = shop().await;

    warehouse.sql("drop table shop.sales").await;
    warehouse.sql("create table shop.sales (only_column varchar)").await;
    warehouse.sql("insert into shop.sales values ('fresh')").await;

    assert_eq!(warehouse.sql("select * from shop.sales").await, json!([["fresh"]]));
}

#[tokio::test]
async fn a_table_grows_by_what_is_selected_from_itself() {
    let warehouse = shop().await;

    warehouse.sql("insert into shop.sales select * from shop.sales").await;
    warehouse.sql("insert into shop.sales select * from shop.sales").await;

    assert_eq!(
        warehouse.sql("select count(*), sum(pieces) from shop.sales").await,
        json!([[16, 36]])
    );
}

#[tokio::test]
async fn what_does_not_fit_a_column_is_refused_and_changes_nothing() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.t (id bigint not null, small smallint)")
        .await;

    let null = warehouse.refused("insert into shop.t values (1, 1), (null, 2)").await;
    let overflow = warehouse.refused("insert into shop.t values (1, 1000000)").await;
    let columns = warehouse.refused("insert into shop.t values (1, 2, 3)").await;

    for error in [null, overflow, columns] {
        assert!(error.status < 500 && error.code != "internal", "{error}");
    }
    assert_eq!(warehouse.sql("select count(*) from shop.t").await, json!([[0]]));
}

#[tokio::test]
async fn a_view_is_a_query_with_a_name() {
    let warehouse = shop().await;

    warehouse
        .sql("create view shop.apples as select * from shop.sales where product = 'apple'")
        .await;
    warehouse
        .sql("create view shop.many_apples as select * from shop.apples where pieces > 3")
        .await;
    let refused = warehouse.refused("create view shop.apples as select 1 as a").await;
    assert_eq!(
        warehouse.sql("select count(*) from shop.many_apples").await,
        json!([[1]])
    );

    warehouse
        .sql("create or replace view shop.apples as select * from shop.sales where product = 'pear'")
        .await;
    assert_eq!(
        warehouse.sql("select count(*) from shop.many_apples").await,
        json!([[0]])
    );

    warehouse.sql("drop view shop.apples").await;
    assert_eq!(refused.code, "already_exists");
    assert_eq!(
        warehouse.refused("select * from shop.apples").await.code,
        "unknown_table"
    );
}

#[tokio::test]
async fn a_view_that_would_keep_a_parameter_is_refused() {
    let warehouse = shop().await;

    for parameter in ["$1", "$least", "?"] {
        let error = warehouse
            .refused(&format!(
                "create view shop.v as\nselect * from shop.sales where pieces > {parameter}"
            ))
            .await;
        assert_eq!(error.code, "not_supported", "{parameter}: {error}");
        assert_eq!((error.line, error.column), (Some(2), Some(41)), "{parameter}: {error}");
    }
    assert_eq!(warehouse.refused("select * from shop.v").await.code, "unknown_table");
}

#[tokio::test]
async fn a_view_that_would_mean_itself_is_refused() {
    let warehouse = shop().await;
    warehouse.sql("create view shop.a as select 1 as x").await;
    warehouse.sql("create view shop.b as select * from shop.a").await;

    let refused = warehouse
        .refused("create or replace view shop.a as select * from shop.b")
        .await;

    assert!(refused.status < 500, "{refused}");
    assert_eq!(warehouse.sql("select * from shop.b").await, json!([[1]]));
}

#[tokio::test]
async fn a_view_keeps_the_dataset_it_was_made_in() {
    let warehouse = shop().await;
    warehouse.dataset("other").await;

    warehouse
        .ask(json!({ "sql": "create view other.v as select count(*) as n from sales", "dataset": "shop" }))
        .await
        .expect("the view is made");

    let rows = warehouse
        .ask(json!({ "sql": "select n from v", "dataset": "other" }))
        .await;
    assert_eq!(rows.expect("the view finds its table"), json!([[4]]));
}

#[tokio::test]
async fn show_tables_lists_tables_and_views() {
    let warehouse = shop().await;
    warehouse.sql("create view shop.v as select 1 as a").await;

    let rows = warehouse.sql("show tables").await;

    let named = |name: &str| {
        rows.rows
            .iter()
            .any(|row| row.contains(&json!("shop")) && row.contains(&json!(name)))
    };
    assert!(named("sales") && named("v"), "{:?}", rows.rows);
}

#[tokio::test]
async fn describe_tells_the_columns_of_a_table() {
    let warehouse = shop().await;

    let rows = warehouse.sql("describe shop.sales").await;

    let columns: Vec<&Value> = rows.first_column();
    assert_eq!(
        columns,
        [&json!("day"), &json!("product"), &json!("pieces"), &json!("price")]
    );
}

#[tokio::test]
async fn the_information_schema_knows_tables_and_columns() {
    let warehouse = shop().await;

    let tables = warehouse
        .sql(
            "select table_catalog, table_schema, table_name from information_schema.tables where table_schema = 'shop'",
        )
        .await;
    let columns = warehouse
        .sql("select column_name from information_schema.columns where table_schema = 'shop' and table_name = 'sales' order by ordinal_position")
        .await;

    assert_eq!(tables, json!([["main", "shop", "sales"]]));
    assert_eq!(columns, json!([["day"], ["product"], ["pieces"], ["price"]]));
}

#[tokio::test]
async fn the_schemas_are_listed_by_the_information_schema() {
    let warehouse = shop().await;

    let schemas = warehouse
        .sql("select schema_name from information_schema.schemata order by schema_name")
        .await;

    assert_eq!(schemas, json!([["shop"]]));
    for sql in ["show schemas", "show databases"] {
        let error = warehouse.refused(sql).await;
        assert_eq!(error.code, "not_supported", "{sql}\n  {error}");
        assert!(
            error.message.contains("information_schema.schemata"),
            "{sql}\n  {error}"
        );
    }
}

#[tokio::test]
async fn settings_are_shown_without_what_the_machine_is_like() {
    let warehouse = Warehouse::start().await;
    let data = warehouse.data().to_string_lossy().into_owned();

    let all = warehouse.sql("show all").await;
    let one = warehouse.sql("show datafusion.execution.batch_size").await;
    let information_schema = warehouse.sql("show datafusion.catalog.information_schema").await;
    let of_the_machine = warehouse
        .sql("select name from information_schema.df_settings where name like 'datafusion.runtime%' or value like '/%'")
        .await;
    let folder = warehouse.refused("show datafusion.runtime.temp_directory").await;

    let shown = format!("{:?}", all.rows);
    assert!(shown.contains("datafusion.execution.batch_size"), "{shown}");
    assert!(
        !shown.contains(&data) && !shown.contains("datafusion.runtime"),
        "{shown}"
    );
    assert_eq!(one, json!([["datafusion.execution.batch_size", "8192"]]));
    assert_eq!(
        information_schema,
        json!([["datafusion.catalog.information_schema", "true"]])
    );
    assert_eq!(of_the_machine, json!([]));
    assert_eq!(folder.code, "not_allowed", "{folder}");
}

#[tokio::test]
async fn explain_shows_a_plan_and_reads_nothing() {
    let warehouse = shop().await;

    let plan = warehouse
        .sql("explain select product from shop.sales where pieces > 1")
        .await;

    let text = format!("{:?}", plan.rows);
    assert!(text.contains("DataSourceExec"), "{text}");
    assert_eq!(plan.bytes_processed(), 0);
}

#[tokio::test]
async fn explain_analyze_runs_the_query_and_is_charged_for_it() {
    let warehouse = shop().await;

    let plan = warehouse
        .sql("explain analyze select product from shop.sales where pieces > 1")
        .await;

    let text = format!("{:?}", plan.rows);
    assert!(text.contains("output_rows"), "{text}");
    assert!(plan.bytes_processed() > 0);
}

#[tokio::test]
async fn a_plan_does_not_tell_where_the_files_lie() {
    let warehouse = shop().await;

    let plan = warehouse.sql("explain verbose select product from shop.sales").await;

    let text = format!("{:?}", plan.rows);
    let data = warehouse.data().to_string_lossy().into_owned();
    assert!(!text.contains(&data), "{text}");
}

#[tokio::test]
async fn statements_outside_the_rights_of_a_query_are_refused_by_name() {
    let warehouse = shop().await;
    let outside = std::env::temp_dir().join("wasmhouse-must-not-write-this.csv");
    let refused = [
        (
            "create external table t (a int) stored as csv location '/etc/passwd'".to_owned(),
            "CREATE EXTERNAL TABLE",
        ),
        (format!("copy (select 1) to '{}'", outside.display()), "COPY"),
        ("set datafusion.runtime.memory_limit = '1G'".to_owned(), "SET"),
        ("set datafusion.execution.batch_size = 1".to_owned(), "SET"),
        (
            "create function f(bigint) returns bigint return $1".to_owned(),
            "FUNCTION",
        ),
        ("create database other".to_owned(), "DATABASE"),
        ("prepare p as select 1".to_owned(), "PREPARE"),
        ("begin transaction".to_owned(), ""),
    ];

    for (sql, name) in &refused {
        let error = warehouse.refused(sql).await;
        assert!(error.is_one_of(&["not_allowed", "not_supported"]), "{sql}\n  {error}");
        assert!(error.message.to_uppercase().contains(name), "{sql}\n  {error}");
    }
    assert!(!outside.exists());
}

#[tokio::test]
async fn a_statement_that_would_replace_rows_is_refused_and_changes_nothing() {
    let warehouse = shop().await;

    for sql in [
        "replace into shop.sales (product, pieces) values ('fig', 1)",
        "insert or replace into shop.sales (product, pieces) values ('fig', 1)",
        "insert or ignore into shop.sales (product, pieces) values ('fig', 1)",
    ] {
        let error = warehouse.refused(sql).await;
        assert_eq!(error.code, "not_supported", "{sql}\n  {error}");
        assert!(error.message.contains("insert into"), "{sql}\n  {error}");
    }
    assert_eq!(warehouse.sql("select sum(pieces) from shop.sales").await, json!([[9]]));
}

#[tokio::test]
async fn json_in_a_column_is_read_with_functions_and_arrows() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.events (id bigint, body varchar)")
        .await;
    warehouse
        .sql(
            r#"insert into shop.events values
                (1, '{"name": "box", "size": {"width": 7}, "tags": ["a", "b"]}'),
                (2, '{"name": "bag", "size": {}}'),
                (3, null)"#,
        )
        .await;

    let functions = warehouse
        .sql(
            "select id, json_get_str(body, 'name'), cast(json_get(body, 'size', 'width') as bigint), \
             json_get_str(body, 'tags', 1) from shop.events order by id",
        )
        .await;
    let arrows = warehouse
        .sql("select id, body->>'name', body->'size'->>'width' from shop.events where (body->>'name') like 'b%' order by id")
        .await;
    let sums = warehouse
        .sql("select sum(cast(body->'size'->'width' as bigint)) from shop.events")
        .await;

    assert_eq!(
        functions,
        json!([[1, "box", 7, "b"], [2, "bag", null, null], [3, null, null, null]])
    );
    assert_eq!(arrows, json!([[1, "box", "7"], [2, "bag", null]]));
    assert_eq!(sums, json!([[7]]));
}

#[tokio::test]
async fn a_query_cannot_read_files_of_the_machine() {
    let warehouse = Warehouse::start().await;

    for sql in [
        "select * from '/etc/passwd'",
        "select * from \"/etc/passwd\"",
        "select * from 'file:///etc/passwd'",
    ] {
        let error = warehouse.refused(sql).await;
        assert!(error.status < 500, "{sql}\n  {error}");
    }
}

#[tokio::test]
async fn a_type_that_a_table_cannot_hold_is_an_error_that_names_the_column() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    let unsupported = [
        "UInt64",
        "UInt8",
        "Time64(Nanosecond)",
        "Duration(Second)",
        "Float16",
        "Interval(MonthDayNano)",
    ];

    for kind in unsupported {
        let error = warehouse
            .refused(&format!(
                "create table shop.t as select arrow_cast(null, '{kind}') as odd"
            ))
            .await;

        assert!(error.status < 500, "{kind}: {error}");
        assert!(error.message.contains("odd"), "{kind}: {error}");
    }
    assert_eq!(warehouse.refused("select * from shop.t").await.code, "unknown_table");
}

#[tokio::test]
async fn nanoseconds_are_kept_or_refused_and_never_dropped() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    warehouse.sql("create table shop.fine as select arrow_cast('2026-01-01T00:00:00.123456', 'Timestamp(Nanosecond, None)') as at").await;
    let error = warehouse
        .refused("create table shop.lossy as select arrow_cast('2026-01-01T00:00:00.123456789', 'Timestamp(Nanosecond, None)') as at")
        .await;

    assert_eq!(
        warehouse.sql("select at from shop.fine").await,
        json!([["2026-01-01T00:00:00.123456"]])
    );
    assert!(error.status < 500 && error.message.contains("at"), "{error}");
}

#[tokio::test]
async fn columns_without_names_of_their_own_are_refused() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    let twice = warehouse
        .refused("create table shop.t as select 1 as a, 2 as \"A\"")
        .await;
    let empty = warehouse.refused("create table shop.t as select 1 as \"\"").await;

    assert!(twice.status < 500 && empty.status < 500, "{twice}; {empty}");
}

#[tokio::test]
async fn dml_that_is_not_there_yet_says_so() {
    let warehouse = shop().await;

    for sql in [
        "delete from shop.sales where pieces = 1",
        "update shop.sales set pieces = 0",
    ] {
        let error = warehouse.refused(sql).await;
        assert_eq!(error.code, "not_supported", "{sql}\n  {error}");
    }
    assert_eq!(warehouse.sql("select sum(pieces) from shop.sales").await, json!([[9]]));
}

#[tokio::test]
async fn a_view_is_made_if_it_is_not_there() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;

    for (sql, a) in [
        ("create view if not exists s.v as select 1 as a", 1),
        ("create view if not exists s.v (a) as select 2", 1),
        ("create or replace view s.v (a) as select 3 -- three", 3),
    ] {
        warehouse.sql(sql).await;
        assert_eq!(warehouse.sql("select a from s.v").await, json!([[a]]), "{sql}");
    }
}

#[tokio::test]
async fn in_a_subquery_does_not_know_where_something_is_null() {
    let warehouse = Warehouse::start().await;
    let ask = async |condition: &str| {
        let rows = "(values (1), (null), (3)) a(g)";
        let sql = format!("select g from {rows} where {condition} order by g nulls first");
        let rows = warehouse.sql(&sql).await.rows;
        Value::from(rows.into_iter().flatten().collect::<Vec<_>>())
    };
    const ONE: &str = "(select 1)";
    const ONE_OR_NULL: &str = "(select * from (values (1), (null)) b(v))";
    const NOTHING: &str = "(select 1 where false)";
    const LARGER: &str = "(select v from (values (1), (null), (5)) b(v) where b.v > a.g or b.v is null and a.g > 1)";
    const MOST_OF_OWN: &str = "(select max(v) from (values (1, 1), (7, 7)) b(v, k) where b.k = a.g)";
    const OWN: &str = "(select v from (values (1, 1), (null, 3)) b(v, k) where b.k = a.g)";

    for (condition, rows) in [
        (format!("g in {ONE}"), json!([1])),
        (format!("g not in {ONE}"), json!([3])),
        (format!("g not in {ONE_OR_NULL}"), json!([])),
        (format!("g not in {NOTHING}"), json!([null, 1, 3])),
        (format!("g in {ONE} or g > 2"), json!([1, 3])),
        (format!("g not in {ONE} or g > 100"), json!([3])),
        (format!("g not in {ONE_OR_NULL} or g > 100"), json!([])),
        (format!("g not in {NOTHING} or g > 100"), json!([null, 1, 3])),
        (format!("g not in {OWN} or g > 100"), json!([null])),
        (format!("5 not in {ONE_OR_NULL}"), json!([])),
        (format!("5 not in {ONE}"), json!([null, 1, 3])),
        (format!("null not in {NOTHING}"), json!([null, 1, 3])),
        (format!("null not in {ONE}"), json!([])),
        (format!("g not in {OWN}"), json!([null])),
        (format!("g not in {LARGER}"), json!([null, 1])),
        (format!("not (g in {OWN} or g > 100)"), json!([])),
        (format!("g not in {MOST_OF_OWN} or g > 100"), json!([])),
        (format!("g in {MOST_OF_OWN}"), json!([1])),
        (format!("not (g in {ONE} and g < 100)"), json!([3])),
        (format!("(g in {ONE}) is null"), json!([null])),
        (format!("(g in {ONE_OR_NULL}) is null"), json!([null, 3])),
        (format!("(g in {NOTHING}) is null"), json!([])),
        (format!("(g not in {ONE_OR_NULL}) is not null"), json!([1])),
        (format!("coalesce(g in {ONE}, true)"), json!([null, 1])),
        (
            format!("case when g in {ONE} then false else true end"),
            json!([null, 3]),
        ),
        (format!("(g in {ONE}) = (g in {ONE_OR_NULL})"), json!([1])),
    ] {
        assert_eq!(ask(&condition).await, rows, "{condition}");
    }
}
