//! A client's connection, shared by the loop that reads its requests, the session that Pingora has and
//! the exchange that answers it. All three run in one task, so the lock is never waited for.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora_core::protocols::Stream;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use crate::clock;
use crate::http1::{self, Alarm, BodyReader, Framing, Request, RequestError, take_request};

use super::answer::Answer;
use super::patience::Patience;
use super::terms::Terms;

/// What a read asks for that may bring anything: a head, with a body or without.
const SHARED_READ: usize = 16 * 1024;
/// What a read asks for of a long body.
const LARGE_READ: usize = 128 * 1024;
/// How much room for the next request an idle connection keeps.
const KEPT_ROOM: usize = 2 * 1024;
/// How much of the requests behind the one being answered is read ahead.
const READ_AHEAD: usize = 4 * 1024;
/// How long a client may be waited for that sends its request's body. Whoever stops for longer would hold an
/// upstream's connection, and buffers, for nothing.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// How long the end of a connection may take to be said.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection.
pub struct Client {
    address: Option<IpAddr>,
    connection: Mutex<Connection>,
}

struct Connection {
    /// `None` once it was handed on.
    stream: Option<Stream>,
    input: BytesMut,
    /// Where the search for the head's end goes on.
    searched: usize,
    body: BodyReader,
    body_bytes: u64,
    expects: bool,
    keep_alive: bool,
    answer: Answer,
    alarm: Alarm,
    /// For the answer to be taken.
    taking: Patience,
    /// For the body to be sent.
    sending: Patience,
}

/// What came on a connection that waits for a request.
pub(super) enum Next {
    Request(Box<Request>),
    /// The client begins to speak HTTP/2.
    Http2,
    /// What it sent is no request.
    Bad(RequestError),
    /// Its head was not whole in time.
    Late,
    /// It left, or stayed silent for too long.
    End,
}

/// With what a client begins that knows that the server speaks HTTP/2 (RFC 9113, 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Client {
    /// `alarm` may have served another connection of this task.
    pub(super) fn new(stream: Stream, address: Option<IpAddr>, alarm: Alarm) -> Self {
        let connection = Mutex::new(Connection {
            stream: Some(stream),
            input: BytesMut::new(),
            searched: 0,
            body: BodyReader::new(Framing::Empty),
            body_bytes: 0,
            expects: false,
            keep_alive: true,
            answer: Answer::none(),
            alarm,
            taking: Patience::new(STALL, 0),
            sending: Patience::new(STALL, 0),
        });
        Self { address, connection }
    }

    /// Where it comes from.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request: its first byte in the time for idle connections, its whole head in the time for heads
    /// after that. The head of a connection's first request has until `first`, whether it begins or not.
    pub(super) async fn next(&self, terms: &Terms, first: Option<Instant>) -> Next {
        let begun = {
            let mut c = self.lock();
            c.taking = Patience::new(terms.write, terms.min_rate);
            c.sending = Patience::new(terms.body, terms.min_rate);
            !c.input.is_empty()
        };
        let mut begun = begun || first.is_some();
        let mut due = first.unwrap_or_else(|| clock::tokio_now() + if begun { terms.head } else { terms.idle });
        poll_fn(|cx| {
            let c = &mut *self.lock();
            loop {
                if !c.input.is_empty() && HTTP_2.starts_with(&c.input[..c.input.len().min(HTTP_2.len())]) {
                    if c.input.len() >= HTTP_2.len() {
                        return Poll::Ready(Next::Http2);
                    }
                } else {
                    match take_request(&mut c.input, &mut c.searched, terms.max_head) {
                        Ok(Some(request)) => {
                            c.begin(&request);
                            return Poll::Ready(Next::Request(Box::new(request)));
                        }
                        Ok(None) => {}
                        Err(e) => return Poll::Ready(Next::Bad(e)),
                    }
                }
                match c.poll_fill(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        if !begun {
                            begun = true;
                            due = clock::tokio_now() + terms.head;
                        }
                    }
                    Poll::Ready(_) => return Poll::Ready(Next::End),
                    Poll::Pending => {
                        if c.input.is_empty() && c.input.capacity() > KEPT_ROOM {
                            c.input = BytesMut::new();
                        }
                        let late = if c.input.is_empty() { Next::End } else { Next::Late };
                        return c.alarm.poll(cx, due).map(|()| late);
                    }
                }
            }
        })
        .await
    }

    /// The connection and what was read of it, to be handed on.
    pub(super) fn take(&self) -> Option<(Stream, BytesMut)> {
        let mut c = self.lock();
        let input = std::mem::take(&mut c.input);
        c.stream.take().map(|stream| (stream, input))
    }

    /// Whether the body has been read to its end.
    pub(crate) fn is_body_done(&self) -> bool {
        self.lock().body.is_done()
    }

    /// How much of the body has been read.
    pub(super) fn body_bytes(&self) -> u64 {
        self.lock().body_bytes
    }

    /// Closes the connection after the answer, which says so if its head is still to be written.
    pub(crate) fn close_after(&self) {
        self.lock().keep_alive = false;
    }

    /// Whether the head of the answer has been written.
    pub(super) fn is_answered(&self) -> bool {
        self.lock().answer.has_begun()
    }

    /// What was sent is no request: an answer follows, and then the close.
    pub(super) fn refused(&self) {
        let mut c = self.lock();
        c.keep_alive = false;
        c.answer.await_for_nonsense();
    }

    /// Ends what is sent and listens for a while: a client whose bytes are refused unread may never see
    /// the answer.
    pub(super) async fn linger(&self, time: Duration) {
        self.shutdown().await;
        let due = clock::tokio_now() + time;
        poll_fn(|cx| {
            let c = &mut *self.lock();
            loop {
                c.input.clear();
                match c.poll_fill(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return c.alarm.poll(cx, due),
                }
            }
        })
        .await;
    }

    /// Ends the connection, and gives its alarm back. Encryption has to say the end; otherwise closing the
    /// socket says it.
    pub(super) async fn close(&self, encrypted: bool) -> Alarm {
        if encrypted {
            self.shutdown().await;
        }
        let mut c = self.lock();
        c.stream = None;
        // The session may hold the client for longer.
        c.input = BytesMut::new();
        std::mem::take(&mut c.alarm)
    }

    async fn shutdown(&self) {
        let mut due = None;
        poll_fn(|cx| {
            let c = &mut *self.lock();
            let Some(stream) = &mut c.stream else { return Poll::Ready(()) };
            if Pin::new(stream).poll_shutdown(cx).is_ready() {
                return Poll::Ready(());
            }
            // TLS has something to say at the end, which nobody may take.
            let due = *due.get_or_insert_with(|| clock::tokio_now() + GOODBYE);
            c.alarm.poll(cx, due)
        })
        .await;
    }

    /// The next piece of the request's body; `None` at its end. Whoever is waited for for too long gets an error.
    pub(crate) fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let c = &mut *self.lock();
        let before = c.body_bytes;
        let piece = c.poll_body(cx);
        if piece.is_ready() {
            c.sending.moved(c.body_bytes - before);
            c.sending.stop(clock::tokio_now());
            return piece;
        }
        let due = c.sending.wait(clock::tokio_now(), 0);
        c.alarm.poll(cx, due).map(|()| {
            c.keep_alive = false;
            Err(Error::explain(ErrorType::ReadTimedout, "the client stopped sending its body").into_down())
        })
    }

    /// [`Client::poll_body`], to wait for.
    pub(crate) async fn body(&self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    /// Ready when the client has left although its answer is not whole. What else it sends is the
    /// beginning of its next request.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let c = &mut *self.lock();
        while c.input.len() < READ_AHEAD {
            let Some(stream) = &mut c.stream else { return Poll::Pending };
            match ready!(http1::poll_read(cx, stream, &mut c.input, READ_AHEAD)) {
                Ok(0) => {
                    c.keep_alive = false;
                    return Poll::Ready(
                        Error::explain(ErrorType::ConnectionClosed, "the client closed its connection").into_down(),
                    );
                }
                Ok(_) => {}
                Err(e) => {
                    c.keep_alive = false;
                    return Poll::Ready(Error::because(ErrorType::ReadError, "reading from the client", e).into_down());
                }
            }
        }
        Poll::Pending
    }

    /// Ready when `due` has come.
    pub(crate) fn poll_alarm(&self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.lock().alarm.poll(cx, due)
    }

    /// Queues the head of the answer: `lines` writes its header lines, without those that frame the body
    /// or speak of the connection. `length` is the one that the head is to say.
    pub(crate) fn head(
        &self,
        status: StatusCode,
        reason: Option<&[u8]>,
        length: Option<u64>,
        lines: impl FnOnce(&mut BytesMut),
    ) {
        self.lock().head(status, reason, length, lines);
    }

    /// Queues a piece of the answer's body.
    pub(crate) fn piece(&self, data: Bytes) {
        self.lock().answer.piece(data);
    }

    /// Queues the end of the answer.
    pub(crate) fn end(&self) {
        let mut c = self.lock();
        let whole = c.answer.end();
        c.keep_alive &= whole;
    }

    /// Writes what is queued.
    pub(crate) async fn flush(&self) -> Result<()> {
        poll_fn(|cx| {
            let c = &mut *self.lock();
            let Some(stream) = &mut c.stream else { return Poll::Ready(Err(gone())) };
            match c.answer.output.poll_flush(cx, stream) {
                Poll::Ready(Ok(())) => {
                    if c.taking.is_waiting() {
                        c.taking.stop(clock::tokio_now());
                    }
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(e)) => {
                    c.keep_alive = false;
                    Poll::Ready(Err(Error::because(ErrorType::WriteError, "writing to the client", e).into_down()))
                }
                Poll::Pending => {
                    let due = c.taking.wait(clock::tokio_now(), c.answer.output.take_written());
                    c.alarm.poll(cx, due).map(|()| {
                        c.keep_alive = false;
                        Err(Error::explain(ErrorType::WriteTimedout, "the client does not take its answer").into_down())
                    })
                }
            }
        })
        .await
    }

    /// Whether another request may follow: the answer is whole and the body, if any of it is left, was
    /// read within `drain` and thrown away.
    pub(super) async fn is_reusable(&self, drain: Duration) -> bool {
        {
            let c = self.lock();
            if !c.keep_alive || !c.answer.is_whole() {
                return false;
            }
            if c.body.is_done() {
                return true;
            }
        }
        let due = clock::tokio_now() + drain;
        poll_fn(|cx| {
            let c = &mut *self.lock();
            loop {
                match c.poll_body(cx) {
                    Poll::Ready(Ok(Some(_))) => {}
                    Poll::Ready(Ok(None)) => return Poll::Ready(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => return c.alarm.poll(cx, due).map(|()| false),
                }
            }
        })
        .await
    }
}

impl Connection {
    fn begin(&mut self, request: &Request) {
        self.body = BodyReader::new(request.framing);
        self.body_bytes = 0;
        self.expects = request.expects;
        self.keep_alive = request.keep_alive;
        self.answer.await_for(request);
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let Some(left) = self.body.left().filter(|left| *left >= SHARED_READ as u64) else {
            return http1::poll_read(cx, stream, &mut self.input, SHARED_READ);
        };
        // So much is sure to come: it is read to where it stays. A read that leaves room says that nothing
        // more is there, which saves the next one.
        self.input.reserve(usize::try_from(left).unwrap_or(usize::MAX).min(LARGE_READ) + 1);
        std::pin::pin!(stream.read_buf(&mut self.input)).poll(cx)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            if self.body.is_done() {
                return Poll::Ready(Ok(None));
            }
            match self.body.take(&mut self.input) {
                Ok(data) if !data.is_empty() => {
                    self.expects = false;
                    self.body_bytes += data.len() as u64;
                    return Poll::Ready(Ok(Some(data)));
                }
                Ok(_) if self.body.is_done() => return Poll::Ready(Ok(None)),
                Ok(_) => {}
                Err(e) => {
                    self.keep_alive = false;
                    let error = Error::because(ErrorType::InvalidHTTPHeader, "reading the request's body", e);
                    return Poll::Ready(Err(error.into_down()));
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    self.keep_alive = false;
                    let error = Error::explain(ErrorType::ConnectionClosed, "the client left in mid-body");
                    return Poll::Ready(Err(error.into_down()));
                }
                Ok(_) => {}
                Err(e) => {
                    self.keep_alive = false;
                    let error = Error::because(ErrorType::ReadError, "reading the request's body", e);
                    return Poll::Ready(Err(error.into_down()));
                }
            }
        }
    }

    fn head(
        &mut self,
        status: StatusCode,
        reason: Option<&[u8]>,
        length: Option<u64>,
        lines: impl FnOnce(&mut BytesMut),
    ) {
        if self.answer.has_begun() {
            return;
        }
        if status.is_informational() {
            // Only `100 Continue` is ever said: the client has been told to send its body.
            self.expects = false;
        }
        // A client that waits for 100 may never send its body, and its next request must not be taken
        // for it.
        let may_never_come = self.expects && !self.body.is_done();
        self.keep_alive = self.answer.head(status, reason, length, lines, self.keep_alive && !may_never_come);
    }
}

fn gone() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the connection was handed on").into_down()
}
