//! What a caller gets back: rows, or an error one can act on.

use std::fmt;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The rows of a statement, in order, with their schema and the words that ended them.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Names and types, as the answer's `schema` has them.
    pub(crate) schema: Vec<Value>,
    /// One list of values a row, in the order of the schema.
    pub(crate) rows: Vec<Vec<Value>>,
    /// The `end` object.
    pub(crate) end: Value,
    pub(crate) headers: HeaderMap,
}

impl Rows {
    pub(super) fn from_json(answer: &Value, headers: HeaderMap) -> Self {
        let list = |name: &str| {
            answer[name]
                .as_array()
                .unwrap_or_else(|| panic!("the answer has no list {name}: {answer}"))
                .clone()
        };
        let schema = list("schema");
        let names: Vec<&str> = schema
            .iter()
            .map(|column| column["name"].as_str().expect("a column has a name"))
            .collect();
        let rows = list("rows")
            .into_iter()
            .map(|row| {
                let value = |name: &&str| {
                    row.get(*name)
                        .unwrap_or_else(|| panic!("column {name} is missing in {row}; NULL is never omitted"))
                        .clone()
                };
                names.iter().map(value).collect()
            })
            .collect();
        Self {
            rows,
            end: answer["end"].clone(),
            headers,
            schema,
        }
    }

    /// The one value of an answer that has one row and one column.
    pub(crate) fn value(&self) -> &Value {
        match self.rows.as_slice() {
            [row] if row.len() == 1 => &row[0],
            rows => panic!("expected one value and found {rows:?}"),
        }
    }

    /// The one number of an answer that has one row and one column.
    pub(crate) fn number(&self) -> i64 {
        self.value()
            .as_i64()
            .unwrap_or_else(|| panic!("{} is not a whole number", self.value()))
    }

    /// The names of the columns.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.schema
            .iter()
            .map(|column| column["name"].as_str().expect("a column has a name"))
            .collect()
    }

    /// The types of the columns.
    pub(crate) fn types(&self) -> Vec<&str> {
        self.schema
            .iter()
            .map(|column| column["type"].as_str().expect("a column has a type"))
            .collect()
    }

    /// The values of the first column.
    pub(crate) fn first_column(&self) -> Vec<&Value> {
        self.rows.iter().map(|row| &row[0]).collect()
    }

    /// The id of the query that gave this answer.
    pub(crate) fn query_id(&self) -> String {
        self.end["query_id"]
            .as_str()
            .expect("the end names the query")
            .to_owned()
    }

    /// The bytes that the query is charged for.
    pub(crate) fn bytes_processed(&self) -> u64 {
        self.end["bytes_processed"].as_u64().expect("the end counts the bytes")
    }
}

/// Rows are compared with what one would write down: `json!([[1, "a"], [2, null]])`.
impl PartialEq<Value> for Rows {
    fn eq(&self, expected: &Value) -> bool {
        let Some(expected) = expected.as_array() else {
            return false;
        };
        let rows: Vec<Value> = self.rows.iter().cloned().map(Value::Array).collect();
        rows == *expected
    }
}

/// An answer that is not the one asked for.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) line: Option<u64>,
    pub(crate) column: Option<u64>,
    pub(crate) query_id: Option<String>,
}

impl ApiError {
    pub(super) fn from_body(status: StatusCode, body: &str) -> Self {
        let parsed: Value =
            serde_json::from_str(body).unwrap_or_else(|_| panic!("{status} without a JSON error: {body}"));
        Self::from_json(status.as_u16(), &parsed["error"])
    }

    /// From the `error` object that responses, query resources and broken streams share.
    pub(crate) fn from_json(status: u16, error: &Value) -> Self {
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        Self {
            status,
            code: text("code").unwrap_or_else(|| panic!("an error without a code: {error}")),
            message: text("message").unwrap_or_else(|| panic!("an error without a message: {error}")),
            line: error["line"].as_u64(),
            column: error["column"].as_u64(),
            query_id: text("query_id"),
        }
    }

    /// The connection ended before the answer did.
    pub(super) fn broken(status: StatusCode, cause: &reqwest::Error) -> Self {
        Self {
            status: status.as_u16(),
            code: "broken_stream".to_owned(),
            message: cause.to_string(),
            line: None,
            column: None,
            query_id: None,
        }
    }

    /// Whether one of these codes says why.
    pub(crate) fn is_one_of(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " (line {line}, column {column})"),
            _ => Ok(()),
        }
    }
}
