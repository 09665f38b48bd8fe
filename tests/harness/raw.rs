//! A request over a bare connection, for what HTTP libraries hide: trailers, and how a body really ended.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer with chunked transfer coding, taken apart.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body said that it is complete; a connection that was cut says nothing.
    pub(crate) complete: bool,
    /// Trailer lines, names in lower case.
    pub(crate) trailers: Vec<(String, String)>,
}

impl RawAnswer {
    /// The lines of the body.
    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.body).lines().map(str::to_owned).collect()
    }

    /// The value of a trailer.
    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

pub(super) async fn post_sql(url: &str, key: &str, sql: &str, accept: &str) -> RawAnswer {
    let address = url
        .strip_prefix("http://")
        .expect("the server speaks plain HTTP on loopback");
    let mut connection = TcpStream::connect(address).await.expect("the gateway listens");
    let request = format!(
        "POST /v1/sql HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\naccept: {accept}\r\nte: trailers\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{sql}",
        sql.len()
    );
    connection
        .write_all(request.as_bytes())
        .await
        .expect("the gateway reads");

    let mut bytes = Vec::new();
    // A connection that was reset has still given us the bytes before that.
    let _ = connection.read_to_end(&mut bytes).await;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> RawAnswer {
    let end_of_head =
        find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end_of_head]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines.filter_map(field).collect();
    let rest = &bytes[end_of_head + 4..];

    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse::<usize>().ok());
    let (body, complete, trailers) = match (chunked, length) {
        (true, _) => chunks(rest),
        (false, Some(length)) => (rest.to_vec(), rest.len() == length, Vec::new()),
        (false, None) => (rest.to_vec(), false, Vec::new()),
    };
    RawAnswer {
        status: status.expect("a status line has a status"),
        headers,
        body,
        complete,
        trailers,
    }
}

fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool, Vec<(String, String)>) {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return (body, false, Vec::new());
        };
        let size = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(size) = size else {
            return (body, false, Vec::new());
        };
        rest = &rest[end + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(rest).split("\r\n").filter_map(field).collect();
            return (body, rest.ends_with(b"\r\n"), trailers);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return (body, false, Vec::new());
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
