//! Somebody with a key: what they can ask of a warehouse over HTTP.

use reqwest::{Body, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::answers::{ApiError, Rows};
use super::raw::{self, RawAnswer};

/// A project's key and the warehouse it opens.
#[derive(Clone)]
pub(crate) struct Caller {
    http: reqwest::Client,
    url: String,
    project: String,
    key: String,
}

impl Caller {
    pub(super) fn new(url: String, project: String, key: String) -> Self {
        Self {
            http: reqwest::Client::new(),
            url,
            project,
            key,
        }
    }

    /// The same warehouse, seen by another project.
    pub(crate) fn with_key(&self, project: &str, key: &str) -> Self {
        Self {
            project: project.to_owned(),
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Lets somebody into the project, with these roles and a key of his own.
    pub(crate) async fn lets_in(&self, name: &str, roles: &[&str]) -> Self {
        self.post("/v1/principals", json!({ "name": name }))
            .await
            .unwrap_or_else(|error| panic!("{name} is not let in: {error}"));
        for role in roles {
            let (role, dataset) = match role.split_once(" on ") {
                Some((role, dataset)) => (role, Some(dataset)),
                None => (*role, None),
            };
            let grant = json!({ "principal": name, "role": role, "dataset": dataset });
            self.post("/v1/grants", grant).await.expect("a role that there is");
        }
        self.key_for(json!({ "name": format!("of {name}"), "principal": name }))
            .await
    }

    /// Somebody with the key that this makes.
    pub(crate) async fn key_for(&self, new: Value) -> Self {
        let made = self.post("/v1/keys", new).await.expect("a new key");
        self.with_key(&self.project, made["key"].as_str().expect("a key"))
    }

    pub(crate) fn project_name(&self) -> &str {
        &self.project
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A request with this caller's key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.key)
    }

    /// A request without a key.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Runs a statement that must work.
    pub(crate) async fn sql(&self, sql: &str) -> Rows {
        self.try_sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{}\n  {error}", shortened(sql)))
    }

    /// Runs a statement.
    pub(crate) async fn try_sql(&self, sql: &str) -> Result<Rows, ApiError> {
        self.ask(json!({ "sql": sql })).await
    }

    /// Runs a statement that must fail, and says how it did.
    pub(crate) async fn refused(&self, sql: &str) -> ApiError {
        match self.try_sql(sql).await {
            Ok(rows) => panic!("{}\n  was answered with {:?}", shortened(sql), rows.rows),
            Err(error) => error,
        }
    }

    /// `POST /v1/sql` with this JSON body.
    pub(crate) async fn ask(&self, body: Value) -> Result<Rows, ApiError> {
        let request = self
            .request(Method::POST, "/v1/sql")
            .header("accept", "application/json")
            .json(&body);
        let response = request.send().await.expect("the gateway answers");
        let headers = response.headers().clone();
        let answer = json_of(response).await?;
        Ok(Rows::from_json(&answer, headers))
    }

    /// `POST /v1/sql` with `dry_run`.
    pub(crate) async fn dry_run(&self, sql: &str) -> Result<Value, ApiError> {
        self.post("/v1/sql", json!({ "sql": sql, "dry_run": true })).await
    }

    /// `POST /v1/sql` with the statement as text, and the bytes of the answer in this format.
    pub(crate) async fn fetch(&self, sql: &str, accept: &str) -> Vec<u8> {
        let request = self
            .request(Method::POST, "/v1/sql")
            .header("accept", accept)
            .body(sql.to_owned());
        let response = request.send().await.expect("the gateway answers");
        assert!(
            response.status().is_success(),
            "{}: {}",
            response.status(),
            response.text().await.unwrap_or_default()
        );
        response.bytes().await.expect("the answer ends well").to_vec()
    }

    /// Like [`Caller::fetch`], as text.
    pub(crate) async fn fetch_text(&self, sql: &str, accept: &str) -> String {
        String::from_utf8(self.fetch(sql, accept).await).expect("text formats are UTF-8")
    }

    /// The answer to a statement about a dataset as CSV, or what it says instead of one.
    pub(crate) async fn csv(&self, dataset: &str, sql: impl Into<Body>) -> String {
        let request = self
            .request(Method::POST, &format!("/v1/sql?dataset={dataset}"))
            .header("accept", "text/csv")
            .body(sql);
        let answer = request.send().await.expect("the gateway answers");
        answer.text().await.expect("the answer ends well")
    }

    /// `POST /v1/queries` with this JSON body: the query resource.
    pub(crate) async fn query(&self, body: Value) -> Result<Value, ApiError> {
        self.post("/v1/queries", body).await
    }

    /// The id of a query that was sent and is not waited for.
    pub(crate) async fn send(&self, sql: &str) -> String {
        let query = self.query(json!({ "sql": sql, "wait_ms": 0 })).await.expect("a query");
        query["id"].as_str().expect("an id").to_owned()
    }

    /// A query resource that has ended, however it did.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        loop {
            let query = self
                .get(&format!("/v1/queries/{id}?wait_ms=10000"))
                .await
                .expect("the query is there");
            if is_final(&query) {
                return query;
            }
        }
    }

    /// Loads CSV with a header into a table, making the table when it is not there.
    pub(crate) async fn load_csv(&self, table: &str, text: impl Into<String>) -> Value {
        self.load(table, "format=csv", text.into())
            .await
            .unwrap_or_else(|error| panic!("load into {table}\n  {error}"))
    }

    /// `POST …/load` with these options; waits for the end and gives the query resource when it is `done`.
    pub(crate) async fn load(&self, table: &str, options: &str, body: impl Into<Body>) -> Result<Value, ApiError> {
        self.load_request(table, options).body(body).send_load(self).await
    }

    /// The request of a load, for tests that add headers or a stream.
    pub(crate) fn load_request(&self, table: &str, options: &str) -> LoadRequest {
        let (dataset, name) = table.split_once('.').expect("a table is written dataset.table");
        let path = format!("/v1/datasets/{dataset}/tables/{name}/load?wait_ms=60000&{options}");
        LoadRequest(self.request(Method::POST, &path))
    }

    /// Makes a dataset, or finds it there.
    pub(crate) async fn dataset(&self, name: &str) {
        match self.post("/v1/datasets", json!({ "name": name })).await {
            Err(error) if error.code != "already_exists" => panic!("dataset {name}: {error}"),
            _ => {}
        }
    }

    /// The ledger lines of the project, all pages of them.
    pub(crate) async fn ledger(&self) -> Vec<Value> {
        let mut lines: Vec<Value> = Vec::new();
        loop {
            let after = lines
                .last()
                .map_or(0, |line| line["seq"].as_i64().expect("a line has a number"));
            let page = self
                .get(&format!("/v1/ledger?after={after}&limit=500"))
                .await
                .expect("a project can read its ledger");
            let page = page["lines"].as_array().expect("a ledger has lines").clone();
            if page.is_empty() {
                return lines;
            }
            lines.extend(page);
        }
    }

    /// The lines of the ledger for which something is to be paid, or would be if it did not cost nothing.
    pub(crate) async fn bills(&self) -> Vec<Value> {
        let mut lines = self.ledger().await;
        lines.retain(|line| line["cost"]["free"].is_null());
        lines
    }

    /// Those of one query: one when it is billed, none when it is not.
    pub(crate) async fn bills_of(&self, query: &str) -> Vec<Value> {
        let mut lines = self.bills().await;
        lines.retain(|line| line["query_id"] == query);
        lines
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        json_of(
            self.request(Method::GET, path)
                .send()
                .await
                .expect("the gateway answers"),
        )
        .await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, ApiError> {
        json_of(
            self.request(Method::POST, path)
                .json(&body)
                .send()
                .await
                .expect("the gateway answers"),
        )
        .await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Result<Value, ApiError> {
        json_of(
            self.request(Method::PATCH, path)
                .json(&body)
                .send()
                .await
                .expect("the gateway answers"),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        json_of(
            self.request(Method::DELETE, path)
                .send()
                .await
                .expect("the gateway answers"),
        )
        .await
    }

    /// `GET` without a key, as text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let response = self
            .anonymous(Method::GET, path)
            .send()
            .await
            .expect("the gateway answers");
        (
            response.status().as_u16(),
            response.text().await.expect("the page ends well"),
        )
    }

    /// What the metric without labels of this name says; nothing was counted while it is not there.
    pub(crate) async fn counted(&self, metric: &str) -> u64 {
        let (_, page) = self.page("/metrics").await;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.map_or(0, |number| number.parse().expect("a whole number"))
    }

    /// `POST /v1/sql` over a bare connection: what is on the wire, to the last chunk.
    pub(crate) async fn raw_sql(&self, sql: &str, accept: &str) -> RawAnswer {
        raw::post_sql(&self.url, &self.key, sql, accept).await
    }
}

/// A load that has not been sent.
pub(crate) struct LoadRequest(RequestBuilder);

impl LoadRequest {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    /// The request itself, for tests that want to see the raw answer.
    pub(crate) fn into_builder(self) -> RequestBuilder {
        self.0
    }

    /// Sends it as `caller` and waits for its end.
    pub(crate) async fn send_load(self, caller: &Caller) -> Result<Value, ApiError> {
        let query = json_of(self.0.send().await.expect("the gateway answers")).await?;
        let id = query["id"].as_str().expect("a load is a query").to_owned();
        let query = caller.ended(&id).await;
        if query["state"] == "done" {
            Ok(query)
        } else {
            Err(ApiError::from_json(200, &query["error"]))
        }
    }
}

/// Whether this query resource will not change any more.
pub(crate) fn is_final(query: &Value) -> bool {
    matches!(
        query["state"].as_str(),
        Some("done" | "failed" | "cancelled" | "abandoned" | "lost")
    )
}

async fn json_of(response: Response) -> Result<Value, ApiError> {
    let status = response.status();
    let body = response
        .text()
        .await
        .map_err(|cause| ApiError::broken(status, &cause))?;
    if !status.is_success() {
        return Err(ApiError::from_body(status, &body));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} and not JSON: {body}")))
}

fn shortened(sql: &str) -> String {
    sql.chars().take(300).collect()
}
