//! A client that writes bytes, for what no library would send.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::PATIENCE;
use super::wire::{self, End};

/// One connection.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the gateway reads");
    }

    /// Sends as much as is taken.
    pub(crate) async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// A head with these lines, `host` added.
    pub(crate) async fn send_head(&mut self, request: &str, lines: &[&str]) {
        let lines: String = lines.iter().flat_map(|line| [*line, "\r\n"]).collect();
        self.send(format!("{request} HTTP/1.1\r\nhost: weir.test\r\n{lines}\r\n")).await;
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> String {
        let head = tokio::time::timeout(PATIENCE, wire::head(&mut self.stream, &mut self.buffer)).await;
        head.expect("an answer in time").expect("an answer before the close")
    }

    /// The next answer, which must be whole.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        let head = self.head().await;
        let body = wire::body(&mut self.stream, &mut self.buffer, &head, !head.contains(" 204 "));
        let (body, end) = tokio::time::timeout(PATIENCE, body).await.expect("an answer's end in time");
        assert_eq!(end, End::Whole, "the answer to {head}");
        RawAnswer { status: status(&head), head, body }
    }

    /// Closes its own side and gives all that still comes.
    pub(crate) async fn leave(mut self) -> Vec<u8> {
        let read = async { while wire::more(&mut self.stream, &mut self.buffer).await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(150), read).await;
        self.buffer
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let is_empty = self.buffer.is_empty();
        let read = wire::more(&mut self.stream, &mut self.buffer);
        is_empty && tokio::time::timeout(Duration::from_millis(150), read).await.is_err()
    }

    /// Whether the gateway closes before it says anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let read = wire::more(&mut self.stream, &mut self.buffer);
        tokio::time::timeout(PATIENCE, read).await == Ok(None)
    }
}

impl RawAnswer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::values(&self.head, name).first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
}
