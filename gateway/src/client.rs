//! Our own API from the asker's side of the desk: what `sql`, `load` and `demo` speak.
//!
//! # Invariants
//! - The client knows the HTTP contract and nothing else of the server, so any server of the same `/v1` will do.
//! - A key is sent only to the server it was kept for; see [`Server::connect`].
//! - A query is created again only under its first `request_id`, so a retry never runs it twice.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

mod answers;
pub(crate) mod csv;
pub(crate) mod show;
#[cfg(test)]
mod tests;

pub(crate) use answers::{Answer, Ask, Estimate, LoadOptions, Query, Table, TableLine};

/// Arrow IPC stream, the format in which the client reads rows it wants to understand.
const ARROW: &str = "application/vnd.apache.arrow.stream";
/// The longest a server is asked to hold a request open while a query runs.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a query is offered to a server that is busy before its refusal is passed on.
const OFFERS: u32 = 5;
/// The longest pause between two offers, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

impl ClientFile {
    /// Reads `path`, which is a TOML file with `url` and `key`.
    pub(crate) fn read(path: &std::path::Path) -> Result<Self, Error> {
        Figment::from(Toml::file_exact(path))
            .extract()
            .map_err(|error| Error::Settings(format!("cannot use {}: {error}", path.display())))
    }
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

/// Why there is no answer, by what the person in front of the terminal can do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server has an opinion. Read it.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no conversation. Look at the address, the network, the server.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        url: String,
        reason: String,
        connected: bool,
    },
    /// The other side does not speak our API. Is it a Wasmhouse?
    #[error("{url} gave an answer that is not of this API: {reason}")]
    Unintelligible { url: String, reason: String },
    /// Flags, environment or client file do not say enough.
    #[error("{0}")]
    Settings(String),
}

/// An error as the server tells it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    /// Where in the SQL, both counted from 1.
    #[serde(default)]
    pub(crate) line: Option<usize>,
    #[serde(default)]
    pub(crate) column: Option<usize>,
    /// After which time asking again may help; from the headers of the answer.
    #[serde(skip)]
    pub(crate) retry_after: Option<Duration>,
}

impl Error {
    /// True when the thing asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        const ABSENT: [&str; 3] = ["not_found", "unknown_table", "unknown_dataset"];
        matches!(self, Self::Refused(refusal) if ABSENT.contains(&refusal.code.as_str()))
    }

    /// True when the thing to be made exists.
    pub(crate) fn already_exists(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "already_exists")
    }

    /// The pause after which the same offer may be accepted, if it may.
    fn pause(&self, offers: u32) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after.map(|pause| pause.min(LONGEST_PAUSE)),
            // The server was there a moment ago.
            Self::Unreachable { connected: true, .. } => Some(Duration::from_millis(100) * 2_u32.pow(offers)),
            Self::Unreachable { .. } | Self::Unintelligible { .. } | Self::Settings(_) => None,
        }
    }
}

/// One server and one key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    key: String,
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Result<Self, Error> {
        let url = parse_url(url)?;
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        if is_loopback(&url) {
            // A proxy's loopback is not ours.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::Settings(format!("cannot make HTTP requests: {error}")))?;
        Ok(Self {
            http,
            url,
            key: key.to_owned(),
        })
    }

    /// Creates the query and waits for its end, but not longer than `wait`.
    pub(crate) async fn create_query(&self, ask: &Ask, wait: Duration) -> Result<Query, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            ask: &'a Ask,
            wait_ms: u64,
        }
        let body = Body {
            ask,
            wait_ms: millis(wait),
        };
        let mut offers = 1;
        loop {
            let error = match self.json(self.request(Method::POST, &["queries"]).json(&body)).await {
                Ok(query) => return Ok(query),
                Err(error) => error,
            };
            match error.pause(offers) {
                Some(pause) if offers < OFFERS => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
            offers += 1;
        }
    }

    /// The query as it is now, or as it is when it ends within `wait`.
    pub(crate) async fn query(&self, id: &str, wait: Duration) -> Result<Query, Error> {
        self.json(
            self.request(Method::GET, &["queries", id])
                .query(&[("wait_ms", millis(wait))]),
        )
        .await
    }

    /// Asks the query to stop. It may still be done: its state says.
    pub(crate) async fn cancel(&self, id: &str) -> Result<(), Error> {
        self.send(self.request(Method::POST, &["queries", id, "cancel"]))
            .await
            .map(drop)
    }

    /// Rows of an ended query from `start_row`, at most `max_rows`, as the server writes `accept`.
    pub(crate) async fn page(&self, id: &str, start_row: u64, max_rows: u64, accept: &str) -> Result<Vec<u8>, Error> {
        let request = self
            .request(Method::GET, &["queries", id, "results"])
            .query(&[("start_row", start_row), ("max_rows", max_rows)])
            .header(ACCEPT, accept);
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(body.into())
    }

    /// The first rows of an ended query, up to `limit` of them.
    pub(crate) async fn rows(&self, id: &str, limit: u64) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
        let mut batches = Vec::new();
        let mut start_row = 0;
        loop {
            // Even of no rows there is a page: it holds their schema.
            let page = self.page(id, start_row, (limit - start_row).max(1), ARROW).await?;
            let understand = |error: arrow::error::ArrowError| self.unintelligible(error.to_string());
            let reader = StreamReader::try_new(Cursor::new(page), None).map_err(understand)?;
            let schema = reader.schema();
            let mut rows = 0;
            for batch in reader {
                let batch = batch.map_err(understand)?;
                rows += batch.num_rows() as u64;
                batches.push(batch);
            }
            start_row += rows;
            if rows == 0 || start_row >= limit {
                return Ok((schema, batches));
            }
        }
    }

    /// Runs `sql` by `POST /v1/sql` and reads the whole answer.
    pub(crate) async fn sql(&self, sql: &str, dataset: Option<&str>) -> Result<Answer, Error> {
        let dataset = dataset.map(|dataset| ("dataset", dataset));
        self.json(
            self.request(Method::POST, &["sql"])
                .query(dataset.as_slice())
                .body(sql.to_owned()),
        )
        .await
    }

    /// What `sql` would read, without reading it.
    pub(crate) async fn estimate(&self, sql: &str, dataset: Option<&str>) -> Result<Estimate, Error> {
        let dataset = dataset.map(|dataset| ("dataset", dataset));
        let request = self
            .request(Method::POST, &["sql"])
            .query(&[("dry_run", true)])
            .query(dataset.as_slice());
        self.json(request.body(sql.to_owned())).await
    }

    /// Names of the datasets of the project.
    pub(crate) async fn datasets(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Dataset {
            name: String,
        }
        #[derive(Deserialize)]
        struct Datasets {
            datasets: Vec<Dataset>,
        }
        let list: Datasets = self.json(self.request(Method::GET, &["datasets"])).await?;
        Ok(list.datasets.into_iter().map(|dataset| dataset.name).collect())
    }

    /// Creates the dataset if it is not there.
    pub(crate) async fn ensure_dataset(&self, name: &str) -> Result<(), Error> {
        let body = serde_json::json!({ "name": name });
        match self.send(self.request(Method::POST, &["datasets"]).json(&body)).await {
            Err(error) if !error.already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) async fn tables(&self, dataset: &str) -> Result<Vec<TableLine>, Error> {
        #[derive(Deserialize)]
        struct Tables {
            tables: Vec<TableLine>,
        }
        let list: Tables = self
            .json(self.request(Method::GET, &["datasets", dataset, "tables"]))
            .await?;
        Ok(list.tables)
    }

    pub(crate) async fn table(&self, dataset: &str, table: &str) -> Result<Table, Error> {
        self.json(self.request(Method::GET, &["datasets", dataset, "tables", table]))
            .await
    }

    /// Streams a file into `dataset.table`. Returns when the file is sent and the load has ended or is being waited
    /// for; see [`Client::ended`].
    pub(crate) async fn load(
        &self,
        dataset: &str,
        table: &str,
        options: &LoadOptions,
        file: reqwest::Body,
    ) -> Result<Query, Error> {
        let mut request = self
            .request(Method::POST, &["datasets", dataset, "tables", table, "load"])
            .query(options)
            .query(&[("wait_ms", 0)]);
        if let Some(encoding) = options.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        self.json(request.body(file)).await
    }

    /// Waits for the query to end, looking every `tick` and telling `watch` what it saw.
    pub(crate) async fn ended(
        &self,
        mut query: Query,
        tick: Duration,
        mut watch: impl FnMut(&Query),
    ) -> Result<Query, Error> {
        while !query.state.is_final() {
            watch(&query);
            query = self.query(&query.id, tick).await?;
        }
        query.answered()
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .push("v1")
            .extend(path);
        self.http.request(method, url).bearer_auth(&self.key)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request.header(ACCEPT, "application/json")).await?;
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| self.unintelligible(error.to_string()))
    }

    /// Sends the request; an answer that is not a success is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        #[derive(Deserialize)]
        struct Told {
            error: Refusal,
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<Told>(&body) {
            Ok(Told { error }) => Err(Error::Refused(Refusal { retry_after, ..error })),
            Err(_) => Err(self.unintelligible(format!("HTTP {status}"))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        // The outer errors repeat the address; the innermost says what happened.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Error::Unreachable {
            url: self.url.to_string(),
            reason: cause.to_string(),
            connected: !error.is_connect(),
        }
    }

    fn unintelligible(&self, reason: String) -> Error {
        Error::Unintelligible {
            url: self.url.to_string(),
            reason,
        }
    }
}

fn parse_url(text: &str) -> Result<Url, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Error::Settings(format!(
            "{text} is not the address of a server; one looks like http://host:8080"
        ))),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The pause a busy server asks for; half a second when it names none.
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Some(seconds.map_or(Duration::from_millis(500), Duration::from_secs))
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).expect("nobody waits for half a billion years")
}
