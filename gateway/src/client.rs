//! Our own API from the asker's side of the desk: what `sql`, `load` and `demo` speak.
//!
//! # Invariants
//! - The client knows the HTTP contract and nothing else of the server, so any server of the same `/v1` will do.
//! - A key is sent only to the server it was kept for; see [`Server::connect`].
//! - What is sent again is what may be done twice. A query is created again only under its first `request_id`, so that
//!   a retry never runs it twice.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_ENCODING};
use reqwest::{Method, Request, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

mod answers;
pub(crate) mod csv;
mod error;
pub(crate) mod server;
pub(crate) mod show;
#[cfg(test)]
mod tests;

pub(crate) use answers::{Answer, Ask, Estimate, LoadOptions, Query, Table, TableLine, request_id};
pub(crate) use error::{Error, Refusal};
pub(crate) use server::Server;

use error::retry_after;
use server::{is_loopback, parse_url};

const JSON: &str = "application/json";
/// Arrow IPC stream, the format in which the client reads rows it wants to understand.
const ARROW: &str = "application/vnd.apache.arrow.stream";
/// The longest a server is asked to hold a request open while a query runs.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a request is sent to a server that is busy or gone before that is passed on.
const SENDINGS: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One server and one key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    key: String,
    /// Whether the server has ever answered.
    met: Arc<AtomicBool>,
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
            met: Arc::default(),
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
        self.json(self.request(Method::POST, &["queries"]).json(&body)).await
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
        self.insist(self.request(Method::POST, &["queries", id, "cancel"]))
            .await
            .map(drop)
    }

    /// Rows of an ended query from `start_row`, at most `max_rows`, as the server writes `accept`.
    pub(crate) async fn page(&self, id: &str, start_row: u64, max_rows: u64, accept: &str) -> Result<Vec<u8>, Error> {
        let request = self
            .request(Method::GET, &["queries", id, "results"])
            .query(&[("start_row", start_row), ("max_rows", max_rows)])
            .header(ACCEPT, accept);
        Ok(self.insist(request).await?.into())
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

    /// Runs `sql` by `POST /v1/sql` and reads the whole answer. It is sent once: it has no `request_id`.
    pub(crate) async fn sql(&self, sql: &str, dataset: Option<&str>) -> Result<Answer, Error> {
        let dataset = dataset.map(|dataset| ("dataset", dataset));
        self.json_once(
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
        match self.insist(self.request(Method::POST, &["datasets"]).json(&body)).await {
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

    /// Streams a file into `dataset.table`. Returns when the file is sent; for the end of the load see
    /// [`Client::ended`].
    ///
    /// The file is sent once, because a stream can be read once. Whoever can read it again may send it again under the
    /// same `request_id`.
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
        self.json_once(request.body(file)).await
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

    /// The answer to a request that may be done twice.
    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let body = self.insist(request.header(ACCEPT, JSON)).await?;
        self.read(&body)
    }

    /// The answer to a request that may be done once only.
    async fn json_once<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let request = self.build(request.header(ACCEPT, JSON))?;
        let body = self.send(request).await?;
        self.read(&body)
    }

    /// Sends a request that may be done twice, and again while what is in its way may pass.
    async fn insist(&self, request: RequestBuilder) -> Result<Bytes, Error> {
        let request = self.build(request)?;
        let mut sent = 0;
        loop {
            let again = request.try_clone().expect("a body in memory can be copied");
            let error = match self.send(again).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            sent += 1;
            match error.pause(sent, self.met.load(Ordering::Relaxed)) {
                Some(pause) if sent < SENDINGS => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Sends the request and reads the whole answer; one that is not a success is an error.
    async fn send(&self, request: Request) -> Result<Bytes, Error> {
        #[derive(Deserialize)]
        struct Told {
            error: Refusal,
        }
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.met.store(true, Ordering::Relaxed);
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Told>(&body) {
            Ok(Told { error }) => Err(Error::Refused(Refusal { retry_after, ..error })),
            Err(_) => Err(self.unintelligible(format!("HTTP {status}"))),
        }
    }

    fn build(&self, request: RequestBuilder) -> Result<Request, Error> {
        request.build().map_err(|error| self.unreachable(&error))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| self.unintelligible(error.to_string()))
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

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).expect("nobody waits for half a billion years")
}
