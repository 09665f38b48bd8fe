use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Int64Type, Schema};

use super::*;
use crate::tables::harness::{batch, stored};
use crate::tables::to_stored;

/// The bounds of one column as a reader of the log gets them back.
fn bounds_of(column: ArrayRef) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let rows = batch(vec![("a", column)]);
    let schema = stored(&rows);
    let rows = to_stored(&rows, &schema).expect("the rows can be stored");
    let mut stats = FileStats::new(&schema);
    stats.observe(&rows).expect("stored rows");
    let known = column_statistics(Some(&stats.to_json()), &[0], &schema);
    (
        known[0].min_value.get_value().cloned(),
        known[0].max_value.get_value().cloned(),
    )
}

fn text(text: &str) -> Option<ScalarValue> {
    Some(ScalarValue::from(text))
}

#[test]
fn bounds_come_back_as_they_went() {
    let day = |days| Some(ScalarValue::Date32(Some(days)));
    assert_eq!(
        bounds_of(Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        (day(-1), day(20_000))
    );

    let integer = |value| Some(ScalarValue::Int64(Some(value)));
    let extremes = Int64Array::from(vec![i64::MIN, 0, i64::MAX]);
    assert_eq!(bounds_of(Arc::new(extremes)), (integer(i64::MIN), integer(i64::MAX)));

    let widest = 10_i128.pow(38) - 1;
    let decimal = |value| Some(ScalarValue::Decimal128(Some(value), 38, 9));
    let decimals = Decimal128Array::from(vec![-widest, 1, widest])
        .with_precision_and_scale(38, 9)
        .expect("it fits");
    assert_eq!(bounds_of(Arc::new(decimals)), (decimal(-widest), decimal(widest)));

    let instant = |micros| Some(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let times = TimestampMicrosecondArray::from(vec![-1, 1_700_000_000_123_456]).with_timezone("UTC");
    assert_eq!(
        bounds_of(Arc::new(times)),
        (instant(-1), instant(1_700_000_000_123_456))
    );

    let float = |value| Some(ScalarValue::Float64(Some(value)));
    assert_eq!(
        bounds_of(Arc::new(Float64Array::from(vec![0.1, 1e300, -1e-7]))),
        (float(-1e-7), float(1e300))
    );
}

#[test]
fn what_json_cannot_say_is_no_bound() {
    let float = |value| Some(ScalarValue::Float64(Some(value)));
    assert_eq!(
        bounds_of(Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
        (None, None)
    );
    assert_eq!(
        bounds_of(Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]))),
        (float(1.0), None)
    );
    assert_eq!(
        bounds_of(Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 2.0]))),
        (None, float(2.0))
    );
    assert_eq!(
        bounds_of(Arc::new(Date32Array::from(vec![0, i32::MAX]))),
        (Some(ScalarValue::Date32(Some(0))), None)
    );
    assert_eq!(
        bounds_of(Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX]))),
        (None, None)
    );
    assert_eq!(bounds_of(Arc::new(Int64Array::from(vec![None, None]))), (None, None));
    assert_eq!(bounds_of(Arc::new(BooleanArray::from(vec![true]))), (None, None));
    assert_eq!(
        bounds_of(Arc::new(BinaryArray::from(vec![b"a".as_slice()]))),
        (None, None)
    );
}

#[test]
fn a_nan_in_any_batch_takes_the_bounds_away() {
    let batches = [vec![1.0], vec![f64::NAN], vec![2.0]]
        .map(|values| batch(vec![("a", Arc::new(Float64Array::from(values)) as ArrayRef)]));
    let mut stats = FileStats::new(&batches[0].schema());
    for rows in &batches {
        stats.observe(rows).expect("stored rows");
    }

    assert_eq!(
        stats.to_json(),
        r#"{"numRecords":3,"minValues":{},"maxValues":{},"nullCount":{"a":0}}"#
    );
}

#[test]
fn the_bounds_of_zero_enclose_both_zeros() {
    let (low, high) = bounds_of(Arc::new(Float64Array::from(vec![0.0])));

    assert!(matches!(low, Some(ScalarValue::Float64(Some(low))) if low == 0.0 && low.is_sign_negative()));
    assert!(matches!(high, Some(ScalarValue::Float64(Some(high))) if high == 0.0 && high.is_sign_positive()));
}

#[test]
fn a_long_text_is_cut_below_for_the_lower_bound_and_above_for_the_upper() {
    let bounds = |value: &str| bounds_of(Arc::new(StringArray::from(vec![value])));
    let x = |count| "x".repeat(count);

    assert_eq!(bounds(&x(32)), (text(&x(32)), text(&x(32))));
    assert_eq!(bounds(&x(33)), (text(&x(32)), text(&format!("{}y", x(31)))));
    // The character before the surrogates, and the last character there is.
    let gap = format!("{}\u{D7FF}tail", x(31));
    assert_eq!(bounds(&gap).1, text(&format!("{}\u{E000}", x(31))));
    let last = format!("{}b{}", x(20), "\u{10FFFF}".repeat(30));
    assert_eq!(bounds(&last).1, text(&format!("{}c", x(20))));
    assert_eq!(bounds(&"\u{10FFFF}".repeat(40)).1, None);
    // Nothing in a text can break the JSON.
    let odd = "\"\\\u{0}\n💥";
    assert_eq!(bounds(odd), (text(odd), text(odd)));
}

#[test]
fn only_the_first_thirty_two_leaves_have_bounds_and_all_columns_have_bytes() {
    let pair = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("y", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        ),
    ]);
    let names: Vec<String> = (0..40).map(|index| format!("c{index}")).collect();
    let mut columns: Vec<(&str, ArrayRef)> = vec![("pair", Arc::new(pair))];
    columns.extend(
        names
            .iter()
            .map(|name| (name.as_str(), Arc::new(Int64Array::from(vec![7])) as ArrayRef)),
    );
    let rows = batch(columns);
    let mut stats = FileStats::new(&rows.schema());
    stats.observe(&rows).expect("stored rows");

    let json: serde_json::Value = serde_json::from_str(&stats.to_json()).expect("JSON");
    let bytes = logical_bytes_from_tag(Some(&stats.logical_bytes_tag()), &rows.schema());

    assert_eq!(json["minValues"].as_object().map(|bounds| bounds.len()), Some(30));
    assert!(json["minValues"].get("c29").is_some() && json["minValues"].get("c30").is_none());
    assert_eq!((bytes[0], bytes[1], bytes[40]), (16, 8, 8));
}

#[test]
fn the_bytes_of_a_value_depend_on_the_value_alone() {
    let bytes = |column: ArrayRef| logical_bytes(&column).expect("stored values");

    assert_eq!(bytes(Arc::new(BooleanArray::from(vec![Some(true), None]))), 1);
    assert_eq!(bytes(Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))), 16);
    assert_eq!(bytes(Arc::new(Date32Array::from(vec![1, 2]))), 8);
    assert_eq!(bytes(Arc::new(Decimal128Array::from(vec![1]))), 16);
    assert_eq!(bytes(Arc::new(TimestampMicrosecondArray::from(vec![1]))), 8);
    assert_eq!(
        bytes(Arc::new(StringArray::from(vec![
            Some("abc"),
            None,
            Some(""),
            Some("ä")
        ]))),
        5 + 2 + 4
    );
    assert_eq!(
        bytes(Arc::new(BinaryArray::from(vec![Some(b"ab".as_slice()), None]))),
        4
    );
    assert_eq!(
        bytes(Arc::new(StringArray::from(vec!["skipped", "abc"]).slice(1, 1))),
        5
    );

    let lists = [
        Some(vec![Some(1), None, Some(3)]),
        None,
        Some(vec![]),
        Some(vec![Some(4)]),
    ];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    assert_eq!(bytes(Arc::new(lists.clone())), 24);
    assert_eq!(bytes(Arc::new(lists.slice(1, 3))), 8);

    let fields = vec![Arc::new(Field::new("x", DataType::Int64, true))];
    let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))];
    let hidden = StructArray::new(fields.into(), values, Some(vec![true, false, true].into()));
    assert_eq!(bytes(Arc::new(hidden)), 8);
    assert_eq!(bytes(Arc::new(Int64Array::from(Vec::<i64>::new()))), 0);
}

#[test]
fn a_file_without_our_tag_costs_nothing() {
    let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);

    assert_eq!(logical_bytes_from_tag(None, &schema), [0]);
    assert_eq!(logical_bytes_from_tag(Some("not json"), &schema), [0]);
}
