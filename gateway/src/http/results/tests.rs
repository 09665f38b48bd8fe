mod samples;

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::arrow::array::*;
use ::arrow::buffer::OffsetBuffer;
use ::arrow::compute::{cast, concat_batches};
use ::arrow::datatypes::*;
use ::arrow::ipc::reader::StreamReader;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use axum::body::Bytes;
use axum::http::HeaderMap;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::samples::{every_type, one_column, samples};
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

/// Fields of CSV lines; `None` is an empty field without quotes.
fn read_csv(text: &str) -> Vec<Vec<Option<String>>> {
    let mut left: VecDeque<char> = text.chars().collect();
    let mut lines = vec![vec![]];
    while !left.is_empty() {
        let mut field = String::new();
        let quoted = left.front() == Some(&'"');
        if quoted {
            left.pop_front();
            loop {
                match left.pop_front().expect("quotes are closed") {
                    '"' if left.front() == Some(&'"') => field.push(left.pop_front().expect("a second quote")),
                    '"' => break,
                    other => field.push(other),
                }
            }
        } else {
            while !matches!(left.front(), Some(',' | '\n')) {
                field.push(left.pop_front().expect("lines end"));
            }
        }
        lines
            .last_mut()
            .expect("a line")
            .push((quoted || !field.is_empty()).then_some(field));
        if left.pop_front() == Some('\n') {
            lines.push(vec![]);
        }
    }
    lines.pop();
    lines
}

#[tokio::test]
async fn every_type_reads_in_json_lines_as_the_contract_says() {
    let batch = every_type();

    let rows = complete(Format::JsonLines, &batch).await.json_rows();

    assert_eq!(rows.len(), 4);
    for (number, sample) in samples().iter().enumerate() {
        for (row, expected) in sample.json.as_array().expect("four rows").iter().enumerate() {
            assert_eq!(
                &rows[row][format!("c{number}")],
                expected,
                "row {row} of {}",
                sample.array.data_type()
            );
        }
    }
}

#[tokio::test]
async fn a_json_document_holds_the_schema_the_same_rows_and_the_end() {
    let batch = every_type();

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
    let end = json!({"status": "done", "query_id": "q_1", "rows": 3, "bytes_processed": 24, "elapsed_ms": 5});
    assert_eq!(document["end"], end);
}

#[tokio::test]
async fn csv_holds_what_json_says_and_keeps_null_apart_from_the_empty_string() {
    let batch = every_type();

    let lines = read_csv(&complete(Format::Csv, &batch).await.text());

    assert_eq!(lines.len(), 5);
    for (number, sample) in samples().iter().enumerate() {
        assert_eq!(lines[0][number], Some(format!("c{number}")));
        for (row, expected) in sample.json.as_array().expect("four rows").iter().enumerate() {
            let got = lines[row + 1][number].as_deref();
            match expected {
                Value::Null => assert_eq!(got, None, "row {row} of {}", sample.array.data_type()),
                Value::String(text) => assert_eq!(got, Some(text.as_str())),
                other => {
                    let got: Value = serde_json::from_str(got.expect("a value")).expect("JSON");
                    assert_eq!(&got, other);
                }
            }
        }
    }
}

#[tokio::test]
async fn csv_is_written_exactly_so() {
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
        (
            "a,b",
            Arc::new(StringArray::from(vec![Some("say \"hi\"\nthere"), Some("")])) as ArrayRef,
        ),
        (
            "x",
            Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(1.5)])) as ArrayRef,
        ),
    ])
    .expect("three columns");

    let text = complete(Format::Csv, &batch).await.text();

    assert_eq!(text, "id,\"a,b\",x\n1,\"say \"\"hi\"\"\nthere\",-Infinity\n,\"\",1.5\n");
}

#[tokio::test]
async fn arrow_reads_back_as_the_same_rows_in_plain_types() {
    let batch = every_type();

    let back = read_arrow(complete(Format::Arrow, &batch).await.bytes());

    assert_eq!(back.num_rows(), 4);
    assert_eq!(
        complete(Format::JsonLines, &back).await.text(),
        complete(Format::JsonLines, &batch).await.text()
    );
    for (column, original) in back.columns().iter().zip(batch.columns()) {
        let name = column.data_type().to_string();
        assert!(
            !["View", "Dictionary", "RunEnd", "Decimal32", "Decimal64"]
                .iter()
                .any(|new| name.contains(new)),
            "{name}"
        );
        if column.data_type() == original.data_type() {
            assert_eq!(column, original);
        }
    }
}

#[tokio::test]
async fn parquet_reads_back_as_the_same_rows_in_types_it_has() {
    let batch = every_type();

    let back = read_parquet(complete(Format::Parquet, &batch).await.bytes());

    assert_eq!(back.num_rows(), 4);
    let (got, expected) = (
        read_csv(&complete(Format::Csv, &back).await.text()),
        read_csv(&complete(Format::Csv, &batch).await.text()),
    );
    for (number, (column, original)) in back.columns().iter().zip(batch.columns()).enumerate() {
        for row in 1..5 {
            assert_eq!(
                got[row][number],
                expected[row][number],
                "{} as {}",
                original.data_type(),
                column.data_type()
            );
        }
        if column.data_type() == original.data_type() {
            assert_eq!(column, original);
        }
    }
}

#[tokio::test]
async fn a_result_without_rows_is_complete_in_every_format() {
    let batch = every_type().slice(0, 0);
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
async fn a_result_without_columns_keeps_its_rows_or_fails() {
    let rows = RecordBatchOptions::new().with_row_count(Some(2));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows).expect("two rows");

    assert_eq!(
        complete(Format::JsonLines, &batch).await.json_rows(),
        [json!({}), json!({})]
    );
    assert_eq!(complete(Format::Csv, &batch).await.text(), "\n\n\n");
    let mut back =
        StreamReader::try_new(Cursor::new(complete(Format::Arrow, &batch).await.bytes()), None).expect("a stream");
    assert_eq!(back.next().expect("a batch").expect("a batch").num_rows(), 2);
    let got = get(Format::Parquet, &batch.schema(), vec![Ok(batch)]).await;
    assert!(
        got.failure
            .expect("a failure")
            .ends_with("a Parquet file without columns holds no rows")
    );
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

    let expected = json!({"a": 0, "a_2": 1, "a_1": 2, "a_3": 3});
    assert_eq!(complete(Format::JsonLines, &batch).await.json_rows(), [expected]);
    assert_eq!(complete(Format::Csv, &batch).await.text(), "a,a_2,a_1,a_3\n0,1,2,3\n");
    let names = |batch: RecordBatch| {
        batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(read_arrow(complete(Format::Arrow, &batch).await.bytes())),
        ["a", "a_2", "a_1", "a_3"]
    );
    assert_eq!(
        names(read_parquet(complete(Format::Parquet, &batch).await.bytes())),
        ["a", "a_2", "a_1", "a_3"]
    );
    let columns: Vec<_> = schema_json(&batch.schema())
        .into_iter()
        .map(|column| column.name)
        .collect();
    assert_eq!(columns, ["a", "a_2", "a_1", "a_3"]);
}

#[tokio::test]
async fn a_failure_after_the_first_rows_never_looks_like_success() {
    let batch = every_type();

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

#[tokio::test]
async fn a_large_batch_leaves_in_small_chunks_and_in_order() {
    let count = 3 * ROWS_AT_ONCE + 7;
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..count as i32));
    let offsets = OffsetBuffer::from_lengths((0..count).map(|row| usize::from(row % 2 == 0)));
    let items: ArrayRef = Arc::new(StringViewArray::from_iter_values(
        (0..count.div_ceil(2)).map(|item| item.to_string()),
    ));
    let lists: ArrayRef = Arc::new(ListArray::new(
        Arc::new(Field::new_list_field(DataType::Utf8View, true)),
        offsets,
        items,
        None,
    ));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("l", lists)]).expect("two columns");

    let lines = complete(Format::JsonLines, &batch).await;
    let rows = lines.json_rows();
    assert_eq!(lines.chunks.len(), 5);
    assert_eq!(rows.len(), count);
    for (number, row) in rows.iter().enumerate() {
        let list = if number % 2 == 0 {
            json!([(number / 2).to_string()])
        } else {
            json!([])
        };
        assert_eq!(row, &json!({"n": number, "l": list}));
    }

    for back in [
        read_arrow(complete(Format::Arrow, &batch).await.bytes()),
        read_parquet(complete(Format::Parquet, &batch).await.bytes()),
    ] {
        assert_eq!(complete(Format::JsonLines, &back).await.text(), lines.text());
    }
}

#[tokio::test]
async fn rows_that_share_one_large_string_are_not_all_written_at_once() {
    let mut strings = StringViewBuilder::new();
    let block = strings.append_block("x".repeat(1 << 20).into_bytes().into());
    for _ in 0..64 {
        strings
            .try_append_view(block, 0, 1 << 20)
            .expect("the block is that long");
    }
    let views = one_column("s", strings.finish());
    let keys = Int32Array::from(vec![1; 64]);
    let values = Arc::new(StringArray::from(vec!["y".to_owned(), "x".repeat(1 << 20)]));
    let dictionary = one_column("s", DictionaryArray::new(keys, values));

    for batch in [views, dictionary] {
        for format in [Format::JsonLines, Format::Json, Format::Csv, Format::Arrow] {
            let got = complete(format, &batch).await;

            assert!(got.bytes().len() > 64 << 20);
            assert!(
                got.chunks.iter().all(|chunk| chunk.len() < BYTES_AT_ONCE + (1 << 16)),
                "{format:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_parquet_file_leaves_a_row_group_at_a_time() {
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u8
    };
    let blob: Vec<u8> = (0..1 << 20).map(|_| noise()).collect();
    let blobs: Vec<Vec<u8>> = (0..40_u8)
        .map(|number| blob.iter().map(|byte| byte ^ number).collect())
        .collect();
    let batch = one_column("b", BinaryArray::from_iter_values(blobs));

    let got = complete(Format::Parquet, &batch).await;

    assert!(got.chunks.len() > 1);
    assert_eq!(read_parquet(got.bytes()), batch);
}

#[tokio::test]
async fn columns_of_other_encodings_than_the_schema_says_are_welcome() {
    let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
    let batch = one_column("s", StringViewArray::from(vec!["a"]));

    for format in [Format::Arrow, Format::Parquet] {
        let got = get(format, &schema, vec![Ok(batch.clone())]).await;

        assert_eq!(got.failure, None);
    }
}

#[tokio::test]
async fn a_slice_of_any_column_is_written_as_its_own_rows() {
    let batch = every_type();
    let whole = complete(Format::JsonLines, &batch).await.json_rows();

    for start in 0..4 {
        let slice = batch.slice(start, 4 - start);

        assert_eq!(complete(Format::JsonLines, &slice).await.json_rows(), whole[start..]);
        let back = read_arrow(complete(Format::Arrow, &slice).await.bytes());
        assert_eq!(complete(Format::JsonLines, &back).await.json_rows(), whole[start..]);
        let back = read_parquet(complete(Format::Parquet, &slice).await.bytes());
        assert_eq!(back.num_rows(), 4 - start);
    }
}

#[test]
fn dates_agree_with_the_calendar_of_arrow() {
    let days = Date32Array::from_iter_values((-800_000..800_000).step_by(17));
    let expected = cast(&days, &DataType::Utf8).expect("text");

    for (row, expected) in expected.as_string::<i32>().iter().enumerate() {
        let mut text = Vec::new();
        time::write_date(i64::from(days.value(row)), &mut text);
        assert_eq!(std::str::from_utf8(&text).ok(), expected);
    }
}

#[tokio::test]
async fn an_interval_reads_back_as_the_same_interval() {
    let nanoseconds = [0, 1, -1, 999_999_999, -3_723_000_000_001, 86_400_000_000_000];
    let intervals = IntervalMonthDayNanoArray::from_iter_values(nanoseconds.iter().flat_map(|nanoseconds| {
        [(0, 0), (1, -1), (-14, 40)].map(|(months, days)| IntervalMonthDayNano::new(months, days, *nanoseconds))
    }));

    let lines = complete(Format::JsonLines, &one_column("i", intervals.clone()))
        .await
        .json_rows();

    let texts = StringArray::from_iter_values(lines.iter().map(|row| row["i"].as_str().expect("text")));
    let back = cast(&texts, &DataType::Interval(IntervalUnit::MonthDayNano)).expect("intervals");
    assert_eq!(back.as_primitive::<IntervalMonthDayNanoType>(), &intervals);
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
