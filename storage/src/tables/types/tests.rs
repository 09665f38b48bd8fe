use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, LargeStringArray, ListArray, StringArray,
    StringViewArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::datatypes::{Int32Type, IntervalUnit, TimestampMicrosecondType, UnionFields, UnionMode};

use super::*;
use crate::tables::harness::batch;

fn stored_as(data_type: DataType) -> Result<DataType> {
    let schema = Schema::new(vec![Field::new("a", data_type, false)]);
    Ok(stored_schema(&schema)?.field(0).data_type().clone())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

#[test]
fn a_type_is_stored_as_the_one_delta_has_for_it() {
    use DataType as T;
    let micros = |zone: Option<&str>| T::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let element = |item: T| T::List(Arc::new(Field::new("element", item, true)));
    let dictionary = T::Dictionary(Box::new(T::Int32), Box::new(T::LargeUtf8));
    let cases = [
        (T::Boolean, T::Boolean),
        (T::Int8, T::Int8),
        (T::Int64, T::Int64),
        (T::Float32, T::Float32),
        (T::Date32, T::Date32),
        (T::Utf8View, T::Utf8),
        (T::LargeUtf8, T::Utf8),
        (T::BinaryView, T::Binary),
        (T::LargeBinary, T::Binary),
        (T::FixedSizeBinary(16), T::Binary),
        (T::Timestamp(TimeUnit::Second, None), micros(None)),
        (
            T::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            micros(Some("UTC")),
        ),
        (T::Decimal32(9, 2), T::Decimal128(9, 2)),
        (T::Decimal64(18, 0), T::Decimal128(18, 0)),
        (T::Decimal128(38, 38), T::Decimal128(38, 38)),
        (dictionary, T::Utf8),
        (list(T::Utf8View), element(T::Utf8)),
        (
            T::LargeList(Arc::new(Field::new("x", T::Int8, false))),
            element(T::Int8),
        ),
        (
            T::FixedSizeList(Arc::new(Field::new("x", T::Float64, false)), 3),
            element(T::Float64),
        ),
        (
            T::Struct(vec![Field::new("x", T::Utf8View, false)].into()),
            T::Struct(vec![Field::new("x", T::Utf8, true)].into()),
        ),
    ];

    for (given, expected) in cases {
        assert_eq!(stored_as(given.clone()).expect("it can be stored"), expected, "{given}");
    }
}

#[test]
fn a_type_without_a_stored_form_is_refused_with_the_column_and_a_remedy() {
    use DataType as T;
    let cases = [
        (
            T::UInt8,
            "column a is UInt8, which a table cannot hold; cast it to SMALLINT",
        ),
        (
            T::UInt64,
            "column a is UInt64, which a table cannot hold; cast it to BIGINT",
        ),
        (
            T::Float16,
            "column a is Float16, which a table cannot hold; cast it to REAL",
        ),
        (
            T::Null,
            "column a is Null, which a table cannot hold; cast it to the type it is meant to have",
        ),
        (
            T::Time64(TimeUnit::Microsecond),
            "column a is Time64(µs), which a table cannot hold; cast it to VARCHAR",
        ),
        (
            T::Date64,
            "column a is Date64, which a table cannot hold; cast it to DATE",
        ),
        (
            T::Decimal256(50, 10),
            "column a is Decimal256(50, 10), which a table cannot hold; cast it to DECIMAL(38, 10)",
        ),
        (
            list(T::UInt32),
            "column a is UInt32, which a table cannot hold; cast it to BIGINT",
        ),
        (
            T::Struct(vec![Field::new("b", T::Duration(TimeUnit::Second), true)].into()),
            "column a.b is Duration(s), which a table cannot hold; cast it to BIGINT",
        ),
        (
            T::Decimal128(10, -2),
            "column a is Decimal128(10, -2), whose scale is not between 0 and its precision; cast it to DECIMAL(38, 9)",
        ),
        (
            T::Struct(arrow::datatypes::Fields::empty()),
            "column a is a struct without fields, which a table cannot hold",
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(stored_as(given).expect_err("it cannot be stored").to_string(), expected);
    }
    for given in [
        T::Interval(IntervalUnit::MonthDayNano),
        T::Union(UnionFields::empty(), UnionMode::Sparse),
    ] {
        let refusal = stored_as(given).expect_err("it cannot be stored").to_string();
        assert!(
            refusal.starts_with("column a is ") && refusal.ends_with("cast it to VARCHAR"),
            "{refusal}"
        );
    }
}

#[test]
fn columns_need_names_that_differ_by_more_than_case() {
    let refusal = |names: &[&str]| {
        let fields: Vec<Field> = names
            .iter()
            .map(|name| Field::new(*name, DataType::Int64, true))
            .collect();
        stored_schema(&Schema::new(fields))
            .expect_err("the names are bad")
            .to_string()
    };

    assert_eq!(refusal(&["a", ""]), "a column has no name; give it one with AS");
    assert_eq!(
        refusal(&["Total", "total"]),
        "there are two columns named total; give one of them another name with AS"
    );
    assert_eq!(refusal(&[]), "a table must have at least one column");
}

#[test]
fn a_stored_schema_is_nullable_and_has_no_metadata() {
    let field = Field::new("a", DataType::Int64, false).with_metadata([("k".to_owned(), "v".to_owned())].into());

    let stored = stored_schema(&Schema::new(vec![field])).expect("it can be stored");

    assert_eq!(
        stored.as_ref(),
        &Schema::new(vec![Field::new("a", DataType::Int64, true)])
    );
}

#[test]
fn every_representation_of_a_value_is_stored_as_the_same_value() {
    let dictionary: DictionaryArray<Int32Type> = [Some("x"), None, Some("x")].into_iter().collect();
    let seconds = TimestampSecondArray::from(vec![Some(1), None, Some(-1)]);
    let nanos = TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-2_000)]).with_timezone("+02:00");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let rows = batch(vec![
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                Some("a"),
                None,
                Some("a text longer than twelve bytes"),
            ])),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("c")])),
        ),
        ("dictionary", Arc::new(dictionary)),
        ("seconds", Arc::new(seconds)),
        ("nanos", Arc::new(nanos)),
        ("lists", Arc::new(lists)),
    ]);
    let schema = stored_schema(&rows.schema()).expect("all can be stored");

    let stored = to_stored(&rows, &schema).expect("nothing is lost");

    let texts = |index: usize| -> Vec<Option<String>> {
        stored
            .column(index)
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()
    };
    assert_eq!(
        texts(0),
        [
            Some("a".to_owned()),
            None,
            Some("a text longer than twelve bytes".to_owned())
        ]
    );
    assert_eq!(texts(2), [Some("x".to_owned()), None, Some("x".to_owned())]);
    let micros = |index: usize| stored.column(index).as_primitive::<TimestampMicrosecondType>().clone();
    assert_eq!(
        micros(3),
        TimestampMicrosecondArray::from(vec![Some(1_000_000), None, Some(-1_000_000)])
    );
    assert_eq!(
        micros(4),
        TimestampMicrosecondArray::from(vec![Some(1), None, Some(-2)]).with_timezone("UTC")
    );
    assert_eq!(
        stored.column(5).as_list::<i32>().value(0).as_ref(),
        &Int32Array::from(vec![Some(1), None])
    );
}

#[test]
fn nanoseconds_that_would_be_lost_are_refused_with_the_value() {
    let refusal = |column: ArrayRef| {
        let rows = batch(vec![("at", column)]);
        let schema = stored_schema(&rows.schema()).expect("the type can be stored");
        to_stored(&rows, &schema).expect_err("a nanosecond is lost").to_string()
    };
    let times = TimestampNanosecondArray::from(vec![Some(1_000), None, Some(1_700_000_000_123_456_789)]);

    let flat = refusal(Arc::new(times.clone()));
    let field = Arc::new(Field::new("t", times.data_type().clone(), true));
    let nested = refusal(Arc::new(StructArray::from(vec![(field, Arc::new(times) as ArrayRef)])));

    assert!(
        flat.starts_with("column at cannot hold 2023-11-14T22:13:20.123456789 exactly"),
        "{flat}"
    );
    assert!(nested.contains("123456789"), "{nested}");
}

#[test]
fn a_time_beyond_what_microseconds_can_count_is_refused_with_the_column() {
    let far = TimestampMillisecondArray::from(vec![Some(0), Some(i64::MAX / 10)]);
    let rows = batch(vec![("at", Arc::new(far))]);
    let schema = stored_schema(&rows.schema()).expect("the type can be stored");

    let refusal = to_stored(&rows, &schema).expect_err("it overflows").to_string();

    assert!(
        refusal.starts_with("column at cannot hold ") && refusal.contains("exactly"),
        "{refusal}"
    );
}

#[test]
fn rows_of_another_type_are_refused_and_not_converted() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let texts = batch(vec![("a", Arc::new(StringArray::from(vec!["1"])))]);

    let refusal = to_stored(&texts, &schema)
        .expect_err("a text is not a number")
        .to_string();

    assert_eq!(refusal, "column a is Int64 and the rows have Utf8 there; cast it");
}

#[test]
fn a_column_that_must_not_be_null_is_not() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    let rows = batch(vec![("a", Arc::new(Int64Array::from(vec![Some(1), None])))]);

    let refusal = to_stored(&rows, &schema).expect_err("there is a NULL").to_string();

    assert_eq!(refusal, "column a must not be NULL, and a row has NULL there");
}
