//! The project of the demo, and what is remembered of it from run to run.
//!
//! # Invariants
//! - The key is shown to us once, when the project is created, so it is kept before it is used.
//! - The file is a client file, so `--project demo` works for every client command. It is for its owner only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;
use tokio::process::Command;
use wasmhouse_storage::BoxError;

pub(super) const NAME: &str = "demo";

pub(super) struct Project {
    path: PathBuf,
    memory: Memory,
}

#[derive(Deserialize)]
struct Memory {
    url: String,
    key: String,
    /// What was loaded at which scale factor, by table.
    #[serde(default)]
    loaded: BTreeMap<String, Loaded>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(super) struct Loaded {
    pub(super) scale: f64,
    pub(super) rows: u64,
}

impl Project {
    /// The project in this data directory, created when nothing is remembered of it.
    pub(super) async fn open(data: &Path, url: &str) -> Result<Self, BoxError> {
        let path = data.join(format!("{NAME}.toml"));
        let memory = match path.exists() {
            true => Figment::from(Toml::file_exact(&path)).extract()?,
            false => Memory {
                url: String::new(),
                key: create(data).await?,
                loaded: BTreeMap::new(),
            },
        };
        let project = Self {
            path,
            memory: Memory {
                url: url.to_owned(),
                ..memory
            },
        };
        project.keep()?;
        Ok(project)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn key(&self) -> &str {
        &self.memory.key
    }

    pub(super) fn loaded(&self, table: &str) -> Option<Loaded> {
        self.memory.loaded.get(table).copied()
    }

    /// Remembers what was loaded into `table`.
    pub(super) fn set_loaded(&mut self, table: &str, loaded: Loaded) -> Result<(), BoxError> {
        self.memory.loaded.insert(table.to_owned(), loaded);
        self.keep()
    }

    /// Writes the file anew and puts it in the place of the old one in one step.
    fn keep(&self) -> Result<(), BoxError> {
        let Memory { url, key, loaded } = &self.memory;
        let mut text = format!("url = \"{url}\"\nproject = \"{NAME}\"\nkey = \"{key}\"\n");
        for (table, Loaded { scale, rows }) in loaded {
            text += &format!("\n[loaded.{table}]\nscale = {scale:?}\nrows = {rows}\n");
        }
        let new = self.path.with_extension("toml.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        Ok(())
    }
}

/// Creates the project as an operator would. Returns its key.
async fn create(data: &Path) -> Result<String, BoxError> {
    let output = Command::new(std::env::current_exe()?)
        .args(["admin", "create-project", NAME, "--data"])
        .arg(data)
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cannot create project {NAME}: {}", said.trim()).into());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let quotes = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let key = said
        .split_whitespace()
        .map(|word| word.trim_matches(quotes))
        .find(|word| word.starts_with("wh_"));
    key.map(str::to_owned)
        .ok_or_else(|| format!("admin create-project {NAME} printed no key").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::server::ClientFile;

    #[tokio::test]
    async fn what_was_loaded_is_remembered_beside_the_key() {
        let data = tempfile::tempdir().expect("a directory can be made");
        let path = data.path().join("demo.toml");
        fs::write(&path, "url = \"http://127.0.0.1:1\"\nkey = \"wh_1\"\n").expect("a file can be written");

        let mut project = Project::open(data.path(), "http://127.0.0.1:2")
            .await
            .expect("it is remembered");
        project
            .set_loaded("nation", Loaded { scale: 1.0, rows: 25 })
            .expect("it can be kept");

        let again = Project::open(data.path(), "http://127.0.0.1:3")
            .await
            .expect("it is remembered");
        assert_eq!(again.loaded("nation"), Some(Loaded { scale: 1.0, rows: 25 }));
        assert_eq!(again.loaded("region"), None);
        let file = ClientFile::read(&path).expect("it is a client file");
        assert_eq!((file.url.as_str(), file.key.as_str()), ("http://127.0.0.1:3", "wh_1"));
    }
}
