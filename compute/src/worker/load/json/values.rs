//! JSON values become a column, also lists, structs and maps.
//!
//! A value is here as it is written, and NULL is none. Numbers and texts take the way of every text in a file,
//! [`texts::typed`], so that JSON loses no more than CSV does: nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ListArray, MapArray, StringBuilder, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::texts;

/// A number with so many digits before its point is none of any column.
const MAX_DIGITS: i64 = 400;

/// A row whose value is none of its column.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::worker::load) struct Misfit {
    pub(in crate::worker::load) row: usize,
    /// The key inside of the value that is at fault, if it is one, and why it is.
    pub(super) key: Option<String>,
    pub(super) why: &'static str,
}

impl Misfit {
    fn at(row: usize) -> Self {
        Self { row, ..Self::default() }
    }
}

/// `values` as a column of `target`, or the first one that is none.
pub(in crate::worker::load) fn column(values: &[Option<&str>], target: &DataType) -> Result<ArrayRef, Misfit> {
    match target {
        DataType::List(item) => list(values, item),
        DataType::Struct(fields) => structure(values, fields),
        DataType::Map(entries, sorted) => map(values, entries, *sorted),
        _ => scalars(values, target),
    }
}

/// A value as it is written, unless it is null.
pub(in crate::worker::load) fn some(value: &RawValue) -> Option<&str> {
    Some(value.get()).filter(|text| *text != "null")
}

/// The text between the quotes of `written`, unless it is something else.
pub(super) fn unquoted(written: &str) -> Option<Cow<'_, str>> {
    let inside = written.strip_prefix('"')?.strip_suffix('"')?;
    match inside.contains('\\') {
        true => serde_json::from_str(written).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inside)),
    }
}

/// The members of a JSON object in their order: each key in its quotes, and its value.
pub(super) struct Object<'a>(pub(super) Vec<(&'a str, Option<&'a str>)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    members.push((key.get(), some(value)));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

fn list(values: &[Option<&str>], item: &FieldRef) -> Result<ArrayRef, Misfit> {
    let (mut items, mut rows) = (Vec::new(), Vec::<usize>::new());
    let mut lengths = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        let before = items.len();
        if let Some(text) = *value {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Misfit::at(row))?;
            items.extend(elements.into_iter().map(some));
            rows.resize(items.len(), row);
        }
        lengths.push(items.len() - before);
    }
    let items = column(&items, item.data_type()).map_err(|misfit| Misfit {
        row: rows.get(misfit.row).copied().unwrap_or(0),
        ..misfit
    })?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls(values)));
    Ok(Arc::new(list.map_err(|_| Misfit::default())?))
}

fn structure(values: &[Option<&str>], fields: &Fields) -> Result<ArrayRef, Misfit> {
    let mut members: Vec<Vec<Option<&str>>> = vec![vec![None; values.len()]; fields.len()];
    let mut last_row_with: Vec<Option<usize>> = vec![None; fields.len()];
    for (row, value) in values.iter().enumerate() {
        let Some(text) = *value else { continue };
        let object: Object = serde_json::from_str(text).map_err(|_| Misfit::at(row))?;
        for (key, value) in object.0 {
            let name = unquoted(key).ok_or_else(|| Misfit::at(row))?;
            let fault = |why| Misfit {
                row,
                key: Some(name.clone().into_owned()),
                why,
            };
            let field = fields.iter().position(|field| *field.name() == *name);
            let field = field.ok_or_else(|| fault("which its type has not"))?;
            if last_row_with[field].replace(row) == Some(row) {
                return Err(fault("which comes twice"));
            }
            members[field][row] = value;
        }
    }
    let columns: Result<Vec<ArrayRef>, Misfit> = fields
        .iter()
        .zip(&members)
        .map(|(field, values)| column(values, field.data_type()))
        .collect();
    let structure = StructArray::try_new(fields.clone(), columns?, Some(nulls(values)));
    Ok(Arc::new(structure.map_err(|_| Misfit::default())?))
}

fn map(values: &[Option<&str>], entries: &FieldRef, sorted: bool) -> Result<ArrayRef, Misfit> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(Misfit::default());
    };
    let [key, value] = &pair[..] else {
        return Err(Misfit::default());
    };
    let (mut keys, mut held, mut rows) = (Vec::new(), Vec::new(), Vec::<usize>::new());
    let mut lengths = Vec::with_capacity(values.len());
    for (row, text) in values.iter().enumerate() {
        let before = keys.len();
        if let Some(text) = *text {
            let object: Object = serde_json::from_str(text).map_err(|_| Misfit::at(row))?;
            for (key, value) in object.0 {
                keys.push(Some(key));
                held.push(value);
            }
            rows.resize(keys.len(), row);
        }
        lengths.push(keys.len() - before);
    }
    let of_row = |misfit: Misfit| Misfit {
        row: rows.get(misfit.row).copied().unwrap_or(0),
        ..misfit
    };
    let columns = vec![
        column(&keys, key.data_type()).map_err(of_row)?,
        column(&held, value.data_type()).map_err(of_row)?,
    ];
    let pairs = StructArray::try_new(pair.clone(), columns, None).map_err(|_| Misfit::default())?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(nulls(values)), sorted);
    Ok(Arc::new(map.map_err(|_| Misfit::default())?))
}

fn nulls(values: &[Option<&str>]) -> NullBuffer {
    values.iter().map(Option::is_some).collect()
}

fn scalars(values: &[Option<&str>], target: &DataType) -> Result<ArrayRef, Misfit> {
    let bytes = values.iter().flatten().map(|text| text.len()).sum();
    let mut texts = StringBuilder::with_capacity(values.len(), bytes);
    for (row, value) in values.iter().enumerate() {
        match value {
            Some(written) => texts.append_value(spelled(written, target).ok_or_else(|| Misfit::at(row))?),
            None => texts.append_null(),
        }
    }
    texts::typed(&texts.finish(), target).map_err(Misfit::at)
}

/// The text that stands for a value of `target`, unless it is a value of another kind: text is no BOOLEAN, and a number
/// is neither text nor a time.
pub(super) fn spelled<'a>(written: &'a str, target: &DataType) -> Option<Cow<'a, str>> {
    let is_number = written.starts_with(|letter: char| letter == '-' || letter.is_ascii_digit());
    match target {
        DataType::Boolean => matches!(written, "true" | "false").then_some(Cow::Borrowed(written)),
        _ if !is_number => unquoted(written),
        _ if target.is_floating() => Some(Cow::Borrowed(written)),
        _ if target.is_integer() || target.is_decimal() => written_out(written),
        _ => None,
    }
}

/// A number without exponent, and without zeros at the end of a fraction: `1.50e1` is `15`.
fn written_out(number: &str) -> Option<Cow<'_, str>> {
    if !number.contains(['.', 'e', 'E']) {
        return Some(Cow::Borrowed(number));
    }
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // How many of the digits are before the point.
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if !(-MAX_DIGITS..=MAX_DIGITS).contains(&point) {
        return None;
    }
    let before = usize::try_from(point).unwrap_or(0);
    let zeros = "0".repeat(usize::try_from(-point).unwrap_or(before.saturating_sub(digits.len())));
    let (whole, fraction) = match digits.split_at_checked(before) {
        Some(("", digits)) => ("0".to_owned(), format!("{zeros}{digits}")),
        Some((whole, fraction)) => (whole.to_owned(), fraction.to_owned()),
        None => (format!("{digits}{zeros}"), String::new()),
    };
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(Cow::Owned(format!("{sign}{whole}{point}{fraction}")))
}
