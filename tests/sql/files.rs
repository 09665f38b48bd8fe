//! The files that the suite reads: those that come with it or with another package, those that are generated, and those
//! that its `COPY` statements have written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::formats::Format;
use crate::suite::Packages;
use crate::tpch;

/// Where DataFusion runs the suite, from the root of its repository.
const HOME: &str = "datafusion/sqllogictest";

/// Where the files are that nobody writes.
#[derive(Clone, Debug)]
pub(crate) struct Shelves {
    /// The package of the suite.
    suite: PathBuf,
    /// The package that reads Arrow files, which brings some.
    arrow: PathBuf,
    /// What is kept in this repository; `data/README.md` says where it is from.
    ours: PathBuf,
}

/// The files of one session.
#[derive(Debug)]
pub(crate) struct Files {
    shelves: Shelves,
    /// By their path from the root of DataFusion's repository; a file may have been written in parts.
    written: BTreeMap<String, Vec<Vec<u8>>>,
    /// Where a `COPY` should have written and did not.
    missed: BTreeSet<String>,
}

/// A file, and what the names of its folders say: `year=2024` is a value of the column `year`.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) values: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Shelves {
    pub(crate) fn of(packages: &Packages) -> Self {
        Self {
            suite: packages.folder("datafusion-sqllogictest"),
            arrow: packages.folder("datafusion-datasource-arrow"),
            ours: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sql/data"),
        }
    }

    /// Where a path of DataFusion's repository is here.
    fn place(&self, path: &str) -> Option<PathBuf> {
        let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        if let Some(rest) = path.strip_prefix("datafusion/sqllogictest/data/") {
            Some(self.suite.join("data").join(rest))
        } else if let Some(rest) = path.strip_prefix("datafusion/datasource-arrow/") {
            Some(self.arrow.join(rest))
        } else if let Some(rest) = path.strip_prefix("datafusion/core/tests/data/") {
            Some(self.ours.join(rest))
        } else if let Some(rest) = path.strip_prefix("datafusion/core/tests/tpch-csv/") {
            Some(self.ours.join("tpch-csv").join(rest))
        } else if let Some(rest) = path.strip_prefix("testing/data/csv/") {
            Some(self.ours.join(file_name(rest)))
        } else {
            path.strip_prefix("parquet-testing/data/")
                .map(|rest| self.ours.join(file_name(rest)))
        }
    }
}

impl Files {
    pub(crate) fn new(shelves: &Shelves) -> Self {
        Self {
            shelves: shelves.clone(),
            written: BTreeMap::new(),
            missed: BTreeSet::new(),
        }
    }

    /// Keeps what a `COPY` wrote: as a file where the path has an ending, as another file of a folder otherwise.
    pub(crate) fn keep(&mut self, to: &str, format: Format, parts: Vec<Vec<u8>>) {
        let path = resolved(to);
        self.missed.remove(&path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_file = !to.ends_with('/') && name.contains('.');
        let path = if is_file {
            path
        } else {
            format!("{path}/{:05}.{}", self.written.len(), format.word())
        };
        self.written.insert(path, parts);
    }

    /// Remembers that there is nothing where a `COPY` should have written.
    pub(crate) fn miss(&mut self, to: &str) {
        self.missed.insert(resolved(to));
    }

    /// Whether a `COPY` has failed whose file is one of those at this path.
    pub(crate) fn misses(&self, location: &str) -> bool {
        let path = resolved(location);
        let (folder, _) = path.split_once("/*").unwrap_or((path.as_str(), ""));
        let is_in = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.missed
            .iter()
            .any(|missed| missed == folder || is_in(missed, folder) || is_in(folder, missed))
    }

    /// The files at a path, which may be a folder or end with a pattern. Of a folder's own folders, only those count
    /// whose names are values.
    pub(crate) fn at(&self, location: &str) -> Vec<Found> {
        let path = resolved(location);
        if let Some(parts) = self.file(&path) {
            return parts
                .into_iter()
                .map(|bytes| Found {
                    values: Vec::new(),
                    bytes,
                })
                .collect();
        }
        let (folder, ending) = match path.rsplit_once('/') {
            Some((folder, pattern)) if pattern.contains('*') => (folder, pattern.trim_start_matches('*')),
            _ => (path.as_str(), ""),
        };
        self.below(folder)
            .into_iter()
            .filter(|(inner, _)| inner.ends_with(ending))
            .filter_map(|(inner, bytes)| {
                let values = values(&inner)?;
                Some(Found { values, bytes })
            })
            .collect()
    }

    fn file(&self, path: &str) -> Option<Vec<Vec<u8>>> {
        if let Some(parts) = self.written.get(path) {
            return Some(parts.clone());
        }
        let generated = path
            .strip_prefix("datafusion/sqllogictest/test_files/tpch/data/")
            .and_then(|name| name.strip_suffix(".tbl"));
        if let Some(table) = generated {
            return tpch::file(table).map(|bytes| vec![bytes]);
        }
        let place = self.shelves.place(path).filter(|place| place.is_file())?;
        Some(vec![read(&place)])
    }

    /// Everything below a folder, by its path from there.
    fn below(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let begin = format!("{folder}/");
        let mut found = Vec::new();
        for (path, parts) in &self.written {
            if let Some(inner) = path.strip_prefix(begin.as_str()) {
                found.extend(parts.iter().map(|bytes| (inner.to_owned(), bytes.clone())));
            }
        }
        if let Some(place) = self.shelves.place(folder).filter(|place| place.is_dir()) {
            walk(&place, "", &mut found);
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

/// Whether statements of the suite write there.
pub(crate) fn is_scratch(location: &str) -> bool {
    resolved(location).starts_with("datafusion/sqllogictest/test_files/scratch")
}

/// A path from where DataFusion runs the suite, as one from the root of its repository.
fn resolved(location: &str) -> String {
    let mut parts: Vec<&str> = HOME.split('/').collect();
    for part in location.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What the folders of a file say, or nothing if one of them says nothing.
fn values(path: &str) -> Option<Vec<(String, String)>> {
    let (folders, _) = path.rsplit_once('/').unwrap_or_default();
    folders
        .split('/')
        .filter(|folder| !folder.is_empty())
        .map(|folder| {
            let (name, value) = folder.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn walk(folder: &Path, path: &str, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a folder that is there can be read");
        let path = format!("{path}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push((path, read(&entry.path())));
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
