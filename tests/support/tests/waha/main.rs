//! The stand-in for WAHA: that it answers and posts as a real one, and that its switches do what they say.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

mod compare;
mod conformance;
mod switches;

use groupmq_test_support::waha::Waha;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer: status, content type, body.
type Answered = (u16, Value, Value);

/// Sends one request.
async fn ask(waha: &Waha, method: &str, path: &str, key: Option<&str>, body: &str) -> Answered {
    let host = waha.url().replace("http://", "");
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let key = key.map(|key| format!("x-api-key: {key}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key.unwrap_or_default(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    let body = match body {
        "" => Value::Null,
        body if is_json => serde_json::from_str(body).unwrap(),
        body => json!(body),
    };
    (status, json!(kind), body)
}
