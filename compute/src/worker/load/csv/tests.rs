use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::cuts::Cutter;
use crate::sql::blame;
use crate::task::LoadFormat;
use crate::worker::load::parts;

fn comma() -> Dialect {
    Dialect::new(true, ',', None).expect("a comma is ASCII")
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The rows behind the header line of `bytes`, which arrive in pieces of `piece` bytes.
async fn read_in_pieces(
    bytes: &[u8],
    piece: usize,
    dialect: &Dialect,
    schema: &SchemaRef,
) -> Result<RecordBatch, String> {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let width = (!dialect.header).then_some(schema.fields().len());
    let mut file = Reader::of(stream::iter(pieces).boxed(), 1, dialect, width);
    let mut batches = Vec::new();
    let said = |error: DataFusionError| blame::sql_error(&error).message;
    if dialect.header {
        file.next(1).await.map_err(said)?;
    }
    while let Some(rows) = file.next(ROWS_AT_A_TIME).await.map_err(said)? {
        batches.push(cells::batch(&rows, schema).map_err(said)?);
    }
    Ok(concat_batches(schema, &batches).expect("batches of one schema"))
}

async fn read(text: &str, columns: &[(&str, DataType)]) -> Result<RecordBatch, String> {
    read_in_pieces(text.as_bytes(), 1 << 20, &comma(), &schema(columns)).await
}

/// Every value as text, row by row.
fn values(rows: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let value = |column: &ArrayRef, row: usize| {
        let options = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(column, &options).expect("every type can be shown");
        (!column.is_null(row)).then(|| formatter.value(row).to_string())
    };
    (0..rows.num_rows())
        .map(|row| rows.columns().iter().map(|column| value(column, row)).collect())
        .collect()
}

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

async fn guessed(text: &str, dialect: &Dialect) -> Vec<(String, DataType)> {
    let columns = columns(&staged(text).await, text.len() as u64, dialect, 100)
        .await
        .expect("it is CSV");
    columns
        .fields()
        .iter()
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .collect()
}

const TEXT: DataType = DataType::Utf8;

#[tokio::test]
async fn nothing_is_null_and_quotes_around_nothing_are_the_empty_string() {
    let rows = read("a,b,c\n,\"\",x\n\"\",,\n", &[("a", TEXT), ("b", TEXT), ("c", TEXT)])
        .await
        .expect("it is CSV");

    let some = |text: &str| Some(text.to_owned());
    assert_eq!(values(&rows), [[None, some(""), some("x")], [some(""), None, None]]);
}

#[tokio::test]
async fn the_word_for_null_is_null_unless_it_is_quoted() {
    let dialect = Dialect::new(true, ';', Some("n/a")).expect("a semicolon is ASCII");
    let bytes = "a;b\nn/a;\"n/a\"\nn/a,;\n".as_bytes();

    let rows = read_in_pieces(bytes, 1 << 20, &dialect, &schema(&[("a", TEXT), ("b", TEXT)]))
        .await
        .expect("it is CSV");

    let some = |text: &str| Some(text.to_owned());
    assert_eq!(values(&rows), [[None, some("n/a")], [some("n/a,"), None]]);
}

#[tokio::test]
async fn where_the_bytes_are_cut_changes_nothing() {
    let bytes =
        "\u{FEFF}id,text\r\n1,\"a, \"\"b\"\"\"\r\n\r\n2,\"two\r\nlines\"\n,grüße 🦀\r\n3,5\" wide\n4,\"\"".as_bytes();
    let schema = schema(&[("id", DataType::Int64), ("text", TEXT)]);

    let whole = read_in_pieces(bytes, bytes.len(), &comma(), &schema)
        .await
        .expect("it is CSV");
    for piece in 1..bytes.len() {
        let rows = read_in_pieces(bytes, piece, &comma(), &schema)
            .await
            .expect("it is CSV");
        assert_eq!(rows, whole, "in pieces of {piece}");
    }

    let ids: Vec<_> = whole.column(0).as_primitive::<Int64Type>().iter().collect();
    let texts: Vec<_> = whole.column(1).as_string::<i32>().iter().flatten().collect();
    assert_eq!(ids, [Some(1), Some(2), None, Some(3), Some(4)]);
    assert_eq!(texts, ["a, \"b\"", "two\r\nlines", "grüße 🦀", "5\" wide", ""]);
}

#[tokio::test]
async fn every_line_end_ends_a_row() {
    for text in ["a\n1\n2\n", "a\r\n1\r\n2\r\n", "a\r1\r2", "\n\r\na\n1\n2"] {
        let rows = read(text, &[("a", DataType::Int64)]).await.expect("it is CSV");
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2], "{text:?}");
    }
}

#[tokio::test]
async fn empty_lines_are_no_rows_where_rows_have_many_fields() {
    for text in ["a,b\n1,\n\n2,\n", "\na,b\r\n\r\n1,\r\n2,\r\n\r\n", "a,b\r\r1,\r2,"] {
        let rows = read(text, &[("a", DataType::Int64), ("b", TEXT)])
            .await
            .expect("it is CSV");
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2], "{text:?}");
    }
}

#[tokio::test]
async fn an_empty_line_is_null_where_rows_have_one_field() {
    let no_header = Dialect::new(false, ',', None).expect("a comma is ASCII");
    let column = schema(&[("a", TEXT)]);
    let some = |text: &str| Some(text.to_owned());
    let expected = [[None], [some("")], [None], [None], [some("x")], [None]];

    for end in ["\n", "\r\n", "\r"] {
        let lines = ["", "\"\"", "", "", "x", "", ""].join(end);
        let named = format!("a{end}{lines}");
        for piece in 1..named.len() {
            let rows = read_in_pieces(named.as_bytes(), piece, &comma(), &column)
                .await
                .expect("it is CSV");
            assert_eq!(values(&rows), expected, "{named:?} in pieces of {piece}");
            let rows = read_in_pieces(lines.as_bytes(), piece, &no_header, &column)
                .await
                .expect("it is CSV");
            assert_eq!(values(&rows), expected, "{lines:?} in pieces of {piece}");
        }
    }
    let nothing_but_null = read_in_pieces(b"\n\n", 1, &no_header, &column)
        .await
        .expect("it is CSV");
    assert_eq!(values(&nothing_but_null), [[None::<String>], [None]]);
}

#[tokio::test]
async fn a_file_may_end_in_the_middle_of_a_line() {
    for text in ["a,b\n1,", "a,b\n1,\n", "a,b\r\n1,\r"] {
        let rows = read(text, &[("a", TEXT), ("b", TEXT)]).await.expect("it is CSV");
        assert_eq!(values(&rows), [[Some("1".to_owned()), None]], "{text:?}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_named_with_its_line_and_column() {
    let columns = [("day", DataType::Date32), ("pieces", DataType::Int64)];

    let word = read("day,pieces\n2026-01-01,1\n2026-01-01,many\n", &columns)
        .await
        .expect_err("'many' is no number");
    let empty = read("day,pieces\n2026-01-01,\"\"\n", &columns)
        .await
        .expect_err("'' is no number");
    let behind_breaks = read("day,pieces\n\n\"2026-01-01\",1\r\nyesterday,1", &columns)
        .await
        .expect_err("no date");
    let long = format!("day,pieces\n,{}\n", "9".repeat(300));
    let long = read(&long, &columns).await.expect_err("too many digits");

    assert_eq!(
        word,
        "line 3 of the file: column pieces holds 'many', which is not a BIGINT"
    );
    assert_eq!(
        empty,
        "line 2 of the file: column pieces holds '', which is not a BIGINT"
    );
    assert_eq!(
        behind_breaks,
        "line 4 of the file: column day holds 'yesterday', which is not a DATE"
    );
    assert_eq!(long.matches('9').count(), 100);
}

#[tokio::test]
async fn a_line_of_another_width_is_named() {
    let columns = [("a", TEXT), ("b", TEXT), ("c", TEXT)];

    let short = read("a,b,c\n\"two\nlines\",2,3\n1,2\n", &columns)
        .await
        .expect_err("a short row");
    let one = read("a,b,c\n1\n", &columns).await.expect_err("a very short row");
    let long = read("a,b,c\n1,2,3,4,5\n", &columns).await.expect_err("a long row");

    assert_eq!(short, "line 4 of the file has 2 fields, and the first line has 3");
    assert_eq!(one, "line 2 of the file has 1 field, and the first line has 3");
    assert_eq!(long, "line 2 of the file has 5 fields, and the first line has 3");
}

#[tokio::test]
async fn quotes_that_mean_nothing_are_named() {
    let open = read("a,b\n1,x\n2,\"never\nclosed\n", &[("a", TEXT), ("b", TEXT)])
        .await
        .expect_err("an open quote");
    let behind = read("a,b\n1,\"x\"y\n", &[("a", TEXT), ("b", TEXT)])
        .await
        .expect_err("text behind a quote");

    assert_eq!(open, "the quote that opens on line 3 is never closed");
    assert_eq!(
        behind,
        "line 2 of the file has text behind a closing quote; a quote inside quotes is written twice"
    );
}

#[tokio::test]
async fn bytes_that_are_not_text_are_named() {
    let schema = schema(&[("a", TEXT), ("b", TEXT)]);
    let not_utf8: &[u8] = b"a,b\n1,2\n1,\"\n\xFF\"\n";
    let half_a_letter_each: &[u8] = b"a,b\n\xC3,\xA4\n";

    for (bytes, line) in [(not_utf8, 4), (half_a_letter_each, 2)] {
        let error = read_in_pieces(bytes, 3, &comma(), &schema)
            .await
            .expect_err("not UTF-8");
        assert_eq!(error, format!("line {line} of the file is not UTF-8"));
    }
}

#[tokio::test]
async fn what_we_write_for_a_type_is_read_as_it() {
    let text = "f,d,b,at,utc,bytes\n\
        NaN,99999999999999999999999999999.999999999,true,0001-01-01T00:00:00,9999-12-31T23:59:59.999999Z,AP/+\n\
        Infinity,-0.000000001,false,1969-12-31T23:59:59.999999,1970-01-01T00:00:00Z,\"\"\n\
        -Infinity,,,,,\n\
        2.2250738585072014e-308,0,true,2026-01-31T12:00:00.123456,2026-01-31T12:00:00+02:00,PQ==\n";
    let columns = [
        ("f", DataType::Float64),
        ("d", DataType::Decimal128(38, 9)),
        ("b", DataType::Boolean),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("utc", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("bytes", DataType::Binary),
    ];

    let rows = read(text, &columns).await.expect("it is CSV");

    let floats = rows.column(0).as_primitive::<Float64Type>().values();
    assert!(floats[0].is_nan());
    assert_eq!(floats[1..], [f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE]);
    let decimals: Vec<_> = rows.column(1).as_primitive::<Decimal128Type>().iter().collect();
    assert_eq!(decimals, [Some(10_i128.pow(38) - 1), Some(-1), None, Some(0)]);
    let booleans: Vec<_> = rows.column(2).as_boolean().iter().collect();
    assert_eq!(booleans, [Some(true), Some(false), None, Some(true)]);
    let instants = |column: usize| {
        rows.column(column)
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        instants(3),
        [
            Some(-62_135_596_800_000_000),
            Some(-1),
            None,
            Some(1_769_860_800_123_456)
        ]
    );
    assert_eq!(
        instants(4),
        [
            Some(253_402_300_799_999_999),
            Some(0),
            None,
            Some(1_769_853_600_000_000)
        ]
    );
    let bytes: Vec<_> = rows.column(5).as_binary::<i32>().iter().collect();
    assert_eq!(bytes, [Some(b"\x00\xff\xfe".as_slice()), Some(b""), None, Some(b"=")]);
}

#[tokio::test]
async fn lists_structs_and_maps_are_json_with_base64_for_bytes() {
    let fields = Fields::from(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("bytes", DataType::Binary, true),
    ]);
    let pair = Fields::from(vec![
        Field::new("key", TEXT, false),
        Field::new("value", DataType::Binary, true),
    ]);
    let map = DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false);
    let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
    let columns = [("list", list), ("record", DataType::Struct(fields)), ("map", map)];
    let text = "list,record,map\n\
        \"[1,null]\",\"{\"\"n\"\":1,\"\"bytes\"\":\"\"AP/+\"\"}\",\"{\"\"a\"\":\"\"PQ==\"\"}\"\n,,\n[],{},{}\n";

    let rows = read(text, &columns).await.expect("it is CSV");
    let wrong = read("list,record,map\n[1],,\n\"[1] [2]\",,\n", &columns)
        .await
        .expect_err("two values");
    let mixed = read("list,record,map\n[1],,\n\"[1,\"\"x\"\"]\",,\n", &columns)
        .await
        .expect_err("not a number");

    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        values(&rows),
        [
            [some("[1, ]"), some("{n: 1, bytes: 00fffe}"), some("{a: 3d}")],
            [None, None, None],
            [some("[]"), some("{n: , bytes: }"), some("{}")],
        ]
    );
    assert_eq!(
        wrong,
        "line 3 of the file: column list holds '[1] [2]', which is not a list in JSON of the column's type"
    );
    assert!(
        mixed.starts_with("line 3 of the file: column list holds '[1,\"x\"]'"),
        "{mixed}"
    );
}

#[tokio::test]
async fn types_are_those_that_hold_every_value() {
    let text = "i,f,day,at,utc,yes,text,nothing,mixed,huge,quoted,small\n\
        1,1.5,2026-01-31,2026-01-31T12:00:00,2026-01-31T12:00:00Z,true,x,,1,18446744073709551615,1,1e-7\n\
        ,,,,,,,,,,,\n\
        -2,2,2026-02-01,2026-01-31,2026-01-31 12:00:00.5+02:00,FALSE,1,,2026-01-31,1,\"\",NaN\n";

    let types: Vec<DataType> = guessed(text, &comma())
        .await
        .into_iter()
        .map(|(_, data_type)| data_type)
        .collect();

    let at = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let (bigint, double) = (DataType::Int64, DataType::Float64);
    assert_eq!(
        types,
        [
            bigint,
            double.clone(),
            DataType::Date32,
            at(None),
            at(Some("UTC")),
            DataType::Boolean,
            TEXT,
            TEXT,
            TEXT,
            TEXT,
            TEXT,
            double,
        ]
    );
}

#[tokio::test]
async fn columns_without_names_are_numbered() {
    let no_header = Dialect::new(false, ',', None).expect("a comma is ASCII");

    let numbered = guessed("1,x\n2,y\n", &no_header).await;
    let unnamed = guessed(",a\n1,2\n", &comma()).await;
    let nothing = guessed("\n\n", &comma()).await;

    assert_eq!(
        numbered,
        [("column_1".to_owned(), DataType::Int64), ("column_2".to_owned(), TEXT)]
    );
    assert_eq!(unnamed[0].0, "column_1");
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused() {
    let error = columns(&staged("id,ID\n").await, 6, &comma(), 100)
        .await
        .expect_err("which of the two?");

    assert_eq!(blame::sql_error(&error).message, "the file has two columns named ID");
}

#[test]
fn a_delimiter_is_one_ascii_character_and_no_quote() {
    for delimiter in ['"', '\n', '\r', 'ß'] {
        assert!(Dialect::new(true, delimiter, None).is_err(), "{delimiter:?}");
    }
}

#[tokio::test]
async fn a_file_of_many_pieces_and_batches_is_read_whole() {
    const ROWS: usize = 300_000;
    let mut text = "id,text\n".to_owned();
    for row in 0..ROWS {
        text.push_str(&format!("{row},\"row\n{row:020}\"\n"));
    }
    let schema = schema(&[("id", DataType::Int64), ("text", TEXT)]);
    let whole = Part::whole(text.len() as u64);

    let batches: Vec<RecordBatch> = batches(&staged(&text).await, &whole, &comma(), &schema)
        .try_collect()
        .await
        .expect("it is CSV");

    let rows = concat_batches(&schema, &batches).expect("batches of one schema");
    let ids = rows.column(0).as_primitive::<Int64Type>().values();
    assert!(ids.iter().copied().eq(0..ROWS as i64));
}

#[tokio::test]
async fn what_a_number_or_a_time_would_lose_something_of_is_text() {
    let text = "zip,phone,mixed,exact,fine,zeros,padded\n\
        00501,+491234,9007199254740993,9007199254740992,2026-01-31T12:00:00.123456789,2026-01-31T12:00:00.123456000,0\n\
        90210,+495678,0.5,0.5,2026-01-31T12:00:00,2026-01-31T12:00:00,007.5\n";

    let types: Vec<DataType> = guessed(text, &comma())
        .await
        .into_iter()
        .map(|(_, data_type)| data_type)
        .collect();

    let at = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(types, [TEXT, TEXT, TEXT, DataType::Float64, TEXT, at, TEXT]);
    let big = guessed("n\n9007199254740993\n0\n-7\n", &comma()).await;
    assert_eq!(big[0].1, DataType::Int64);
}

#[tokio::test]
async fn a_value_that_its_type_would_round_is_named_with_its_line_and_column() {
    let cases = [
        (DataType::Float64, "0.1", "9007199254740993", "a DOUBLE"),
        (DataType::Float32, "0.1", "16777217", "a REAL"),
        (DataType::Decimal128(10, 2), "1.250", "1.255", "a DECIMAL(10, 2)"),
        (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "2026-01-31T12:00:00.123456",
            "2026-01-31T12:00:00.1234567",
            "a TIMESTAMP",
        ),
        (DataType::Date32, "2026-01-31", "2026-01-31T12:00:00", "a DATE"),
    ];

    for (data_type, held, lost, called) in cases {
        let error = read(&format!("a\n{held}\n{lost}\n"), &[("a", data_type)])
            .await
            .expect_err(lost);
        assert_eq!(
            error,
            format!("line 3 of the file: column a holds '{lost}', which {called} cannot hold exactly")
        );
    }
    let nested = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
    let error = read("a\n[1]\n[1.9]\n", &[("a", nested)]).await.expect_err("1.9");
    assert_eq!(
        error,
        "line 3 of the file: column a holds '[1.9]', which is not a list in JSON of the column's type"
    );
}

/// The rows of a text that begins on `line`, each with its own line, and what is wrong with the first that is none.
async fn rows_of(text: &str, line: u64, width: usize) -> (Vec<(u64, Vec<Option<String>>)>, Option<String>) {
    let piece = Ok(Bytes::copy_from_slice(text.as_bytes()));
    let dialect = Dialect::new(false, ',', None).expect("a comma is ASCII");
    let mut file = Reader::of(stream::iter([piece]).boxed(), line, &dialect, Some(width));
    let mut found = Vec::new();
    loop {
        // One by one, so that what comes before a fault is seen.
        match file.next(1).await {
            Ok(Some(rows)) => {
                let values = (0..width).map(|column| rows.value(0, column).map(str::to_owned));
                found.push((rows.line(0), values.collect()));
            }
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(blame::sql_error(&error).message)),
        }
    }
}

#[tokio::test]
async fn a_file_that_is_read_in_parts_has_the_rows_and_the_faults_of_the_whole() {
    let pieces = [
        "a",
        "b\"",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\"x,\ny\"",
        "\"\"\"\r\"",
        "1,2\n",
        "\"p\",q\r\n",
        "é,\"\"\n",
    ];
    let format = LoadFormat::Csv {
        header: false,
        delimiter: ',',
        null: None,
    };
    let (mut sound, mut cut) = (0, 0);
    for seed in 0..4000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mark = ["", "\u{FEFF}"].choose(&mut random).expect("two");
        let sound_ones = if random.random_bool(0.5) {
            &pieces[11..]
        } else {
            &pieces[..]
        };
        let rest: String = (0..random.random_range(1..40))
            .map(|_| *sound_ones.choose(&mut random).expect("some"))
            .collect();
        let text = format!("{mark}{rest}");
        let width = random.random_range(1..3);
        let (whole, fault) = rows_of(&text, 1, width).await;

        let mut cutter = Cutter::every(random.random_range(1..20), &format);
        let piece = random.random_range(1..9);
        text.as_bytes().chunks(piece).for_each(|piece| cutter.see(piece));
        let parts = parts::of(text.len() as u64, &cutter.finish());
        let (mut together, mut first_fault) = (Vec::new(), None);
        for part in &parts {
            let (rows, fault) = rows_of(&text[part.start as usize..part.end as usize], part.line, width).await;
            together.extend(rows);
            if fault.is_some() {
                first_fault = fault;
                break;
            }
        }

        assert_eq!(
            (together, &first_fault),
            (whole, &fault),
            "seed {seed}: {text:?} in {parts:?}"
        );
        sound += usize::from(fault.is_none());
        cut += usize::from(fault.is_none() && parts.len() > 2);
    }
    assert!(sound > 500 && cut > 300, "{sound} sound files, {cut} of them cut");
}

#[test]
fn the_header_is_in_the_first_part_however_many_empty_lines_are_before_it() {
    let format = LoadFormat::Csv {
        header: true,
        delimiter: ',',
        null: None,
    };
    for header in ["a,b\n", "\"a\",b\r\n"] {
        let empty = "\n\r\n\r".repeat(5);
        let text = format!("\u{FEFF}{empty}{header}1,2\n3,4\n");
        let mut cutter = Cutter::every(1, &format);
        cutter.see(text.as_bytes());

        let cuts = cutter.finish();

        let behind_header = text.find("1,2").expect("it is there") as u64;
        assert_eq!(
            cuts.iter().map(|cut| cut.at).collect::<Vec<_>>(),
            [behind_header, behind_header + 4]
        );
    }
}
