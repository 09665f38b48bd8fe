//! Dependencies point down, and the libraries that must agree are there once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::repository::{CRATES, read, root};

fn manifest(name: &str) -> toml::Table {
    read(&format!("{name}/Cargo.toml")).parse().expect("a manifest is TOML")
}

/// The crates of this house that a crate is built from.
fn house_dependencies(name: &str) -> Vec<String> {
    let manifest = manifest(name);
    let mut tables: Vec<&toml::Value> = ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|t| manifest.get(*t))
        .collect();
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(|target| target.get("dependencies")));
    }
    let mut found: Vec<String> = tables
        .iter()
        .filter_map(|table| table.as_table())
        .flat_map(|table| table.iter())
        .filter(|(name, value)| name.starts_with("wasmhouse") || value.get("path").is_some())
        .map(|(name, _)| name.clone())
        .collect();
    found.sort();
    found
}

#[test]
fn dependencies_point_down() {
    assert_eq!(
        house_dependencies("storage"),
        Vec::<String>::new(),
        "storage stands on nothing of ours"
    );
    assert_eq!(house_dependencies("compute"), ["wasmhouse-storage"]);
    assert_eq!(
        house_dependencies("gateway"),
        ["wasmhouse-compute", "wasmhouse-storage"]
    );
}

#[test]
fn the_workspace_has_the_three_crates_of_the_drawing() {
    let workspace: toml::Table = read("Cargo.toml").parse().expect("a manifest is TOML");

    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("a workspace has members");
    let mut members: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    members.sort_unstable();

    let mut crates = CRATES;
    crates.sort_unstable();
    assert_eq!(members, crates);
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    for name in CRATES {
        let manifest = manifest(name);
        let obeys = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(
            obeys,
            Some(true),
            "{name}/Cargo.toml does not say [lints] workspace = true"
        );
    }
}

#[test]
fn libraries_that_share_types_are_in_the_lock_file_once() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("the lock file is TOML");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("the lock file lists packages") {
        let text = |name: &str| package[name].as_str().expect("a package has a name and a version");
        versions.entry(text("name")).or_default().push(text("version"));
    }

    let mut must_agree: Vec<&str> = vec![
        "arrow",
        "datafusion",
        "object_store",
        "parquet",
        "deltalake-core",
        "sqlparser",
        "axum",
        "sqlx",
    ];
    must_agree.extend(
        versions
            .keys()
            .filter(|name| name.starts_with("arrow-") || name.starts_with("datafusion-")),
    );
    for name in must_agree {
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        // Libraries that only share the prefix of their name have a version of their own; one of it is enough.
        assert_eq!(
            found.len(),
            1,
            "{name} is in Cargo.lock as {found:?}; their types do not mix"
        );
    }
}

#[test]
fn the_demo_and_the_tests_are_built_from_the_same_dependencies() {
    let of_the_demo = tree(&["--package", "wasmhouse", "--edges", "normal,build"]);
    let of_the_tests = tree(&["--workspace", "--edges", "normal,build,dev"]);

    // Whoever tries `make demo` first has built most of what `make test` needs.
    let built_again: Vec<_> = of_the_demo.difference(&of_the_tests).collect();
    assert!(
        built_again.is_empty(),
        "built twice, since their features differ; name them in gateway/Cargo.toml with those of the tests: {built_again:?}"
    );
}

/// Packages with their features, as cargo builds them.
fn tree(of: &[&str]) -> BTreeSet<String> {
    let answer = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p} {f}",
        ])
        .args(of)
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "cargo tree: {errors}");

    let text = String::from_utf8_lossy(&answer.stdout);
    text.lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}
