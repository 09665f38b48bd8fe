//! The files of the repository, as a reader sees them: without what is built, installed or fetched.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that git ignores, by name.
const NOT_OURS: [&str; 8] = [
    ".git",
    "target",
    "data",
    ".venv",
    "node_modules",
    "__pycache__",
    "dist",
    ".cache",
];

/// The crates of the house, from the top.
pub(crate) const CRATES: [&str; 3] = ["gateway", "compute", "storage"];

/// A file of the repository.
pub(crate) struct Page {
    /// From the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Page {
    /// The part that ships: without the module of tests at the end, and without comments.
    pub(crate) fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("the gateway is a folder of the repository")
        .to_owned()
}

/// The text of one file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file that is text.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    let root = root();
    paths
        .into_iter()
        .filter_map(|path| {
            let text = String::from_utf8(fs::read(&path).expect("a file that was listed can be read")).ok()?;
            let path = path.strip_prefix(&root).expect("the walk began at the root");
            Some(Page {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            })
        })
        .collect()
}

/// The Rust sources that ship: what lies under `src` of the three crates, without files of tests.
pub(crate) fn sources() -> Vec<Page> {
    let mut pages = pages();
    pages.retain(|page| {
        let of_a_crate = CRATES.iter().any(|name| page.path.starts_with(&format!("{name}/src/")));
        of_a_crate && page.path.ends_with(".rs") && !is_test(&page.path)
    });
    pages
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository can be read") {
        let entry = entry.expect("a folder of the repository can be read");
        let name = entry.file_name();
        if NOT_OURS.iter().any(|ignored| name == *ignored) {
            continue;
        }
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            walk(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}
