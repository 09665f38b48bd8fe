//! Keys: what whoever made a table promises of its rows.
//!
//! Nothing checks a key, as in other warehouses; a planner believes it. It is kept with the table's columns in the catalog,
//! as metadata of their schema, and no other reader of the table's files knows of it.

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use datafusion::common::{Constraint, Constraints};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Under which name the metadata of a schema has its keys.
const METADATA: &str = "wasmhouse.keys";

/// The keys of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(Vec<Key>);

/// Columns whose values no two rows share, but for NULL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its columns are never NULL either.
    pub primary: bool,
    /// By name, as it was written.
    pub columns: Vec<String>,
}

impl Keys {
    /// The keys that a planner has read, of a table of these columns.
    pub fn of_constraints(constraints: &Constraints, columns: &Schema) -> Self {
        let key = |constraint: &Constraint| {
            let (primary, places) = match constraint {
                Constraint::PrimaryKey(places) => (true, places),
                Constraint::Unique(places) => (false, places),
            };
            let columns = places.iter().map(|place| columns.field(*place).name().clone());
            Key {
                primary,
                columns: columns.collect(),
            }
        };
        Self(constraints.iter().map(key).collect())
    }

    /// The keys that are kept with a table's columns.
    pub fn of_schema(schema: &Schema) -> Result<Self> {
        match schema.metadata().get(METADATA) {
            None => Ok(Self::default()),
            Some(text) => serde_json::from_str(text).map_err(|error| Error::Internal(error.into())),
        }
    }

    /// The same columns with these keys. Those of a primary key must not be NULL.
    pub fn kept_with(&self, schema: SchemaRef) -> SchemaRef {
        if self.0.is_empty() {
            return schema;
        }
        let is_primary = |field: &Field| {
            let mut keys = self.0.iter().filter(|key| key.primary);
            keys.any(|key| key.columns.contains(field.name()))
        };
        let fields = schema.fields().iter().map(|field| match is_primary(field) {
            true => Arc::new(field.as_ref().clone().with_nullable(false)),
            false => Arc::clone(field),
        });
        let mut metadata = schema.metadata().clone();
        let text = serde_json::to_string(self).expect("names and flags are text");
        metadata.insert(METADATA.to_owned(), text);
        Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), metadata))
    }

    /// What a planner may believe of a table of these columns. Rows with NULL in a unique column are many, and the engine
    /// takes them for one, so it hears of a unique key only if its columns must not be NULL.
    pub(super) fn constraints(&self, columns: &Schema) -> Constraints {
        let constraint = |key: &Key| {
            let places: Option<Vec<usize>> = key.columns.iter().map(|name| columns.index_of(name).ok()).collect();
            let places = places?;
            match key.primary {
                true => Some(Constraint::PrimaryKey(places)),
                false if places.iter().any(|place| columns.field(*place).is_nullable()) => None,
                false => Some(Constraint::Unique(places)),
            }
        };
        Constraints::new_unverified(self.0.iter().filter_map(constraint).collect())
    }

    /// Whether each of these keys is one of `others`, in whatever case and order they were written.
    pub fn are_among(&self, others: &Self) -> bool {
        self.0.iter().all(|key| others.0.iter().any(|other| key.is(other)))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

impl Key {
    fn is(&self, other: &Self) -> bool {
        let among = |columns: &[String], name: &String| columns.iter().any(|column| column.eq_ignore_ascii_case(name));
        self.primary == other.primary
            && self.columns.len() == other.columns.len()
            && self.columns.iter().all(|name| among(&other.columns, name))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn keys_are_kept_with_the_columns_and_those_of_a_primary_key_must_not_be_null() {
        let columns = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("email", DataType::Utf8, false),
        ]);
        let read = Constraints::new_unverified(vec![Constraint::PrimaryKey(vec![0]), Constraint::Unique(vec![1])]);

        let keys = Keys::of_constraints(&read, &columns);
        let kept = keys.kept_with(Arc::new(columns));
        let text = serde_json::to_string(kept.as_ref()).expect("a schema is text");
        let kept: Schema = serde_json::from_str(&text).expect("and read again");

        assert_eq!(Keys::of_schema(&kept).expect("keys"), keys);
        assert_eq!(keys.constraints(&kept), read);
        let nullable: Vec<bool> = kept.fields().iter().map(|field| field.is_nullable()).collect();
        assert_eq!(nullable, [false, false]);
    }

    #[test]
    fn a_planner_does_not_hear_of_a_key_that_may_be_null() {
        let columns = Schema::new(vec![Field::new("email", DataType::Utf8, true)]);
        let read = Constraints::new_unverified(vec![Constraint::Unique(vec![0])]);

        let keys = Keys::of_constraints(&read, &columns);

        assert_eq!(keys.iter().count(), 1);
        assert_eq!(keys.constraints(&columns), Constraints::default());
    }

    #[test]
    fn keys_are_the_same_in_another_order_and_case() {
        let keys = |keys: &[(bool, &[&str])]| {
            let key = |(primary, columns): &(bool, &[&str])| Key {
                primary: *primary,
                columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            };
            Keys(keys.iter().map(key).collect())
        };
        let table = keys(&[(true, &["Id", "day"]), (false, &["email"])]);

        assert!(keys(&[(false, &["email"]), (true, &["day", "id"])]).are_among(&table));
        assert!(keys(&[(false, &["EMAIL"])]).are_among(&table));
        assert!(Keys::default().are_among(&table));
        assert!(
            !keys(&[(true, &["email"])]).are_among(&table),
            "it is not the primary key"
        );
        assert!(!keys(&[(true, &["id"])]).are_among(&table), "it is half a key");
    }

    #[test]
    fn a_table_without_keys_has_no_word_about_them() {
        let columns = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));

        assert_eq!(Keys::default().kept_with(Arc::clone(&columns)), columns);
        assert_eq!(Keys::of_schema(&columns).expect("none"), Keys::default());
    }
}
