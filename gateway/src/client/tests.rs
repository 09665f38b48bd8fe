use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const DONE: &str = r#"{"id":"q_1","state":"done","kind":"select"}"#;
const BUSY: &str = r#"{"error":{"code":"busy","message":"no worker is free"}}"#;

/// What becomes of one request.
enum Act {
    Answer(&'static str, &'static str),
    BreakOff,
}

/// A server for as many requests as there are acts, each on a connection of its own. It returns what it was asked.
async fn serve(acts: Vec<Act>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for act in acts {
            let (mut connection, _) = listener.accept().await.expect("the client connects");
            requests.push(read(&mut connection).await);
            if let Act::Answer(status, body) = act {
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                connection
                    .write_all(answer.as_bytes())
                    .await
                    .expect("the client listens");
            }
        }
        requests
    });
    let client = Client::new(&format!("http://{address}"), "wh_1").expect("the address is good");
    (client, served)
}

/// One request; here a body ends with a brace, and without a body the head is all.
async fn read(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !(request.ends_with(b"}") || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n")) {
        let read = connection.read_buf(&mut request).await.expect("the client speaks");
        assert!(read > 0, "the client left in the middle of a request");
    }
    String::from_utf8(request).expect("a request is text")
}

fn body(request: &str) -> &str {
    request
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .expect("a request has a head")
}

#[tokio::test]
async fn a_query_whose_answer_is_lost_is_created_again_under_the_same_id() {
    let (client, served) = serve(vec![Act::BreakOff, Act::Answer("200 OK", DONE)]).await;

    let query = client
        .create_query(&Ask::new("select 1", None), Duration::ZERO)
        .await
        .expect("the second answer arrives");

    let requests = served.await.expect("the server does its acts");
    assert_eq!(query.id, "q_1");
    assert!(body(&requests[0]).contains("request_id"), "{}", requests[0]);
    assert_eq!(body(&requests[0]), body(&requests[1]));
}

#[tokio::test]
async fn a_query_is_looked_at_again_when_the_connection_breaks() {
    let (client, served) = serve(vec![Act::BreakOff, Act::Answer("200 OK", DONE)]).await;

    let query = client
        .query("q_1", Duration::ZERO)
        .await
        .expect("the second answer arrives");

    assert_eq!(query.id, "q_1");
    assert_eq!(served.await.expect("the server does its acts").len(), 2);
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says_so() {
    let busy = Act::Answer("429 Too Many Requests", BUSY);
    let (client, _served) = serve(vec![busy, Act::Answer("200 OK", DONE)]).await;

    let query = client.create_query(&Ask::new("select 1", None), Duration::ZERO).await;

    assert_eq!(query.expect("there is a worker now").id, "q_1");
}

#[tokio::test]
async fn a_refusal_is_not_argued_with() {
    let (client, served) = serve(vec![Act::Answer("409 Conflict", BUSY)]).await;

    let refused = client.create_query(&Ask::new("select 1", None), Duration::ZERO).await;

    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert_eq!(served.await.expect("the server does its acts").len(), 1);
}

#[tokio::test]
async fn a_statement_without_an_id_is_sent_once() {
    let (client, _served) = serve(vec![Act::BreakOff, Act::Answer("200 OK", DONE)]).await;

    let lost = client.sql("select 1 -- {}", None).await;

    assert!(lost.is_err_and(|error| error.is_unreachable()));
}
