//! Values for the placeholders of a statement.
//!
//! A bare JSON value is taken for what it looks like; `{"type": "DECIMAL(10,2)", "value": "1.25"}` says what it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::session_state::SessionState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::session::sql_type;
use crate::worker::exactly;
use crate::{Code, SqlError};

/// Values by place (`$1`) or by name (`$day`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Params {
    /// `$1`, `$2`, …
    Positional(Vec<Value>),
    /// `$name`.
    Named(BTreeMap<String, Value>),
}

impl Default for Params {
    fn default() -> Self {
        Params::Positional(Vec::new())
    }
}

impl Params {
    /// True when there is nothing to put in.
    pub fn is_empty(&self) -> bool {
        match self {
            Params::Positional(values) => values.is_empty(),
            Params::Named(values) => values.is_empty(),
        }
    }

    /// The values as the engine takes them.
    pub(crate) async fn bind(&self, state: &SessionState) -> Result<ParamValues, SqlError> {
        match self {
            Params::Positional(values) => {
                let mut bound = Vec::with_capacity(values.len());
                for (index, value) in values.iter().enumerate() {
                    bound.push(ScalarAndMetadata::new(
                        scalar(state, &format!("${}", index + 1), value).await?,
                        None,
                    ));
                }
                Ok(ParamValues::List(bound))
            }
            Params::Named(values) => {
                let mut bound = HashMap::with_capacity(values.len());
                for (name, value) in values {
                    bound.insert(
                        name.clone(),
                        ScalarAndMetadata::new(scalar(state, &format!("${name}"), value).await?, None),
                    );
                }
                Ok(ParamValues::Map(bound))
            }
        }
    }
}

/// One value. `name` is for the error.
async fn scalar(state: &SessionState, name: &str, value: &Value) -> Result<ScalarValue, SqlError> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(value) => Ok(ScalarValue::Boolean(Some(*value))),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Ok(ScalarValue::Int64(Some(value))),
            (None, Some(value)) if number.is_f64() => Ok(ScalarValue::Float64(Some(value))),
            _ => Err(invalid(format!(
                "parameter {name} does not fit BIGINT; write it as {{\"type\": \"DECIMAL(38,0)\", \"value\": \"{number}\"}}"
            ))),
        },
        Value::String(value) => Ok(ScalarValue::Utf8(Some(value.clone()))),
        Value::Object(fields) => match (fields.get("type"), fields.get("value"), fields.len()) {
            (Some(Value::String(kind)), Some(value), 2) => typed(state, name, kind, value).await,
            _ => Err(invalid(format!(
                "parameter {name} is an object; a typed value is {{\"type\": \"DATE\", \"value\": \"2026-01-31\"}}"
            ))),
        },
        Value::Array(_) => Err(invalid(format!(
            "parameter {name} is a list; pass its elements one by one"
        ))),
    }
}

async fn typed(state: &SessionState, name: &str, kind: &str, value: &Value) -> Result<ScalarValue, SqlError> {
    let data_type = sql_type(state, kind).await?;
    let text = match value {
        Value::Null => {
            return ScalarValue::try_from(&data_type)
                .map_err(|_| invalid(format!("parameter {name} cannot be a NULL {kind}")));
        }
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => return Err(invalid(format!("parameter {name} is not a plain value"))),
    };
    if data_type == DataType::Boolean && !matches!(text.as_str(), "true" | "false") {
        return Err(invalid(format!("parameter {name} is {text:?}, which is not a {kind}")));
    }
    let value: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
    exactly::cast(&value, &data_type)
        .ok()
        .and_then(|value| ScalarValue::try_from_array(&value, 0).ok())
        .ok_or_else(|| {
            invalid(format!(
                "parameter {name} is {text:?}, which {kind} does not hold exactly"
            ))
        })
}

fn invalid(message: String) -> SqlError {
    SqlError::new(Code::TypeMismatch, message)
}
