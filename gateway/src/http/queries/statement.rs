//! A statement as it is sent, and the bounds of what is kept with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;
use wasmhouse_compute::params::Params;
use wasmhouse_compute::sql;
use wasmhouse_storage::money::Money;

use crate::error::{Error, Result};
use crate::queries::{Options, Queries};

/// Labels of a query, at most.
const LABELS: usize = 32;

/// Bytes of a label's key, at most.
const LABEL_KEY_BYTES: usize = 63;

/// Bytes of a label's value, at most.
const LABEL_VALUE_BYTES: usize = 255;

/// Bytes of a request id, at most.
const REQUEST_ID_BYTES: usize = 128;

/// One statement and what goes with it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Statement {
    /// One SQL statement.
    pub(crate) sql: String,
    /// Where a name of one part is looked up.
    pub(crate) dataset: Option<String>,
    /// A list for `$1`, `$2`, …, or an object for `$name`. A value is a plain JSON value or
    /// `{"type": "DECIMAL(10,2)", "value": "1.25"}`.
    #[schema(value_type = Option<Object>)]
    pub(crate) params: Option<Params>,
    /// Refuse before running if it would process more bytes.
    pub(crate) max_bytes: Option<u64>,
    /// Refuse before running if it would cost more, such as `"0.25"`.
    pub(crate) max_cost: Option<String>,
    /// Time it has.
    pub(crate) timeout_ms: Option<u64>,
    /// Say what it would read, and read nothing.
    pub(crate) dry_run: Option<bool>,
    /// For your own accounting; they stand on the ledger line. At most 32, with keys of 63 and values of 255 bytes.
    pub(crate) labels: BTreeMap<String, String>,
    /// Options of the engine that last for this query.
    pub(crate) settings: BTreeMap<String, String>,
    /// Sending the same id again finds the first query instead of running a second one. 1 to 128 bytes.
    pub(crate) request_id: Option<String>,
    /// How long the answer may wait for the end of the query.
    pub(crate) wait_ms: Option<u64>,
}

impl Statement {
    /// The statement as a use case takes it.
    pub(crate) fn read(self, queries: &Queries) -> Result<(sql::Statement, Options)> {
        check_tags(&self.labels, self.request_id.as_deref())?;
        let parsed = queries.parse(&self.sql, &self.settings)?;
        let options = Options {
            dataset: self.dataset.as_deref().map(str::parse).transpose()?,
            params: self.params.unwrap_or_default(),
            settings: self.settings,
            max_bytes: self.max_bytes,
            max_cost: self.max_cost.as_deref().map(max_cost_of).transpose()?,
            timeout: self.timeout_ms.map(Duration::from_millis),
            labels: self.labels,
            request_id: self.request_id,
        };
        Ok((parsed, options))
    }
}

/// Labels and request ids are kept with a query for ever, so they are few and short.
pub(crate) fn check_tags(labels: &BTreeMap<String, String>, request_id: Option<&str>) -> Result<()> {
    let is_long = |(key, value): (&String, &String)| key.len() > LABEL_KEY_BYTES || value.len() > LABEL_VALUE_BYTES;
    if labels.len() > LABELS || labels.iter().any(is_long) {
        return Err(Error::InvalidRequest(format!(
            "a query has up to {LABELS} labels, with keys of {LABEL_KEY_BYTES} and values of {LABEL_VALUE_BYTES} bytes"
        )));
    }
    if request_id.is_some_and(|id| id.is_empty() || id.len() > REQUEST_ID_BYTES) {
        return Err(Error::InvalidRequest(format!(
            "a request_id has 1 to {REQUEST_ID_BYTES} bytes"
        )));
    }
    let mut words = labels
        .keys()
        .chain(labels.values())
        .map(String::as_str)
        .chain(request_id);
    if words.any(|word| word.contains('\0')) {
        let message = "labels and a request_id cannot contain the character NUL";
        return Err(Error::InvalidRequest(message.to_owned()));
    }
    Ok(())
}

/// An amount of money, as `max_cost` has it.
pub(crate) fn max_cost_of(text: &str) -> Result<Money> {
    text.parse()
        .map_err(|error| Error::InvalidRequest(format!("`max_cost` is {text:?}: {error}")))
}

/// `key:value,key:value`, or nothing.
pub(crate) fn labels_of(text: Option<&str>) -> Result<BTreeMap<String, String>> {
    text.map_or_else(|| Ok(BTreeMap::new()), |text| text.split(',').map(label_of).collect())
}

/// `key:value`.
pub(super) fn label_of(text: &str) -> Result<(String, String)> {
    let pair = text.split_once(':').filter(|(key, _)| !key.is_empty());
    let (key, value) =
        pair.ok_or_else(|| Error::InvalidRequest(format!("{text:?} is not a label; write key:value")))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{check_tags, labels_of};

    #[test]
    fn labels_and_request_ids_of_a_reasonable_size_are_kept() {
        let labels = labels_of(Some("team:red,note:a:b,empty:")).expect("three labels");

        assert_eq!(labels["note"], "a:b");
        assert!(check_tags(&labels, Some("nightly-2026-01-01")).is_ok());
        assert!(check_tags(&labels, None).is_ok());
    }

    #[test]
    fn what_is_kept_for_ever_is_short_and_has_no_nul() {
        let none = labels_of(None).expect("no labels");
        let long = labels_of(Some(&format!("key:{}", "v".repeat(256)))).expect("a label");
        let many: Vec<String> = (0..33).map(|n| format!("k{n}:v")).collect();
        let many = labels_of(Some(&many.join(","))).expect("labels");
        let nul = labels_of(Some("key:\0")).expect("a label");

        for labels in [&long, &many, &nul] {
            assert!(check_tags(labels, None).is_err(), "{labels:?}");
        }
        let long = "x".repeat(129);
        for request_id in ["", "a\0b", long.as_str()] {
            assert!(check_tags(&none, Some(request_id)).is_err(), "{request_id:?}");
        }
    }
}
