//! The format of the suite's files: records of a statement or query and what is expected of it, between empty lines.

use std::fs;
use std::path::{Path, PathBuf};

/// One thing to run.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The line it begins at. Records of included files carry the line of the `include`, and a number of their own.
    pub(crate) line: Line,
    pub(crate) sql: String,
    pub(crate) expected: Expected,
}

/// Where a record begins: a line, and for records that were included the other file and the line in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Line {
    number: usize,
    included: Option<(String, usize)>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.included {
            None => write!(f, "{}", self.number),
            Some((file, inner)) => write!(f, "{}.{file}.{inner}", self.number),
        }
    }
}

/// What a record asks for.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// It works. (`statement count` says how many rows were changed; DataFusion does not tell, so it is always 0.)
    Ok,
    /// It does not work. The words are DataFusion's; ours are for people, so only that it fails is compared.
    Error,
    /// It gives these lines.
    Rows {
        types: String,
        sorted: Sorted,
        lines: Vec<String>,
    },
}

/// In which order rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sorted {
    AsGiven,
    Rows,
    Values,
}

/// The records of a file and of what it includes, without those for other databases.
pub(crate) fn parse(path: &Path) -> Vec<Record> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .peekable();
    let mut records = Vec::new();
    let mut is_for_us = true;

    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["halt"] => return records,
            ["include", pattern] => {
                for included in included(path, pattern) {
                    let name = included.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let name = name.split('.').next().unwrap_or_default();
                    records.extend(parse(&included).into_iter().map(|record| Record {
                        line: Line {
                            number,
                            included: Some((name.to_owned(), record.line.number)),
                        },
                        ..record
                    }));
                }
            }
            ["onlyif", label] => is_for_us = label.eq_ignore_ascii_case("datafusion"),
            ["skipif", label] => is_for_us = !label.eq_ignore_ascii_case("datafusion"),
            ["statement" | "query", rest @ ..] => {
                let (sql, has_results) = sql_of(&mut lines);
                let is_error = matches!(rest, ["error", ..]);
                let results = match (has_results, is_error) {
                    (false, _) => Vec::new(),
                    // A message of several lines ends with two empty lines.
                    (true, true) => until_two_empty(&mut lines),
                    (true, false) => lines
                        .by_ref()
                        .map(|(_, line)| line)
                        .take_while(|line| !line.is_empty())
                        .map(str::to_owned)
                        .collect(),
                };
                let expected = match (words[0], rest) {
                    (_, ["error", ..]) => Expected::Error,
                    ("statement", _) => Expected::Ok,
                    (_, [types, options @ ..]) => Expected::Rows {
                        types: (*types).to_owned(),
                        sorted: match options.first() {
                            Some(&"rowsort") => Sorted::Rows,
                            Some(&"valuesort") => Sorted::Values,
                            _ => Sorted::AsGiven,
                        },
                        lines: results,
                    },
                    (_, []) => Expected::Rows {
                        types: String::new(),
                        sorted: Sorted::AsGiven,
                        lines: results,
                    },
                };
                if is_for_us {
                    records.push(Record {
                        line: Line { number, included: None },
                        sql,
                        expected,
                    });
                }
                is_for_us = true;
            }
            ["hash-threshold" | "subtest" | "connection" | "control" | "sleep", ..] => {}
            _ => panic!("{}:{number} is a line of a kind we do not know: {line}", path.display()),
        }
    }
    records
}

type Lines<'a, I> = std::iter::Peekable<I>;

/// The statement: up to an empty line, or to the line that says that results follow.
fn sql_of<'a>(lines: &mut Lines<'a, impl Iterator<Item = (usize, &'a str)>>) -> (String, bool) {
    let mut sql = String::new();
    let mut is_first = true;
    for (_, line) in lines.by_ref() {
        if line == "----" {
            return (sql, true);
        }
        if line.is_empty() && !is_first {
            break;
        }
        if !is_first {
            sql.push('\n');
        }
        sql.push_str(line);
        is_first = false;
    }
    (sql, false)
}

fn until_two_empty<'a>(lines: &mut Lines<'a, impl Iterator<Item = (usize, &'a str)>>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((_, line)) = lines.next() {
        if line.is_empty() && lines.peek().is_none_or(|(_, next)| next.is_empty()) {
            lines.next();
            break;
        }
        found.push(line.to_owned());
    }
    found
}

/// The files that `include` means: a path beside the file, with `*` for anything in its last part.
fn included(path: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = path.parent().expect("a file is in a folder");
    let wanted = folder.join(pattern);
    let folder = wanted.parent().expect("a file is in a folder");
    let name = wanted
        .file_name()
        .expect("a pattern names files")
        .to_string_lossy()
        .into_owned();
    let (before, after) = name.split_once('*').unwrap_or((&name, ""));

    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("Cargo has unpacked the suite").path())
        .filter(|path| {
            let found = path.file_name().expect("a file has a name").to_string_lossy();
            if name.contains('*') {
                found.starts_with(before) && found.ends_with(after)
            } else {
                *found == *name
            }
        })
        .collect();
    assert!(
        !found.is_empty(),
        "{} includes {pattern}, which is not there",
        path.display()
    );
    found.sort();
    found
}
