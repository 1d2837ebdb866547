//! Clients of the gateway, over each version of HTTP.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::config::secret_of;
use super::tls::Authority;
use super::{PATIENCE, sha256};

/// A version of HTTP and what it runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/1.1 over TLS.
    TlsH1,
    /// HTTP/2 by ALPN.
    TlsH2,
}

impl Http {
    pub(crate) const ALL: [Http; 4] = [Http::H1, Http::H2c, Http::TlsH1, Http::TlsH2];

    pub(super) fn is_tls(self) -> bool {
        matches!(self, Http::TlsH1 | Http::TlsH2)
    }

    pub(crate) fn is_h2(self) -> bool {
        matches!(self, Http::H2c | Http::TlsH2)
    }
}

/// A client with its own connections.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(http: Http, address: SocketAddr, authority: Option<&Authority>) -> Self {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_built_in_root_certs(false)
            .redirect(reqwest::redirect::Policy::none());
        let builder = match http {
            Http::H1 | Http::TlsH1 => builder.http1_only(),
            Http::H2c => builder.http2_prior_knowledge(),
            Http::TlsH2 => builder,
        };
        let builder = match authority {
            Some(authority) => {
                let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).expect("a certificate");
                builder.add_root_certificate(root)
            }
            None => builder,
        };
        let scheme = if http.is_tls() { "https" } else { "http" };
        Self { base: format!("{scheme}://{address}"), http: builder.build().expect("a client") }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Request(self.http.request(method, format!("{}{path}", self.base)))
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }
}

/// A request being made.
#[must_use = "nothing is sent yet"]
pub(crate) struct Request(reqwest::RequestBuilder);

impl Request {
    /// Presents the key of that name as OpenAI's clients do.
    pub(crate) fn key(self, name: &str) -> Self {
        self.header("authorization", format!("Bearer {}", secret_of(name)))
    }

    pub(crate) fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// A body with its length.
    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self(self.0.body(body.into()))
    }

    /// A body in pieces whose length is not said.
    pub(crate) fn pieces(self, pieces: Vec<Bytes>) -> Self {
        let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        Self(self.0.body(reqwest::Body::wrap_stream(pieces)))
    }

    /// Sends it and reads the answer, to its end or to where it breaks.
    pub(crate) async fn send(self) -> Answer {
        let mut stream = self.stream().await;
        let mut body = Vec::new();
        while let Some(piece) = stream.next().await {
            body.extend_from_slice(&piece);
        }
        Answer { body: body.into(), ..stream.answer }
    }

    /// Sends it and leaves the answer's body to be read.
    pub(crate) async fn stream(self) -> Streamed {
        let response = self.0.send().await.unwrap_or_else(|e| panic!("no answer: {e:?}"));
        let answer = Answer {
            status: response.status().as_u16(),
            version: response.version(),
            headers: response.headers().clone(),
            body: Bytes::new(),
            broken: false,
        };
        Streamed { answer, response }
    }

    /// Sends it; the answer may not come, as when the gateway is killed.
    pub(crate) async fn try_send(self) -> Option<Answer> {
        let mut response = self.0.send().await.ok()?;
        let (status, version, headers) = (response.status().as_u16(), response.version(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Some(Answer { status, version, headers, body: body.into(), broken: false }),
                Err(_) => return None,
            }
        }
    }
}

/// An answer whose body is being read.
pub(crate) struct Streamed {
    /// What is known of it so far.
    pub(crate) answer: Answer,
    response: reqwest::Response,
}

impl Streamed {
    /// The next piece; `None` at the end, clean or not.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.response.chunk().await {
                // HTTP/2 may tell the end by an empty frame.
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(piece) => return piece,
                Err(_) => {
                    self.answer.broken = true;
                    return None;
                }
            }
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: http::Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it broke off.
    pub(crate) broken: bool,
}

impl Answer {
    /// A header's value; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(&self.body)
    }
}
