//! What the log knows about the values in a file, so that a file without a match is never opened.
//!
//! # Invariants
//! - No value of a column lies outside its bounds. Where that cannot be said in JSON (a NaN, an infinity, the year
//!   20000) there is no bound, and the file is read.
//! - Bounds are taken from every value, so they hold whatever the encoding; see [`json`] for how they are spelled.

mod json;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::logical_bytes::logical_bytes;
use crate::Result;
use json::{high_to_json, low_to_json, quoted, value_from_json};

/// The tag of a file in the log under which its columns' bytes are kept, as JSON `{"column": bytes}`.
pub(super) const LOGICAL_BYTES_TAG: &str = "wh.logical_bytes";

/// How many leaf columns, from the left, have bounds in the log. Delta's default, known to every reader.
const INDEXED_LEAVES: usize = 32;

/// What is learned about a file while its rows pass.
#[derive(Debug)]
pub(super) struct FileStats {
    rows: u64,
    columns: Vec<ColumnStats>,
}

#[derive(Debug)]
struct ColumnStats {
    name: String,
    /// Within the first [`INDEXED_LEAVES`], and not a struct: their statistics would be of their fields.
    indexed: bool,
    bytes: u64,
    nulls: u64,
    bounds: Bounds,
}

#[derive(Debug)]
enum Bounds {
    /// No value has passed yet.
    Nothing,
    Between(ScalarValue, ScalarValue),
    /// The type has no order that every reader agrees on, or a NaN has passed.
    Unknown,
}

impl FileStats {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut leaves = 0;
        let columns = schema.fields().iter().map(|field| {
            leaves += leaf_count(field.data_type());
            ColumnStats {
                name: field.name().clone(),
                indexed: leaves <= INDEXED_LEAVES && !matches!(field.data_type(), DataType::Struct(_)),
                bytes: 0,
                nulls: 0,
                bounds: Bounds::Nothing,
            }
        });
        Self {
            rows: 0,
            columns: columns.collect(),
        }
    }

    /// Takes note of stored rows.
    pub(super) fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.bytes += logical_bytes(values)?;
            if column.indexed {
                column.nulls += values.null_count() as u64;
                column.bounds.widen(values);
            }
        }
        Ok(())
    }

    /// The statistics as Delta writes them.
    pub(super) fn to_json(&self) -> String {
        let (mut lows, mut highs, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for column in self.columns.iter().filter(|column| column.indexed) {
            let name = quoted(&column.name);
            nulls.push(format!("{name}:{}", column.nulls));
            if let Bounds::Between(low, high) = &column.bounds {
                lows.extend(low_to_json(low).map(|low| format!("{name}:{low}")));
                highs.extend(high_to_json(high).map(|high| format!("{name}:{high}")));
            }
        }
        format!(
            "{{\"numRecords\":{},\"minValues\":{{{}}},\"maxValues\":{{{}}},\"nullCount\":{{{}}}}}",
            self.rows,
            lows.join(","),
            highs.join(","),
            nulls.join(",")
        )
    }

    /// The value of [`LOGICAL_BYTES_TAG`].
    pub(super) fn logical_bytes_tag(&self) -> String {
        let bytes: BTreeMap<&str, u64> = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.bytes))
            .collect();
        serde_json::to_string(&bytes).expect("names and numbers are JSON")
    }
}

impl Bounds {
    fn widen(&mut self, values: &ArrayRef) {
        if matches!(self, Self::Unknown) || values.null_count() == values.len() {
            return;
        }
        let Some((low, high)) = bounds(values) else {
            *self = Self::Unknown;
            return;
        };
        match self {
            Self::Between(lowest, highest) => {
                if low.partial_cmp(lowest) == Some(Ordering::Less) {
                    *lowest = low;
                }
                if high.partial_cmp(highest) == Some(Ordering::Greater) {
                    *highest = high;
                }
            }
            _ => *self = Self::Between(low, high),
        }
    }
}

/// The rows of a file, as its entry in the log says.
pub(super) fn rows(stats: Option<&str>) -> Option<u64> {
    serde_json::from_str::<DeltaStats>(stats?).ok()?.num_records
}

/// The bytes of each column of `schema`, from the tag. A file without our tag is not ours, and costs nothing.
pub(super) fn logical_bytes_from_tag(tag: Option<&str>, schema: &Schema) -> Vec<u64> {
    let bytes: HashMap<String, u64> = tag.and_then(|tag| serde_json::from_str(tag).ok()).unwrap_or_default();
    schema
        .fields()
        .iter()
        .map(|field| bytes.get(field.name()).copied().unwrap_or(0))
        .collect()
}

/// What the optimiser is told about each column of `schema`, the one that queries see.
pub(super) fn column_statistics(stats: Option<&str>, bytes: &[u64], schema: &Schema) -> Vec<ColumnStatistics> {
    let stats: DeltaStats = stats
        .and_then(|stats| serde_json::from_str(stats).ok())
        .unwrap_or_default();
    let known = schema.fields().iter().zip(bytes).map(|(field, bytes)| {
        let (name, data_type) = (field.name(), field.data_type());
        let bound = |of: &HashMap<String, Box<RawValue>>| {
            let value = of.get(name).and_then(|json| value_from_json(json.get(), data_type));
            match value {
                // A text may have been cut, and a zero has lost its sign.
                Some(value) if has_soft_bounds(data_type) => Precision::Inexact(value),
                Some(value) => Precision::Exact(value),
                None => Precision::Absent,
            }
        };
        let nulls = stats.null_count.get(name).and_then(|json| json.get().parse().ok());
        ColumnStatistics {
            null_count: nulls.map_or(Precision::Absent, Precision::Exact),
            min_value: bound(&stats.min_values),
            max_value: bound(&stats.max_values),
            byte_size: usize::try_from(*bytes).map_or(Precision::Absent, Precision::Inexact),
            ..ColumnStatistics::new_unknown()
        }
    });
    known.collect()
}

fn has_soft_bounds(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::Utf8View | DataType::Float32 | DataType::Float64
    )
}

fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        _ => 1,
    }
}

/// The smallest and the largest of values of which at least one is not NULL.
fn bounds(values: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    fn primitive<T: ArrowPrimitiveType>(values: &ArrayRef) -> Option<(ScalarValue, ScalarValue)>
    where
        T::Native: PartialOrd,
    {
        let (typed, data_type) = (values.as_primitive::<T>(), values.data_type());
        let scalar = |value| ScalarValue::new_primitive::<T>(Some(value), data_type).ok();
        Some((scalar(min(typed)?)?, scalar(max(typed)?)?))
    }

    match values.data_type() {
        DataType::Int8 => primitive::<Int8Type>(values),
        DataType::Int16 => primitive::<Int16Type>(values),
        DataType::Int32 => primitive::<Int32Type>(values),
        DataType::Int64 => primitive::<Int64Type>(values),
        DataType::Float32 if values.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan) => None,
        DataType::Float64 if values.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan) => None,
        DataType::Float32 => primitive::<Float32Type>(values),
        DataType::Float64 => primitive::<Float64Type>(values),
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>(values),
        DataType::Date32 => primitive::<Date32Type>(values),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(values),
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            Some((
                ScalarValue::from(min_string(texts)?),
                ScalarValue::from(max_string(texts)?),
            ))
        }
        _ => None,
    }
}

/// The statistics of a file in the log, read loosely: a value we do not understand is no bound.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeltaStats {
    num_records: Option<u64>,
    min_values: HashMap<String, Box<RawValue>>,
    max_values: HashMap<String, Box<RawValue>>,
    null_count: HashMap<String, Box<RawValue>>,
}

#[cfg(test)]
mod tests;
