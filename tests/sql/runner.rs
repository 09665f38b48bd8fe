//! A caller that remembers what HTTP does not: settings, prepared statements, and the files that statements wrote.
//!
//! What SQL says and an endpoint does goes to that endpoint: `CREATE EXTERNAL TABLE` is a load, `COPY` is an export.
//! Everything else goes to the product as it is.

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answers::{self, Answer, FLOAT_DIGITS, SPARK_DIGITS};
use crate::changes::Change;
use crate::compare::{Wanted, compare};
use crate::copy::CopyTo;
use crate::external::External;
use crate::files::{Files, Shelves};
use crate::harness::answers::ApiError;
use crate::harness::caller::Caller;
use crate::keys;
use crate::prepared::{Preparation, Prepared};
use crate::records::{Expected, Record};
use crate::registered;
use crate::stand_ins::StandIn;
use crate::suite::File;
use crate::words;

/// Where names of one part are looked up, as in DataFusion.
const DATASET: &str = "public";
/// Far more than any record needs.
const TIMEOUT_MS: u64 = 20_000;
/// Always on here, and not to be turned off.
const ALWAYS_ON: &str = "datafusion.catalog.information_schema";
/// What a request calls `dataset`.
const DEFAULT_SCHEMA: &str = "datafusion.catalog.default_schema";

/// The code of what the runner cannot do, so that the product was not asked.
pub(crate) const NOT_HERE: &str = "not_here";

/// How far an answer is the one that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Whole,
    /// A plan that is the same but for the lines of its scans, which read our Parquet files.
    ButForScans,
    /// A plan whose logical part is the same.
    LogicalPlan,
}

/// Why a record has another answer than it should.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The error's code, or `answer` when there was no error.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What one file does, one record after the other.
pub(crate) struct Session<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) files: Files,
    pub(crate) dataset: String,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) prepared: BTreeMap<String, Prepared>,
    /// Views in the place of tables, by name.
    pub(crate) stand_ins: BTreeMap<String, StandIn>,
    /// A table has a decimal where DataFusion's has whole numbers without a sign.
    pub(crate) whole_decimals: bool,
    /// A record of the file asks what type a value has.
    pub(crate) shows_types: bool,
    /// Queries have several workers.
    pub(crate) has_several_workers: bool,
    /// What `RESET` goes back to.
    first_settings: BTreeMap<String, String>,
    double_digits: i64,
}

impl<'a> Session<'a> {
    /// A project with nothing in it but what DataFusion's runner makes for this file.
    pub(crate) async fn start(caller: &'a Caller, shelves: &Shelves, file: &File) -> Self {
        let shows_types = file.records.iter().any(|record| record.sql.contains("arrow_typeof"));
        let file = file.name.as_str();
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
        let mut settings = BTreeMap::from([("datafusion.execution.target_partitions".to_owned(), "4".to_owned())]);
        if is_spark(file) {
            settings.insert("datafusion.sql_parser.dialect".to_owned(), "spark".to_owned());
        }
        let session = Self {
            caller,
            files: Files::new(shelves),
            dataset: DATASET.to_owned(),
            has_several_workers: false,
            first_settings: settings.clone(),
            settings,
            prepared: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            whole_decimals: false,
            shows_types,
            double_digits: if is_spark(file) { SPARK_DIGITS } else { FLOAT_DIGITS },
        };
        session.register(file).await;
        session
    }

    async fn register(&self, file: &str) {
        let registered = registered::tables(file);
        if let Some(dataset) = registered.dataset {
            self.caller.dataset(dataset).await;
        }
        for sql in registered.statements {
            if let Err(failure) = self.ask(&sql).await {
                println!("{file} lacks a table: {}: {}\n    {sql}", failure.code, failure.message);
            }
        }
    }

    /// Runs a record and compares.
    pub(crate) async fn run(&mut self, record: &Record) -> Result<Pass, Failure> {
        let mut answer = self.answer(&record.sql).await;
        // An error that is expected is the product's to give.
        let is_ours = matches!(&answer, Err(failure) if failure.code == NOT_HERE);
        if is_ours && matches!(record.expected, Expected::Error) {
            answer = self.ask(&record.sql).await;
        }
        let answer = match answer {
            Err(refused) if !matches!(record.expected, Expected::Error) => self.stand_in(&record.sql, refused).await,
            answer => answer,
        };
        match (&record.expected, answer) {
            (Expected::Error, Err(error)) if matches!(error.code.as_str(), "internal" | "unavailable" | "broken") => {
                Err(error)
            }
            (Expected::Error, Err(_)) | (Expected::Ok, Ok(_)) => Ok(Pass::Whole),
            (Expected::Error, Ok(_)) => Err(wrong("it works and should not")),
            (Expected::Rows { types, sorted, lines }, Ok(answer)) => {
                let wanted = Wanted {
                    types,
                    sorted: *sorted,
                    lines,
                    is_plan: is_explain(&record.sql),
                    whole_decimals: self.whole_decimals,
                    any_order: self.has_several_workers && !is_explain(&record.sql) && !words::is_ordered(&record.sql),
                };
                compare(wanted, answer)
            }
            (_, Err(error)) => Err(error),
        }
    }

    async fn answer(&mut self, sql: &str) -> Result<Answer, Failure> {
        if let Some(change) = Change::of(sql) {
            return self.change(change).await.map(|()| Answer::default());
        }
        if let Some(table) = External::of(sql) {
            return self.create_external(table).await.map(|()| Answer::default());
        }
        if let Some(copy) = CopyTo::of(sql) {
            let to = copy.to.clone();
            let answer = self.copy(copy).await;
            if answer.is_err() {
                self.files.miss(&to);
            }
            return answer;
        }
        if let Some(changed) = self.change_stand_in(sql).await {
            return changed;
        }
        if let Some(preparation) = Preparation::of(sql) {
            return self.prepare(preparation, sql).await;
        }
        self.ask(&keys::promised(sql)).await
    }

    async fn change(&mut self, change: Change) -> Result<(), Failure> {
        let before = self.settings.clone();
        let sql = match change {
            Change::Set(name, _) | Change::Reset(name) if name == ALWAYS_ON => return Ok(()),
            Change::Set(name, value) if name == DEFAULT_SCHEMA => {
                self.dataset = value;
                return Ok(());
            }
            Change::Reset(name) if name == DEFAULT_SCHEMA => {
                DATASET.clone_into(&mut self.dataset);
                return Ok(());
            }
            Change::Set(name, value) => {
                self.settings.insert(name, value);
                // Whether a setting is one is said when it is used.
                "select 1".to_owned()
            }
            Change::Reset(name) => {
                match self.first_settings.get(&name) {
                    Some(first) => self.settings.insert(name.clone(), first.clone()),
                    None => self.settings.remove(&name),
                };
                format!("show {name}")
            }
        };
        let answer = self.ask(&sql).await;
        if answer.is_err() {
            self.settings = before;
        }
        answer.map(drop)
    }

    /// One statement as it is.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Answer, Failure> {
        self.ask_with(sql, Vec::new()).await
    }

    /// One statement with values for its places.
    pub(crate) async fn ask_with(&self, sql: &str, params: Vec<Value>) -> Result<Answer, Failure> {
        let body = json!({
            "sql": sql, "dataset": self.dataset, "settings": self.settings, "params": params, "timeout_ms": TIMEOUT_MS,
        });
        let request = self
            .caller
            .request(Method::POST, "/v1/sql")
            .header("accept", "application/vnd.apache.arrow.stream")
            .json(&body);
        let response = request.send().await.map_err(broken)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(broken)?;
        if !status.is_success() {
            let error: Value = serde_json::from_slice(&bytes).map_err(broken)?;
            let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
            return Err(Failure {
                code: text("code"),
                message: text("message"),
            });
        }

        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(broken)?;
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().map_err(broken)?;
        Ok(answers::convert(&schema, &batches, self.double_digits))
    }
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

/// Whether a file is one of those for Apache Spark.
fn is_spark(file: &str) -> bool {
    file.starts_with("spark/")
}

/// Whether a statement asks for a plan.
pub(crate) fn is_explain(sql: &str) -> bool {
    sql.trim_start()
        .get(..7)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("explain"))
}

/// An answer that is not the expected one.
pub(crate) fn wrong(message: impl Into<String>) -> Failure {
    Failure::new("answer", message)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new("broken", error.to_string())
}
