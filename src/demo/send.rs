//! Sends a case over a connection of its own and reads the whole answer.
//!
//! Knows nothing of what the answer should be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::cases::Case;

/// A case that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer; the demo's are a few kilobytes.
const MAX_ANSWER: usize = 64 << 20;

/// A whole answer.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Sends `case` with `key` and the header fields of `extra`.
pub(super) async fn send(
    to: SocketAddr,
    key: &str,
    case: &Case,
    extra: &[(&'static str, &str)],
) -> io::Result<Received> {
    let mut request =
        Request::builder().method(case.method.clone()).uri(case.target(key)).header("host", to.to_string());
    for (name, value) in case.header_fields(key) {
        request = request.header(name, value);
    }
    for (name, value) in extra {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(case.bytes()))).map_err(io::Error::other)?;
    tokio::time::timeout(TIMEOUT, exchange(to, request)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn exchange(to: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<Received> {
    let socket = TcpStream::connect(to).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Received { status: head.status.as_u16(), headers: head.headers, body })
    };
    let mut answer = std::pin::pin!(answer);
    // The connection is driven here and not by a task, so nothing outlives the request.
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end at the moment in which the answer is whole.
        _ = connection => answer.await,
    }
}
