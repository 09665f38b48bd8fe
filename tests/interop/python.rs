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
    let options = options.map(Value::to_string);
    let arguments: Vec<&str> = [reader, location].into_iter().chain(options.as_deref()).collect();
    let printed = run("read.py", &arguments);
    let printed: Value = serde_json::from_slice(&printed).expect("the script prints JSON");
    Found {
        version: printed["version"].as_u64(),
        rows: printed["rows"].as_array().expect("the script prints rows").clone(),
    }
}

/// Runs a script of this suite, which must work, and gives what it prints.
pub(crate) fn run(script: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(python())
        .arg(root().join("tests/interop").join(script))
        .args(arguments)
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{script} {}:\n{}",
        arguments.join(" "),
        last_words(&output)
    );
    output.stdout
}

fn last_words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the gateway is a folder of the repository")
}
