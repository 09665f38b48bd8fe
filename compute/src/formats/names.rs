//! Names that no two columns share.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};

/// `schema` with distinct column names.
pub(super) fn distinct(schema: &SchemaRef) -> SchemaRef {
    let names = distinct_names(schema.fields());
    if schema
        .fields()
        .iter()
        .zip(&names)
        .all(|(field, name)| field.name() == name)
    {
        return Arc::clone(schema);
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| field.as_ref().clone().with_name(name))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The names that `fields` have in every format: a repeated name gets the first of `_1`, `_2`, … that is free.
pub fn distinct_names(fields: &Fields) -> Vec<String> {
    let mut taken: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(fields.len());
    for field in fields {
        if seen.insert(field.name()) {
            names.push(field.name().clone());
            continue;
        }
        let mut number = 1;
        let name = loop {
            let name = format!("{}_{number}", field.name());
            if taken.insert(name.clone()) {
                break name;
            }
            number += 1;
        };
        names.push(name);
    }
    names
}
