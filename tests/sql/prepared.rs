//! `PREPARE`, `EXECUTE` and `DEALLOCATE`: the runner keeps the query, and sends it with typed values.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::answers::Answer;
use crate::runner::{Failure, Session};
use crate::words::{Words, list, plain_name};

/// A statement about a prepared one.
#[derive(Debug)]
pub(crate) enum Preparation {
    Prepare {
        name: String,
        types: Option<Vec<String>>,
        query: String,
    },
    Execute {
        name: String,
        values: Vec<String>,
    },
    Deallocate {
        name: String,
    },
}

/// A query that waits for its values.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    query: String,
    /// One for each value, if they were declared.
    types: Option<Vec<String>>,
    /// How many values it needs.
    places: usize,
}

impl Preparation {
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut words = Words::of(sql);
        if words.take(&["prepare"]) {
            let name = plain_name(words.name()?);
            let types = words.group().map(texts);
            if !words.take(&["as"]) {
                return None;
            }
            let query = words.rest().trim_end().trim_end_matches(';').to_owned();
            return Some(Self::Prepare { name, types, query });
        }
        if words.take(&["execute"]) {
            let name = plain_name(words.name()?);
            let values = words.group().map(texts).unwrap_or_default();
            return words.is_done().then_some(Self::Execute { name, values });
        }
        if words.take(&["deallocate"]) {
            words.take(&["prepare"]);
            let name = plain_name(words.name()?);
            return words.is_done().then_some(Self::Deallocate { name });
        }
        None
    }
}

impl Session<'_> {
    /// Does what the statement asks for. What makes no sense goes to the product as it is, which refuses it.
    pub(crate) async fn prepare(&mut self, preparation: Preparation, sql: &str) -> Result<Answer, Failure> {
        match preparation {
            Preparation::Prepare { name, types, query } => {
                let places = places(&query);
                let is_declared = types.as_ref().is_none_or(|types| Some(types.len()) == places);
                let (Some(places), true, false) = (places, is_declared, self.prepared.contains_key(&name)) else {
                    return self.ask(sql).await;
                };
                if let Some(types) = &types {
                    self.check(&query, types).await?;
                }
                self.prepared.insert(name, Prepared { query, types, places });
                Ok(Answer::default())
            }
            Preparation::Execute { name, values } => {
                let prepared = self.prepared.get(&name).cloned();
                let Some(prepared) = prepared.filter(|prepared| prepared.places == values.len()) else {
                    return self.ask(sql).await;
                };
                let mut params = Vec::with_capacity(values.len());
                for (place, value) in values.iter().enumerate() {
                    let data_type = prepared.types.as_ref().map(|types| types[place].as_str());
                    params.push(self.value(value, data_type).await?);
                }
                self.ask_with(&prepared.query, params).await
            }
            Preparation::Deallocate { name } => match self.prepared.remove(&name) {
                Some(_) => Ok(Answer::default()),
                None => self.ask(sql).await,
            },
        }
    }

    /// Whether a query can be planned with values of these types.
    async fn check(&self, query: &str, types: &[String]) -> Result<(), Failure> {
        let nulls = types
            .iter()
            .map(|data_type| json!({ "type": data_type, "value": null }));
        let body = json!({
            "sql": query, "dataset": self.dataset, "settings": self.settings, "dry_run": true,
            "params": nulls.collect::<Vec<_>>(),
        });
        let checked = self.caller.post("/v1/sql", body).await;
        checked.map(drop).map_err(Failure::from)
    }

    /// What an expression gives, as a parameter.
    async fn value(&self, expression: &str, data_type: Option<&str>) -> Result<Value, Failure> {
        let sql = match data_type {
            Some(data_type) => format!("select cast({expression} as {data_type})"),
            None => format!("select {expression}"),
        };
        let answer = self.ask(&sql).await?;
        let text = answer
            .rows
            .first()
            .and_then(|row| row.first())
            .cloned()
            .unwrap_or_default();
        let value = match (text.as_str(), answer.types.as_str()) {
            ("NULL", _) => Value::Null,
            ("(empty)", "T") => json!(""),
            (number, "I") if data_type.is_none() => number.parse::<i64>().map_or_else(|_| json!(number), |n| json!(n)),
            (number, "R") if data_type.is_none() => number.parse::<f64>().map_or_else(|_| json!(number), |n| json!(n)),
            (text, _) => json!(text),
        };
        Ok(match data_type {
            Some(data_type) => json!({ "type": data_type, "value": value }),
            None => value,
        })
    }
}

fn texts(group: &str) -> Vec<String> {
    list(group).into_iter().map(|item| item.trim().to_owned()).collect()
}

/// How many places a query has for values: `$1`, `$2`, … None if one of them has a name.
fn places(query: &str) -> Option<usize> {
    let mut words = Words::of(query);
    let mut found = BTreeSet::new();
    while let Some(word) = words.word() {
        if let Some(place) = word.strip_prefix('$') {
            found.insert(place.parse::<usize>().ok()?);
        }
    }
    Some(found.len())
}

#[cfg(test)]
mod tests {
    use super::{Preparation, places};

    #[test]
    fn a_query_is_prepared_with_its_types_and_asked_with_values() {
        let prepared = Preparation::of("PREPARE p(INT, DECIMAL(10, 2)) AS select $1 + $2, '$3';");
        let asked = Preparation::of("EXECUTE p(1, f(2, 3));");

        let Some(Preparation::Prepare { types, query, .. }) = prepared else {
            panic!("the first statement prepares");
        };
        assert_eq!(
            types.as_deref(),
            Some(&["INT".to_owned(), "DECIMAL(10, 2)".to_owned()][..])
        );
        assert_eq!((query.as_str(), places(&query)), ("select $1 + $2, '$3'", Some(2)));
        assert!(matches!(asked, Some(Preparation::Execute { values, .. }) if values == ["1", "f(2, 3)"]));
        assert_eq!(places("select $name"), None);
    }
}
