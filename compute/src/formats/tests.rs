mod samples;

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use ::arrow::array::*;
use ::arrow::buffer::OffsetBuffer;
use ::arrow::compute::{cast, concat_batches};
use ::arrow::datatypes::*;
use ::arrow::ipc::reader::{FileReader, StreamReader};
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use bytes::Bytes;
use serde_json::{Value, json};

use self::samples::{every_type, one_column, samples};
use super::slices::{BYTES_AT_ONCE, ROWS_AT_ONCE};
use super::*;

const FORMATS: [Format; 5] = [
    Format::Csv,
    Format::JsonLines,
    Format::ArrowStream,
    Format::ArrowFile,
    Format::Parquet,
];

/// The chunks that `batches` leave in. A chunk without bytes is none.
fn chunks(format: Format, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Vec<u8>>, Unwritable> {
    let mut encoder = Encoder::new(format, schema)?;
    let mut chunks = vec![encoder.open()];
    for slice in batches.iter().cloned().flat_map(slices::of) {
        chunks.push(encoder.rows(&slice)?);
    }
    chunks.push(encoder.close()?);
    chunks.retain(|chunk| !chunk.is_empty());
    Ok(chunks)
}

fn written(format: Format, batch: &RecordBatch) -> Vec<u8> {
    chunks(format, &batch.schema(), std::slice::from_ref(batch))
        .expect("the format has words for these rows")
        .concat()
}

fn text(format: Format, batch: &RecordBatch) -> String {
    String::from_utf8(written(format, batch)).expect("text formats are UTF-8")
}

/// The rows as JSON lines say them.
fn objects(batch: &RecordBatch) -> Vec<Value> {
    text(Format::JsonLines, batch)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn read_stream(bytes: Vec<u8>) -> RecordBatch {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).expect("a stream");
    let schema = reader.schema();
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    concat_batches(&schema, &batches).expect("one schema")
}

fn read_file(bytes: Vec<u8>) -> RecordBatch {
    let reader = FileReader::try_new(Cursor::new(bytes), None).expect("a file");
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

/// Rows that have been written in a format that keeps types, read again.
fn through(format: Format, batch: &RecordBatch) -> RecordBatch {
    let bytes = written(format, batch);
    match format {
        Format::ArrowStream => read_stream(bytes),
        Format::ArrowFile => read_file(bytes),
        Format::Parquet => read_parquet(bytes),
        Format::Csv | Format::JsonLines => panic!("{format:?} keeps no types"),
    }
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

#[test]
fn every_type_reads_in_json_lines_as_the_contract_says() {
    let batch = every_type();

    let rows = objects(&batch);

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

#[test]
fn csv_holds_what_json_says_and_keeps_null_apart_from_the_empty_string() {
    let batch = every_type();

    let lines = read_csv(&text(Format::Csv, &batch));

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

#[test]
fn csv_is_written_exactly_so() {
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

    let text = text(Format::Csv, &batch);

    assert_eq!(text, "id,\"a,b\",x\n1,\"say \"\"hi\"\"\nthere\",-Infinity\n,\"\",1.5\n");
}

#[test]
fn in_a_csv_of_one_column_null_is_an_empty_line() {
    let batch = one_column("s", StringArray::from(vec![None, Some(""), Some("x"), None]));

    assert_eq!(text(Format::Csv, &batch), "s\n\n\"\"\nx\n\n");
}

#[test]
fn arrow_reads_back_as_the_same_rows_in_plain_types() {
    let batch = every_type();

    for format in [Format::ArrowStream, Format::ArrowFile] {
        let back = through(format, &batch);

        assert_eq!(back.num_rows(), 4);
        assert_eq!(text(Format::JsonLines, &back), text(Format::JsonLines, &batch));
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
}

#[test]
fn parquet_reads_back_as_the_same_rows_in_types_it_has() {
    let batch = every_type();

    let back = through(Format::Parquet, &batch);

    assert_eq!(back.num_rows(), 4);
    let (got, expected) = (
        read_csv(&text(Format::Csv, &back)),
        read_csv(&text(Format::Csv, &batch)),
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

#[test]
fn no_rows_are_rows_in_every_format() {
    let batch = every_type().slice(0, 0);
    let schema = batch.schema();
    let width = |batch: RecordBatch| {
        assert_eq!(batch.num_rows(), 0);
        batch.num_columns()
    };

    for batches in [vec![], vec![batch.clone()]] {
        for format in FORMATS {
            let bytes = chunks(format, &schema, &batches)
                .expect("nothing is easy to write")
                .concat();

            let columns = match format {
                Format::Csv => {
                    let text = String::from_utf8(bytes).expect("CSV is UTF-8");
                    assert_eq!(text.lines().count(), 1);
                    text.split(',').count()
                }
                Format::JsonLines => {
                    assert!(bytes.is_empty());
                    continue;
                }
                Format::ArrowStream => width(read_stream(bytes)),
                Format::ArrowFile => width(read_file(bytes)),
                Format::Parquet => width(read_parquet(bytes)),
            };
            assert_eq!(columns, batch.num_columns(), "{format:?}");
        }
    }
}

#[test]
fn rows_without_columns_are_rows_or_an_error() {
    let rows = RecordBatchOptions::new().with_row_count(Some(2));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows).expect("two rows");

    assert_eq!(objects(&batch), [json!({}), json!({})]);
    assert_eq!(text(Format::Csv, &batch), "\n\n\n");
    let mut back = StreamReader::try_new(Cursor::new(written(Format::ArrowStream, &batch)), None).expect("a stream");
    assert_eq!(back.next().expect("a batch").expect("a batch").num_rows(), 2);
    let refused = chunks(Format::Parquet, &batch.schema(), &[batch]).expect_err("Parquet counts rows by their columns");
    assert_eq!(
        refused.to_string(),
        "a row could not be written: a Parquet file without columns holds no rows"
    );
}

#[test]
fn a_second_column_of_the_same_name_gets_a_number() {
    let fields: Vec<_> = ["a", "a", "a_1", "a"]
        .map(|name| Field::new(name, DataType::Int32, true))
        .into();
    let columns = (0..4)
        .map(|value| Arc::new(Int32Array::from(vec![value])) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("four columns");

    assert_eq!(objects(&batch), [json!({"a": 0, "a_2": 1, "a_1": 2, "a_3": 3})]);
    assert_eq!(text(Format::Csv, &batch), "a,a_2,a_1,a_3\n0,1,2,3\n");
    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        let back = through(format, &batch);
        let names: Vec<String> = back
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        assert_eq!(names, ["a", "a_2", "a_1", "a_3"], "{format:?}");
    }
}

#[test]
fn a_value_that_a_format_cannot_hold_is_an_error() {
    let batch = one_column("at", TimestampSecondArray::from(vec![i64::MAX]));

    let refused = chunks(Format::Parquet, &batch.schema(), &[batch]).expect_err("Parquet has no seconds");

    assert!(
        refused.to_string().starts_with("a row could not be written: "),
        "{refused}"
    );
}

#[test]
fn rows_of_other_columns_are_an_error() {
    let schema = one_column("n", Int64Array::from(vec![1])).schema();
    let other = every_type();

    for format in FORMATS {
        let refused = chunks(format, &schema, std::slice::from_ref(&other)).expect_err("one column was announced");
        assert_eq!(
            refused.to_string(),
            "a row could not be written: it has other columns than its schema"
        );
    }
}

#[test]
fn a_large_batch_leaves_in_small_chunks_and_in_order() {
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

    let lines = chunks(Format::JsonLines, &batch.schema(), std::slice::from_ref(&batch)).expect("numbers and text");
    let rows = objects(&batch);

    assert_eq!(lines.len(), 4);
    assert_eq!(rows.len(), count);
    for (number, row) in rows.iter().enumerate() {
        let list = if number % 2 == 0 {
            json!([(number / 2).to_string()])
        } else {
            json!([])
        };
        assert_eq!(row, &json!({"n": number, "l": list}));
    }

    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        assert_eq!(objects(&through(format, &batch)), rows, "{format:?}");
    }
}

#[test]
fn rows_that_share_one_large_string_are_not_all_written_at_once() {
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
        for format in [Format::JsonLines, Format::Csv, Format::ArrowStream, Format::ArrowFile] {
            let got = chunks(format, &batch.schema(), std::slice::from_ref(&batch)).expect("text is text");

            assert!(got.iter().map(Vec::len).sum::<usize>() > 64 << 20);
            assert!(
                got.iter().all(|chunk| chunk.len() < BYTES_AT_ONCE + (1 << 16)),
                "{format:?}"
            );
        }
    }
}

#[test]
fn a_parquet_file_leaves_a_row_group_at_a_time() {
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

    let got = chunks(Format::Parquet, &batch.schema(), std::slice::from_ref(&batch)).expect("Parquet has bytes");

    assert!(got.len() > 1);
    assert_eq!(read_parquet(got.concat()), batch);
}

#[test]
fn columns_of_other_encodings_than_the_schema_says_are_welcome() {
    let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
    let batch = one_column("s", StringViewArray::from(vec!["a"]));

    for format in FORMATS {
        chunks(format, &schema, std::slice::from_ref(&batch)).expect("text is text");
    }
}

#[test]
fn a_slice_of_any_column_is_written_as_its_own_rows() {
    let batch = every_type();
    let whole = objects(&batch);

    for start in 0..4 {
        let slice = batch.slice(start, 4 - start);

        assert_eq!(objects(&slice), whole[start..]);
        for format in [Format::ArrowStream, Format::ArrowFile] {
            assert_eq!(objects(&through(format, &slice)), whole[start..], "{format:?}");
        }
        assert_eq!(through(Format::Parquet, &slice).num_rows(), 4 - start);
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

#[test]
fn an_interval_reads_back_as_the_same_interval() {
    let nanoseconds = [0, 1, -1, 999_999_999, -3_723_000_000_001, 86_400_000_000_000];
    let intervals = IntervalMonthDayNanoArray::from_iter_values(nanoseconds.iter().flat_map(|nanoseconds| {
        [(0, 0), (1, -1), (-14, 40)].map(|(months, days)| IntervalMonthDayNano::new(months, days, *nanoseconds))
    }));

    let lines = objects(&one_column("i", intervals.clone()));

    let texts = StringArray::from_iter_values(lines.iter().map(|row| row["i"].as_str().expect("text")));
    let back = cast(&texts, &DataType::Interval(IntervalUnit::MonthDayNano)).expect("intervals");
    assert_eq!(back.as_primitive::<IntervalMonthDayNanoType>(), &intervals);
}
