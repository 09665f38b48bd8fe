//! DuckDB, Polars and the `deltalake` package see the same rows as a caller of ours.

use serde_json::{Map, Value, json};

use crate::harness::Warehouse;
use crate::harness::caller::Caller;
use crate::python::{READERS, read};

/// One row of every type that a table holds, one of the other extreme, and one of nothing.
const EVERY_TYPE: &str = "
    select 1 as id, true as yes, cast(-128 as tinyint) as i8, cast(-32768 as smallint) as i16,
      cast(-2147483648 as int) as i32, cast(-9223372036854775808 as bigint) as i64, cast(-1.5 as real) as f32,
      cast('NaN' as double) as f64, cast('-99999999999999999999999999999.999999999' as decimal(38, 9)) as d, '' as s,
      arrow_cast(x'00ff', 'Binary') as bytes, date '0001-01-01' as day, timestamp '1969-12-31T23:59:59.999999' as at,
      arrow_cast('2026-01-01T00:00:00.000001', 'Timestamp(Microsecond, Some(\"UTC\"))') as at_utc,
      [1, null, -1] as list, named_struct('n', 1, 't', 'a') as record,
      [named_struct('n', 1, 't', cast(null as varchar))] as records
    union all
    select 2, false, cast(127 as tinyint), cast(32767 as smallint), cast(2147483647 as int), 9223372036854775807,
      cast(1.5 as real), cast('Infinity' as double),
      cast('0.000000001' as decimal(38, 9)), 'grüße 🦀 \" , ''', arrow_cast(x'', 'Binary'), date '9999-12-31',
      timestamp '2026-01-31T12:00:00', arrow_cast('1969-01-01T00:00:00', 'Timestamp(Microsecond, Some(\"UTC\"))'),
      arrow_cast([], 'List(Int64)'), named_struct('n', cast(null as bigint), 't', ''), [named_struct('n', 2, 't', 'b')]
    union all
    select 3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null";

/// The rows as our own caller sees them, as objects.
async fn our_rows(caller: &Caller, table: &str) -> Vec<Value> {
    let rows = caller.sql(&format!("select * from {table} order by id")).await;
    let names: Vec<String> = rows.names().into_iter().map(str::to_owned).collect();
    let object =
        |row: &Vec<Value>| Value::Object(names.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>());
    rows.rows.iter().map(object).collect()
}

/// Every reader sees what our own caller sees, and the version we say it is.
async fn assert_everyone_agrees(warehouse: &Warehouse, table: &str) {
    let (dataset, name) = table.split_once('.').expect("a table is written dataset.table");
    let described = warehouse
        .get(&format!("/v1/datasets/{dataset}/tables/{name}"))
        .await
        .expect("the table is there");
    let location = described["location"].as_str().expect("a table is somewhere");
    let ours = our_rows(warehouse, table).await;

    for reader in READERS {
        let found = read(reader, location, None);
        assert_eq!(found.rows, ours, "{reader} reads {table}");
        if let Some(version) = found.version {
            assert_eq!(json!(version), described["version"], "{reader} reads {table}");
        }
    }
}

#[tokio::test]
async fn every_type_is_read_by_everyone() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    warehouse.sql(&format!("create table shop.types as {EVERY_TYPE}")).await;
    warehouse
        .sql("insert into shop.types select * from shop.types where id < 2")
        .await;

    assert_everyone_agrees(&warehouse, "shop.types").await;
}

#[tokio::test]
async fn a_table_with_a_history_is_read_by_everyone() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.t (id bigint not null, name varchar)")
        .await;
    assert_everyone_agrees(&warehouse, "shop.t").await;

    warehouse.sql("insert into shop.t values (1, 'one'), (2, 'two')").await;
    warehouse.load_csv("shop.t", "id,name\n3,three\n4,\n").await;
    assert_everyone_agrees(&warehouse, "shop.t").await;

    warehouse.sql("truncate table shop.t").await;
    assert_everyone_agrees(&warehouse, "shop.t").await;

    warehouse.sql("insert into shop.t values (5, 'five')").await;
    assert_everyone_agrees(&warehouse, "shop.t").await;
}

#[tokio::test]
async fn a_table_that_was_replaced_or_made_again_is_read_by_everyone() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse.load_csv("shop.t", "id,a\n1,x\n").await;

    warehouse
        .load("shop.t", "format=csv&mode=replace", "id,b,c\n2,1.5,true\n")
        .await
        .expect("it is replaced");
    assert_everyone_agrees(&warehouse, "shop.t").await;

    warehouse.sql("drop table shop.t").await;
    warehouse
        .sql("create table shop.t as select 7 as id, 'again' as word")
        .await;
    assert_everyone_agrees(&warehouse, "shop.t").await;
}

#[tokio::test]
async fn a_table_of_many_versions_is_read_by_everyone() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse.sql("create table shop.t (id bigint, name varchar)").await;

    // Beyond the hundredth commit there is a checkpoint to read.
    for id in 0..105 {
        warehouse
            .sql(&format!("insert into shop.t values ({id}, 'row {id}')"))
            .await;
    }

    assert_everyone_agrees(&warehouse, "shop.t").await;
}

#[tokio::test]
async fn tpch_like_rows_of_several_files_are_read_by_everyone() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    let rows = |from: u32, to: u32| {
        format!(
            "select value as id, cast(value % 100 as decimal(15, 2)) / 7 as price, arrow_cast(arrow_cast(8035 + value % 2500, 'Int32'), 'Date32') as day, \
             concat('word ', value % 13) as word from generate_series({from}, {to})"
        )
    };
    warehouse
        .sql(&format!("create table shop.lines as {}", rows(1, 4_000)))
        .await;
    warehouse
        .sql(&format!("insert into shop.lines {}", rows(4_001, 8_000)))
        .await;

    assert_everyone_agrees(&warehouse, "shop.lines").await;
}
