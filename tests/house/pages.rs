//! A stranger can open any file: it says why it exists, it is short, and it is where it can be guessed.

use std::env;
use std::fs;

use crate::repository::{Page, pages, root, sources};

/// More than anyone holds in their head; usually two nouns under one name.
const LINES_OF_A_PAGE: usize = 600;

/// Everything that may lie at the top, and what it is.
const TOP_LEVEL: [&str; 19] = [
    // The seven big words.
    "gateway",
    "compute",
    "storage",
    "udf-sdk",
    "web-console",
    "deploy",
    "tests",
    // Comparisons with others.
    "bench",
    // What takes more than a paragraph of the README.
    "docs",
    // What every repository has.
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "clippy.toml",
];

/// Hidden files and folders at the top.
const HIDDEN: [&str; 6] = [
    ".ci",
    ".config",
    ".cargo",
    ".editorconfig",
    ".gitignore",
    ".gitattributes",
];

/// What git ignores at the top.
const IGNORED: [&str; 5] = [".git", "target", "data", ".venv", "__pycache__"];

/// Hosts that a file may name: ours on loopback, names reserved for examples, and the few that a file cannot do without.
const HOSTS: [&str; 10] = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "0.0.0.0",
    "example.com",
    "example.org",
    // The source of every package in a lock file of Cargo, and projects that we speak of.
    "github.com",
    // The licence.
    "www.apache.org",
    // The format of our HTTP contract.
    "json-schema.org",
    "spec.openapis.org",
];

#[test]
fn every_source_file_says_why_it_exists() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|page| !page.text.starts_with("//! "))
        .map(|page| page.path)
        .collect();

    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:#?}");
}

#[test]
fn every_suite_says_why_it_exists() {
    let silent: Vec<String> = pages()
        .into_iter()
        .filter(|page| page.path.starts_with("tests/") && page.path.ends_with(".rs") && !page.text.starts_with("//! "))
        .map(|page| page.path)
        .collect();

    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:#?}");
}

#[test]
fn no_file_is_longer_than_a_head_can_hold() {
    let long: Vec<String> = sources()
        .iter()
        .filter_map(|page| {
            let lines = page
                .text
                .lines()
                .take_while(|line| line.trim() != "#[cfg(test)]")
                .count();
            (lines > LINES_OF_A_PAGE).then(|| format!("{} has {lines} lines", page.path))
        })
        .collect();

    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];

    let left = lines_where(&sources(), |line| words.iter().any(|word| line.contains(word)));

    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn no_file_is_a_drawer_for_everything() {
    let drawers = ["utils", "util", "common", "helpers", "helper", "misc", "shared"];

    let found: Vec<String> = sources()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| {
            path.trim_end_matches(".rs")
                .split('/')
                .any(|part| drawers.contains(&part))
        })
        .collect();

    assert!(
        found.is_empty(),
        "a helper sits beside its user; these have no user in their name: {found:?}"
    );
}

#[test]
fn the_top_level_is_the_drawing() {
    let known = |name: &str| [&TOP_LEVEL[..], &HIDDEN[..], &IGNORED[..]].concat().contains(&name);

    let names = fs::read_dir(root())
        .expect("the root can be read")
        .map(|entry| entry.expect("the root can be read").file_name());
    let unknown: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !known(name))
        .collect();

    assert!(
        unknown.is_empty(),
        "the top level holds {unknown:?}, which the drawing does not know"
    );
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let mut places = vec![root().to_string_lossy().into_owned()];
    places.extend(
        ["HOME", "CARGO_HOME", "RUSTUP_HOME"]
            .iter()
            .filter_map(|name| env::var(name).ok()),
    );
    places.extend([concat!("/ho", "me/"), concat!("/Us", "ers/")].map(str::to_owned));
    // A short one, like `/`, is said everywhere and says nothing.
    places.retain(|place| place.len() > 4);
    let places: Vec<String> = places
        .iter()
        .map(|place| format!("{}/", place.trim_end_matches('/')))
        .collect();

    let named = lines_where(&pages(), |line| {
        places.iter().any(|place| line.contains(place.as_str()))
    });

    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn every_address_is_one_that_a_stranger_can_reach_or_is_an_example() {
    let mut unknown = Vec::new();
    for page in pages() {
        for (number, line) in page.text.lines().enumerate() {
            for host in hosts(line).filter(|host| !is_known(host)) {
                unknown.push(format!("{}:{} names {host}", page.path, number + 1));
            }
        }
    }

    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The hosts of the addresses in a line; what is put together at run time has none.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    ["http://", "https://"].into_iter().flat_map(move |scheme| {
        line.match_indices(scheme).filter_map(move |(at, _)| {
            let rest = &line[at + scheme.len()..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "-._[]".contains(c) || c == ':'))
                .unwrap_or(rest.len());
            let host = rest[..end].trim_end_matches(['.', ':']);
            let host = match host.rsplit_once(':') {
                Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
                _ => host,
            };
            host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
                .then_some(host)
        })
    })
}

fn is_known(host: &str) -> bool {
    let reserved = [".example", ".test", ".invalid", ".localhost"];
    // The notes on how rows travel between processes use one-word names that no resolver knows.
    HOSTS.contains(&host) || reserved.iter().any(|end| host.ends_with(end)) || !host.contains('.')
}

fn lines_where(pages: &[Page], is_found: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for page in pages {
        for (number, line) in page.text.lines().enumerate().filter(|(_, line)| is_found(line)) {
            found.push(format!("{}:{} {}", page.path, number + 1, line.trim()));
        }
    }
    found
}
