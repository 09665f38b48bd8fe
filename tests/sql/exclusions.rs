//! What cannot be the same, and why: `exclusions.txt`.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use crate::records::Line;
use crate::runner::Failure;

/// What a record is excused for that does nothing wrong itself.
const FOLLOWS: &str = "reads a table that an excluded record would have made";

/// The lines of the file, by kind; its head says what they look like.
#[derive(Default)]
pub(crate) struct Exclusions {
    folders: Vec<(String, String)>,
    files: HashMap<String, String>,
    records: HashMap<(String, String), String>,
    /// Statements that begin with these words.
    statements: Vec<(String, String)>,
    /// Errors that hold these words.
    refusals: Vec<(String, String)>,
    are_of_several_workers: bool,
}

/// The tables that excluded records of one file would have made.
#[derive(Default)]
pub(crate) struct Missing(BTreeSet<String>);

impl Exclusions {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sql/exclusions.txt");
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut found = Self::default();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        {
            let (what, reason) = line.split_once("  ").unwrap_or((line, ""));
            let reason = reason.trim().to_owned();
            assert!(!reason.is_empty(), "exclusions.txt:{} says no reason", index + 1);
            if let Some(words) = what.strip_prefix("statement: ") {
                found.statements.push((words.to_owned(), reason));
            } else if let Some(words) = what.strip_prefix("refusal: ") {
                found.refusals.push((words.to_owned(), reason));
            } else if let Some((file, line)) = what.split_once(".slt:") {
                found.records.insert((format!("{file}.slt"), line.to_owned()), reason);
            } else if what.ends_with('/') {
                found.folders.push((what.to_owned(), reason));
            } else {
                found.files.insert(what.to_owned(), reason);
            }
        }
        found
    }

    /// The same, and what may differ because several workers do it.
    pub(crate) fn of_several_workers(mut self) -> Self {
        let reason = "what several workers have done is told stage by stage".to_owned();
        self.statements.push(("explain analyze".to_owned(), reason));
        for line in ["4324", "4402"] {
            let reason = "without an order, a limit takes any rows".to_owned();
            self.records.insert(("joins.slt".to_owned(), line.to_owned()), reason);
        }
        self.are_of_several_workers = true;
        self
    }

    pub(crate) fn are_of_several_workers(&self) -> bool {
        self.are_of_several_workers
    }

    /// Why this file is not run.
    pub(crate) fn of_file(&self, name: &str) -> Option<&str> {
        let folder = self
            .folders
            .iter()
            .find(|(folder, _)| name.starts_with(folder.as_str()))
            .map(|(_, reason)| reason);
        folder.or_else(|| self.files.get(name)).map(String::as_str)
    }

    /// Why this record may have another answer. It is run all the same, for what it leaves behind.
    pub(crate) fn of_record(&self, name: &str, line: &Line) -> Option<&str> {
        self.records
            .get(&(name.to_owned(), line.to_string()))
            .map(String::as_str)
    }

    /// Why a record may have failed like this, wherever it stands.
    pub(crate) fn of_failure(&self, sql: &str, failure: &Failure, missing: &Missing) -> Option<&str> {
        if missing.explains(failure) {
            return Some(FOLLOWS);
        }
        let statement = self.statements.iter().find(|(words, _)| begins_with(sql, words));
        let refusal = || {
            self.refusals
                .iter()
                .find(|(words, _)| failure.code != "answer" && failure.message.contains(words.as_str()))
        };
        statement.or_else(refusal).map(|(_, reason)| reason.as_str())
    }
}

impl Missing {
    /// Remembers what a record that failed would have made.
    pub(crate) fn note(&mut self, sql: &str) {
        let mut words = sql
            .split(|c: char| c.is_whitespace() || c == '(')
            .filter(|word| !word.is_empty());
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("create")) {
            return;
        }
        let before_the_name = [
            "or",
            "replace",
            "external",
            "unbounded",
            "temporary",
            "table",
            "view",
            "if",
            "not",
            "exists",
        ];
        let name = words.find(|word| !before_the_name.contains(&word.to_ascii_lowercase().as_str()));
        if let Some(name) = name {
            self.0.insert(last_part(name).to_ascii_lowercase());
        }
    }

    fn explains(&self, failure: &Failure) -> bool {
        let named = failure
            .message
            .strip_prefix("no table named ")
            .or_else(|| failure.message.strip_prefix("no view named "));
        let name = named.map(|rest| last_part(rest.split([';', ' ']).next().unwrap_or_default()).to_ascii_lowercase());
        name.is_some_and(|name| self.0.contains(&name))
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.')
        .next()
        .unwrap_or(name)
        .trim_matches(|c| matches!(c, '"' | ';' | '\''))
}

fn begins_with(sql: &str, words: &str) -> bool {
    let mut said = sql.split_whitespace();
    words
        .split_whitespace()
        .all(|word| said.next().is_some_and(|said| said.eq_ignore_ascii_case(word)))
}
