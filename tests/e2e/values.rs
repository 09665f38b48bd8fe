//! A value goes into a table as it is, or not at all.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use crate::Warehouse;
use crate::formats::to_arrow;

const COLUMNS: &str = "n bigint, small smallint, price decimal(10, 2), day date, at timestamp, ratio double, r real";

async fn with_table() -> Warehouse {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse.sql(&format!("create table shop.t ({COLUMNS})")).await;
    warehouse
}

#[tokio::test]
async fn an_insert_refuses_a_value_that_its_column_would_change() {
    let warehouse = with_table().await;
    let refused = [
        ("n", "values (1.9)"),
        ("n", "values (1), (null), (2.5)"),
        ("n", "select 1.9"),
        ("n", "select 9.3e18"),
        ("small", "values (70000)"),
        ("price", "values (1.255)"),
        ("price", "select sum(x) from (values (0.1), (0.2)) as v(x)"),
        ("price", "select cast(1.255 as decimal(10, 3))"),
        (
            "day",
            "select arrow_cast('2026-01-01T12:00:00', 'Timestamp(Microsecond, None)')",
        ),
        (
            "at",
            "values (arrow_cast('2026-01-01T00:00:00.123456789', 'Timestamp(Nanosecond, None)'))",
        ),
        ("at", "values ('2026-01-01T00:00:00.123456789')"),
        ("ratio", "values (9007199254740993)"),
        ("r", "select 1.0 / 3.0"),
    ];

    for (column, rows) in refused {
        let error = warehouse
            .refused(&format!("insert into shop.t ({column}) {rows}"))
            .await;

        assert_eq!(error.code, "type_mismatch", "{column} {rows}\n  {error}");
        assert!(
            error.message.starts_with(&format!("column {column} cannot hold ")),
            "{rows}\n  {error}"
        );
    }
    assert_eq!(warehouse.sql("select count(*) from shop.t").await, json!([[0]]));
}

#[tokio::test]
async fn an_insert_takes_a_value_of_another_type_that_is_the_same_in_its_column() {
    let warehouse = with_table().await;

    warehouse
        .sql("insert into shop.t values (2.0, 7, 1.25, '2026-01-01', '2026-01-01T00:00:00.123456', 1, 0.1)")
        .await;
    warehouse
        .sql("insert into shop.t (price, n) select cast(2.50 as decimal(10, 3)), 4.0")
        .await;
    warehouse
        .sql("insert into shop.t (n) select x * 10 from (values (0.5)) as v(x)")
        .await;
    // What a statement rounds itself is rounded.
    warehouse
        .sql("insert into shop.t (n, day) values (cast(3.9 as bigint), cast('2026-01-02T12:00:00' as timestamp)::date)")
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.t order by n").await,
        json!([
            [2, 7, "1.25", "2026-01-01", "2026-01-01T00:00:00.123456", 1.0, 0.1],
            [3, null, null, "2026-01-02", null, null, null],
            [4, null, "2.50", null, null, null, null],
            [5, null, null, null, null, null, null],
        ])
    );
}

#[tokio::test]
async fn values_below_one_another_do_not_change_each_other() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse.sql("create table shop.t (d decimal(20, 1))").await;

    warehouse
        .sql("insert into shop.t values (9007199254740993), (0.5), (null), ('1.5')")
        .await;

    assert_eq!(
        warehouse.sql("select d from shop.t order by d nulls last").await,
        json!([["0.5"], ["1.5"], ["9007199254740993.0"], [null]])
    );
}

#[tokio::test]
async fn a_parameter_is_a_value_like_any_other() {
    let warehouse = with_table().await;
    let insert = |value: serde_json::Value| {
        warehouse.ask(json!({ "sql": "insert into shop.t (n) values ($1)", "params": [value] }))
    };

    insert(json!(7)).await.expect("7 is a BIGINT");
    let error = insert(json!(1.9)).await.expect_err("1.9 is none");

    assert_eq!(error.code, "type_mismatch", "{error}");
    assert_eq!(warehouse.sql("select n from shop.t").await, json!([[7]]));
}

#[tokio::test]
async fn a_table_that_is_declared_and_filled_keeps_what_was_declared() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    warehouse
        .sql("create table shop.t (a bigint not null, b decimal(10, 1), at timestamp) as select 1.0, 2.5, '2026-01-01'")
        .await;
    let null = warehouse
        .refused("insert into shop.t values (null, 1, '2026-01-01')")
        .await;
    let null_at_once = warehouse
        .refused("create table shop.u (a bigint not null) as select null")
        .await;
    let lossy = warehouse
        .refused("create table shop.u (a bigint) as values (1), (1.9)")
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.t").await,
        json!([[1, "2.5", "2026-01-01T00:00:00"]])
    );
    for error in [null, null_at_once] {
        assert!(error.message.starts_with("column a must not be NULL"), "{error}");
    }
    assert_eq!(lossy.message, "column a cannot hold 1.9 exactly: it is BIGINT");
    assert_eq!(warehouse.refused("select * from shop.u").await.code, "unknown_table");
}

#[tokio::test]
async fn a_loaded_table_keeps_the_not_null_that_it_is_declared_with() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let schema = "format=csv&schema=a%20BIGINT%20NOT%20NULL,b%20BIGINT";

    warehouse.load("shop.t", schema, "a,b\n1,\n").await.expect("a is there");
    let null = warehouse
        .load("shop.u", schema, "a,b\n,1\n")
        .await
        .expect_err("a is missing");
    let later = warehouse.refused("insert into shop.t (b) values (1)").await;

    for error in [null, later] {
        assert!(error.message.starts_with("column a must not be NULL"), "{error}");
    }
}

#[tokio::test]
async fn a_file_with_types_is_appended_exactly_or_refused() {
    let warehouse = with_table().await;
    let file =
        |name: &str, values: ArrayRef| to_arrow(&RecordBatch::try_from_iter([(name, values)]).expect("one column"));
    let times = |nanos: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(vec![nanos])) };
    let numbers = |number: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![number])) };

    for (name, values) in [("n", numbers(1.9)), ("price", numbers(1.255)), ("at", times(1))] {
        let error = warehouse
            .load("shop.t", "format=arrow", file(name, values))
            .await
            .expect_err(name);
        assert_eq!(error.code, "type_mismatch", "{error}");
        assert!(
            error.message.starts_with(&format!("column {name} cannot hold ")),
            "{error}"
        );
    }
    for (name, values) in [("n", numbers(2.0)), ("at", times(1_000))] {
        warehouse
            .load("shop.t", "format=arrow", file(name, values))
            .await
            .expect("nothing is lost");
    }

    assert_eq!(
        warehouse.sql("select n, at from shop.t order by n").await,
        json!([[2, null], [null, "1970-01-01T00:00:00.000001"]])
    );
}

#[tokio::test]
async fn times_that_spark_wrote_are_the_times_they_were() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    // Days are counted from noon of 4713 BC; the second is the last of the year 9999.
    let file = spark_file(&[(2_440_588, 1_000), (5_373_484, 86_399_999_999_000)]);

    warehouse
        .load("shop.t", "format=parquet", file)
        .await
        .expect("Parquet of an older kind");

    assert_eq!(
        warehouse.sql("select at from shop.t order by at").await,
        json!([["1970-01-01T00:00:00.000001"], ["9999-12-31T23:59:59.999999"]])
    );
}

/// A Parquet file with times as Spark writes them: INT96, a day and its nanoseconds.
fn spark_file(times: &[(u32, u64)]) -> Vec<u8> {
    let times: Vec<Int96> = times
        .iter()
        .map(|(day, nanos)| {
            let mut time = Int96::new();
            time.set_data((nanos & 0xFFFF_FFFF) as u32, (nanos >> 32) as u32, *day);
            time
        })
        .collect();
    let schema = parse_message_type("message spark { required int96 at; }").expect("one column");
    let properties = Arc::new(WriterProperties::builder().build());
    let mut bytes = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), properties).expect("memory is always writable");
    let mut rows = file.next_row_group().expect("memory is always writable");
    let mut column = rows
        .next_column()
        .expect("memory is always writable")
        .expect("there is one column");
    column
        .typed::<Int96Type>()
        .write_batch(&times, None, None)
        .expect("the column is INT96");
    column.close().expect("memory is always writable");
    rows.close().expect("memory is always writable");
    file.close().expect("memory is always writable");
    bytes
}

#[tokio::test]
async fn keys_of_json_lines_find_their_columns_in_any_case() {
    let warehouse = with_table().await;

    warehouse
        .load("shop.t", "format=json", "{\"N\": 1}\n{\"n\": 2, \"RATIO\": 0.5}\n")
        .await
        .expect("names are names");

    assert_eq!(
        warehouse.sql("select n, ratio from shop.t order by n").await,
        json!([[1, null], [2, 0.5]])
    );
}

#[tokio::test]
async fn json_lines_lose_no_key_and_no_digit() {
    let warehouse = with_table().await;
    let refused = [
        (
            "{\"n\": 1}\n{\"n\": 2, \"rati\": 1}\n",
            "unknown_column",
            "line 2 of the file has a key rati, which the table has not; did it mean ratio?",
        ),
        (
            "{\"n\": 1}\n{\"n\": 1.9}\n",
            "type_mismatch",
            "line 2 of the file: column n holds 1.9, which is not a BIGINT",
        ),
        (
            "{\"price\": 1.255}\n",
            "type_mismatch",
            "line 1 of the file: column price holds 1.255, which a DECIMAL(10, 2) cannot hold exactly",
        ),
    ];

    for (lines, code, message) in refused {
        let error = warehouse.load("shop.t", "format=json", lines).await.expect_err(message);
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message));
    }
    assert_eq!(warehouse.sql("select count(*) from shop.t").await, json!([[0]]));
    warehouse
        .load(
            "shop.long",
            "format=json",
            "{\"n\": 18446744073709551615}\n{\"n\": 1}\n",
        )
        .await
        .expect("integers of any size");
    assert_eq!(
        warehouse.sql("select n from shop.long order by n").await,
        json!([["1"], ["18446744073709551615"]])
    );
}

#[tokio::test]
async fn a_csv_column_that_only_looks_like_numbers_is_text() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    warehouse
        .load_csv(
            "shop.t",
            "zip,phone,mixed\n00501,+491234,9007199254740993\n90210,+495678,0.5\n",
        )
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.t order by zip").await,
        json!([["00501", "+491234", "9007199254740993"], ["90210", "+495678", "0.5"]])
    );
}

#[tokio::test]
async fn a_csv_row_behind_the_guess_that_would_be_rounded_is_named() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let mut text = "x\n".to_owned();
    text.push_str(&"0.5\n".repeat(100_000));
    text.push_str("9007199254740993\n");

    let error = warehouse
        .load("shop.t", "format=csv", text)
        .await
        .expect_err("DOUBLE does not hold it");

    assert_eq!(
        error.message,
        "line 100002 of the file: column x holds '9007199254740993', which a DOUBLE cannot hold exactly"
    );
}

#[tokio::test]
async fn a_list_of_a_table_goes_where_a_list_of_a_query_goes() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.t as select [1, 2] as list, [['a'], ['b']] as lists, map(['a'], [1]) as pairs, struct([1] as l) as s")
        .await;
    warehouse
        .sql("insert into shop.t select array_append(list, 3), array_concat(lists, [['c']]), pairs, s from shop.t")
        .await;

    let kept = warehouse
        .sql("select list, lists, pairs from shop.t order by array_length(list)")
        .await;
    let typed = "select arrow_typeof(list) = arrow_typeof([1]) from shop.t limit 1";

    assert_eq!(
        kept,
        json!([[[1, 2], [["a"], ["b"]], { "a": 1 }], [[1, 2, 3], [["a"], ["b"], ["c"]], { "a": 1 }]])
    );
    assert_eq!(warehouse.sql(typed).await, json!([[true]]));
    let joined = "select count(*) from shop.t a join shop.t b on array_concat(a.list, [3]) = b.list";
    assert_eq!(warehouse.sql(joined).await, json!([[1]]));
}
