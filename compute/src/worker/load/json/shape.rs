//! What a column of JSON could be.
//!
//! Integers are BIGINT, or DECIMAL(38, 0) when BIGINT ends before them; numbers with a fraction or an exponent make the
//! column DOUBLE. Whether that holds every one of them exactly is seen when they are read.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::value::RawValue;

use super::values::{self, Object};

/// Values inside of values inside of …
const MAX_DEPTH: usize = 64;

/// The narrowest type that holds every value seen so far.
#[derive(Debug, Default)]
pub(super) enum Shape {
    /// No value was seen, only NULL.
    #[default]
    Nothing,
    Boolean,
    Integer,
    /// Integers beyond BIGINT.
    Long,
    Float,
    Text,
    List(Box<Shape>),
    Object(Members),
}

impl Shape {
    /// Takes one more value, as it is written, into account; or says what is wrong with it.
    pub(super) fn see(&mut self, value: Option<&str>, depth: usize) -> Result<(), String> {
        let Some(text) = value else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Err(format!("is nested deeper than {MAX_DEPTH} times"));
        }
        let found = Self::of(text);
        if matches!(self, Self::Nothing) {
            *self = found;
        } else {
            self.widen(&found)?;
        }
        match self {
            Self::List(item) => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
                for value in items {
                    item.see(values::some(value), depth + 1)?;
                }
            }
            Self::Object(members) => {
                let object: Object = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
                for (key, value) in object.0 {
                    let name = values::unquoted(key).ok_or("has a key that is not text")?;
                    members.at(name.clone().into_owned(), &name).see(value, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The shape of one value, not looking into it.
    fn of(text: &str) -> Self {
        match text.as_bytes() {
            [b'"', ..] => Self::Text,
            [b'[', ..] => Self::List(Box::default()),
            [b'{', ..] => Self::Object(Members::default()),
            [b't' | b'f', ..] => Self::Boolean,
            _ if text.contains(['.', 'e', 'E']) => Self::Float,
            _ if text.parse::<i64>().is_ok() => Self::Integer,
            _ => Self::Long,
        }
    }

    fn widen(&mut self, found: &Self) -> Result<(), String> {
        match (&*self, found) {
            (Self::Boolean, Self::Boolean)
            | (Self::Text, Self::Text)
            | (Self::List(_), Self::List(_))
            | (Self::Object(_), Self::Object(_))
            | (Self::Float, Self::Integer | Self::Long | Self::Float)
            | (Self::Long, Self::Integer | Self::Long)
            | (Self::Integer, Self::Integer) => {}
            (Self::Integer | Self::Long, Self::Float) => *self = Self::Float,
            (Self::Integer, Self::Long) => *self = Self::Long,
            _ => return Err(format!("holds {}, and {} before", found.kind(), self.kind())),
        }
        Ok(())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "null",
            Self::Boolean => "true or false",
            Self::Integer | Self::Long | Self::Float => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Nothing | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Long => DataType::Decimal128(38, 0),
            Self::Float => DataType::Float64,
            Self::List(item) => DataType::List(Arc::new(Field::new("element", item.data_type(), true))),
            Self::Object(members) => DataType::Struct(members.fields()),
        }
    }
}

/// The keys of objects in the order of their first coming.
#[derive(Debug, Default)]
pub(super) struct Members {
    shapes: Vec<(String, Shape)>,
    by_id: HashMap<String, usize>,
}

impl Members {
    /// The member that is known as `id`, and called `name` if it is new.
    pub(super) fn at(&mut self, id: String, name: &str) -> &mut Shape {
        let place = *self.by_id.entry(id).or_insert(self.shapes.len());
        if place == self.shapes.len() {
            self.shapes.push((name.to_owned(), Shape::Nothing));
        }
        &mut self.shapes[place].1
    }

    pub(super) fn schema(&self) -> Schema {
        Schema::new(self.fields())
    }

    fn fields(&self) -> Fields {
        let fields = self.shapes.iter();
        fields
            .map(|(name, shape)| Field::new(name, shape.data_type(), true))
            .collect()
    }
}
