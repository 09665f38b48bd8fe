//! The Python that `make test` has filled with readers, and what they print.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Programs that read Delta tables and share no code with us. (`deltalake` shares the library, not the version.)
pub(crate) const READERS: [&str; 3] = ["duckdb", "polars", "deltalake"];

/// What a reader found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The version it read, if it tells.
    pub(crate) version: Option<u64>,
    /// Objects, in the order of their `id`.
    pub(crate) rows: Vec<Value>,
}

/// The Python with the packages of `requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let python = env::var_os("WASMHOUSE_TEST_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| root().join(".venv/bin/python"));
    assert!(
        python.exists(),
        "{} is not there; `make test` installs it",
        python.display()
    );
    python
}

/// Reads the table at `location` as a stranger does.
pub(crate) fn read(reader: &str, location: &str, options: Option<&Value>) -> Found {
    let mut command = Command::new(python());
    command.arg(script("read.py")).arg(reader).arg(location);
    if let Some(options) = options {
        command.arg(options.to_string());
    }
    let output = command.output().expect("Python runs");
    assert!(
        output.status.success(),
        "{reader} cannot read {location}:\n{}",
        last_words(&output)
    );

    let printed: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    Found {
        version: printed["version"].as_u64(),
        rows: printed["rows"].as_array().expect("the script prints rows").clone(),
    }
}

/// One of the scripts of this suite.
pub(crate) fn script(name: &str) -> PathBuf {
    root().join("tests/interop").join(name)
}

fn last_words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the gateway is a folder of the repository")
}
