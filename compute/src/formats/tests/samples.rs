//! Every type that a query can answer with, in its extremes.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use serde_json::{Value, json};

/// A column of one type, and what JSON says of its rows.
pub(super) struct Sample {
    pub array: ArrayRef,
    pub json: Value,
}

fn sample(array: impl Array + 'static, json: Value) -> Sample {
    Sample {
        array: Arc::new(array),
        json,
    }
}

/// Four rows of every type: a low extreme, a high one, something else and NULL.
pub(super) fn samples() -> Vec<Sample> {
    let nulls = || Some(NullBuffer::from(vec![true, true, true, false]));
    let half = |value: f32| <Float16Type as ArrowPrimitiveType>::Native::from_f32(value);
    let strings = || vec![Some(""), Some("„Grüße“ 🦀"), Some("a \"b\",\r\nc\\\t\u{1}"), None];
    let bytes: Vec<Option<&[u8]>> = vec![Some(b""), Some(b"\xff\x00"), Some(b"wasm"), None];
    let bytes_json = json!(["", "/wA=", "d2FzbQ==", null]);
    let strings_json = json!(["", "„Grüße“ 🦀", "a \"b\",\r\nc\\\t\u{1}", null]);
    let instants = || vec![Some(i64::MIN), Some(i64::MAX), Some(0), None];
    let item = |data_type| Arc::new(Field::new_list_field(data_type, true));
    let numbers = || Int32Array::from(vec![Some(1), None, Some(3), Some(4)]);
    let lists_json = json!([[], [1, null], [3, 4], null]);

    let fields = Fields::from(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("naïve \"b\"", DataType::Utf8View, true),
    ]);
    let structs = StructArray::new(
        fields,
        vec![Arc::new(numbers()), Arc::new(StringViewArray::from(strings()))],
        nulls(),
    );

    let mut samples = vec![
        sample(NullArray::new(4), json!([null, null, null, null])),
        sample(
            BooleanArray::from(vec![Some(true), Some(false), Some(true), None]),
            json!([true, false, true, null]),
        ),
        sample(
            Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), Some(0), None]),
            json!([-128, 127, 0, null]),
        ),
        sample(
            Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), Some(0), None]),
            json!([-32768, 32767, 0, null]),
        ),
        sample(
            Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), None]),
            json!([i32::MIN, i32::MAX, 0, null]),
        ),
        sample(Int64Array::from(instants()), json!([i64::MIN, i64::MAX, 0, null])),
        sample(
            UInt8Array::from(vec![Some(0), Some(u8::MAX), Some(1), None]),
            json!([0, 255, 1, null]),
        ),
        sample(
            UInt16Array::from(vec![Some(0), Some(u16::MAX), Some(1), None]),
            json!([0, 65535, 1, null]),
        ),
        sample(
            UInt32Array::from(vec![Some(0), Some(u32::MAX), Some(1), None]),
            json!([0, u32::MAX, 1, null]),
        ),
        sample(
            UInt64Array::from(vec![Some(0), Some(u64::MAX), Some(1), None]),
            json!([0, u64::MAX, 1, null]),
        ),
        sample(
            Float16Array::from(vec![
                Some(half(-65504.0)),
                Some(half(f32::INFINITY)),
                Some(half(0.5)),
                None,
            ]),
            json!([-65504.0, "Infinity", 0.5, null]),
        ),
        sample(
            Float32Array::from(vec![Some(f32::NEG_INFINITY), Some(f32::NAN), Some(0.1), None]),
            json!(["-Infinity", "NaN", 0.1, null]),
        ),
        sample(
            Float64Array::from(vec![Some(f64::MIN), Some(f64::NAN), Some(0.1 + 0.2), None]),
            json!([f64::MIN, "NaN", 0.1 + 0.2, null]),
        ),
        sample(
            Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(f64::INFINITY), Some(-0.0), None]),
            json!(["-Infinity", "Infinity", -0.0, null]),
        ),
        sample(
            Decimal32Array::from(vec![Some(-999_999_999), Some(999_999_999), Some(5), None])
                .with_precision_and_scale(9, 2)
                .expect("nine digits"),
            json!(["-9999999.99", "9999999.99", "0.05", null]),
        ),
        sample(
            Decimal64Array::from(vec![Some(-1), Some(999_999_999_999_999_999), Some(0), None])
                .with_precision_and_scale(18, 18)
                .expect("eighteen digits"),
            json!([
                "-0.000000000000000001",
                "0.999999999999999999",
                "0.000000000000000000",
                null
            ]),
        ),
        sample(
            Decimal128Array::from(vec![
                Some(1 - 10_i128.pow(38)),
                Some(10_i128.pow(38) - 1),
                Some(-120),
                None,
            ])
            .with_precision_and_scale(38, 1)
            .expect("38 digits"),
            json!([
                "-9999999999999999999999999999999999999.9",
                "9999999999999999999999999999999999999.9",
                "-12.0",
                null
            ]),
        ),
        sample(
            Decimal128Array::from(vec![Some(-7), Some(7), Some(0), None])
                .with_precision_and_scale(5, 0)
                .expect("fits"),
            json!(["-7", "7", "0", null]),
        ),
        sample(
            Decimal256Array::from(vec![
                Some(i256::from_string(&format!("-{}", "9".repeat(76))).expect("76 digits")),
                Some(i256::from_string(&"9".repeat(76)).expect("76 digits")),
                Some(i256::from_i128(-5)),
                None,
            ])
            .with_precision_and_scale(76, 70)
            .expect("76 digits"),
            json!([
                format!("-999999.{}", "9".repeat(70)),
                format!("999999.{}", "9".repeat(70)),
                format!("-0.{}5", "0".repeat(69)),
                null
            ]),
        ),
        sample(StringArray::from(strings()), strings_json.clone()),
        sample(LargeStringArray::from(strings()), strings_json.clone()),
        sample(StringViewArray::from(strings()), strings_json.clone()),
        sample(BinaryArray::from(bytes.clone()), bytes_json.clone()),
        sample(LargeBinaryArray::from(bytes.clone()), bytes_json.clone()),
        sample(BinaryViewArray::from(bytes), bytes_json),
        sample(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                [Some([0_u8, 0]), Some([255, 255]), Some([1, 2]), None].into_iter(),
                2,
            )
            .expect("two bytes"),
            json!(["AAA=", "//8=", "AQI=", null]),
        ),
        sample(
            Date32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(20_484), None]),
            json!(["-5877641-06-23", "+5881580-07-11", "2026-01-31", null]),
        ),
        sample(
            Date64Array::from(vec![
                Some(-86_400_000),
                Some(253_402_214_400_000),
                Some(1_769_817_600_000),
                None,
            ]),
            json!(["1969-12-31", "9999-12-31", "2026-01-31", null]),
        ),
        sample(
            Time32SecondArray::from(vec![Some(0), Some(86_399), Some(43_200), None]),
            json!(["00:00:00", "23:59:59", "12:00:00", null]),
        ),
        sample(
            Time32MillisecondArray::from(vec![Some(0), Some(86_399_999), Some(43_200_010), None]),
            json!(["00:00:00", "23:59:59.999", "12:00:00.010", null]),
        ),
        sample(
            Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), Some(1), None]),
            json!(["00:00:00", "23:59:59.999999", "00:00:00.000001", null]),
        ),
        sample(
            Time64NanosecondArray::from(vec![Some(0), Some(86_399_999_999_999), Some(1), None]),
            json!(["00:00:00", "23:59:59.999999999", "00:00:00.000000001", null]),
        ),
        sample(
            TimestampSecondArray::from(vec![Some(-62_135_596_800), Some(253_402_300_799), Some(0), None]),
            json!([
                "0001-01-01T00:00:00",
                "9999-12-31T23:59:59",
                "1970-01-01T00:00:00",
                null
            ]),
        ),
        sample(
            TimestampMillisecondArray::from(instants()).with_timezone("+02:00"),
            json!([
                "-292275055-05-16T16:47:04.192Z",
                "+292278994-08-17T07:12:55.807Z",
                "1970-01-01T00:00:00Z",
                null
            ]),
        ),
        sample(
            TimestampMicrosecondArray::from(vec![Some(-1), Some(1_769_860_800_123_456), Some(0), None]),
            json!([
                "1969-12-31T23:59:59.999999",
                "2026-01-31T12:00:00.123456",
                "1970-01-01T00:00:00",
                null
            ]),
        ),
        sample(
            TimestampMicrosecondArray::from(vec![Some(-1), Some(1_769_860_800_123_456), Some(0), None])
                .with_timezone("UTC"),
            json!([
                "1969-12-31T23:59:59.999999Z",
                "2026-01-31T12:00:00.123456Z",
                "1970-01-01T00:00:00Z",
                null
            ]),
        ),
        sample(
            TimestampNanosecondArray::from(instants()),
            json!([
                "1677-09-21T00:12:43.145224192",
                "2262-04-11T23:47:16.854775807",
                "1970-01-01T00:00:00",
                null
            ]),
        ),
        sample(
            DurationSecondArray::from(instants()),
            json!([
                "-2562047788015215 hours -30 mins -8 secs",
                "2562047788015215 hours 30 mins 7 secs",
                "0 secs",
                null
            ]),
        ),
        sample(
            DurationMillisecondArray::from(vec![Some(-1), Some(60_000), Some(1_500), None]),
            json!(["-0.001 secs", "1 mins", "1.500 secs", null]),
        ),
        sample(
            DurationMicrosecondArray::from(vec![Some(-1), Some(3_600_000_000), Some(1), None]),
            json!(["-0.000001 secs", "1 hours", "0.000001 secs", null]),
        ),
        sample(
            DurationNanosecondArray::from(vec![Some(-1), Some(1_000_000_000), Some(1), None]),
            json!(["-0.000000001 secs", "1 secs", "0.000000001 secs", null]),
        ),
        sample(
            IntervalYearMonthArray::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), None]),
            json!(["-2147483648 mons", "2147483647 mons", "0 secs", null]),
        ),
        sample(
            IntervalDayTimeArray::from(vec![
                Some(IntervalDayTime::MIN),
                Some(IntervalDayTime::MAX),
                Some(IntervalDayTime::new(1, -500)),
                None,
            ]),
            json!([
                "-2147483648 days -596 hours -31 mins -23.648 secs",
                "2147483647 days 596 hours 31 mins 23.647 secs",
                "1 days -0.500 secs",
                null
            ]),
        ),
        sample(
            IntervalMonthDayNanoArray::from(vec![
                Some(IntervalMonthDayNano::MIN),
                Some(IntervalMonthDayNano::MAX),
                Some(IntervalMonthDayNano::new(14, 3, 3_723_500_000_000)),
                None,
            ]),
            json!([
                "-2147483648 mons -2147483648 days -2562047 hours -47 mins -16.854775808 secs",
                "2147483647 mons 2147483647 days 2562047 hours 47 mins 16.854775807 secs",
                "14 mons 3 days 1 hours 2 mins 3.500 secs",
                null
            ]),
        ),
        sample(
            ListArray::new(
                item(DataType::Int32),
                OffsetBuffer::new(vec![0, 0, 2, 4, 4].into()),
                Arc::new(numbers()),
                nulls(),
            ),
            lists_json.clone(),
        ),
        sample(
            LargeListArray::new(
                item(DataType::Int32),
                OffsetBuffer::new(vec![0, 0, 2, 4, 4].into()),
                Arc::new(numbers()),
                nulls(),
            ),
            lists_json.clone(),
        ),
        sample(
            ListViewArray::new(
                item(DataType::Int32),
                ScalarBuffer::from(vec![3, 0, 2, 0]),
                ScalarBuffer::from(vec![0, 2, 2, 0]),
                Arc::new(numbers()),
                nulls(),
            ),
            lists_json.clone(),
        ),
        sample(
            LargeListViewArray::new(
                item(DataType::Int32),
                ScalarBuffer::from(vec![3, 0, 2, 0]),
                ScalarBuffer::from(vec![0, 2, 2, 0]),
                Arc::new(numbers()),
                nulls(),
            ),
            lists_json,
        ),
        sample(
            FixedSizeListArray::new(item(DataType::Int32), 1, Arc::new(numbers()), nulls()),
            json!([[1], [null], [3], null]),
        ),
        sample(
            structs.clone(),
            json!([
                {"a": 1, "naïve \"b\"": ""},
                {"a": null, "naïve \"b\"": "„Grüße“ 🦀"},
                {"a": 3, "naïve \"b\"": "a \"b\",\r\nc\\\t\u{1}"},
                null
            ]),
        ),
        sample(StructArray::new_empty_fields(4, nulls()), json!([{}, {}, {}, null])),
        sample(
            ListArray::new(
                item(structs.data_type().clone()),
                OffsetBuffer::new(vec![0, 1, 1, 4, 4].into()),
                Arc::new(structs),
                nulls(),
            ),
            json!([
                [{"a": 1, "naïve \"b\"": ""}],
                [],
                [
                    {"a": null, "naïve \"b\"": "„Grüße“ 🦀"},
                    {"a": 3, "naïve \"b\"": "a \"b\",\r\nc\\\t\u{1}"},
                    null
                ],
                null
            ]),
        ),
        sample(
            DictionaryArray::<Int8Type>::new(
                Int8Array::from(vec![Some(1), Some(0), Some(0), None]),
                Arc::new(StringArray::from(vec![Some("x"), None])),
            ),
            json!([null, "x", "x", null]),
        ),
        sample(
            RunArray::<Int32Type>::try_new(
                &Int32Array::from(vec![2, 3, 4]),
                &StringViewArray::from(vec![Some("run"), Some("walk"), None]),
            )
            .expect("four rows"),
            json!(["run", "run", "walk", null]),
        ),
    ];
    samples.push(maps());
    samples.push(numbered_maps());
    samples.push(unions());
    samples
}

fn maps() -> Sample {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringViewBuilder::new());
    maps.keys().append_value("é\"");
    maps.values().append_null();
    maps.keys().append_value("");
    maps.values().append_value("v");
    maps.append(true).expect("keys and values");
    for valid in [true, true, false] {
        maps.append(valid).expect("keys and values");
    }
    sample(maps.finish(), json!([{"é\"": null, "": "v"}, {}, {}, null]))
}

fn numbered_maps() -> Sample {
    let mut maps = MapBuilder::new(None, Date32Builder::new(), Int64Builder::new());
    maps.keys().append_value(20_484);
    maps.values().append_value(i64::MAX);
    maps.append(true).expect("keys and values");
    for valid in [true, true, false] {
        maps.append(valid).expect("keys and values");
    }
    sample(maps.finish(), json!([{"2026-01-31": i64::MAX}, {}, {}, null]))
}

fn unions() -> Sample {
    let fields = UnionFields::try_new(
        vec![3, 7],
        vec![
            Field::new("int", DataType::Int32, true),
            Field::new("str", DataType::Utf8, true),
        ],
    )
    .expect("two ids");
    let children: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), None])),
        Arc::new(StringArray::from(vec![Some("a \"b\","), Some("")])),
    ];
    let union =
        UnionArray::try_new(fields, vec![3, 7, 7, 3].into(), Some(vec![0, 0, 1, 1].into()), children).expect("a union");
    sample(union, json!([1, "a \"b\",", "", null]))
}

/// All samples, side by side.
pub(super) fn every_type() -> RecordBatch {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (number, sample) in samples().into_iter().enumerate() {
        fields.push(Field::new(format!("c{number}"), sample.array.data_type().clone(), true));
        columns.push(sample.array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("four rows each")
}

pub(super) fn one_column(name: &str, array: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter([(name, Arc::new(array) as ArrayRef)]).expect("one column")
}
