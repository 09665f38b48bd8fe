//! A caller that remembers what HTTP does not: the settings that `SET` left behind.

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answers::{self, Answer};
use crate::harness::caller::Caller;
use crate::records::{Expected, Record, Sorted};

/// Where names of one part are looked up, as in DataFusion.
const DATASET: &str = "public";
/// Far more than any record needs.
const TIMEOUT_MS: u64 = 20_000;
/// Always on here, and not to be turned off.
const ALWAYS_ON: &str = "datafusion.catalog.information_schema";
/// What may stand for the parts of an answer that change from run to run.
const IGNORE: &str = "<slt:ignore>";

/// Why a record has another answer than it should.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The error's code, or `answer` when there was no error.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What one file does, one record after the other.
pub(crate) struct Session<'a> {
    caller: &'a Caller,
    settings: BTreeMap<String, String>,
}

impl<'a> Session<'a> {
    /// An empty project.
    pub(crate) async fn start(caller: &'a Caller) -> Self {
        let datasets = caller.get("/v1/datasets").await.expect("a project lists its datasets");
        for dataset in datasets["datasets"].as_array().expect("a list") {
            let name = dataset["name"].as_str().expect("a dataset has a name");
            caller
                .delete(&format!("/v1/datasets/{name}?cascade=true"))
                .await
                .expect("a dataset is deleted with what is in it");
        }
        caller.dataset(DATASET).await;
        // The files were written for plans of four partitions.
        let settings = BTreeMap::from([("datafusion.execution.target_partitions".to_owned(), "4".to_owned())]);
        Self { caller, settings }
    }

    /// Runs a record and compares.
    pub(crate) async fn run(&mut self, record: &Record) -> Result<(), Failure> {
        let answer = match Change::of(&record.sql) {
            Some(change) => self.change(change).await.map(|()| Answer::default()),
            None => ask(self.caller, &record.sql, &self.settings).await,
        };
        match (&record.expected, answer) {
            (Expected::Error, Err(error)) if matches!(error.code.as_str(), "internal" | "unavailable" | "broken") => {
                Err(error)
            }
            (Expected::Error, Err(_)) | (Expected::Ok, Ok(_)) => Ok(()),
            (Expected::Error, Ok(_)) => Err(wrong("it works and should not")),
            (Expected::Rows { types, sorted, lines }, Ok(answer)) => compare(types, *sorted, lines, answer),
            (_, Err(error)) => Err(error),
        }
    }

    async fn change(&mut self, change: Change) -> Result<(), Failure> {
        let mut settings = self.settings.clone();
        match change {
            Change::Set(name, _) | Change::Reset(name) if name == ALWAYS_ON => return Ok(()),
            Change::Set(name, value) => settings.insert(name, value),
            Change::Reset(name) => settings.remove(&name),
        };
        // Whether a setting is one is said when it is used.
        ask(self.caller, "select 1", &settings).await?;
        self.settings = settings;
        Ok(())
    }
}

/// A statement about the session.
enum Change {
    Set(String, String),
    Reset(String),
}

impl Change {
    fn of(sql: &str) -> Option<Self> {
        let sql = sql.trim().trim_end_matches(';').trim();
        let (word, rest) = sql.split_once(char::is_whitespace)?;
        let rest = rest.trim();
        if word.eq_ignore_ascii_case("reset") {
            let name = rest.to_ascii_lowercase();
            return Some(Self::Reset(if name == "timezone" {
                "datafusion.execution.time_zone".to_owned()
            } else {
                name
            }));
        }
        if !word.eq_ignore_ascii_case("set") {
            return None;
        }
        let lower = rest.to_ascii_lowercase();
        let zone = lower
            .strip_prefix("time zone")
            .or_else(|| lower.strip_prefix("timezone"));
        let (name, value) = if let Some(value) = zone {
            (
                "datafusion.execution.time_zone".to_owned(),
                &rest[rest.len() - value.len()..],
            )
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == '=')?;
            (lower[..end].to_owned(), &rest[end..])
        };
        let value = value.trim();
        let value = match value.get(..3) {
            Some(to) if to.eq_ignore_ascii_case("to ") => &value[3..],
            _ => value.trim_start_matches('='),
        };
        Some(Self::Set(name, unquoted(value.trim())))
    }
}

fn unquoted(value: &str) -> String {
    for quote in ['\'', '"'] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote)) {
            return inner.replace("''", "'");
        }
    }
    value.to_owned()
}

async fn ask(caller: &Caller, sql: &str, settings: &BTreeMap<String, String>) -> Result<Answer, Failure> {
    let body = json!({ "sql": sql, "dataset": DATASET, "settings": settings, "timeout_ms": TIMEOUT_MS });
    let request = caller
        .request(Method::POST, "/v1/sql")
        .header("accept", "application/vnd.apache.arrow.stream")
        .json(&body);
    let response = request.send().await.map_err(|error| failure("broken", error))?;
    let status = response.status();
    let bytes = response.bytes().await.map_err(|error| failure("broken", error))?;
    if !status.is_success() {
        let error: Value = serde_json::from_slice(&bytes).map_err(|error| failure("broken", error))?;
        let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        return Err(Failure {
            code: text("code"),
            message: text("message"),
        });
    }

    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| failure("broken", error))?;
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader
        .collect::<Result<_, _>>()
        .map_err(|error| failure("broken", error))?;
    Ok(answers::convert(&schema, &batches))
}

fn compare(types: &str, sorted: Sorted, expected: &[String], mut answer: Answer) -> Result<(), Failure> {
    if answer.types.is_empty() && answer.rows.is_empty() {
        // A statement that gives nothing at all.
        return if expected.is_empty() {
            Ok(())
        } else {
            Err(wrong("it gives no rows"))
        };
    }
    if answer.types != types {
        return Err(wrong(format!("columns of types {} and not {types}", answer.types)));
    }
    match sorted {
        Sorted::AsGiven => {}
        Sorted::Rows => answer.rows.sort_unstable(),
        Sorted::Values => {
            answer.rows = answer.rows.into_iter().flatten().map(|value| vec![value]).collect();
            answer.rows.sort_unstable();
        }
    }
    // Long answers are kept as a number of values and their MD5; the number is compared.
    if let [only] = expected
        && let Some((count, _)) = only.split_once(" values hashing to ")
    {
        let values: usize = answer.rows.iter().map(Vec::len).sum();
        return if count == values.to_string() {
            Ok(())
        } else {
            Err(wrong(format!("{values} values and not {count}")))
        };
    }

    let found: Vec<String> = answer
        .rows
        .iter()
        .map(|row| row.join(" ").trim_end().to_owned())
        .collect();
    let expected: Vec<String> = expected.iter().map(|line| line.trim_end().to_owned()).collect();
    let is_same = if expected.iter().any(|line| line.contains(IGNORE)) {
        matches_in_parts(&found.join("\n"), &expected.join("\n"))
    } else {
        found == expected
    };
    if is_same {
        Ok(())
    } else {
        Err(wrong(difference(&found, &expected)))
    }
}

/// Whether the parts between the marks are found one after the other, the first at the beginning.
fn matches_in_parts(found: &str, expected: &str) -> bool {
    let mut at = 0;
    for (index, part) in expected.split(IGNORE).enumerate().filter(|(_, part)| !part.is_empty()) {
        match found[at..].find(part) {
            Some(offset) if index > 0 || offset == 0 => at += offset + part.len(),
            _ => return false,
        }
    }
    true
}

fn difference(found: &[String], expected: &[String]) -> String {
    let first = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    match first {
        Some(line) => format!(
            "line {} is `{}` and should be `{}`",
            line + 1,
            found[line],
            expected[line]
        ),
        None => format!("{} lines and should be {}", found.len(), expected.len()),
    }
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure {
        code: "answer".to_owned(),
        message: message.into(),
    }
}

fn failure(code: &str, error: impl std::fmt::Display) -> Failure {
    Failure {
        code: code.to_owned(),
        message: error.to_string(),
    }
}
