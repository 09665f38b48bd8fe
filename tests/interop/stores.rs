//! Object stores of our own, on loopback, for a test.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::header::{IF_MATCH, IF_NONE_MATCH};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::eventually;
use crate::python::python;

/// The bucket of every store.
pub(crate) const BUCKET: &str = "warehouse-bucket";

/// What signs requests, and is checked by the stores that check.
const KEY: &str = "test";

/// An S3 of our own. It ends when it is dropped.
pub(crate) struct S3 {
    endpoint: String,
    _server: Server,
}

#[expect(dead_code, reason = "a server is kept for its end")]
enum Server {
    Task(AbortOnDropHandle<()>, TempDir),
    Process(Process),
}

struct Process(Child);

impl S3 {
    /// `s3s-fs` in this process. It checks signatures.
    pub(crate) async fn in_process() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket is a directory");
        let files = FileSystem::new(root.path()).expect("the directory can be served");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, KEY));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has free ports");
        let address = listener.local_addr().expect("a listener has an address");
        let server = tokio::spawn(serve(listener, builder.build()));
        Self {
            endpoint: format!("http://{address}"),
            _server: Server::Task(AbortOnDropHandle::new(server), root),
        }
    }

    /// `moto`, in a process of its own.
    pub(crate) async fn of_moto() -> Self {
        let free = free_address();
        let server = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &free.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python runs");
        let s3 = Self {
            endpoint: format!("http://{free}"),
            _server: Server::Process(Process(server)),
        };
        let http = reqwest::Client::new();
        eventually("S3 has a bucket", async || {
            let made = http.put(format!("{}/{BUCKET}", s3.endpoint)).send().await;
            made.is_ok_and(|response| response.status().is_success())
        })
        .await;
        s3
    }

    /// The settings of a warehouse whose bucket it is.
    pub(crate) fn settings(&self) -> String {
        format!(
            "[bucket]\nurl = \"s3://{BUCKET}/some/prefix\"\n\n[bucket.options]\naws_endpoint = \"{}\"\naws_allow_http = \"true\"\n\
             aws_region = \"us-east-1\"\naws_access_key_id = \"{KEY}\"\naws_secret_access_key = \"{KEY}\"\n",
            self.endpoint
        )
    }

    /// The same, by the names that readers know.
    pub(crate) fn options(&self) -> Value {
        json!({
            "aws_endpoint": self.endpoint,
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true",
            "aws_region": "us-east-1",
            "aws_access_key_id": KEY,
            "aws_secret_access_key": KEY,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Free when we looked, and nobody else looks for a port here.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has free ports")
}

async fn serve(listener: tokio::net::TcpListener, s3: S3Service) {
    // `s3s-fs` looks whether a file is there and then writes it: two requests with a condition must not meet.
    let conditional = Arc::new(Mutex::new(()));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let (s3, conditional) = (s3.clone(), Arc::clone(&conditional));
        let answer = service_fn(move |request: Request<Incoming>| {
            let (s3, conditional) = (s3.clone(), Arc::clone(&conditional));
            async move { Ok::<_, Infallible>(answer(&s3, &conditional, request).await) }
        });
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            // A client that hangs up is no news.
            let _ = connection.serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

async fn answer(s3: &S3Service, conditional: &Mutex<()>, request: Request<Incoming>) -> Response<s3s::Body> {
    let has_condition = [IF_MATCH, IF_NONE_MATCH]
        .iter()
        .any(|name| request.headers().contains_key(name));
    let _alone = match has_condition {
        true => Some(conditional.lock().await),
        false => None,
    };
    s3.call(request.map(s3s::Body::from)).await.expect("S3 answers")
}
