//! The life of a client's connection.

use std::future::{Future, pending, poll_fn};
use std::io::Cursor;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::Session;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock;
use crate::http1::{Alarm, Plain, RequestError};

use super::census::{Census, Counted};
use super::client::{Client, Next};
use super::rewound::Rewound;
use super::seats::{Arrival, Seats};
use super::session::Handle;
use super::terms::{Terms, Turned};

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
/// A client speaks another version of HTTP than it has agreed to.
const NOT_AGREED: RequestError = RequestError::Parse(httparse::Error::Version);

/// Who answers the requests of HTTP/1.1.
pub trait Serve: Send + Sync + 'static {
    /// Answers the request that `session` has and `client` sent.
    fn serve(&self, session: &mut Session, client: &Arc<Client>) -> impl Future<Output = ()> + Send;

    /// Hears that a client was turned away before it came to that.
    fn turned_away(&self, why: Turned);
}

/// The app of a Pingora service: HTTP/1.1 is read here, HTTP/2 by Pingora; the requests of both go to the
/// same plugin.
pub struct Front<S, P> {
    plugin: S,
    http2: Arc<P>,
    census: Arc<Census>,
    terms: Arc<dyn Fn() -> Terms + Send + Sync>,
    is_unhurried: Arc<AtomicBool>,
}

/// What a connection's client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Whatever it begins with: there was no agreement.
    Any,
    /// HTTP/1.1, by agreement or for want of one.
    Http1,
    /// HTTP/2, by agreement.
    Http2,
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
        Self {
            plugin: self.plugin.clone(),
            http2: self.http2.clone(),
            census: self.census.clone(),
            terms: self.terms.clone(),
            is_unhurried: self.is_unhurried.clone(),
        }
    }
}

impl<S, P> Front<S, P>
where
    S: Serve,
    P: HttpServerApp + Send + Sync + 'static,
{
    /// In front of `plugin`, and of `http2`, which is Pingora's proxy with the same plugin in it. Connections are
    /// counted in `census`; `terms` says what their clients are held to.
    pub(crate) fn new(
        plugin: S,
        http2: P,
        census: Arc<Census>,
        terms: impl Fn() -> Terms + Send + Sync + 'static,
    ) -> Self {
        let (http2, terms) = (Arc::new(http2), Arc::new(terms));
        Self { plugin, http2, census, terms, is_unhurried: Arc::default() }
    }

    /// `is_unhurried` says whether connections have more time to end than they have at a stop.
    pub(crate) fn unhurried_by(self, is_unhurried: Arc<AtomicBool>) -> Self {
        Self { is_unhurried, ..self }
    }

    fn last_request(&self) -> Duration {
        if self.is_unhurried.load(Ordering::Acquire) { LAST_REQUEST_UNHURRIED } else { LAST_REQUEST }
    }

    /// Counts a connection from `address`. `None`: there are too many.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Option<Counted> {
        self.census.enter(address, &(self.terms)()).map_err(|why| self.plugin.turned_away(why)).ok()
    }

    /// Ends what the service has begun beside its connections.
    pub(super) async fn cleanup(&self) {
        self.http2.http_cleanup().await;
    }

    /// Takes a seat and serves the connections that are given to it.
    pub(super) async fn sit(self, seats: Arc<Seats>, first: Arrival, shutdown: ShutdownWatch) {
        let mut seat = seats.sit();
        let mut stopping = pin!(stopped(shutdown.clone()));
        let mut kit = Kit::new(&shutdown, stopping.as_mut());
        let mut next = Some(first);
        while let Some(Arrival { socket, from, counted }) = next.take() {
            let due = self.first_head_due();
            match TcpStream::from_std(socket) {
                Ok(socket) => self.converse(Box::new(Plain(socket)), from, Speech::Any, due, &mut kit).await,
                Err(e) => log::error!("a connection cannot be watched: {e}"),
            }
            drop(counted);
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

    /// Serves a connection whose client first encrypts it.
    pub(super) async fn encrypted(self, acceptor: Arc<Acceptor>, arrival: Arrival, shutdown: ShutdownWatch) {
        let Arrival { socket, from, counted: _counted } = arrival;
        // One deadline for handshake and head: whoever is slow is slow in either.
        let due = self.first_head_due();
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(e) => return log::error!("a connection cannot be watched: {e}"),
        };
        let Ok(Ok(stream)) = timeout_at(due, acceptor.tls_handshake(Plain(socket))).await else {
            return self.plugin.turned_away(Turned::Handshake);
        };
        let speech = match stream.selected_alpn_proto() {
            Some(ALPN::H2) => Speech::Http2,
            _ => Speech::Http1,
        };
        let mut stopping = pin!(stopped(shutdown.clone()));
        self.converse(Box::new(stream), from, speech, due, &mut Kit::new(&shutdown, stopping.as_mut())).await;
    }

    /// By when the first head of a connection that begins now has to be whole.
    fn first_head_due(&self) -> Instant {
        clock::tokio_now() + (self.terms)().head
    }

    /// Serves a connection to its end; its first head has to be whole by `due`.
    async fn converse(&self, stream: Stream, from: Option<IpAddr>, speech: Speech, due: Instant, kit: &mut Kit<'_>) {
        let client = Arc::new(Client::new(stream, from, std::mem::take(&mut kit.alarm)));
        let mut first = Some(due);
        loop {
            let next = {
                let terms = (self.terms)();
                let mut next = pin!(client.next(&terms, first.take()));
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
                Next::Request(_) if speech == Speech::Http2 => {
                    self.refuse(&client, NOT_AGREED).await;
                    break;
                }
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
                Next::Http2 if speech != Speech::Http1 => {
                    if let Some((stream, before)) = client.take() {
                        self.http2.process_new(Box::new(Rewound { before, stream }), kit.shutdown).await;
                    }
                    return;
                }
                Next::Http2 => {
                    self.refuse(&client, NOT_AGREED).await;
                    break;
                }
                Next::Bad(error) => {
                    self.refuse(&client, error).await;
                    break;
                }
                Next::Late => {
                    self.refuse(&client, RequestError::Late).await;
                    break;
                }
                Next::End => break,
            }
        }
        kit.alarm = client.close(speech != Speech::Any).await;
    }

    /// Says what is wrong with a request that nobody can route. Which protocol its sender speaks is not known.
    async fn refuse(&self, client: &Client, error: RequestError) {
        self.plugin.turned_away(match error {
            RequestError::Late => Turned::LateHead,
            RequestError::TooLarge => Turned::LargeHead,
            _ => Turned::BadHead,
        });
        let body = Bytes::from(format!("{error}\n"));
        client.refused();
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        client.head(status, None, Some(body.len() as u64), |out| {
            out.extend_from_slice(b"content-type: text/plain\r\n");
        });
        client.piece(body);
        // Who was late has had its time; the others are listened to, so that they see why.
        if client.flush().await.is_ok() && error != RequestError::Late {
            client.linger(LINGER).await;
        }
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
