//! Where the files of the suite are, and which of them are run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::records::{Record, parse};

/// Run in CI: every part of SQL that people use on the first day. `WASMHOUSE_SQL_FILES=all` runs all files.
const SAMPLE: [&str; 30] = [
    "array/array_concat.slt",
    "array/array_sort.slt",
    "case.slt",
    "coalesce.slt",
    "cte.slt",
    "datetime/date_part.slt",
    "datetime/interval.slt",
    "decimal.slt",
    "distinct_on.slt",
    "expr.slt",
    "functions.slt",
    "grouping.slt",
    "in_list.slt",
    "insert_values_placeholders.slt",
    "lateral_join.slt",
    "limit.slt",
    "math.slt",
    "nullif.slt",
    "predicates.slt",
    "qualify.slt",
    "regexp/regexp_replace.slt",
    "scalar.slt",
    "select.slt",
    "string/string_literal.slt",
    "struct.slt",
    "subquery.slt",
    "truncate.slt",
    "union.slt",
    "unnest.slt",
    "wildcard.slt",
];

/// One file of the suite, with what it includes.
pub(crate) struct File {
    /// From the folder of the suite, with forward slashes.
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
}

/// What Cargo has fetched for this workspace, as `cargo metadata` tells it.
pub(crate) struct Packages(serde_json::Value);

/// Which files are run.
#[derive(Debug)]
pub(crate) enum Selection {
    Sample,
    All,
    /// Files whose name holds this.
    Named(String),
}

impl Selection {
    pub(crate) fn from_environment() -> Self {
        match env::var("WASMHOUSE_SQL_FILES").as_deref() {
            Err(_) | Ok("" | "sample") => Self::Sample,
            Ok("all") => Self::All,
            Ok(part) => Self::Named(part.to_owned()),
        }
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        match self {
            Self::Sample => SAMPLE.contains(&name),
            Self::All => true,
            Self::Named(part) => name.contains(part.as_str()),
        }
    }
}

/// Every file of the suite, the long ones first.
pub(crate) fn files(packages: &Packages) -> Vec<File> {
    let root = packages.folder("datafusion-sqllogictest").join("test_files");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let mut files: Vec<File> = paths
        .iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .expect("the walk began at the root")
                .to_string_lossy()
                .replace('\\', "/");
            File {
                name,
                records: parse(path),
            }
        })
        .collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.records.len()));
    files
}

impl Packages {
    pub(crate) fn read() -> Self {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--offline",
                "--manifest-path",
                manifest,
            ])
            .output()
            .expect("tests are run by Cargo");
        assert!(
            output.status.success(),
            "run `cargo fetch --locked` first; Cargo could not tell where the suite is:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(serde_json::from_slice(&output.stdout).expect("Cargo prints JSON"))
    }

    /// Where a package is unpacked.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let packages = self.0["packages"].as_array().expect("a workspace has packages");
        let package = packages.iter().find(|package| package["name"] == name);
        let manifest = package
            .and_then(|package| package["manifest_path"].as_str())
            .unwrap_or_else(|| panic!("{name} is in the lock file"));
        Path::new(manifest)
            .parent()
            .expect("a manifest is in a folder")
            .to_owned()
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("Cargo has unpacked the suite") {
        let path = entry.expect("Cargo has unpacked the suite").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
}
