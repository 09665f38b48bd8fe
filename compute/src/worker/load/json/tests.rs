use bytes::Bytes;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Fields, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::cuts::Cutter;
use crate::sql::blame;
use crate::task::LoadFormat;
use crate::worker::load::parts;

const TEXT: DataType = DataType::Utf8;

async fn staged(text: &str) -> Staged {
    let (store, path) = (InMemory::new(), Path::from("upload"));
    store
        .put(&path, Bytes::copy_from_slice(text.as_bytes()).into())
        .await
        .expect("memory is always writable");
    Staged {
        store: Arc::new(store),
        path,
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

fn said(error: &DataFusionError) -> String {
    blame::sql_error(error).message
}

/// Every value as text, row by row.
async fn read(text: &str, columns: &[(&str, DataType)]) -> Result<Vec<Vec<Option<String>>>, String> {
    let schema = schema(columns);
    let whole = Part::whole(text.len() as u64);
    let batches: Vec<RecordBatch> = batches(&staged(text).await, &whole, &schema, false)
        .try_collect()
        .await
        .map_err(|error| said(&error))?;
    let rows = concat_batches(&schema, &batches).expect("batches of one schema");
    let value = |column: &ArrayRef, row: usize| {
        let options = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(column, &options).expect("every type can be shown");
        column.is_valid(row).then(|| formatter.value(row).to_string())
    };
    Ok((0..rows.num_rows())
        .map(|row| rows.columns().iter().map(|column| value(column, row)).collect())
        .collect())
}

/// What is said of one value in a column of this type.
async fn refused(data_type: DataType, value: &str) -> String {
    read(&format!("{{}}\n{{\"a\": {value}}}\n"), &[("a", data_type)])
        .await
        .expect_err(value)
}

async fn guessed(text: &str) -> Result<Vec<(String, DataType)>, String> {
    let columns = columns(&staged(text).await, text.len() as u64, 100)
        .await
        .map_err(|error| said(&error))?;
    let fields = columns.fields().iter();
    Ok(fields
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .collect())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

#[tokio::test]
async fn keys_find_their_columns_in_any_order_and_any_case() {
    let text = "{\"ID\": 1, \"name\": \"a\"}\n\n{\"Name\": \"b\", \"id\": 2}\r\n{}\n";

    let rows = read(text, &[("id", DataType::Int64), ("name", TEXT)])
        .await
        .expect("JSON lines");

    assert_eq!(
        rows,
        [[some("1"), some("a")], [some("2"), some("b")], [None::<String>, None]]
    );
}

#[tokio::test]
async fn a_key_that_no_column_has_is_named_with_its_line() {
    let columns = [("id", DataType::Int64), ("colour", TEXT)];

    let unknown = read("{\"id\": 1}\n\n{\"id\": 2, \"color\": \"red\"}\n", &columns)
        .await
        .expect_err("misspelt");
    let twice = read("{\"id\": 1, \"ID\": 2}\n", &columns)
        .await
        .expect_err("two values");

    assert_eq!(
        unknown,
        "line 3 of the file has a key color, which the table has not; did it mean colour?"
    );
    assert_eq!(twice, "line 1 of the file has two values for ID");
}

#[tokio::test]
async fn a_key_that_comes_after_the_guess_is_an_error() {
    let staged = staged("{\"a\": 1}\n{\"a\": 2, \"b\": 3}\n").await;
    let schema = columns(&staged, 27, 1).await.expect("one row is enough");

    let rows: Result<Vec<RecordBatch>, _> = batches(&staged, &Part::whole(27), &schema, true).try_collect().await;

    let error = said(&rows.expect_err("nobody expects b"));
    assert!(error.starts_with("line 2 of the file has a key b, "), "{error}");
}

#[tokio::test]
async fn a_number_is_held_exactly_or_named_with_its_line_and_column() {
    let text = "{\"i\": 1.0, \"d\": 1.25e1, \"f\": 1e3}\n\
        {\"i\": 9223372036854775807, \"d\": \"-0.50\", \"f\": \"NaN\"}\n";
    let columns = [
        ("i", DataType::Int64),
        ("d", DataType::Decimal128(10, 2)),
        ("f", DataType::Float64),
    ];

    let rows = read(text, &columns).await.expect("all are held");

    assert_eq!(
        rows,
        [
            [some("1"), some("12.50"), some("1000.0")],
            [some("9223372036854775807"), some("-0.50"), some("NaN")]
        ]
    );
    assert_eq!(
        refused(DataType::Int64, "1.9").await,
        "line 2 of the file: column a holds 1.9, which is not a BIGINT"
    );
    assert_eq!(
        refused(DataType::Int64, "9223372036854775808").await,
        "line 2 of the file: column a holds 9223372036854775808, which is not a BIGINT"
    );
    assert_eq!(
        refused(DataType::Decimal128(10, 2), "1.255").await,
        "line 2 of the file: column a holds 1.255, which a DECIMAL(10, 2) cannot hold exactly"
    );
    assert_eq!(
        refused(DataType::Float64, "9007199254740993").await,
        "line 2 of the file: column a holds 9007199254740993, which a DOUBLE cannot hold exactly"
    );
}

#[tokio::test]
async fn a_value_of_another_kind_is_not_taken_for_one_of_the_columns() {
    let at = DataType::Timestamp(TimeUnit::Microsecond, None);
    let cases = [
        (TEXT, "5", "a VARCHAR"),
        (TEXT, "true", "a VARCHAR"),
        (DataType::Boolean, "\"true\"", "a BOOLEAN"),
        (DataType::Boolean, "1", "a BOOLEAN"),
        (DataType::Int64, "\"many\"", "a BIGINT"),
        (DataType::Int64, "[1]", "a BIGINT"),
        (DataType::Binary, "\"?\"", "base64"),
        (DataType::Date32, "20260131", "a DATE"),
        (list(DataType::Int64), "1", "a list in JSON of the column's type"),
    ];

    for (data_type, value, called) in cases {
        let said = refused(data_type, value).await;
        assert!(
            said.starts_with(&format!("line 2 of the file: column a holds {value}, which ")) && said.ends_with(called),
            "{said}"
        );
    }
    assert_eq!(
        refused(at, "\"2026-01-31T12:00:00.1234567\"").await,
        "line 2 of the file: column a holds \"2026-01-31T12:00:00.1234567\", which a TIMESTAMP cannot hold exactly"
    );
}

#[tokio::test]
async fn what_is_inside_of_values_is_read_like_what_is_not() {
    let record = DataType::Struct(Fields::from(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("bytes", DataType::Binary, true),
    ]));
    let pair = Fields::from(vec![
        Field::new("key", TEXT, false),
        Field::new("value", list(DataType::Float64), true),
    ]);
    let map = DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false);
    let columns = [("l", list(record.clone())), ("m", map)];
    let text = "{\"l\": [{\"n\": 1, \"bytes\": \"AP/+\"}, null, {}], \"m\": {\"a \\\"b\\\"\": [0.5, null], \"c\": null}}\n\
        {\"l\": null, \"m\": {}}\n{\"l\": []}\n";

    let rows = read(text, &columns).await.expect("JSON lines");

    assert_eq!(
        rows,
        [
            [
                some("[{n: 1, bytes: 00fffe}, , {n: , bytes: }]"),
                some("{a \"b\": [0.5, ], c: }")
            ],
            [None, some("{}")],
            [some("[]"), None]
        ]
    );
    assert_eq!(
        refused(list(DataType::Int64), "[1, 1.9]").await,
        "line 2 of the file: column a holds [1, 1.9], which is not a list in JSON of the column's type"
    );
    assert_eq!(
        refused(record.clone(), "{\"n\": 1, \"m\": 2}").await,
        "line 2 of the file: column a has a key m, which its type has not"
    );
    assert_eq!(
        refused(list(record), "[{\"n\": 1, \"n\": 2}]").await,
        "line 2 of the file: column a has a key n, which comes twice"
    );
}

#[tokio::test]
async fn types_are_those_that_hold_every_value() {
    let text = "{\"i\": 1, \"f\": 1, \"long\": 18446744073709551615, \"s\": \"x\", \"nothing\": null, \"b\": true}\n\
        {\"I\": -2, \"f\": 2.5, \"long\": 1, \"list\": [], \"record\": {\"y\": 1}}\n\
        {\"list\": [null, 1e3], \"record\": {\"x\": [\"t\"], \"y\": null}}\n";

    let columns = guessed(text).await.expect("JSON lines");

    let record = DataType::Struct(Fields::from(vec![
        Field::new("y", DataType::Int64, true),
        Field::new("x", list(TEXT), true),
    ]));
    let expected = [
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("long", DataType::Decimal128(38, 0)),
        ("s", TEXT),
        ("nothing", TEXT),
        ("b", DataType::Boolean),
        ("list", list(DataType::Float64)),
        ("record", record),
    ];
    assert_eq!(columns, expected.map(|(name, data_type)| (name.to_owned(), data_type)));
}

#[tokio::test]
async fn values_that_no_type_holds_together_are_named() {
    let cases = [
        ("1", "\"x\"", "holds text, and a number before"),
        ("true", "0", "holds a number, and true or false before"),
        ("[1]", "1", "holds a number, and a list before"),
        ("{}", "[]", "holds a list, and an object before"),
    ];

    for (before, after, what) in cases {
        let said = guessed(&format!("{{\"a\": {before}}}\n{{\"a\": {after}}}\n"))
            .await
            .expect_err(what);
        assert_eq!(said, format!("line 2 of the file: column a {what}"));
    }
    let deep = guessed(&format!("{{\"a\": {}{}}}\n", "[".repeat(100_000), "]".repeat(100_000)))
        .await
        .expect_err("too deep");
    assert_eq!(deep, "line 1 of the file: column a is nested deeper than 64 times");
}

#[tokio::test]
async fn a_line_that_is_no_json_object_is_named() {
    let columns = [("n", DataType::Int64)];

    let half = read("{\"n\": 1}\n\n{\"n\": 2\n", &columns).await.expect_err("half");
    let list = read("{\"n\": 1}\n[1]\n", &columns).await.expect_err("a list");
    let two = read("{\"n\": 1}{\"n\": 2}\n", &columns).await.expect_err("two objects");

    assert_eq!(
        half,
        "line 3 of the file is not JSON: EOF while parsing an object at character 7"
    );
    assert_eq!(list, "line 2 of the file is not a JSON object");
    assert!(two.starts_with("line 1 of the file is not JSON: "), "{two}");
    assert!(guessed("[1]\n").await.is_err());
    assert_eq!(guessed("\n \n").await, Ok(Vec::new()));
}

#[tokio::test]
async fn where_the_bytes_are_cut_changes_nothing() {
    let bytes = "\n{\"a\": \"grüße 🦀\"}\r\n \n{\"a\": 1}".as_bytes();

    for piece in 1..bytes.len() {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let mut lines = Lines::of(stream::iter(pieces).boxed(), 1);
        let rows = lines.next(10).await.expect("UTF-8").expect("two rows");
        let found: Vec<_> = rows.iter().map(|(line, text)| (line, text.trim_end())).collect();
        assert_eq!(
            found,
            [(2, "{\"a\": \"grüße 🦀\"}"), (4, "{\"a\": 1}")],
            "in pieces of {piece}"
        );
        assert!(lines.next(10).await.expect("the end").is_none());
    }
}

#[tokio::test]
async fn a_line_that_is_not_text_is_named() {
    let bytes: &'static [u8] = b"{\"a\": 1}\n{\"a\": \"\xFF\"}\n";

    let mut lines = Lines::of(stream::iter([Ok(Bytes::from_static(bytes))]).boxed(), 1);
    let error = lines.next(10).await.expect_err("not UTF-8");

    assert_eq!(said(&error), "line 2 of the file is not UTF-8");
}

#[tokio::test]
async fn a_file_that_is_read_in_parts_has_the_lines_of_the_whole() {
    let texts = [
        "{\"a\": 1}\n",
        "\n",
        "{\"a\": \"\\\"\\r\"}\r\n",
        "  \n",
        "{\"a\": \"grüße\"}\n",
    ];
    let text: String = texts.iter().cycle().take(500).copied().collect::<String>() + "{}";
    async fn read(text: &str, line: u64) -> Vec<(u64, String)> {
        let piece = Ok(Bytes::copy_from_slice(text.as_bytes()));
        let mut lines = Lines::of(stream::iter([piece]).boxed(), line);
        let rows = lines.next(1000).await.expect("UTF-8").unwrap_or_default();
        rows.iter().map(|(line, text)| (line, text.to_owned())).collect()
    }
    let whole = read(&text, 1).await;
    assert_eq!(whole.len(), 301);

    for part_bytes in [1, 7, 64, 1000] {
        let mut cutter = Cutter::every(part_bytes, &LoadFormat::Json);
        text.as_bytes().chunks(13).for_each(|piece| cutter.see(piece));
        let parts = parts::of(text.len() as u64, &cutter.finish());
        assert!(parts.len() > 3 && parts.iter().all(|part| part.bytes() > 0));

        let mut together = Vec::new();
        for part in parts {
            together.extend(read(&text[part.start as usize..part.end as usize], part.line).await);
        }

        assert_eq!(together, whole, "a part is {part_bytes} bytes or more");
    }
}
