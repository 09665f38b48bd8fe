//! Bytes in a text file: base64.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{Array, ArrayRef, BinaryBuilder, StringArray};

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Every text decoded, unless one is not base64.
pub(super) fn decode_column(texts: &StringArray) -> Option<ArrayRef> {
    let mut values = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len() / 4 * 3);
    let mut value = Vec::new();
    for text in texts {
        match text {
            Some(text) => {
                value.clear();
                BASE64_STANDARD.decode_vec(text, &mut value).ok()?;
                values.append_value(&value);
            }
            None => values.append_null(),
        }
    }
    Some(Arc::new(values.finish()))
}
