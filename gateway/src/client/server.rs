//! Where the server is and whose key to use.
//!
//! # Invariants
//! - A key is sent only to the server it was kept for; see [`Server::connect`].

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;
use url::{Host, Url};

use super::{Client, Error};

#[cfg(test)]
mod tests;

/// Where the server is and whose key to use: the flags every client command shares.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Server {
    /// Address of the server, as in http://127.0.0.1:8080
    #[arg(long, env = "WASMHOUSE_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Key of the project
    #[arg(long, env = "WASMHOUSE_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Data directory of a server on this machine; address and key are read from its client file
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data: PathBuf,
    /// Project whose client file is read, DIR/NAME.toml instead of DIR/client.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
}

/// What a server or the demo keeps beside its data for clients on the same machine.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClientFile {
    pub(crate) url: String,
    pub(crate) key: String,
}

impl Server {
    /// A client of the server that flags, environment and client file name, in this order.
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        if let (Some(url), Some(key)) = (&self.url, &self.key) {
            return Client::new(url, key);
        }
        let path = self
            .data
            .join(format!("{}.toml", self.project.as_deref().unwrap_or("client")));
        if !path.exists() {
            return Err(Error::Settings(format!(
                "no server named: give --url and --key, set WASMHOUSE_URL and WASMHOUSE_KEY, or point --data at the \
                 data directory of a server on this machine ({} does not exist)",
                path.display()
            )));
        }
        let file = ClientFile::read(&path)?;
        match (&self.url, &self.key) {
            (None, key) => Client::new(&file.url, key.as_ref().unwrap_or(&file.key)),
            // A key is a secret between two parties, and the file says which two.
            (Some(url), None) if parse_url(url)? != parse_url(&file.url)? => Err(Error::Settings(format!(
                "no key for {url}: {} holds the key of {}; give --key or set WASMHOUSE_KEY",
                path.display(),
                file.url
            ))),
            (Some(url), _) => Client::new(url, &file.key),
        }
    }
}

impl ClientFile {
    /// Reads `path`, which is a TOML file with `url` and `key`.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        Figment::from(Toml::file_exact(path))
            .extract()
            .map_err(|error| Error::Settings(format!("cannot use {}: {error}", path.display())))
    }
}

pub(super) fn parse_url(text: &str) -> Result<Url, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Error::Settings(format!(
            "{text} is not the address of a server; one looks like http://host:8080"
        ))),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
