//! Loads: a file in, a table out.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::{SALES, Warehouse, shop};

#[tokio::test]
async fn csv_finds_its_own_types() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    let load = warehouse
        .load_csv(
            "shop.t",
            "id,price,day,at,yes,text\n1,1.5,2026-01-31,2026-01-31T12:00:00,true,x\n,,,,,\n",
        )
        .await;

    assert_eq!(load["kind"], "load");
    assert_eq!(load["usage"]["rows_written"], 2);
    let types = warehouse
        .sql("select arrow_typeof(id), arrow_typeof(price), arrow_typeof(day), arrow_typeof(yes) from shop.t limit 1")
        .await;
    assert_eq!(types, json!([["Int64", "Float64", "Date32", "Boolean"]]));
    let rows = warehouse.sql("select * from shop.t order by id nulls last").await;
    assert_eq!(
        rows,
        json!([
            [1, 1.5, "2026-01-31", "2026-01-31T12:00:00", true, "x"],
            [null, null, null, null, null, null],
        ])
    );
}

#[tokio::test]
async fn csv_takes_the_types_it_is_given() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    warehouse
        .load(
            "shop.t",
            "format=csv&schema=code%20VARCHAR,price%20DECIMAL(10,2),n%20SMALLINT",
            "code,price,n\n007,1.10,3\n010,2.20,4\n",
        )
        .await
        .expect("the types fit");

    assert_eq!(
        warehouse.sql("select * from shop.t order by code").await,
        json!([["007", "1.10", 3], ["010", "2.20", 4]])
    );
    assert_eq!(
        warehouse.sql("select arrow_typeof(n) from shop.t limit 1").await,
        json!([["Int16"]])
    );
}

#[tokio::test]
async fn csv_may_have_another_delimiter_no_header_and_a_word_for_null() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    warehouse
        .load(
            "shop.t",
            "format=csv&header=false&delimiter=%3B&null=n%2Fa&schema=id%20BIGINT,name%20VARCHAR",
            "1;one\n2;n/a\n",
        )
        .await
        .expect("it is CSV of a kind");

    assert_eq!(
        warehouse.sql("select * from shop.t order by id").await,
        json!([[1, "one"], [2, null]])
    );
}

#[tokio::test]
async fn csv_with_quotes_and_line_breaks_inside_is_read_as_it_was_meant() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    warehouse
        .load_csv(
            "shop.t",
            "id,text\r\n1,\"a, \"\"b\"\"\"\r\n2,\"two\nlines\"\r\n3,grüße 🦀\r\n",
        )
        .await;

    assert_eq!(
        warehouse.sql("select * from shop.t order by id").await,
        json!([[1, "a, \"b\""], [2, "two\nlines"], [3, "grüße 🦀"]])
    );
}

#[tokio::test]
async fn json_lines_become_rows_also_nested_ones() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let lines = "{\"id\": 1, \"tags\": [\"a\", null], \"at\": {\"x\": 1, \"y\": 2.5}}\n{\"id\": 2, \"extra\": true}\n";

    warehouse
        .load("shop.t", "format=json", lines)
        .await
        .expect("JSON lines");

    assert_eq!(
        warehouse
            .sql("select id, tags, at, extra from shop.t order by id")
            .await,
        json!([[1, ["a", null], { "x": 1, "y": 2.5 }, null], [2, null, null, true]])
    );
}

#[tokio::test]
async fn modes_say_what_happens_to_what_is_there() {
    let warehouse = shop().await;
    let more = "day,product,pieces,price\n2026-03-01,melon,1,3.5\n";

    let create = warehouse
        .load("shop.sales", "format=csv&mode=create", more)
        .await
        .expect_err("the table is there");
    warehouse
        .load("shop.sales", "format=csv&mode=append", more)
        .await
        .expect("one more row");
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[5]]));

    warehouse
        .load("shop.sales", "format=csv&mode=replace", "other\n1\n2\n")
        .await
        .expect("another table");

    assert_eq!(create.code, "already_exists");
    assert_eq!(
        warehouse.sql("select * from shop.sales order by 1").await,
        json!([[1], [2]])
    );
    warehouse
        .load("shop.fresh", "format=csv&mode=create", more)
        .await
        .expect("a new table");
    assert_eq!(
        warehouse.sql("select product from shop.fresh").await,
        json!([["melon"]])
    );
}

#[tokio::test]
async fn a_replaced_table_is_never_missing_and_never_both() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("s").await;
    warehouse.load_csv("s.t", "n\n1\n1\n").await;
    let write = async {
        for n in 2..8 {
            warehouse
                .load("s.t", "format=csv&mode=replace", format!("n\n{n}\n{n}\n"))
                .await
                .expect("replaced");
        }
    };
    let read = async {
        for _ in 0..20 {
            let rows = warehouse.sql("select count(*), count(distinct n) from s.t").await;
            assert_eq!(rows, json!([[2, 1]]));
        }
    };

    futures::future::join(write, read).await;

    assert_eq!(warehouse.sql("select max(n) from s.t").await, json!([[7]]));
}

#[tokio::test]
async fn appended_columns_are_matched_by_name() {
    let warehouse = shop().await;

    warehouse
        .load_csv("shop.sales", "price,product,day\n9.5,grape,2026-04-01\n")
        .await;
    let unknown = warehouse
        .load("shop.sales", "format=csv", "product,colour\nfig,green\n")
        .await
        .expect_err("no such column");

    assert_eq!(
        warehouse
            .sql("select day, product, pieces, price from shop.sales where product = 'grape'")
            .await,
        json!([["2026-04-01", "grape", null, 9.5]])
    );
    assert!(unknown.message.contains("colour"), "{unknown}");
}

#[tokio::test]
async fn columns_that_are_declared_again_are_those_the_table_has() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let declared = |columns: &str| format!("format=csv&header=false&schema={}", columns.replace(' ', "%20"));

    for file in ["1,a\n", "2,b\n"] {
        let load = warehouse
            .load("shop.sales", &declared("id bigint, name varchar"), file)
            .await;
        load.expect("a load, the first or a later one");
    }
    let by_name = declared("name varchar, id bigint").replace("&header=false", "");
    let load = warehouse.load("shop.sales", &by_name, "name,id\nc,3\n").await;
    load.expect("a file with names, in its own order");
    for (columns, message) in [
        (
            "name varchar, id bigint",
            "name is column 2 of the table, and declared as column 1",
        ),
        ("id int, name varchar", "is of type BIGINT, and declared as INT"),
        ("id bigint", "leaves out the column name"),
        ("id bigint, name varchar, city varchar", "has no column city"),
        ("id bigint not null, name varchar", "may be NULL"),
        ("id bigint, name varchar, primary key (id) not enforced", "keys"),
    ] {
        let refused = warehouse.load("shop.sales", &declared(columns), "4,d\n").await;
        let error = refused.expect_err("another declaration");
        assert_eq!(error.code, "type_mismatch", "{error}");
        assert!(error.message.contains(message), "{error}");
    }

    assert_eq!(
        warehouse.sql("select id, name from shop.sales order by id").await,
        json!([[1, "a"], [2, "b"], [3, "c"]])
    );
}

#[tokio::test]
async fn compressed_bodies_are_unpacked() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(SALES.as_bytes()).expect("memory is always writable");
    let gzip = gzip.finish().expect("memory is always writable");
    let zstd = zstd::encode_all(SALES.as_bytes(), 3).expect("memory is always readable");

    for (encoding, body) in [("gzip", gzip), ("zstd", zstd)] {
        let request = warehouse
            .load_request(&format!("shop.{encoding}"), "format=csv")
            .header("content-encoding", encoding);
        request.body(body).send_load(&warehouse).await.expect(encoding);
        assert_eq!(
            warehouse
                .sql(&format!("select count(*), sum(pieces) from shop.{encoding}"))
                .await,
            json!([[4, 9]])
        );
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_named_and_nothing_is_loaded() {
    let warehouse = shop().await;

    let words = warehouse
        .load(
            "shop.sales",
            "format=csv",
            "day,product,pieces,price\n2026-01-01,fig,1,1\n2026-01-01,fig,many,1\n",
        )
        .await
        .expect_err("'many' is no number");
    let short = warehouse
        .load("shop.sales", "format=csv", "day,product,pieces,price\n2026-01-01,fig\n")
        .await
        .expect_err("a short row");
    let json = warehouse
        .load("shop.sales", "format=json", "{\"product\": \"fig\"\n")
        .await
        .expect_err("half an object");
    let parquet = warehouse
        .load("shop.sales", "format=parquet", "not a file")
        .await
        .expect_err("not a file");

    assert!(
        words.message.contains("many") || words.message.contains("pieces") || words.message.contains('3'),
        "{words}"
    );
    for error in [words, short, json, parquet] {
        assert!(error.status < 500 && error.code != "internal", "{error}");
        assert!(
            !error.message.contains("Arrow") && !error.message.contains("Parquet error"),
            "{error}"
        );
    }
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn a_load_that_breaks_off_leaves_nothing() {
    let warehouse = shop().await;
    let pieces = stream::iter([
        Ok(Bytes::from("day,product,pieces,price\n2026-01-01,fig,1,1\n")),
        Err(std::io::Error::other("the line went dead")),
    ]);

    let request = warehouse
        .load_request("shop.sales", "format=csv")
        .into_builder()
        .body(reqwest::Body::wrap_stream(pieces));
    let sent = request.send().await;

    assert!(sent.is_err() || sent.is_ok_and(|response| !response.status().is_success()));
    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
}

#[tokio::test]
async fn an_empty_file_makes_an_empty_table_or_says_why_not() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    let only_header = warehouse
        .load("shop.header", "format=csv&schema=a%20BIGINT", "a\n")
        .await;
    let nothing = warehouse.load("shop.nothing", "format=csv", "").await;

    only_header.expect("no rows are rows");
    assert_eq!(warehouse.sql("select * from shop.header").await, json!([]));
    let nothing = nothing.expect_err("there is no telling what an empty file means");
    assert!(nothing.status < 500 && nothing.code != "internal", "{nothing}");
}

#[tokio::test]
async fn a_load_into_nowhere_is_refused() {
    let warehouse = Warehouse::start().await;

    let error = warehouse
        .load("nowhere.t", "format=csv", "a\n1\n")
        .await
        .expect_err("no such dataset");
    let format = warehouse
        .load("nowhere.t", "format=xml", "<a/>")
        .await
        .expect_err("no such format");

    assert!(error.is_one_of(&["unknown_dataset", "not_found"]), "{error}");
    assert_eq!(format.status, 400, "{format}");
}

#[tokio::test]
async fn a_load_that_cannot_be_recorded_is_refused_before_its_file_arrives() {
    let warehouse = shop().await;
    let long = "x".repeat(300);

    for options in [
        format!("format=csv&labels=team:{long}"),
        format!("format=csv&request_id={long}"),
        "format=csv&request_id=a%00b".to_owned(),
        "format=csv&labels=team".to_owned(),
    ] {
        // A file that never comes.
        let file = reqwest::Body::wrap_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let error = warehouse
            .load("shop.sales", &options, file)
            .await
            .expect_err("such a label or request id is not kept");

        assert_eq!((error.status, error.code.as_str()), (400, "invalid_request"), "{error}");
    }
}

#[tokio::test]
async fn a_dataset_tells_how_much_was_loaded_into_it() {
    let warehouse = shop().await;
    warehouse.load_csv("shop.more", SALES).await;
    warehouse
        .sql("create view shop.apples as select * from shop.sales where product = 'apple'")
        .await;

    let dataset = warehouse.get("/v1/datasets/shop").await.expect("the dataset is there");

    assert_eq!(dataset["name"], "shop");
    assert_eq!(dataset["tables"], 2);
    assert_eq!(dataset["views"], 1);
    assert!(
        dataset["created_at"].as_str().is_some_and(|text| text.ends_with('Z')),
        "{dataset}"
    );
}

#[tokio::test]
async fn one_load_is_one_version_and_is_charged_once() {
    let warehouse = shop().await;

    let load = warehouse.load_csv("shop.sales", SALES).await;

    let id = load["id"].as_str().expect("a load is a query");
    assert_eq!(warehouse.bills_of(id).await.len(), 1);
    let history = warehouse
        .get("/v1/datasets/shop/tables/sales/versions")
        .await
        .expect("a history");
    let versions = history["versions"].as_array().expect("versions");
    assert_eq!(versions.iter().filter(|version| version["query_id"] == id).count(), 1);
    let usage = &load["usage"];
    assert_eq!(usage["rows_written"], 4);
    assert!(
        usage["bytes_written"].as_u64().is_some_and(|bytes| bytes > 0),
        "{usage}"
    );
}

#[tokio::test]
async fn a_large_load_is_streamed_and_not_held_in_the_gateway() {
    const ROWS_OF_A_PIECE: usize = 20_000;
    const PIECES: usize = 120;
    let warehouse = Warehouse::start().await;
    warehouse.dataset("s").await;
    warehouse.load_csv("s.warm", "id,text\n1,x\n").await;
    let before = peak_memory(warehouse.pid());

    // About 190 MB, made while they are sent.
    let pieces = stream::iter((0..PIECES).map(|piece| {
        let mut text = if piece == 0 {
            "id,text\n".to_owned()
        } else {
            String::new()
        };
        for row in 0..ROWS_OF_A_PIECE {
            let id = piece * ROWS_OF_A_PIECE + row;
            text.push_str(&format!("{id},{:0>70}\n", id.wrapping_mul(2_654_435_761)));
        }
        Ok::<_, std::io::Error>(Bytes::from(text))
    }));
    let load = warehouse
        .load_request("s.t", "format=csv")
        .body(reqwest::Body::wrap_stream(pieces))
        .send_load(&warehouse)
        .await;

    let load = load.expect("a large file is a file");
    assert_eq!(load["usage"]["rows_written"], PIECES * ROWS_OF_A_PIECE);
    assert_eq!(
        warehouse
            .sql("select count(*), count(distinct id), max(id) from s.t")
            .await,
        json!([[2_400_000, 2_400_000, 2_399_999]])
    );
    if let (Some(before), Some(after)) = (before, peak_memory(warehouse.pid())) {
        assert!(after < before + 100_000, "the gateway grew from {before} to {after} kB");
    }
}

/// The most memory a process has held, in kB, where the system tells.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn a_load_can_be_asked_for_without_waiting() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;

    let path = "/v1/datasets/shop/tables/t/load?format=csv&wait_ms=0";
    let response = warehouse
        .request(reqwest::Method::POST, path)
        .body(SALES)
        .send()
        .await
        .expect("the gateway answers");
    let query: Value = response.json().await.expect("a query is JSON");
    let query = warehouse.ended(query["id"].as_str().expect("a load is a query")).await;

    assert_eq!(query["state"], "done");
    assert_eq!(warehouse.sql("select count(*) from shop.t").await, json!([[4]]));
}

#[tokio::test]
async fn files_that_were_packed_one_by_one_and_put_together_are_one_file() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let packed = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).expect("memory is always writable");
        gzip.finish().expect("memory is always writable")
    };
    let together = [packed(SALES), packed("2026-05-01,plum,7,1.0\n")].concat();
    let with_rubbish = [packed(SALES), b"rubbish".to_vec()].concat();

    let load = |table: &str, body: Vec<u8>| {
        let request = warehouse.load_request(table, "format=csv");
        request.header("content-encoding", "gzip").body(body)
    };
    load("shop.whole", together)
        .send_load(&warehouse)
        .await
        .expect("two members");
    let cut = load("shop.cut", with_rubbish).send_load(&warehouse).await;

    assert_eq!(warehouse.sql("select sum(pieces) from shop.whole").await, json!([[16]]));
    assert!(cut.is_err(), "what is behind the members is no gzip");
}

#[tokio::test]
async fn a_parquet_file_is_read_whole_or_refused() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let fields: Vec<Field> = ["c", "c"].map(|name| Field::new(name, DataType::Int64, true)).into();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::clone(&column), column]).expect("a batch");
    let mut twice = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut twice, rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("rows");
    writer.close().expect("a file");
    let cut = [&b"PAR1"[..], &[0; 100], &[0xff, 0xff, 0xff, 0x7f], b"PAR1"].concat();

    let twice = warehouse.load("shop.twice", "format=parquet", twice).await;
    let cut = warehouse.load("shop.cut", "format=parquet", cut).await;

    let twice = twice.expect_err("one of them would be lost");
    assert_eq!(
        (twice.code.as_str(), twice.message.as_str()),
        ("type_mismatch", "the file has two columns named c")
    );
    assert_eq!(cut.expect_err("its footer is larger than it is").code, "type_mismatch");
}

#[tokio::test]
async fn an_arrow_file_is_read_whole_or_refused() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let file = |names: &[&str]| {
        let fields: Vec<Field> = names
            .iter()
            .map(|name| Field::new(*name, DataType::Int64, true))
            .collect();
        let columns = names.iter().map(|_| Arc::clone(&column)).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch");
        let mut file = Vec::new();
        let mut writer = FileWriter::try_new(&mut file, &rows.schema()).expect("a writer");
        writer.write(&rows).expect("rows");
        writer.finish().expect("a file");
        drop(writer);
        file
    };
    let whole = file(&["a", "b"]);

    for length in [
        7,
        8,
        20,
        whole.len() / 2,
        whole.len() - 300,
        whole.len() - 11,
        whole.len() - 1,
    ] {
        let cut = warehouse
            .load("shop.cut", "format=arrow", whole[..length].to_vec())
            .await
            .expect_err("a part is missing");
        assert_eq!(cut.code, "type_mismatch", "{length} of {}: {cut}", whole.len());
    }
    let twice = warehouse.load("shop.twice", "format=arrow", file(&["c", "c"])).await;
    let loaded = warehouse.load("shop.whole", "format=arrow", whole).await;

    assert_eq!(twice.expect_err("one of them would be lost").code, "type_mismatch");
    loaded.expect("it is whole");
    assert_eq!(warehouse.sql("select sum(a + b) from shop.whole").await, json!([[12]]));
}

#[tokio::test]
async fn an_upload_is_gone_when_its_load_has_ended() {
    let warehouse = shop().await;
    warehouse
        .load("shop.sales", "format=csv", "day,product,pieces,price\nnever,fig,1,1\n")
        .await
        .expect_err("'never' is no day");

    assert!(warehouse.files_in_bucket("staging", "*").is_empty());
}
