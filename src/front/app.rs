//! The life of a client's connection.

use std::future::{Future, pending, poll_fn};
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::Session;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock;
use crate::http1::{Alarm, Plain, RequestError};

use super::client::{Client, Next};
use super::rewound::Rewound;
use super::seats::Seats;
use super::session::Handle;

/// How long a request's head may take, from its first byte to its last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the rest of a refused request's body is read for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a connection that waits is still listened to when the service is to stop. A client that has just
/// connected, or that sends its next request while its connection is being closed, would otherwise get no answer.
const LAST_REQUEST: Duration = Duration::from_millis(300);
/// The same when another process serves already, and nobody waits for the end of this one: time for a client that is
/// slow to send its next request, and so to be told that the connection closes.
const LAST_REQUEST_UNHURRIED: Duration = Duration::from_secs(3);
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
    idle: Arc<dyn Fn() -> Duration + Send + Sync>,
    is_unhurried: Arc<AtomicBool>,
}

/// What a task keeps from one connection to the next.
struct Kit<'a> {
    /// Its own stream stays unused: each request comes as a session that is put in place of that one.
    session: Session,
    alarm: Alarm,
    shutdown: &'a ShutdownWatch,
    stopping: Stopping<'a>,
}

/// Ready, again and again, once the service is to stop.
struct Stopping<'a>(Option<Pin<&'a mut (dyn Future<Output = ()> + Send)>>);

impl<S: Clone, P> Clone for Front<S, P> {
    fn clone(&self) -> Self {
        let Self { plugin, http2, idle, is_unhurried } = self;
        let (http2, idle, is_unhurried) = (http2.clone(), idle.clone(), is_unhurried.clone());
        Self { plugin: plugin.clone(), http2, idle, is_unhurried }
    }
}

impl<S, P> Front<S, P>
where
    S: Serve,
    P: HttpServerApp + Send + Sync + 'static,
{
    /// In front of `plugin`, and of `http2`, which is Pingora's proxy with the same plugin in it. `idle`
    /// says how long a connection may wait for its next request.
    pub(crate) fn new(plugin: S, http2: P, idle: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { plugin, http2: Arc::new(http2), idle: Arc::new(idle), is_unhurried: Arc::default() }
    }

    /// `is_unhurried` says whether connections have more time to end than they have at a stop.
    pub(crate) fn unhurried_by(self, is_unhurried: Arc<AtomicBool>) -> Self {
        Self { is_unhurried, ..self }
    }

    fn last_request(&self) -> Duration {
        if self.is_unhurried.load(Ordering::Acquire) { LAST_REQUEST_UNHURRIED } else { LAST_REQUEST }
    }

    /// Takes a seat and serves the connections that are given to it, of which `socket` is the first.
    pub(super) async fn sit(self, seats: Arc<Seats>, socket: std::net::TcpStream, shutdown: ShutdownWatch) {
        let mut seat = seats.sit();
        let mut stopping = pin!(stopped(shutdown.clone()));
        let mut kit = Kit::new(&shutdown, stopping.as_mut());
        let mut next = Some(socket);
        while let Some(socket) = next.take() {
            match TcpStream::from_std(socket) {
                Ok(socket) => self.converse(Box::new(Plain(socket)), true, &mut kit).await,
                Err(e) => log::error!("a connection cannot be watched: {e}"),
            }
            if !seat.free() {
                break;
            }
            next = poll_fn(|cx| match seat.poll_next(cx) {
                Poll::Ready(socket) => Poll::Ready(Some(socket)),
                Poll::Pending => kit.stopping.poll(cx).map(|()| seat.take_back()),
            })
            .await;
        }
    }

    /// Serves a connection to its end.
    async fn converse(&self, stream: Stream, plain: bool, kit: &mut Kit<'_>) {
        let client = Arc::new(Client::new(stream, std::mem::take(&mut kit.alarm)));
        loop {
            let next = {
                let mut next = pin!(client.next((self.idle)(), HEADER_TIMEOUT));
                let waited = poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(next) => Poll::Ready(Some(next)),
                    Poll::Pending => kit.stopping.poll(cx).map(|()| None),
                });
                match waited.await {
                    Some(next) => next,
                    // Boxed: every connection would hold its room.
                    None => Box::pin(timeout(self.last_request(), next)).await.unwrap_or(Next::End),
                }
            };
            match next {
                Next::Request(request) => {
                    if *kit.shutdown.borrow() {
                        client.close_after();
                    }
                    let handle = Box::new(Handle::new(client.clone(), request.parts));
                    *kit.session.downstream_session = ServerSession::new_custom(handle);
                    self.plugin.serve(&mut kit.session, &client).await;
                    if !client.is_reusable(DRAIN).await {
                        break;
                    }
                }
                Next::Http2 if plain => {
                    if let Some((stream, before)) = client.take() {
                        self.http2.process_new(Box::new(Rewound { before, stream }), kit.shutdown).await;
                    }
                    return;
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
        kit.alarm = client.close(!plain).await;
    }
}

impl<'a> Kit<'a> {
    fn new(shutdown: &'a ShutdownWatch, stopping: Pin<&'a mut (dyn Future<Output = ()> + Send)>) -> Self {
        Self {
            session: Session::new_h1(Box::new(Cursor::new(Vec::new()))),
            alarm: Alarm::default(),
            shutdown,
            stopping: Stopping(Some(stopping)),
        }
    }
}

impl Stopping<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stopping) = &mut self.0 {
            ready!(stopping.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

async fn stopped(mut shutdown: ShutdownWatch) {
    if shutdown.wait_for(|stopping| *stopping).await.is_err() {
        // Whoever could say so is gone, which says nothing.
        pending::<()>().await;
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
        let mut stopping = pin!(stopped(shutdown.clone()));
        clock::keep(self.converse(stream, plain, &mut Kit::new(shutdown, stopping.as_mut()))).await;
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
