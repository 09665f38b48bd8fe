use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::*;
use arrow::compute::concat_batches;
use arrow::datatypes::*;
use arrow::ipc::reader::StreamReader;
use axum::body::Bytes;
use axum::http::HeaderMap;
use futures::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const FORMATS: [Format; 5] = [
    Format::JsonLines,
    Format::Json,
    Format::Csv,
    Format::Arrow,
    Format::Parquet,
];

/// What a caller got.
struct Got {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    failure: Option<String>,
}

impl Got {
    fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("text formats are UTF-8")
    }

    /// The rows of JSON lines, without the end.
    fn json_rows(&self) -> Vec<Value> {
        let mut rows: Vec<Value> = self
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let end = rows.pop().expect("a last line");
        assert_eq!(end["$end"]["status"], "done");
        rows
    }
}

async fn get(format: Format, schema: &SchemaRef, rows: Vec<Result<RecordBatch, Failure>>) -> Got {
    let mut body = body(format, Arc::clone(schema), stream::iter(rows).boxed(), || end(None));
    let mut got = Got {
        chunks: Vec::new(),
        trailers: None,
        failure: None,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(chunk)) => got.chunks.push(chunk),
            Ok(Err(frame)) => got.trailers = frame.into_trailers().ok(),
            Err(failure) => got.failure = Some(failure.to_string()),
        }
    }
    got
}

/// What a caller got of an answer that is complete.
async fn complete(format: Format, batch: &RecordBatch) -> Got {
    let got = get(format, &batch.schema(), vec![Ok(batch.clone())]).await;
    assert_eq!(got.failure, None, "{format:?}");
    assert_eq!(
        got.trailers.as_ref().expect("trailers")["wasmhouse-status"],
        "done",
        "{format:?}"
    );
    got
}

fn end(page: Option<Page>) -> End {
    End {
        query_id: "q_1".to_owned(),
        rows: 3,
        bytes_processed: 24,
        cost: Some("0.5".to_owned()),
        elapsed_ms: 5,
        page,
    }
}

fn failure() -> Failure {
    Failure {
        code: "out_of_memory".to_owned(),
        message: "the query needed more than 1 GB".to_owned(),
    }
}

fn read_arrow(bytes: Vec<u8>) -> RecordBatch {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).expect("a stream");
    let schema = reader.schema();
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    concat_batches(&schema, &batches).expect("one schema")
}

fn read_parquet(bytes: Vec<u8>) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("a file");
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader
        .build()
        .expect("rows")
        .map(|batch| batch.expect("a batch"))
        .collect();
    concat_batches(&schema, &batches).expect("one schema")
}

/// Two columns and three rows.
fn some_rows() -> RecordBatch {
    RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef,
        ),
        (
            "s",
            Arc::new(StringArray::from(vec![Some(""), Some("„Grüße“ 🦀"), None])) as ArrayRef,
        ),
    ])
    .expect("two columns")
}

fn one_column(name: &str, array: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter([(name, Arc::new(array) as ArrayRef)]).expect("one column")
}

#[test]
fn rows_that_are_there_leave_without_a_wait_and_so_in_one_write() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("a", column)]).expect("a batch");

    for format in FORMATS {
        let rows = stream::iter([Ok(batch.clone()), Ok(batch.clone())]).boxed();
        let mut body = body(format, batch.schema(), rows, || end(None));
        let mut frames = Vec::new();
        // A body that must be asked twice is one that the server flushes for in between.
        while let Some(frame) = body.frame().now_or_never().expect("a frame at once") {
            frames.push(frame.expect("no failure"));
        }
        assert!(frames.pop().is_some_and(|last| last.is_trailers()), "{format:?}");
        assert!(!frames.is_empty(), "{format:?}");
    }
}

#[tokio::test]
async fn a_json_document_holds_the_schema_the_same_rows_and_the_end() {
    let batch = some_rows();

    let document: Value = serde_json::from_slice(&complete(Format::Json, &batch).await.bytes()).expect("JSON");

    assert_eq!(
        document["rows"],
        Value::Array(complete(Format::JsonLines, &batch).await.json_rows())
    );
    assert_eq!(
        document["schema"],
        serde_json::to_value(schema_json(&batch.schema())).expect("JSON")
    );
    assert_eq!(document["query_id"], "q_1");
    let end =
        json!({"status": "done", "query_id": "q_1", "rows": 3, "bytes_processed": 24, "cost": "0.5", "elapsed_ms": 5});
    assert_eq!(document["end"], end);
}

#[tokio::test]
async fn a_result_without_rows_is_complete_in_every_format() {
    let batch = some_rows().slice(0, 0);
    let schema = batch.schema();

    for rows in [vec![], vec![Ok(batch.clone())]] {
        for format in FORMATS {
            let got = get(format, &schema, rows.clone()).await;

            assert_eq!(got.failure, None);
            assert!(got.trailers.is_some());
            match format {
                Format::JsonLines => assert!(got.json_rows().is_empty()),
                Format::Json => {
                    let document: Value = serde_json::from_slice(&got.bytes()).expect("JSON");
                    assert_eq!(document["rows"], json!([]));
                }
                Format::Csv => assert_eq!(got.text().lines().count(), 1),
                Format::Arrow => assert_eq!(read_arrow(got.bytes()).num_rows(), 0),
                Format::Parquet => assert_eq!(read_parquet(got.bytes()).num_rows(), 0),
            }
        }
    }
}

#[tokio::test]
async fn a_second_column_of_the_same_name_gets_a_number() {
    let fields: Vec<_> = ["a", "a", "a_1", "a"]
        .map(|name| Field::new(name, DataType::Int32, true))
        .into();
    let columns = (0..4)
        .map(|value| Arc::new(Int32Array::from(vec![value])) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("four columns");

    let document: Value = serde_json::from_slice(&complete(Format::Json, &batch).await.bytes()).expect("JSON");

    assert_eq!(document["rows"], json!([{"a": 0, "a_2": 1, "a_1": 2, "a_3": 3}]));
    let columns: Vec<_> = schema_json(&batch.schema())
        .into_iter()
        .map(|column| column.name)
        .collect();
    assert_eq!(columns, ["a", "a_2", "a_1", "a_3"]);
}

#[tokio::test]
async fn a_failure_after_the_first_rows_never_looks_like_success() {
    let batch = some_rows();

    for format in FORMATS {
        let got = get(format, &batch.schema(), vec![Ok(batch.clone()), Err(failure())]).await;

        assert_eq!(
            got.failure.as_deref(),
            Some("the query needed more than 1 GB"),
            "{format:?}"
        );
        assert!(got.trailers.is_none(), "{format:?}");
        match format {
            Format::JsonLines => {
                let text = got.text();
                let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
                let error = json!({"code": "out_of_memory", "message": "the query needed more than 1 GB"});
                assert_eq!(last, json!({ "$error": error }));
                assert!(!text.contains("$end"));
            }
            Format::Json => assert!(serde_json::from_slice::<Value>(&got.bytes()).is_err()),
            Format::Csv => assert!(!got.chunks.is_empty()),
            Format::Arrow => assert!(!got.bytes().ends_with(&[255, 255, 255, 255, 0, 0, 0, 0])),
            Format::Parquet => assert!(ParquetRecordBatchReaderBuilder::try_new(Bytes::from(got.bytes())).is_err()),
        }
    }
}

#[tokio::test]
async fn a_value_that_a_format_cannot_hold_is_a_failure() {
    let batch = one_column("at", TimestampSecondArray::from(vec![i64::MAX]));

    let got = get(Format::Parquet, &batch.schema(), vec![Ok(batch.clone())]).await;

    assert!(
        got.failure
            .expect("a failure")
            .starts_with("a row could not be written")
    );
    assert!(got.trailers.is_none());
}

#[tokio::test]
async fn the_end_is_asked_after_the_last_row() {
    let counted = Arc::new(AtomicU64::new(0));
    let batch = one_column("n", Int64Array::from(vec![1, 2, 3]));
    let schema = batch.schema();
    let counting = Arc::clone(&counted);
    let rows = stream::iter([batch.clone(), batch]).map(move |batch| {
        counting.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(batch)
    });

    let body = body(Format::JsonLines, schema, rows.boxed(), move || End {
        rows: counted.load(Ordering::Relaxed),
        ..end(None)
    });

    let text = String::from_utf8(body.collect().await.expect("rows").to_bytes().to_vec()).expect("text");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["$end"]["rows"], 6);
}

#[tokio::test]
async fn a_page_says_where_it_is_and_where_the_next_one_starts() {
    let batch = one_column("n", Int64Array::from(vec![1]));
    let rows = || stream::iter([Ok(batch.clone())]).boxed();
    let page = |next| {
        Some(Page {
            start_row: 10,
            next_start_row: next,
            total_rows: 12,
        })
    };

    let document = body(Format::Json, batch.schema(), rows(), move || end(page(Some(11))));
    let lines = body(Format::JsonLines, batch.schema(), rows(), move || end(page(None)));

    let document: Value = serde_json::from_slice(&document.collect().await.expect("rows").to_bytes()).expect("JSON");
    assert_eq!(
        (
            &document["start_row"],
            &document["next_start_row"],
            &document["total_rows"]
        ),
        (&json!(10), &json!(11), &json!(12))
    );
    let lines = lines.collect().await.expect("rows").to_bytes();
    let last: Value =
        serde_json::from_slice(lines.split(|byte| *byte == b'\n').nth(1).expect("two lines")).expect("JSON");
    assert_eq!(last["$end"]["total_rows"], 12);
    assert!(last["$end"].get("next_start_row").is_none());
}

#[test]
fn a_page_without_words_says_in_its_headers_where_it_is() {
    let page = |next| Page {
        start_row: 10,
        next_start_row: next,
        total_rows: 12,
    };
    let (mut first, mut last) = (HeaderMap::new(), HeaderMap::new());

    page_headers(&mut first, &page(Some(11)));
    page_headers(&mut last, &page(None));

    assert_eq!(first["wasmhouse-next-row"], "11");
    assert!(!last.contains_key("wasmhouse-next-row"));
    for headers in [first, last] {
        assert_eq!(headers["wasmhouse-total-rows"], "12");
        assert_eq!(headers["trailer"], "wasmhouse-status");
    }
}

#[tokio::test]
async fn a_large_batch_leaves_in_small_chunks() {
    let count = 3 * slices::ROWS_AT_ONCE + 7;
    let batch = one_column("n", Int64Array::from_iter_values(0..count as i64));

    let lines = complete(Format::JsonLines, &batch).await;

    // Four with rows, and one with the end.
    assert_eq!(lines.chunks.len(), 5);
    assert_eq!(lines.json_rows().len(), count);
}

#[test]
fn a_schema_speaks_sql() {
    let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    let pair = DataType::Struct(Fields::from(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("Total €", list(DataType::Utf8View), true),
    ]));
    let map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new()).finish();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let expected = [
        (DataType::Boolean, "BOOLEAN"),
        (DataType::Int16, "SMALLINT"),
        (DataType::Int32, "INT"),
        (DataType::Int64, "BIGINT"),
        (DataType::UInt64, "BIGINT UNSIGNED"),
        (DataType::Float16, "Float16"),
        (DataType::Float32, "FLOAT"),
        (DataType::Float64, "DOUBLE"),
        (DataType::Decimal128(10, 2), "DECIMAL(10,2)"),
        (DataType::Utf8View, "VARCHAR"),
        (DataType::BinaryView, "VARBINARY"),
        (DataType::Date32, "DATE"),
        (DataType::Time64(TimeUnit::Nanosecond), "TIME"),
        (DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP"),
        (
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "TIMESTAMPTZ",
        ),
        (DataType::Interval(IntervalUnit::MonthDayNano), "INTERVAL"),
        (list(list(DataType::Int32)), "INT[][]"),
        (pair, "STRUCT(a INT, \"Total €\" VARCHAR[])"),
        (map.data_type().clone(), "MAP(VARCHAR, BIGINT)"),
        (dictionary, "VARCHAR"),
    ];

    for (data_type, name) in expected {
        let columns = schema_json(&Schema::new(vec![Field::new("c", data_type, false)]));

        assert_eq!(
            serde_json::to_value(&columns).expect("JSON"),
            json!([{"name": "c", "type": name, "nullable": false}])
        );
    }
}

#[test]
fn without_a_wish_an_asker_gets_json_lines() {
    for accept in [
        None,
        Some(""),
        Some("*/*"),
        Some("application/*"),
        Some("text/html, */*;q=0.8"),
    ] {
        assert_eq!(Format::negotiate(accept), Ok(Format::JsonLines), "{accept:?}");
    }
}

#[test]
fn every_format_can_be_asked_for_by_name() {
    for format in FORMATS {
        let media_type = format.content_type().split(';').next().expect("a media type");
        assert_eq!(Format::negotiate(Some(media_type)), Ok(format));
        assert_eq!(Format::negotiate(Some(&media_type.to_uppercase())), Ok(format));
    }
}

#[test]
fn the_best_liked_format_wins() {
    let wishes = [
        ("text/csv;q=0.5, application/json", Format::Json),
        ("text/csv; q=0.9 , application/json;q=0.8", Format::Csv),
        ("text/*", Format::Csv),
        ("text/csv;header=present", Format::Csv),
        ("application/vnd.apache.parquet, application/json", Format::Parquet),
        ("application/json, text/plain, */*", Format::Json),
        ("application/x-ndjson;q=0, application/*", Format::Json),
        (
            "application/*;q=0.1, application/vnd.apache.arrow.stream;q=0.2",
            Format::Arrow,
        ),
        ("*/*;q=0.1, text/csv;q=0, text/html", Format::JsonLines),
        ("nonsense, application/json;q=nonsense, text/csv", Format::Csv),
    ];

    for (accept, format) in wishes {
        assert_eq!(Format::negotiate(Some(accept)), Ok(format), "{accept}");
    }
}

#[test]
fn an_asker_who_accepts_nothing_we_have_is_told_what_we_have() {
    for accept in ["text/html", "image/*", "*/*;q=0", "application/json;q=0", "nonsense"] {
        let refusal = Format::negotiate(Some(accept)).expect_err("nothing fits").to_string();

        assert!(refusal.starts_with(&format!(
            "no rows can be written as {accept}; accept application/x-ndjson"
        )));
    }
}

/// What a server says on the wire to a client that reads to the end.
async fn on_the_wire(format: Format, rows: Vec<Result<RecordBatch, Failure>>) -> String {
    let schema = one_column("n", Int64Array::from(vec![1])).schema();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = move || async move {
        let body = body(format, schema, stream::iter(rows).boxed(), || end(None));
        ([("trailer", "wasmhouse-status")], body)
    };
    let app = axum::Router::new().route("/", axum::routing::get(answer));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nhost: wasmhouse\r\nte: trailers\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.expect("a request");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an answer");
    server.abort();
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn on_the_wire_a_complete_answer_ends_with_its_trailer() {
    let batch = one_column("n", Int64Array::from(vec![1]));

    for format in [Format::JsonLines, Format::Json, Format::Csv] {
        let answer = on_the_wire(format, vec![Ok(batch.clone())]).await;

        assert!(answer.ends_with("\r\n0\r\nwasmhouse-status: done\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn on_the_wire_a_failure_is_told_and_then_the_connection_is_aborted() {
    let batch = one_column("n", Int64Array::from(vec![1]));

    for format in [Format::JsonLines, Format::Json, Format::Csv] {
        let answer = on_the_wire(format, vec![Ok(batch.clone()), Err(failure())]).await;

        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        assert!(!answer.contains("wasmhouse-status: done"), "{answer}");
        if format == Format::JsonLines {
            assert!(answer.contains("{\"$error\":{\"code\":\"out_of_memory\""), "{answer}");
        }
    }
}
