//! The life of a client's connection.

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::Session;

use crate::http1::RequestError;

use super::client::{Client, Next};
use super::rewound::Rewound;
use super::session::Handle;

/// How long a request's head may take, from its first byte to its last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the rest of a refused request's body is read for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a client whose request made no sense is listened to, so that it sees why.
const LINGER: Duration = Duration::from_secs(2);

/// Who answers the requests of HTTP/1.1.
pub trait Serve: Send + Sync + 'static {
    /// Answers the request that `session` has and `client` sent.
    fn serve(&self, session: &mut Session, client: &Arc<Client>) -> impl Future<Output = ()> + Send;
}

/// The app of a Pingora service: HTTP/1.1 is read here, HTTP/2 by Pingora; the requests of both go to the
/// same plugin.
pub struct Front<S, P> {
    plugin: S,
    http2: Arc<P>,
    idle: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl<S, P> Front<S, P> {
    /// In front of `plugin`, and of `http2`, which is Pingora's proxy with the same plugin in it. `idle`
    /// says how long a connection may wait for its next request.
    pub(crate) fn new(plugin: S, http2: P, idle: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { plugin, http2: Arc::new(http2), idle: Box::new(idle) }
    }
}

#[async_trait]
impl<S, P> ServerApp for Front<S, P>
where
    S: Serve,
    P: HttpServerApp + Send + Sync + 'static,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.http2.process_new(stream, shutdown).await;
        }
        let plain = stream.get_ssl_digest().is_none();
        let client = Arc::new(Client::new(stream));
        // Its own stream stays unused: each request comes as a session that is put in place of that one.
        let mut session = Session::new_h1(Box::new(Cursor::new(Vec::new())));
        let mut watch = shutdown.clone();
        let mut stopping = pin!(async move { watch.wait_for(|stopping| *stopping).await.is_ok() });
        loop {
            let next = {
                let mut next = pin!(client.next((self.idle)(), HEADER_TIMEOUT));
                std::future::poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(next) => Poll::Ready(next),
                    Poll::Pending => stopping.as_mut().poll(cx).map(|_| Next::End),
                })
                .await
            };
            match next {
                Next::Request(request) => {
                    if *shutdown.borrow() {
                        client.close_after();
                    }
                    let handle = Box::new(Handle::new(client.clone(), request.parts));
                    *session.downstream_session = ServerSession::new_custom(handle);
                    self.plugin.serve(&mut session, &client).await;
                    if !client.is_reusable(DRAIN).await {
                        break;
                    }
                }
                Next::Http2 if plain => {
                    let (stream, before) = client.take()?;
                    return self.http2.process_new(Box::new(Rewound { before, stream }), shutdown).await;
                }
                Next::Http2 => {
                    refuse(&client, RequestError::Parse(httparse::Error::Version)).await;
                    break;
                }
                Next::Bad(error) => {
                    refuse(&client, error).await;
                    break;
                }
                Next::End => break,
            }
        }
        client.close(!plain).await;
        None
    }

    async fn cleanup(&self) {
        self.http2.http_cleanup().await;
    }
}

/// Says what is wrong with a request that nobody can route. Which protocol its sender speaks is not known.
async fn refuse(client: &Client, error: RequestError) {
    let body = Bytes::from(format!("{error}\n"));
    client.refused();
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    client.head(status, None, Some(body.len() as u64), |out| out.extend_from_slice(b"content-type: text/plain\r\n"));
    client.piece(body);
    if client.flush().await.is_ok() {
        client.linger(LINGER).await;
    }
}
