//! `POST /v1/sql`: SQL in, rows out, in the format of `Accept`.

use std::io::Cursor;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{ApiError, Warehouse, shop};

const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

#[tokio::test]
async fn sql_as_text_is_answered_with_json_lines() {
    let warehouse = Warehouse::start().await;

    let answer = warehouse
        .fetch_text("select 1 as a, 'x' as b union all select 2, null order by a", "*/*")
        .await;

    let lines: Vec<Value> = answer
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    assert_eq!(lines[..2], [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": null})]);
    let end = &lines[2]["$end"];
    assert_eq!(end["status"], "done");
    assert_eq!(end["rows"], 2);
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_json_answer_has_the_schema_the_rows_and_the_end() {
    let warehouse = shop().await;

    let rows = warehouse
        .sql("select product, pieces from shop.sales order by price")
        .await;

    assert_eq!(rows.names(), ["product", "pieces"]);
    assert_eq!(
        rows,
        json!([["apple", 5], ["apple", 3], ["pear", 1], ["plum, dried", null]])
    );
    assert_eq!(rows.end["status"], "done");
    assert_eq!(rows.end["rows"], 4);
}

#[tokio::test]
async fn a_csv_answer_quotes_only_what_needs_it_and_tells_null_from_empty() {
    let warehouse = Warehouse::start().await;

    let answer = warehouse
        .fetch_text(
            "select * from (values (1, 'plain', null), (2, '', 'a,b'), (3, 'say \"hi\"', 'two' || chr(10) || 'lines')) t(id, a, b) order by id",
            "text/csv",
        )
        .await;

    assert_eq!(
        answer.replace("\r\n", "\n"),
        "id,a,b\n1,plain,\n2,\"\",\"a,b\"\n3,\"say \"\"hi\"\"\",\"two\nlines\"\n"
    );
}

#[tokio::test]
async fn an_arrow_answer_is_a_stream_that_arrow_reads() {
    let warehouse = shop().await;

    let bytes = warehouse
        .fetch("select pieces from shop.sales where pieces > 1 order by pieces", ARROW)
        .await;

    let batches: Vec<RecordBatch> = StreamReader::try_new(Cursor::new(bytes), None)
        .expect("an Arrow stream")
        .collect::<Result<_, _>>()
        .expect("whole batches");
    let pieces: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(pieces, [3, 5]);
}

#[tokio::test]
async fn a_parquet_answer_is_a_file_that_parquet_reads() {
    let warehouse = shop().await;

    let bytes = warehouse
        .fetch(
            "select pieces from shop.sales where pieces > 1 order by pieces",
            PARQUET,
        )
        .await;

    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))
        .and_then(|builder| builder.build())
        .expect("a Parquet file");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("whole batches");
    let pieces: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(pieces, [3, 5]);
}

#[tokio::test]
async fn an_answer_without_rows_still_has_its_columns() {
    let warehouse = shop().await;
    let sql = "select product, price from shop.sales where pieces > 1000";

    let json = warehouse.sql(sql).await;
    let csv = warehouse.fetch_text(sql, "text/csv").await;
    let arrow = warehouse.fetch(sql, ARROW).await;

    assert_eq!(json.names(), ["product", "price"]);
    assert_eq!(json, json!([]));
    assert_eq!(csv.trim_end(), "product,price");
    let reader = StreamReader::try_new(Cursor::new(arrow), None).expect("an Arrow stream");
    assert_eq!(reader.schema().field(1).name(), "price");
}

#[tokio::test]
async fn a_format_nobody_writes_is_not_acceptable() {
    let warehouse = Warehouse::start().await;

    let request = warehouse
        .request(Method::POST, "/v1/sql")
        .header("accept", "image/png")
        .body("select 1");
    let response = request.send().await.expect("the gateway answers");

    assert_eq!(response.status().as_u16(), 406);
}

#[tokio::test]
async fn the_headers_say_what_the_answer_is_about() {
    let warehouse = shop().await;

    let rows = warehouse.sql("select sum(pieces) from shop.sales").await;

    let header = |name: &str| {
        rows.headers
            .get(name)
            .map(|value| value.to_str().expect("a header is text").to_owned())
    };
    assert_eq!(header("wasmhouse-query-id"), Some(rows.query_id()));
    assert!(header("content-type").is_some_and(|value| value.starts_with("application/json")));
}

#[tokio::test]
async fn the_trailer_says_that_the_answer_is_whole() {
    let warehouse = Warehouse::start().await;

    let answer = warehouse
        .raw_sql("select value from generate_series(1, 100000)", "text/csv")
        .await;

    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    assert!(answer.complete);
    assert_eq!(answer.lines().len(), 100_001);
    assert_eq!(answer.trailer("wasmhouse-status"), Some("done"));
}

#[tokio::test]
async fn a_failure_after_the_first_byte_never_looks_like_success() {
    let warehouse = Warehouse::start().await;
    // The last of these rows divides by zero; by then the first are on their way, or are still held back.
    let sql = "select value, 10 / (4000000 - value) as q from generate_series(1, 4000000)";

    for accept in ["application/x-ndjson", "text/csv", ARROW] {
        let answer = warehouse.raw_sql(sql, accept).await;

        let refused = answer.status >= 400;
        assert!(
            refused || !answer.complete,
            "{accept}: a failed query was answered with {} and ended well",
            answer.status
        );
        assert_eq!(answer.trailer("wasmhouse-status"), None, "{accept}");
        if !refused && accept == "application/x-ndjson" {
            let last: Value =
                serde_json::from_str(answer.lines().last().expect("there are lines")).expect("each line is JSON");
            let error = ApiError::from_json(answer.status, &last["$error"]);
            assert_eq!(error.code, "execution_failed", "{error}");
        }
    }
}

/// What the gateway says to a request that begins with this line, to the last byte.
async fn answer_to(warehouse: &Warehouse, line: &str, body: &str) -> String {
    let url = warehouse.url("");
    let address = url
        .strip_prefix("http://")
        .expect("the server speaks plain HTTP on loopback");
    let mut connection = TcpStream::connect(address).await.expect("the gateway listens");
    let request = format!(
        "{line}\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        warehouse.key(),
        body.len()
    );
    connection
        .write_all(request.as_bytes())
        .await
        .expect("the gateway reads");
    let mut answer = Vec::new();
    // A connection that was reset has still given us the bytes before that.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_protocol_that_cannot_tell_a_cut_answer_gets_no_rows() {
    let warehouse = Warehouse::start().await;
    let id = warehouse.sql("select 1").await.query_id();

    let rows = answer_to(&warehouse, "POST /v1/sql HTTP/1.0", "select 1").await;
    let page = answer_to(&warehouse, &format!("GET /v1/queries/{id}/results HTTP/1.0"), "").await;
    let query = answer_to(&warehouse, &format!("GET /v1/queries/{id} HTTP/1.0"), "").await;

    for refused in [rows, page] {
        let status = refused.lines().next().unwrap_or_default();
        assert!(status.contains(" 505"), "{refused}");
        assert!(refused.contains("\"invalid_request\""), "{refused}");
        assert!(refused.contains("use HTTP/1.1"), "{refused}");
    }
    let status = query.lines().next().unwrap_or_default();
    assert!(status.contains(" 200"), "{query}");
}

#[tokio::test]
async fn options_in_the_address_hold_for_a_statement_in_json() {
    let warehouse = shop().await;
    let insert = json!({ "sql": "insert into shop.sales values (date '2026-02-01', 'fig', 1, 1)" });
    let sum = json!({ "sql": "select sum(pieces) from shop.sales" });

    let dry = warehouse
        .post("/v1/sql?dry_run=true", insert)
        .await
        .expect("a dry run has no rows");
    let capped = warehouse
        .post("/v1/sql?max_bytes=1", sum)
        .await
        .expect_err("the sum reads more than a byte");
    let unknown = warehouse
        .post("/v1/sql?colour=red", json!({ "sql": "select 1" }))
        .await
        .expect_err("there is no such option");

    assert_eq!(dry["dry_run"], true);
    assert_eq!(capped.code, "over_budget");
    assert_eq!((unknown.status, unknown.code.as_str()), (400, "invalid_request"));
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn an_option_that_is_said_twice_is_said_the_same() {
    let warehouse = shop().await;

    for (address, body, option) in [
        (
            "dry_run=true",
            json!({ "sql": "select 1", "dry_run": false }),
            "dry_run",
        ),
        ("max_bytes=1", json!({ "sql": "select 1", "max_bytes": 2 }), "max_bytes"),
        (
            "timeout_ms=1000",
            json!({ "sql": "select 1", "timeout_ms": 2000 }),
            "timeout_ms",
        ),
        (
            "dataset=shop",
            json!({ "sql": "select 1", "dataset": "main" }),
            "dataset",
        ),
        (
            "labels=team:red",
            json!({ "sql": "select 1", "labels": { "team": "blue" } }),
            "labels",
        ),
    ] {
        let error = warehouse
            .post(&format!("/v1/sql?{address}"), body)
            .await
            .expect_err(option);

        assert_eq!(
            (error.status, error.code.as_str()),
            (400, "invalid_request"),
            "{option}"
        );
        assert!(error.message.contains(option), "{error}");
    }
    let same = json!({ "sql": "select count(*) from sales", "dataset": "shop", "dry_run": true });
    let dry = warehouse
        .post("/v1/sql?dry_run=true&dataset=shop", same)
        .await
        .expect("both say the same");
    assert_eq!(dry["dry_run"], true);
}

#[tokio::test]
async fn positional_parameters_take_the_place_of_dollar_numbers() {
    let warehouse = shop().await;

    let answer = warehouse
        .ask(json!({
            "sql": "select product from shop.sales where pieces >= $1 and product <> $2 order by product",
            "params": [1, "pear"],
        }))
        .await;

    assert_eq!(answer.expect("parameters fit"), json!([["apple"], ["apple"]]));
}

#[tokio::test]
async fn named_parameters_take_the_place_of_dollar_names() {
    let warehouse = shop().await;

    let answer = warehouse
        .ask(json!({
            "sql": "select count(*) from shop.sales where day = $day",
            "params": { "day": { "type": "DATE", "value": "2026-01-01" } },
        }))
        .await;

    assert_eq!(answer.expect("parameters fit"), json!([[2]]));
}

#[tokio::test]
async fn a_typed_parameter_has_the_type_it_says() {
    let warehouse = Warehouse::start().await;

    let answer = warehouse
        .ask(json!({
            "sql": "select $1 as d, $2 as t, $3 as n, arrow_typeof($1) as type",
            "params": [
                { "type": "DECIMAL(10,2)", "value": "1.25" },
                { "type": "TIMESTAMP", "value": "2026-01-31T12:00:00.123456" },
                { "type": "BIGINT", "value": null },
            ],
        }))
        .await
        .expect("parameters fit");

    assert_eq!(
        answer,
        json!([["1.25", "2026-01-31T12:00:00.123456", null, "Decimal128(10, 2)"]])
    );
}

#[tokio::test]
async fn a_parameter_is_a_value_and_never_sql() {
    let warehouse = shop().await;

    let answer = warehouse
        .ask(json!({ "sql": "select count(*) from shop.sales where product = $1", "params": ["x' or '1'='1"] }))
        .await;

    assert_eq!(answer.expect("parameters fit"), json!([[0]]));
}

#[tokio::test]
async fn a_typed_parameter_is_its_value_or_an_error() {
    let warehouse = Warehouse::start().await;
    let ask = async |kind: &str, value: &str| {
        let params = json!([{ "type": kind, "value": value }]);
        warehouse.ask(json!({ "sql": "select $1", "params": params })).await
    };

    assert_eq!(ask("DECIMAL(10,2)", "1.25").await.expect("it fits"), json!([["1.25"]]));
    for (kind, value) in [
        ("DECIMAL(10,2)", "1.239"),
        ("TIMESTAMP", "2026-01-01 00:00:00.123456789"),
        ("DATE", "2026-01-01 13:00:00"),
        ("BIGINT", "1.5"),
    ] {
        let error = ask(kind, value).await.expect_err("a part of it would be lost");
        assert_eq!(error.code, "type_mismatch", "{error}");
        assert!(error.message.contains(value), "{error}");
    }
}

#[tokio::test]
async fn a_missing_parameter_is_named() {
    let warehouse = Warehouse::start().await;

    let error = warehouse
        .ask(json!({ "sql": "select $1 + $2", "params": [1] }))
        .await
        .expect_err("one value for two places");

    assert!(error.status < 500, "{error}");
    assert!(error.message.contains("$2"), "{error}");
}

#[tokio::test]
async fn a_dataset_may_be_said_once_for_the_whole_statement() {
    let warehouse = shop().await;

    let json = warehouse
        .ask(json!({ "sql": "select count(*) from sales", "dataset": "shop" }))
        .await;
    let request = warehouse
        .request(Method::POST, "/v1/sql?dataset=shop")
        .body("select count(*) as n from sales");
    let text = request
        .send()
        .await
        .expect("the gateway answers")
        .text()
        .await
        .expect("the answer ends well");

    assert_eq!(json.expect("the dataset is there"), json!([[4]]));
    assert_eq!(text.lines().next(), Some(r#"{"n":4}"#));
}

#[tokio::test]
async fn settings_hold_for_one_statement() {
    let warehouse = Warehouse::start().await;
    let sql = "select to_timestamp('2026-01-01T00:00:00') is not null and current_date() is not null as fine";

    let with = warehouse
        .ask(json!({ "sql": sql, "settings": { "datafusion.execution.time_zone": "+02:00" } }))
        .await;
    let unknown = warehouse
        .ask(json!({ "sql": sql, "settings": { "datafusion.no.such.setting": "1" } }))
        .await;

    assert_eq!(with.expect("a setting of the session"), json!([[true]]));
    assert!(unknown.expect_err("no such setting").status < 500);
}

#[tokio::test]
async fn values_look_in_json_as_the_contract_says() {
    let warehouse = Warehouse::start().await;

    let rows = warehouse
        .sql(
            "select 9223372036854775807 as big, cast('1.50' as decimal(10,2)) as money, cast('NaN' as double) as nan, \
             cast('Infinity' as double) as inf, -cast('Infinity' as double) as ninf, date '2026-01-31' as day, \
             cast('2026-01-31T12:00:00.123456' as timestamp) as at, arrow_cast(x'00ff', 'Binary') as raw, [1, null, 3] as list, \
             named_struct('a', 1, 'b', [true]) as record, null as nothing, true as yes, 'grüße 🦀' as text",
        )
        .await;

    let expected = json!([[
        9_223_372_036_854_775_807_i64,
        "1.50",
        "NaN",
        "Infinity",
        "-Infinity",
        "2026-01-31",
        "2026-01-31T12:00:00.123456",
        "AP8=",
        [1, null, 3],
        { "a": 1, "b": [true] },
        null,
        true,
        "grüße 🦀",
    ]]);
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn json_functions_look_inside_text() {
    let warehouse = Warehouse::start().await;

    let rows = warehouse
        .sql(r#"select json_get_int('{"a": {"b": 7}}', 'a', 'b') as b, json_get_str('{"c": "x"}', 'c') as c"#)
        .await;

    assert_eq!(rows, json!([[7, "x"]]));
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_refused() {
    let warehouse = Warehouse::start().await;

    for body in ["{\"sql\": ", "[1, 2]", "{\"sql\": 1}", "{}"] {
        let request = warehouse
            .request(Method::POST, "/v1/sql")
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await.expect("the gateway answers");
        let status = response.status().as_u16();
        let error: Value = response.json().await.expect("an error is JSON");

        assert!((400..500).contains(&status), "{body} was answered with {status}");
        let code = error["error"]["code"].as_str();
        assert!(
            matches!(code, Some("invalid_request" | "invalid_sql")),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn two_statements_in_one_request_are_one_too_many() {
    let warehouse = Warehouse::start().await;

    let error = warehouse.refused("select 1; select 2").await;
    let rows = warehouse.sql("select 1;").await;

    assert!(error.status < 500, "{error}");
    assert_eq!(rows, json!([[1]]));
}

#[tokio::test]
async fn a_setting_with_a_value_that_it_cannot_have_is_refused_by_name() {
    let warehouse = Warehouse::start().await;

    for (name, value) in [
        ("datafusion.execution.coalesce_batches", "abc"),
        ("datafusion.execution.batch_size", "-1"),
        ("datafusion.optimizer.no_such_rule", "true"),
    ] {
        let asked = warehouse
            .ask(json!({ "sql": "select 1", "settings": { name: value } }))
            .await;

        let error = asked.expect_err("it has no such value");
        assert_eq!(error.code, "invalid_sql", "{error:?}");
        assert!(error.message.contains(name), "{error:?}");
    }
}

#[tokio::test]
async fn named_parameters_stand_in_the_values_of_an_insert_as_elsewhere() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    warehouse
        .sql("create table shop.t (n int, name varchar, day date)")
        .await;
    let insert = async |sql: &str, params: Value| warehouse.ask(json!({ "sql": sql, "params": params })).await;
    let day = json!({ "type": "DATE", "value": "2026-01-31" });

    let params = json!({ "n": 1, "name": "it's one", "day": day });
    let all = insert("insert into shop.t values ($n, $name, $day)", params).await;
    let params = json!({ "n": 2, "name": "two" });
    let some = insert(
        "insert into shop.t (name, n) values ($name, $n), (upper($name), $n + 1)",
        params,
    )
    .await;
    let missing = insert("insert into shop.t (n) values ($n)", json!({ "m": 1 })).await;
    let too_fine = insert("insert into shop.t (n) values ($n)", json!({ "n": 1.5 })).await;

    assert_eq!(all.expect("an insert"), json!([[1]]));
    assert_eq!(some.expect("an insert"), json!([[2]]));
    let missing = missing.expect_err("a parameter without a value");
    assert!(
        missing.code == "invalid_sql" && missing.message.contains("$n"),
        "{missing}"
    );
    assert_eq!(too_fine.expect_err("no INT").code, "type_mismatch");
    assert_eq!(
        warehouse.sql("select * from shop.t order by n").await,
        json!([[1, "it's one", "2026-01-31"], [2, "two", null], [3, "TWO", null]])
    );
}
