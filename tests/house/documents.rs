//! What is written down equals what is built: README, CHANGELOG, the HTTP contract, the settings.

use std::process::Command;

use crate::repository::{Page, pages, read, root};

fn wasmhouse(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wasmhouse"))
        .args(arguments)
        .output()
        .expect("the binary was built for this test");
    assert!(
        output.status.success(),
        "wasmhouse {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the binary prints UTF-8")
}

/// What stands between backticks in a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// A section of a Markdown file: from its heading to the next of the same depth.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let begin = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("README.md has no section {heading}"));
    let body = &text[begin + heading.len() + 2..];
    let mark = format!("\n{} ", heading.split(' ').next().unwrap_or_default());
    &body[..body.find(&mark).unwrap_or(body.len())]
}

#[test]
fn the_walks_of_the_readme_name_functions_that_exist() {
    let readme = read("README.md");
    let walks = section(&readme, "## Walks");

    let mut steps = 0;
    for line in walks.lines() {
        let mut source = String::new();
        let mut path = "";
        for word in quoted(line) {
            if word.ends_with(".rs") {
                path = word;
                source = read(path);
            } else if let Some(function) = word.strip_prefix("fn ") {
                let found = source.contains(&format!("fn {function}(")) || source.contains(&format!("fn {function}<"));
                assert!(
                    found,
                    "README.md walks through `fn {function}` in {path}, which is not there"
                );
                steps += 1;
            }
        }
    }

    assert!(steps >= 15, "a walk has steps, and README.md has {steps} of them");
}

#[test]
fn the_doors_of_the_readme_exist() {
    let readme = read("README.md");
    let doors = section(&readme, "## One door per concern");

    let paths: Vec<&str> = doors
        .lines()
        .flat_map(quoted)
        .filter(|word| word.contains('/'))
        .collect();
    for path in &paths {
        assert!(
            root().join(path).exists(),
            "README.md lists {path} as a door, and it is not there"
        );
    }
    assert!(paths.len() >= 10, "README.md lists {} doors", paths.len());
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let documents: Vec<Page> = pages().into_iter().filter(|page| page.path.ends_with(".md")).collect();

    for page in &documents {
        let folder = root().join(&page.path);
        let folder = folder.parent().expect("a file is in a folder");
        for (_, rest) in page
            .text
            .match_indices("](")
            .map(|(at, mark)| (at, &page.text[at + mark.len()..]))
        {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let is_a_path = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            assert!(
                !is_a_path || folder.join(target).exists(),
                "{} links to {target}, which is not there",
                page.path
            );
        }
    }
}

#[test]
fn the_changelog_tells_what_changed() {
    let changelog = read("CHANGELOG.md");

    let version = env!("CARGO_PKG_VERSION");
    assert!(
        changelog.contains(&format!("## {version}")),
        "CHANGELOG.md says nothing about {version}"
    );
    assert!(
        changelog.lines().filter(|line| line.starts_with("- ")).count() >= 3,
        "CHANGELOG.md lists no changes"
    );
}

#[test]
fn the_http_contract_is_the_one_the_code_makes() {
    let checked_in = read("gateway/openapi.json");

    let made = wasmhouse(&["openapi"]);

    assert!(
        made == checked_in,
        "gateway/openapi.json is not what the code says; run `make openapi` and look at the difference"
    );
}

#[test]
fn the_http_contract_describes_every_operation() {
    let contract: serde_json::Value =
        serde_json::from_str(&read("gateway/openapi.json")).expect("the contract is JSON");

    let paths = contract["paths"].as_object().expect("a contract has paths");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("a path has operations") {
            let said = |name: &str| operation[name].as_str().is_some_and(|text| !text.trim().is_empty());
            assert!(said("operationId"), "{method} {path} has no operationId");
            assert!(
                said("summary") || said("description"),
                "{method} {path} says nothing about itself"
            );
        }
    }
    assert!(paths.contains_key("/v1/sql"), "the contract does not know /v1/sql");
}

#[test]
fn the_codes_of_the_readme_are_those_that_an_answer_can_have() {
    let readme = read("README.md");
    let listed = between(section(&readme, "## HTTP"), "Codes are stable:", ".");
    let listed = sorted(quoted(listed));
    let mapped = read("gateway/src/http/error.rs");
    let mapped = sorted(said(between(&mapped, "fn status_of(", "\n}\n")));

    let ours = read("gateway/src/error.rs");
    let of_statements = read("compute/src/error.rs");
    let mut sent: Vec<String> = between(&of_statements, "pub enum Code {", "\n}\n")
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .map(snake_case)
        .collect();
    sent.extend(said(between(&ours, "fn for_record", "\n    }\n")).map(str::to_owned));
    // The one that upkeep gives to a query whose gateway is gone.
    sent.push("lost".to_owned());
    let sent = sorted(sent.iter().map(String::as_str));

    assert_eq!(
        listed, mapped,
        "README.md and gateway/src/http/error.rs know different codes"
    );
    assert_eq!(
        sent, mapped,
        "gateway/src/http/error.rs knows other codes than can be sent"
    );
}

/// The part of a text that follows `from`, up to `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text
        .split_once(from)
        .unwrap_or_else(|| panic!("{from:?} is not there any more"));
    rest.split(to).next().unwrap_or(rest)
}

/// What stands between quotation marks in Rust.
fn said(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

fn sorted<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn snake_case(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

#[test]
fn the_documented_settings_are_the_defaults() {
    let documented: toml::Table = read("deploy/wasmhouse.toml")
        .parse()
        .expect("the documented settings are TOML");

    let defaults: toml::Table = wasmhouse(&["config", "defaults"])
        .parse()
        .expect("the defaults are TOML");

    assert_eq!(
        flat(&documented),
        flat(&defaults),
        "deploy/wasmhouse.toml and `wasmhouse config defaults` differ"
    );
}

/// `worker.memory_bytes = 1`, one setting a line, so that a difference can be read.
fn flat(table: &toml::Table) -> Vec<String> {
    fn add(prefix: &str, table: &toml::Table, lines: &mut Vec<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(inner) => add(&format!("{prefix}{name}."), inner, lines),
                value => lines.push(format!("{prefix}{name} = {value}")),
            }
        }
    }
    let mut lines = Vec::new();
    add("", table, &mut lines);
    lines.sort();
    lines
}

#[test]
fn every_setting_is_explained() {
    let text = read("deploy/wasmhouse.toml");

    let mut before = "";
    for line in text.lines() {
        let is_setting = !line.starts_with(['#', '[', ' ', ']', '}']) && line.contains('=');
        assert!(
            !is_setting || before.starts_with('#'),
            "deploy/wasmhouse.toml says nothing about: {line}"
        );
        before = line;
    }
}
