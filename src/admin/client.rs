//! A client of a gateway that runs on the same machine, over the socket in its data directory.
//!
//! Owns one request and its answer. Knows nothing of what the paths mean.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// For all of a request. Longer than the listener takes at most, so that its own answer comes first.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Bytes of an answer: a month of hours for four hundred keys, at some 200 bytes a row, is a little less.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Asks a running gateway.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What the gateway answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, whole.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// A body that is not JSON.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: there is no socket, or its process is gone.
    #[error("no gateway listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket may not be opened, or the connection broke.
    #[error("{}: {error}", .socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// What came is no HTTP, or broke off.
    #[error("the gateway's answer cannot be read: {0}")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is larger than this client takes.
    #[error("the gateway's answer is too large; ask for less")]
    TooLarge,
    /// The gateway took too long.
    #[error("the gateway does not answer")]
    Timeout,
}

impl Client {
    /// A client of the gateway whose socket is `path`. Connects at each request.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { socket: path.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`, which may have a query.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// `POST path`, without a body.
    pub async fn post(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, Bytes::new()).await
    }

    /// `POST path` with a body.
    pub async fn post_body(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, body).await
    }

    /// `PATCH path` with a body.
    pub async fn patch_body(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.send(Method::PATCH, path, body).await
    }

    /// [`Client::get`] for a caller without a runtime.
    pub fn get_blocking(&self, path: &str) -> Result<Answer, ClientError> {
        self.block_on(self.get(path))
    }

    /// [`Client::post`] for a caller without a runtime.
    pub fn post_blocking(&self, path: &str) -> Result<Answer, ClientError> {
        self.block_on(self.post(path))
    }

    /// [`Client::post_body`] for a caller without a runtime.
    pub fn post_body_blocking(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.block_on(self.post_body(path, body))
    }

    /// [`Client::patch_body`] for a caller without a runtime.
    pub fn patch_body_blocking(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.block_on(self.patch_body(path, body))
    }

    /// `GET path`, whose answer has no end: `each` gets its lines as they come, until it says that it has enough.
    /// An answer that is not 200 is given whole, and `each` gets nothing.
    pub fn follow_blocking(&self, path: &str, each: impl FnMut(&str) -> bool) -> Result<Option<Answer>, ClientError> {
        self.block_on(self.follow(path, each))
    }

    async fn follow(&self, path: &str, mut each: impl FnMut(&str) -> bool) -> Result<Option<Answer>, ClientError> {
        let (mut sender, connection) = self.connect().await?;
        // It moves the bytes; its own error ends the answer too.
        let moves = tokio::spawn(connection);
        let begins = sender.send_request(request(Method::GET, path, Bytes::new())?);
        let begins = tokio::time::timeout(TIMEOUT, begins).await.map_err(|_| ClientError::Timeout)?;
        let (head, mut body) = begins.map_err(http_error)?.into_parts();
        let _moves = AbortOnDrop(moves);
        if head.status != StatusCode::OK {
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(ClientError::Http)?.to_bytes();
            return Ok(Some(Answer { status: head.status, body }));
        }
        let mut lines = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(http_error)?.into_data() else { continue };
            lines.extend_from_slice(&data);
            let mut begin = 0;
            while let Some(length) = memchr::memchr(b'\n', &lines[begin..]) {
                if !each(&String::from_utf8_lossy(&lines[begin..begin + length])) {
                    return Ok(None);
                }
                begin += length + 1;
            }
            lines.drain(..begin);
            if lines.len() > MAX_ANSWER {
                return Err(ClientError::TooLarge);
            }
        }
        Ok(None)
    }

    fn block_on<T>(&self, request: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| self.io(error))?.block_on(request)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        match tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let request = request(method, path, body)?;
        let (mut sender, connection) = self.connect().await?;
        let answer = async {
            let (head, body) = sender.send_request(request).await.map_err(http_error)?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { ClientError::TooLarge } else { ClientError::Http(error) }
            })?;
            Ok(Answer { status: head.status, body: body.to_bytes() })
        };
        // The connection is what moves the bytes; its own error, if any, also ends the answer.
        let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
        tokio::select! {
            answer = answer.as_mut() => answer,
            _ = connection.as_mut() => answer.await,
        }
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(self.socket.clone()),
            _ => self.io(error),
        })?;
        http1::handshake(TokioIo::new(stream)).await.map_err(http_error)
    }

    fn io(&self, error: io::Error) -> ClientError {
        ClientError::Io { socket: self.socket.clone(), error }
    }
}

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// A task that ends with whoever began it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
    let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    request.body(Full::new(body)).map_err(http_error)
}

fn http_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Http(error.into())
}
