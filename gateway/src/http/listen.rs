//! Connections: taking them, noticing those that say nothing, and letting them end.
//!
//! # Invariants
//! - A connection that asks for nothing within [`HEAD_TIMEOUT`] is closed, whatever protocol it speaks, and so is one
//!   that takes longer than that for the head of a later request over HTTP/1.1.
//! - Nothing here bounds a body or an answer: the first is up to who reads it (`extract.rs`, `load.rs`), the second may
//!   take as long as its query.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::ServiceExt;
use tracing::{debug, warn};
use wasmhouse_storage::BoxError;

use super::auth::Peer;

/// How long the head of a request may take to arrive, from the moment from which it could.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a client that speaks HTTP/2 is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait when the system has no room for another connection.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Answers connections until `stop` completes, then lets those that are open end, for `patience` at most.
pub(super) async fn listen(listener: TcpListener, router: Router, stop: impl Future<Output = ()>, patience: Duration) {
    let protocol = protocol();
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.as_mut() => break,
            accepted = accept(&listener) => accepted,
        };
        let asked = Arc::new(Notify::new());
        let asking = Arc::clone(&asked);
        let service = ServiceExt::<Request>::map_request(router.clone(), move |mut request: Request<Incoming>| {
            asking.notify_one();
            request.extensions_mut().insert(peer);
            request.map(Body::new)
        });
        let connection = protocol
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        tokio::spawn(attend(open.watch(connection), asked));
    }
    drop(listener);

    // A client that never reads must not keep the house open.
    if tokio::time::timeout(patience, open.shutdown()).await.is_err() {
        warn!("connections that did not end in {} s are left open", patience.as_secs());
    }
}

/// HTTP/1.1 and HTTP/2, told apart by the first bytes.
fn protocol() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// The next connection. One for which there is no room waits, and those that are served go on.
async fn accept(listener: &TcpListener) -> (TcpStream, Peer) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // A small answer is sent at once, not when the one before it has been acknowledged.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!("a connection will be slow: {error}");
                }
                // One address has one spelling in what is written down.
                return (stream, Peer(address.ip().to_canonical()));
            }
            Err(error) if has_left(error.kind()) => {}
            Err(error) => {
                warn!("no connection can be taken right now: {error}");
                tokio::time::sleep(ROOM_PAUSE).await;
            }
        }
    }
}

/// The client went away while its connection waited to be taken.
fn has_left(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// Answers one connection to its end, if it asks for anything at all.
///
/// The timeout of heads begins when it is known which protocol the connection speaks. This one begins before that.
async fn attend(connection: impl Future<Output = Result<(), BoxError>>, asked: Arc<Notify>) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        heard = tokio::time::timeout(HEAD_TIMEOUT, asked.notified()) => match heard {
            Ok(()) => connection.await,
            Err(_) => Err("it asked for nothing".into()),
        },
    };
    if let Err(error) = ended {
        debug!("a connection was closed: {error}");
    }
}
