//! Every type through every format, in and out, with the values that break things.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::Warehouse;

const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";
const JSON_LINES: &str = "application/x-ndjson";

/// Columns that every format can spell.
fn flat() -> Vec<(Field, ArrayRef)> {
    let nullable = |name: &str, array: ArrayRef| (Field::new(name, array.data_type().clone(), true), array);
    // Days and microseconds from 0001-01-01 to 9999-12-31.
    let days = [Some(-719_162), Some(2_932_896), Some(0), None, Some(-1), Some(20_484)];
    let instants = [
        Some(-62_135_596_800_000_000),
        Some(253_402_300_799_999_999),
        Some(0),
        None,
        Some(-1),
        Some(1_769_860_800_123_456),
    ];
    vec![
        (
            Field::new("id", DataType::Int64, false),
            Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6])),
        ),
        nullable(
            "b",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                None,
                Some(false),
            ])),
        ),
        nullable(
            "i8",
            Arc::new(Int8Array::from(vec![
                Some(i8::MIN),
                Some(i8::MAX),
                Some(0),
                None,
                Some(-1),
                Some(1),
            ])),
        ),
        nullable(
            "i16",
            Arc::new(Int16Array::from(vec![
                Some(i16::MIN),
                Some(i16::MAX),
                Some(0),
                None,
                Some(-1),
                Some(1),
            ])),
        ),
        nullable(
            "i32",
            Arc::new(Int32Array::from(vec![
                Some(i32::MIN),
                Some(i32::MAX),
                Some(0),
                None,
                Some(-1),
                Some(1),
            ])),
        ),
        nullable(
            "i64",
            Arc::new(Int64Array::from(vec![
                Some(i64::MIN),
                Some(i64::MAX),
                Some(0),
                None,
                Some(-1),
                Some(1),
            ])),
        ),
        nullable(
            "f32",
            Arc::new(Float32Array::from(vec![
                Some(f32::MIN),
                Some(f32::NAN),
                Some(-0.0),
                None,
                Some(f32::INFINITY),
                Some(1.1),
            ])),
        ),
        nullable(
            "f64",
            Arc::new(Float64Array::from(vec![
                Some(f64::MAX),
                Some(f64::NAN),
                Some(f64::NEG_INFINITY),
                None,
                Some(f64::MIN_POSITIVE),
                Some(0.1 + 0.2),
            ])),
        ),
        nullable(
            "d",
            Arc::new(
                Decimal128Array::from(vec![
                    Some(99_999_999_999_999_999_999_999_999_999_999_999_999),
                    Some(-99_999_999_999_999_999_999_999_999_999_999_999_999),
                    Some(0),
                    None,
                    Some(1),
                    Some(-1_500_000_000),
                ])
                .with_precision_and_scale(38, 9)
                .expect("38 digits, 9 of them small"),
            ),
        ),
        nullable(
            "s",
            Arc::new(StringArray::from(vec![
                Some(""),
                Some("grüße 🦀 日本"),
                Some("quote \" comma , semicolon ; tab \t"),
                None,
                Some("two\nlines\r\nand a \\ backslash"),
                Some(" NULL "),
            ])),
        ),
        nullable("day", Arc::new(Date32Array::from(days.to_vec()))),
        nullable("at", Arc::new(TimestampMicrosecondArray::from(instants.to_vec()))),
        nullable(
            "at_utc",
            Arc::new(TimestampMicrosecondArray::from(instants.to_vec()).with_timezone("UTC")),
        ),
    ]
}

/// Columns with an inside, and bytes.
fn deep() -> Vec<(Field, ArrayRef)> {
    let element = |data_type: DataType| Arc::new(Field::new("element", data_type, true));
    let bytes = BinaryArray::from_opt_vec(vec![
        Some(b"".as_slice()),
        Some(b"\x00\xff\xfe"),
        Some(b"text"),
        None,
        Some(b"\n"),
        Some(b"="),
    ]);

    // [], [1, NULL, -1], NULL, [NULL], [5], [i64::MAX]
    let list = ListArray::new(
        element(DataType::Int64),
        OffsetBuffer::from_lengths([0, 3, 0, 1, 1, 1]),
        Arc::new(Int64Array::from(vec![
            Some(1),
            None,
            Some(-1),
            None,
            Some(5),
            Some(i64::MAX),
        ])),
        Some(NullBuffer::from(vec![true, true, false, true, true, true])),
    );

    let fields = Fields::from(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("t", DataType::Utf8, true),
    ]);
    let record = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), None, None, Some(6)])),
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some(""),
                None,
                None,
                None,
                Some("é"),
            ])),
        ],
        Some(NullBuffer::from(vec![true, true, true, true, false, true])),
    );

    let records = ListArray::new(
        element(DataType::Struct(fields)),
        OffsetBuffer::from_lengths([2, 0, 0, 1, 0, 3]),
        Arc::new(record.clone()),
        Some(NullBuffer::from(vec![true, true, false, true, false, true])),
    );

    // The records, each beside a flag; the fourth row is NULL as a whole, and of the fifth the record.
    let nested = StructArray::new(
        Fields::from(vec![
            Field::new("inner", record.data_type().clone(), true),
            Field::new("flag", DataType::Boolean, true),
        ]),
        vec![
            Arc::new(record.clone()),
            Arc::new(BooleanArray::from(vec![
                Some(true),
                None,
                Some(false),
                None,
                None,
                Some(true),
            ])),
        ],
        Some(NullBuffer::from(vec![true, true, true, false, true, true])),
    );

    let nullable = |name: &str, array: ArrayRef| (Field::new(name, array.data_type().clone(), true), array);
    vec![
        nullable("bytes", Arc::new(bytes)),
        nullable("list", Arc::new(list)),
        nullable("record", Arc::new(record)),
        nullable("records", Arc::new(records)),
        nullable("nested", Arc::new(nested)),
        nullable("lists", Arc::new(lists())),
        nullable("blobs", Arc::new(blobs())),
        nullable("pairs", Arc::new(pairs())),
    ]
}

/// `[[1], NULL, []]`, `[]`, NULL, `[[NULL, -1]]`, `[NULL]`, `[[], [i64::MIN, i64::MAX]]`
fn lists() -> ListArray {
    let inner = ListArray::new(
        Arc::new(Field::new("element", DataType::Int64, true)),
        OffsetBuffer::from_lengths([1, 0, 0, 2, 0, 0, 2]),
        Arc::new(Int64Array::from(vec![
            Some(1),
            None,
            Some(-1),
            Some(i64::MIN),
            Some(i64::MAX),
        ])),
        Some(NullBuffer::from(vec![true, false, true, true, false, true, true])),
    );
    ListArray::new(
        Arc::new(Field::new("element", inner.data_type().clone(), true)),
        OffsetBuffer::from_lengths([3, 0, 0, 1, 1, 2]),
        Arc::new(inner),
        Some(NullBuffer::from(vec![true, true, false, true, true, true])),
    )
}

/// Lists of bytes, the first of which is one of no bytes.
fn blobs() -> ListArray {
    let items = BinaryArray::from_opt_vec(vec![
        Some(b"".as_slice()),
        None,
        Some(b"\x00\xff\xfe"),
        Some(b"="),
        Some(b"\n"),
        Some(b"text"),
    ]);
    ListArray::new(
        Arc::new(Field::new("element", DataType::Binary, true)),
        OffsetBuffer::from_lengths([1, 0, 0, 2, 1, 2]),
        Arc::new(items),
        Some(NullBuffer::from(vec![true, true, false, true, true, true])),
    )
}

/// Maps: one of two keys, one of none, NULL, and three of one key.
fn pairs() -> MapArray {
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]);
    let entries = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(StringArray::from(vec!["a", "", "é \"", "NULL", "k"])),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN), Some(-1), Some(0)])),
        ],
        None,
    );
    MapArray::new(
        Arc::new(Field::new("key_value", DataType::Struct(fields), false)),
        OffsetBuffer::from_lengths([2, 0, 0, 1, 1, 1]),
        entries,
        Some(NullBuffer::from(vec![true, true, false, true, true, true])),
        false,
    )
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("six rows in every column")
}

/// Six rows with a column of every type that a table holds.
pub(crate) fn everything() -> RecordBatch {
    batch(flat().into_iter().chain(deep()).collect())
}

/// Rows as a stream of Arrow IPC.
pub(crate) fn to_arrow(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("memory is always writable");
    writer
        .write(batch)
        .and_then(|()| writer.finish())
        .expect("memory is always writable");
    drop(writer);
    bytes
}

fn to_parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("types that Parquet knows");
    writer.write(batch).expect("memory is always writable");
    writer.into_inner().expect("memory is always writable")
}

fn from_arrow(bytes: Vec<u8>) -> RecordBatch {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).expect("an Arrow stream");
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("whole batches");
    concat_batches(&schema, &batches).expect("batches of one schema")
}

fn from_parquet(bytes: Vec<u8>) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("a Parquet file");
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder
        .build()
        .expect("a Parquet file")
        .collect::<Result<_, _>>()
        .expect("whole batches");
    concat_batches(&schema, &batches).expect("batches of one schema")
}

/// The same values, bit for bit. How text is laid out in memory is not part of a value.
fn assert_same(what: &str, found: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(found.num_rows(), expected.num_rows(), "{what}");
    for (index, field) in expected.schema().fields().iter().enumerate() {
        let column = found
            .column_by_name(field.name())
            .unwrap_or_else(|| panic!("{what}: no column {}", field.name()));
        let column = cast(column, field.data_type())
            .unwrap_or_else(|error| panic!("{what}: {} is {}: {error}", field.name(), column.data_type()));
        assert_eq!(&column, expected.column(index), "{what}: {}", field.name());
    }
}

/// Fails unless the table holds these rows, which have an `id` and are in its order.
pub(crate) async fn assert_holds(warehouse: &Warehouse, table: &str, expected: &RecordBatch) {
    let sql = format!("select * from {table} order by id");
    assert_same(
        &format!("{table} as Arrow"),
        &from_arrow(warehouse.fetch(&sql, ARROW).await),
        expected,
    );
    assert_same(
        &format!("{table} as Parquet"),
        &from_parquet(warehouse.fetch(&sql, PARQUET).await),
        expected,
    );
}

#[tokio::test]
async fn every_type_survives_arrow_and_parquet() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let rows = everything();

    warehouse
        .load("t.arrow", "format=arrow", to_arrow(&rows))
        .await
        .expect("types that a table can hold");
    warehouse
        .load("t.parquet", "format=parquet", to_parquet(&rows))
        .await
        .expect("types that a table can hold");
    warehouse.sql("create table t.copied as select * from t.arrow").await;
    warehouse
        .sql("create table t.inserted as select * from t.arrow where false")
        .await;
    warehouse.sql("insert into t.inserted select * from t.parquet").await;

    for table in ["t.arrow", "t.parquet", "t.copied", "t.inserted"] {
        assert_holds(&warehouse, table, &rows).await;
    }
}

#[tokio::test]
async fn what_is_written_as_json_lines_can_be_loaded_as_json_lines() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let rows = everything();
    warehouse
        .load("t.origin", "format=arrow", to_arrow(&rows))
        .await
        .expect("types that a table can hold");
    warehouse
        .sql("create table t.again as select * from t.origin where false")
        .await;

    let lines = json_lines(&warehouse, "select * from t.origin").await;
    assert_eq!(lines.lines().count(), 6);
    warehouse
        .load("t.again", "format=json", lines)
        .await
        .expect("what we wrote, we can read");

    assert_holds(&warehouse, "t.again", &rows).await;
}

#[tokio::test]
async fn what_is_written_as_csv_can_be_loaded_as_csv() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let rows = everything();
    warehouse
        .load("t.origin", "format=arrow", to_arrow(&rows))
        .await
        .expect("types that a table can hold");
    warehouse
        .sql("create table t.again as select * from t.origin where false")
        .await;

    let text = warehouse.fetch_text("select * from t.origin", "text/csv").await;
    warehouse
        .load("t.again", "format=csv", text)
        .await
        .expect("what we wrote, we can read");

    assert_holds(&warehouse, "t.again", &rows).await;
}

/// The rows of a query as JSON lines, without the line that says how they ended.
async fn json_lines(warehouse: &Warehouse, sql: &str) -> String {
    let text = warehouse.fetch_text(sql, JSON_LINES).await;
    let (rows, _) = text.split_once("{\"$end\":").expect("the last line is the end");
    rows.to_owned()
}

#[tokio::test]
async fn a_csv_of_one_column_keeps_its_nulls() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    warehouse.load_csv("t.origin", "id,s\n1,\n2,\"\"\n3,x\n4,\n").await;

    let text = warehouse
        .fetch_text("select s from t.origin order by id", "text/csv")
        .await;
    warehouse.load_csv("t.again", text.clone()).await;
    warehouse
        .load(
            "t.headless",
            "format=csv&header=false&schema=s%20VARCHAR",
            text[2..].to_owned(),
        )
        .await
        .expect("what we wrote, we can read");

    assert_eq!(text, "s\n\n\"\"\nx\n\n");
    for table in ["t.again", "t.headless"] {
        let counts = format!("select count(*), count(s), count(*) filter (where s = '') from {table}");
        assert_eq!(warehouse.sql(&counts).await, json!([[4, 2, 1]]), "{table}");
    }
}

#[tokio::test]
async fn json_spells_extremes_as_the_contract_says() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    warehouse
        .load("t.all", "format=arrow", to_arrow(&everything()))
        .await
        .expect("types that a table can hold");

    let rows = warehouse
        .sql("select i64, f32, f64, d, s, day, at, at_utc, bytes, list, record, records from t.all order by id")
        .await;

    assert_eq!(
        rows.rows[0],
        json!([
            i64::MIN,
            -3.4028235e38,
            f64::MAX,
            "99999999999999999999999999999.999999999",
            "",
            "0001-01-01",
            "0001-01-01T00:00:00",
            "0001-01-01T00:00:00Z",
            "",
            [],
            { "n": 1, "t": "a" },
            [{ "n": 1, "t": "a" }, { "n": null, "t": "" }],
        ])
        .as_array()
        .expect("a list")
        .clone()
    );
    assert_eq!(
        rows.rows[1],
        json!([
            i64::MAX,
            "NaN",
            "NaN",
            "-99999999999999999999999999999.999999999",
            "grüße 🦀 日本",
            "9999-12-31",
            "9999-12-31T23:59:59.999999",
            "9999-12-31T23:59:59.999999Z",
            "AP/+",
            [1, null, -1],
            { "n": null, "t": "" },
            [],
        ])
        .as_array()
        .expect("a list")
        .clone()
    );
    assert_eq!(rows.rows[2][2], "-Infinity");
    assert_eq!(rows.rows[4][1], "Infinity");
    assert!(rows.rows[3].iter().take(9).all(Value::is_null));
}

#[tokio::test]
async fn json_spells_what_is_inside_of_values_as_the_contract_says() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    warehouse
        .load("t.all", "format=arrow", to_arrow(&everything()))
        .await
        .expect("types that a table can hold");

    let rows = warehouse
        .sql("select nested, lists, blobs, pairs from t.all order by id")
        .await;

    let expected = vec![
        json!([{ "inner": { "n": 1, "t": "a" }, "flag": true }, [[1], null, []], [""], { "a": 1, "": null }]),
        json!([{ "inner": { "n": null, "t": "" }, "flag": null }, [], [], {}]),
        json!([{ "inner": { "n": 3, "t": null }, "flag": false }, null, null, null]),
        json!([null, [[null, -1]], [null, "AP/+"], { "é \"": i64::MIN }]),
        json!([{ "inner": null, "flag": null }, [null], ["PQ=="], { "NULL": -1 }]),
        json!([
            { "inner": { "n": 6, "t": "é" }, "flag": true },
            [[], [i64::MIN, i64::MAX]],
            ["Cg==", "dGV4dA=="],
            { "k": 0 },
        ]),
    ];
    assert_eq!(rows, Value::Array(expected));
}

#[tokio::test]
async fn csv_spells_nested_values_as_json() {
    let warehouse = Warehouse::start().await;

    let text = warehouse
        .fetch_text("select [1, null] as list, named_struct('a', 'x') as record", "text/csv")
        .await;

    assert_eq!(
        text.replace("\r\n", "\n"),
        "list,record\n\"[1,null]\",\"{\"\"a\"\":\"\"x\"\"}\"\n"
    );
}

#[tokio::test]
async fn a_table_without_rows_survives_every_format() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let none = everything().slice(0, 0);

    warehouse
        .load("t.arrow", "format=arrow", to_arrow(&none))
        .await
        .expect("no rows are rows");
    warehouse
        .load("t.parquet", "format=parquet", to_parquet(&none))
        .await
        .expect("no rows are rows");

    for table in ["t.arrow", "t.parquet"] {
        assert_holds(&warehouse, table, &none).await;
    }
}

#[tokio::test]
async fn no_rows_survive_csv_and_json_lines() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    let none = everything().slice(0, 0);
    warehouse
        .load("t.origin", "format=arrow", to_arrow(&none))
        .await
        .expect("no rows are rows");

    let csv = warehouse.fetch_text("select * from t.origin", "text/csv").await;
    let lines = json_lines(&warehouse, "select * from t.origin").await;
    for (format, text) in [("csv", csv.clone()), ("json", lines)] {
        let table = format!("t.{format}");
        warehouse
            .sql(&format!("create table {table} as select * from t.origin"))
            .await;
        let load = warehouse
            .load(&table, &format!("format={format}"), text)
            .await
            .expect("no rows are rows");

        assert_eq!(load["usage"]["rows_written"], 0, "{format}");
        assert_holds(&warehouse, &table, &none).await;
    }

    // A header is enough for a new table to have columns, though it does not tell their types.
    warehouse.load_csv("t.fresh", csv).await;
    let fresh = warehouse.sql("select * from t.fresh").await;
    let schema = none.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(fresh, json!([]));
    assert_eq!(fresh.names(), names);
}

#[tokio::test]
async fn filters_find_extremes_nulls_and_nan() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("t").await;
    warehouse
        .load("t.all", "format=arrow", to_arrow(&everything()))
        .await
        .expect("types that a table can hold");

    for (filter, ids) in [
        ("i64 = -9223372036854775808", json!([[1]])),
        ("f64 is null", json!([[4]])),
        ("isnan(f64)", json!([[2]])),
        ("f64 = cast('-Infinity' as double)", json!([[3]])),
        ("f32 > 1e38", json!([[2], [5]])),
        ("s = ''", json!([[1]])),
        ("s like '%🦀%'", json!([[2]])),
        ("day < date '1000-01-01'", json!([[1]])),
        (
            "at > arrow_cast('9999-01-01T00:00:00', 'Timestamp(Microsecond, None)')",
            json!([[2]]),
        ),
        ("d > 1", json!([[1]])),
        ("b is not true", json!([[2], [3], [5], [6]])),
        ("bytes is null", json!([[4]])),
        ("record['n'] = 3", json!([[3]])),
        ("array_has(list, 5)", json!([[5]])),
    ] {
        assert_eq!(
            warehouse
                .sql(&format!("select id from t.all where {filter} order by id"))
                .await,
            ids,
            "{filter}"
        );
    }
}
