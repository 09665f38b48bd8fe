use datafusion::arrow::array::{
    Date32Array, Decimal128Array, DictionaryArray, Int64Array, ListArray, NullArray, StringViewArray, StructArray,
    TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, Int64Type};

use super::*;

const MICROSECONDS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn tried(values: impl Array + 'static, target: DataType) -> Result<ArrayRef, usize> {
    let values: ArrayRef = Arc::new(values);
    cast(&values, &target)
}

fn texts(texts: &[&str]) -> StringArray {
    texts.iter().copied().map(Some).collect()
}

fn decimals(values: &[i128], scale: i8) -> Decimal128Array {
    Decimal128Array::from(values.to_vec())
        .with_precision_and_scale(38, scale)
        .expect("38 digits are allowed")
}

#[test]
fn a_number_becomes_an_integer_only_if_nothing_is_behind_its_point() {
    let whole = tried(Float64Array::from(vec![Some(2e15), None, Some(-0.0)]), DataType::Int64).expect("all are whole");
    let cents = tried(decimals(&[200, -300], 2), DataType::Int64).expect("all are whole");

    let whole: Vec<_> = whole.as_primitive::<Int64Type>().iter().collect();
    assert_eq!(whole, [Some(2_000_000_000_000_000), None, Some(0)]);
    assert_eq!(cents.as_primitive::<Int64Type>().values(), &[2, -3]);
    for lost in [1.9, -0.5, 9.3e18, f64::NAN, f64::INFINITY] {
        assert_eq!(
            tried(Float64Array::from(vec![1.0, lost]), DataType::Int64),
            Err(1),
            "{lost}"
        );
    }
    assert_eq!(tried(decimals(&[100, 101], 2), DataType::Int64), Err(1));
    assert_eq!(tried(Int64Array::from(vec![1, 32_768]), DataType::Int16), Err(1));
}

#[test]
fn an_integer_becomes_a_float_only_if_the_float_is_that_number() {
    let held = Int64Array::from(vec![Some(1 << 53), None, Some(i64::MIN), Some(1 << 60)]);

    assert!(tried(held, DataType::Float64).is_ok());
    for lost in [(1 << 53) + 1, i64::MAX] {
        assert_eq!(
            tried(Int64Array::from(vec![1, lost]), DataType::Float64),
            Err(1),
            "{lost}"
        );
    }
    assert_eq!(tried(Int64Array::from(vec![16_777_217]), DataType::Float32), Err(0));
}

#[test]
fn a_float_becomes_the_decimal_that_it_is_written_as() {
    let target = |precision, scale| DataType::Decimal128(precision, scale);

    let prices = tried(Float64Array::from(vec![0.1, 1.005, -2.0]), target(10, 3)).expect("three digits are enough");
    let fine = tried(Float64Array::from(vec![0.3]), target(38, 30)).expect("one digit is enough");

    assert_eq!(prices.as_primitive::<Decimal128Type>().values(), &[100, 1005, -2000]);
    assert_eq!(fine.as_primitive::<Decimal128Type>().values(), &[3 * 10_i128.pow(29)]);
    assert!(tried(Float32Array::from(vec![0.1]), target(10, 3)).is_ok());
    for lost in [1.255, 0.1 + 0.2, 1e9, f64::NAN] {
        assert_eq!(
            tried(Float64Array::from(vec![0.0, lost]), target(10, 2)),
            Err(1),
            "{lost}"
        );
    }
}

#[test]
fn a_decimal_becomes_a_float_only_if_that_is_written_with_the_same_digits() {
    let floats = tried(decimals(&[1_230_000_000_000_000_000, 0, -500], 18), DataType::Float64).expect("few digits");

    let floats = floats.as_primitive::<Float64Type>().values();
    assert_eq!(floats[..2], [1.23, 0.0]);
    assert_eq!(
        tried(decimals(&[125, 1_234_567_890_123_456_789], 2), DataType::Float64),
        Err(1)
    );
    assert_eq!(tried(decimals(&[(1 << 53) + 1], 0), DataType::Float64), Err(0));
    assert_eq!(tried(decimals(&[150, 155], 2), DataType::Decimal128(38, 1)), Err(1));
}

#[test]
fn a_double_becomes_a_real_that_reads_the_same() {
    let held = [0.1, 0.5, f64::NAN, f64::NEG_INFINITY, f64::from(f32::MAX)];

    let reals = tried(Float64Array::from(held.to_vec()), DataType::Float32).expect("all read the same");

    assert_eq!(reals.as_primitive::<Float32Type>().values()[..2], [0.1, 0.5]);
    for lost in [1.0 / 3.0, 1e300, 16_777_217.0] {
        assert_eq!(
            tried(Float64Array::from(vec![0.0, lost]), DataType::Float32),
            Err(1),
            "{lost}"
        );
    }
}

#[test]
fn text_becomes_a_value_only_with_all_of_its_digits() {
    let cases: [(DataType, &[&str], &[&str]); 6] = [
        (DataType::Int64, &["7", "-7"], &["1.9", "many", "9223372036854775808"]),
        (
            DataType::Float64,
            &["0.1", "1e3", "9007199254740994", "0", "NaN", "-Infinity"],
            &["9007199254740993", "1e999", "x"],
        ),
        (DataType::Float32, &["0.1", "16777216"], &["16777217"]),
        (
            DataType::Decimal128(10, 2),
            &["1.25", "1.250", "-3"],
            &["1.255", "123456789.00"],
        ),
        (
            MICROSECONDS,
            &[
                "2026-01-31T12:00:00.123456",
                "2026-01-31 12:00:00.123456000",
                "2026-01-31",
            ],
            &["2026-01-31T12:00:00.1234567", "yesterday"],
        ),
        (
            DataType::Date32,
            &["2026-01-31", "2026-01-31T00:00:00"],
            &["2026-01-31T12:00:00", "2026-01-31 00:00:00.5"],
        ),
    ];

    for (target, held, lost) in cases {
        assert!(tried(texts(held), target.clone()).is_ok(), "{held:?} as {target}");
        for text in lost {
            assert_eq!(
                tried(texts(&[held[0], text]), target.clone()),
                Err(1),
                "{text} as {target}"
            );
        }
    }
}

#[test]
fn a_time_becomes_a_coarser_one_only_if_it_is_that_one() {
    let micros = TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-2_000)]);
    let days = TimestampNanosecondArray::from(vec![86_400_000_000_000]);

    assert!(tried(micros, MICROSECONDS).is_ok());
    let days = tried(days, DataType::Date32).expect("it is midnight");
    assert_eq!(days.as_primitive::<Date32Type>().values(), &[1]);
    for target in [MICROSECONDS, DataType::Date32] {
        assert_eq!(tried(TimestampNanosecondArray::from(vec![0, 1]), target), Err(1));
    }
    assert!(tried(Date32Array::from(vec![1]), MICROSECONDS).is_ok());
}

#[test]
fn what_is_inside_of_a_list_or_a_struct_counts() {
    let list = |items: Vec<Option<i64>>| ListArray::from_iter_primitive::<Int64Type, _, _>([Some(items), None]);
    let list_of = |item| DataType::List(Arc::new(Field::new("element", item, true)));
    let structure = |value: i64| {
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        StructArray::from(vec![(field, Arc::new(Int64Array::from(vec![value])) as ArrayRef)])
    };
    let struct_of = |name, item| DataType::Struct(vec![Field::new(name, item, true)].into());

    assert!(tried(list(vec![Some(1), None]), list_of(DataType::Int16)).is_ok());
    assert!(tried(structure(1), struct_of("n", DataType::Int16)).is_ok());
    assert_eq!(tried(list(vec![Some(1 << 20)]), list_of(DataType::Int16)), Err(0));
    assert_eq!(tried(structure(1 << 20), struct_of("n", DataType::Int16)), Err(0));
    assert_eq!(tried(structure(1), struct_of("other", DataType::Int64)), Err(0));
}

#[test]
fn how_a_value_is_laid_out_does_not_count() {
    let dictionary: DictionaryArray<Int32Type> = [Some("1.5"), None].into_iter().collect();

    assert!(tried(dictionary, DataType::Decimal128(10, 1)).is_ok());
    assert!(tried(StringViewArray::from(vec!["1.5"]), DataType::Utf8).is_ok());
    assert!(tried(NullArray::new(2), DataType::Date32).is_ok());
    assert!(tried(texts(&[]), DataType::Int64).is_ok());
}

#[test]
fn what_is_empty_or_null_inside_fits_every_type() {
    let nothing = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(Vec::<Option<i64>>::new()), None]);
    let element = Arc::new(Field::new("element", DataType::Int32, true));
    let nulls: ArrayRef = Arc::new(NullArray::new(2));
    let lists = ListArray::new(
        Arc::new(Field::new("item", DataType::Null, true)),
        OffsetBuffer::from_lengths([2, 0]),
        nulls,
        None,
    );

    assert!(tried(nothing, DataType::List(Arc::clone(&element))).is_ok());
    let held = tried(lists, DataType::List(element)).expect("NULL is of every type");
    assert_eq!(held.as_list::<i32>().value(0).null_count(), 2);
}

#[test]
fn the_list_that_is_refused_is_the_one_that_does_not_fit() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), Some(vec![Some(1 << 40)])]);
    let element = Arc::new(Field::new("element", DataType::Int32, true));

    assert_eq!(tried(lists, DataType::List(element)), Err(1));
}
