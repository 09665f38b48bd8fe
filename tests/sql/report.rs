//! How it went: a table for people, and lines that `exclusions.txt` may want.

use std::collections::BTreeMap;
use std::env;
use std::fs;

use crate::records::Record;
use crate::runner::{Failure, is_explain};

/// How a record went.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Passed,
    /// The plan is the same but for the lines of its scans, which read our files.
    PassedButForScans,
    /// The logical plan is the same; the physical plan is made for our files.
    PassedOnLogicalPlan,
    Failed(Failure),
    Excluded {
        reason: String,
        /// None if it has the expected answer all the same.
        failure: Option<Failure>,
    },
}

/// Everything that was run.
#[derive(Default)]
pub(crate) struct Report {
    /// File, line, statement, outcome.
    records: Vec<(String, String, String, Outcome)>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    passed: usize,
    but_for_scans: usize,
    on_plan: usize,
    excluded: usize,
    failed: usize,
}

impl Report {
    pub(crate) fn record(&mut self, file: &str, record: &Record, outcome: Outcome) {
        self.records
            .push((file.to_owned(), record.line.to_string(), record.sql.clone(), outcome));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.records.extend(other.records);
        self.records.sort_by(|a, b| a.0.cmp(&b.0));
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |outcome: &Outcome| match outcome {
            Outcome::Failed(failure) => Some(format!("{}: {}", failure.code, failure.message)),
            _ => None,
        };
        self.records
            .iter()
            .filter_map(|(file, line, sql, outcome)| {
                failed(outcome).map(|why| format!("{file}:{line}  {why}\n    {}", first_line(sql)))
            })
            .collect()
    }

    pub(crate) fn print(&self) {
        let mut groups: BTreeMap<String, Count> = BTreeMap::new();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let mut stale = Vec::new();
        for (file, line, _, outcome) in &self.records {
            let group = file.split_once('/').map_or("(top)", |(folder, _)| folder).to_owned();
            for count in [group, "all".to_owned()] {
                let count = groups.entry(count).or_default();
                count.all += 1;
                match outcome {
                    Outcome::Passed => count.passed += 1,
                    Outcome::PassedButForScans => count.but_for_scans += 1,
                    Outcome::PassedOnLogicalPlan => count.on_plan += 1,
                    Outcome::Failed(_) => count.failed += 1,
                    Outcome::Excluded { .. } => count.excluded += 1,
                }
            }
            if let Outcome::Excluded { reason, failure } = outcome {
                *reasons.entry(reason).or_default() += 1;
                if failure.is_none() {
                    stale.push(format!("{file}:{line}"));
                }
            }
        }

        println!(
            "\n{:<12} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8} {:>9}",
            "files", "records", "passed", "but scans", "on plan", "excluded", "failed", "passed %"
        );
        for (group, count) in &groups {
            let passed = count.passed + count.but_for_scans + count.on_plan;
            let share = 100.0 * passed as f64 / count.all.max(1) as f64;
            println!(
                "{group:<12} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8} {share:>8.1}%",
                count.all, count.passed, count.but_for_scans, count.on_plan, count.excluded, count.failed
            );
        }
        let all = groups.get("all").copied().unwrap_or_default();
        println!("\n{:>8}  passed", all.passed);
        println!("{:>8}  passed but for the scans of a plan", all.but_for_scans);
        println!("{:>8}  passed on the logical plan alone", all.on_plan);
        println!("{:>8}  excluded, because", all.excluded);
        for (reason, count) in &reasons {
            println!("{count:>16}  {reason}");
        }
        println!("{:>8}  failed", all.failed);
        if !stale.is_empty() {
            println!(
                "\n{} excluded records pass now; their lines in exclusions.txt can go: {}",
                stale.len(),
                stale.join(" ")
            );
        }
        for failure in self.failures().iter().take(200) {
            println!("{failure}");
        }
    }

    /// With `WASMHOUSE_SQL_SUGGEST=file`, writes a line for each failure, with the reason that its error hints at, and a
    /// comment for each record that is excluded and fails. They are to be read, not to be believed: a defect of ours looks
    /// like a difference, too.
    pub(crate) fn write_suggestions(&self) {
        let Ok(path) = env::var("WASMHOUSE_SQL_SUGGEST") else {
            return;
        };
        let mut text = String::new();
        for (file, line, sql, outcome) in &self.records {
            match outcome {
                Outcome::Excluded {
                    reason,
                    failure: Some(failure),
                } => {
                    let told = one_line(&failure.message);
                    text.push_str(&format!("# {file}:{line}  {reason}: {}: {told}\n", failure.code));
                }
                Outcome::Failed(failure) => text.push_str(&format!("{file}:{line}  {}\n", reason(sql, failure))),
                _ => {}
            }
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// A reason that stands by itself, or `??` where somebody has to look.
fn reason(sql: &str, failure: &Failure) -> String {
    let told = one_line(&failure.message);
    match failure.code.as_str() {
        "answer" if told.starts_with("another logical plan") => format!("?? {told}"),
        "answer" if is_explain(sql) => {
            "the plan reads Parquet files of a table, where DataFusion's reads memory".to_owned()
        }
        "answer" if told.contains("View") => {
            "text is read from tables as Utf8View, which arrow_typeof shows".to_owned()
        }
        "answer" => format!("?? another answer: {told}"),
        code => format!("?? {code}: {told}"),
    }
}

fn one_line(message: &str) -> String {
    message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(160)
        .collect()
}

fn first_line(sql: &str) -> String {
    sql.lines().next().unwrap_or_default().chars().take(140).collect()
}
