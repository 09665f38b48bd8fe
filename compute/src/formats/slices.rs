//! Cuts a batch into slices that are small when written out.
//!
//! A batch can be far larger as text than it is in memory: views and dictionaries let ten thousand rows share one
//! large string. So a slice is weighed by what its values say, not by the memory they take.

use arrow::array::{Array, AsArray, ByteView, GenericListViewArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;

/// Rows that are written at once, at most.
pub const ROWS_AT_ONCE: usize = 8192;

/// Bytes of values that are written at once, at most, unless a single row is larger.
pub const BYTES_AT_ONCE: usize = 4 << 20;

/// `batch` in order, halved until every slice is small enough or one row.
pub fn of(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let mut left = vec![batch];
    std::iter::from_fn(move || {
        loop {
            let batch = left.pop()?;
            let rows = batch.num_rows();
            if rows <= 1 || (rows <= ROWS_AT_ONCE && weight_of(&batch) <= BYTES_AT_ONCE) {
                return Some(batch);
            }
            let half = if rows > ROWS_AT_ONCE { ROWS_AT_ONCE } else { rows / 2 };
            left.push(batch.slice(half, rows - half));
            left.push(batch.slice(0, half));
        }
    })
}

fn weight_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| weight(column)).sum()
}

/// About the bytes of an array's values when nothing is shared.
fn weight(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => views(array.as_string_view().views()),
        DataType::BinaryView => views(array.as_binary_view().views()),
        DataType::List(_) => items(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => items(array.as_list::<i64>().value_offsets(), array.as_list::<i64>().values()),
        DataType::ListView(_) => viewed_items(array.as_list_view::<i32>()),
        DataType::LargeListView(_) => viewed_items(array.as_list_view::<i64>()),
        DataType::FixedSizeList(_, _) => weight(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => {
            let map = array.as_map();
            map.entries()
                .columns()
                .iter()
                .map(|column| items(map.value_offsets(), column))
                .sum()
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| weight(column)).sum(),
        DataType::Dictionary(_, _) => array.len() * heaviest(array.as_any_dictionary().values()),
        // Their values are shared by few rows, or are not shared at all.
        _ => array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn span<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    match offsets {
        [first, .., last] => last.as_usize() - first.as_usize(),
        _ => 0,
    }
}

fn views(views: &[u128]) -> usize {
    views.iter().map(|view| ByteView::from(*view).length as usize).sum()
}

fn items<O: OffsetSizeTrait>(offsets: &[O], values: &dyn Array) -> usize {
    match offsets {
        [first, .., last] => weight(&values.slice(first.as_usize(), last.as_usize() - first.as_usize())),
        _ => 0,
    }
}

/// Views may show the same items many times.
fn viewed_items<O: OffsetSizeTrait>(lists: &GenericListViewArray<O>) -> usize {
    let items: usize = lists.value_sizes().iter().map(|size| size.as_usize()).sum();
    items * heaviest(lists.values())
}

/// The weight of the heaviest value: any row may have chosen it.
fn heaviest(values: &dyn Array) -> usize {
    if let Some(width) = values.data_type().primitive_width() {
        return width;
    }
    (0..values.len())
        .map(|row| weight(&values.slice(row, 1)))
        .max()
        .unwrap_or(0)
}
