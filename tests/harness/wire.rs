//! A wire between a client and the warehouse that breaks once, at the worst moment: the server has done what it was
//! asked, and the client does not hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const CHUNK_BYTES: usize = 64 * 1024;

/// Carries every connection to the warehouse, except for one answer.
pub(crate) struct Wire {
    url: String,
    broken: Arc<AtomicBool>,
    carrier: JoinHandle<()>,
}

impl Wire {
    /// A wire to `server` that breaks instead of carrying the answer to the first request that says `word`.
    pub(crate) async fn that_loses_the_answer_to(word: &'static str, server: &str) -> Self {
        let address = server
            .strip_prefix("http://")
            .expect("the server speaks plain HTTP on loopback")
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let local = listener.local_addr().expect("the listener is bound");
        let broken = Arc::new(AtomicBool::new(false));
        let carrier = tokio::spawn(accept(listener, address, word, Arc::clone(&broken)));
        Self {
            url: format!("http://{local}"),
            broken,
            carrier,
        }
    }

    /// Where the warehouse seems to be.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it has broken by now.
    pub(crate) fn has_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

async fn accept(listener: TcpListener, address: String, word: &'static str, broken: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&address).await.expect("the gateway listens");
        tokio::spawn(carry(client, server, word, Arc::clone(&broken)));
    }
}

/// Carries one connection until one side leaves or the wire breaks; then both sides find it closed.
async fn carry(client: TcpStream, server: TcpStream, word: &'static str, broken: Arc<AtomicBool>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let said = AtomicBool::new(false);
    tokio::select! {
        () = carry_requests(from_client, to_server, word, &said) => {}
        () = carry_answers(from_server, to_client, &said, &broken) => {}
    }
}

async fn carry_requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, word: &str, said: &AtomicBool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut heard = Vec::new();
    while let Ok(bytes @ 1..) = from.read(&mut chunk).await {
        heard.extend_from_slice(&chunk[..bytes]);
        if heard.windows(word.len()).any(|window| window == word.as_bytes()) {
            said.store(true, Ordering::SeqCst);
        }
        if to.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn carry_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: &AtomicBool, broken: &AtomicBool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut chunk).await {
        if said.load(Ordering::SeqCst) && !broken.swap(true, Ordering::SeqCst) {
            return;
        }
        if to.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}
