//! One exchange with an upstream.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, Stream, UniqueIDType};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::body::{BodyReader, Framing};
use super::head::{Head, take_response, write_request};
use super::wire::{Wire, Writer};

/// What one read asks for. An event of a stream is far smaller; a plain answer often fits.
const READ_SIZE: usize = 16 * 1024;
/// Bodies up to this size are copied behind the head, so that both leave in one write.
const JOINED_BODY: usize = 32 * 1024;
/// How many interim (1xx) heads are passed over before the upstream counts as broken.
const MAX_INTERIM: usize = 16;

/// The part of a request that travels beside its head, as an extension of it.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The body, as far as it is known: all of it unless `more`.
    pub body: Vec<Bytes>,
    /// Whether the rest of the body follows through Pingora's body phase.
    pub more: bool,
    /// How long the upstream may take from the request's end to its answer's head.
    pub first_byte: Duration,
    /// How long it may pause in its answer, or in taking the request.
    pub idle: Duration,
    /// Whether the end of the answer is told apart from its last byte, as a trailer section, so that
    /// something can be waited for between the two.
    pub hold_end: bool,
    /// Ends the exchange when notified: Pingora does not tell the leg that a body was stopped.
    pub stop: Option<Arc<Notify>>,
}

/// An exchange: its request is written, its answer read. When both are whole the connection can
/// serve another one.
pub struct LegSession {
    wire: Arc<Wire>,
    /// Read, but not passed on yet.
    input: BytesMut,
    /// The part of the request that the upstream has not taken yet: it is written while the answer
    /// is awaited, because an upstream may answer (and refuse) before it has read everything.
    outgoing: VecDeque<Bytes>,
    method: Method,
    header: Option<Box<ResponseHeader>>,
    body: BodyReader,
    keep_alive: bool,
    failed: bool,
    hold_end: bool,
    reused: bool,
    first_byte: Duration,
    idle: Duration,
    writer: Option<Box<dyn BodyWrite>>,
    stop: Option<Arc<Notify>>,
}

enum Step {
    Read(usize),
    Sent,
}

impl LegSession {
    pub(super) fn new(stream: Stream, reused: bool) -> Self {
        Self::over(Arc::new(Wire::new(stream)), reused)
    }

    pub(super) fn over(wire: Arc<Wire>, reused: bool) -> Self {
        wire.sent.store(false, Ordering::Relaxed);
        wire.answered.store(false, Ordering::Relaxed);
        Self {
            wire,
            input: BytesMut::new(),
            outgoing: VecDeque::new(),
            method: Method::GET,
            header: None,
            body: BodyReader::new(Framing::Empty),
            keep_alive: false,
            failed: false,
            hold_end: false,
            reused,
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            writer: None,
            stop: None,
        }
    }

    /// The connection, if another exchange can follow on it: this one is whole in both directions,
    /// the upstream keeps the connection open, and has not said a byte too much.
    pub(super) fn into_reusable(self) -> Option<Arc<Wire>> {
        let whole = self.header.is_some() && self.body.is_done() && self.outgoing.is_empty();
        let sent = self.wire.sent.load(Ordering::Relaxed);
        (whole && sent && self.keep_alive && !self.failed && self.input.is_empty()).then_some(self.wire)
    }

    /// Reads once, and meanwhile writes what is left of the request.
    async fn step(&mut self, deadline: Option<Instant>) -> Result<Step> {
        let Self { wire, input, outgoing, failed, idle, stop, .. } = self;
        let step = std::future::poll_fn(|cx| {
            while let Some(data) = outgoing.front_mut() {
                match wire.poll_write_all(cx, data) {
                    Poll::Ready(Ok(())) => {
                        outgoing.pop_front();
                        return Poll::Ready(Ok(Step::Sent));
                    }
                    // The upstream takes no more, but may have answered before: what it said is read.
                    Poll::Ready(Err(_)) => {
                        outgoing.clear();
                        *failed = true;
                    }
                    Poll::Pending => break,
                }
            }
            if input.capacity() - input.len() < READ_SIZE / 4 {
                input.reserve(READ_SIZE);
            }
            let mut stream = wire.stream();
            let read = std::pin::pin!(stream.read_buf(input));
            read.poll(cx).map_ok(Step::Read)
        });
        let deadline = deadline.unwrap_or_else(|| Instant::now() + *idle);
        let step = timeout_at(deadline, step);
        let uploads = !wire.sent.load(Ordering::Relaxed);
        let stepped = match stop {
            None => step.await,
            Some(stop) => tokio::select! {
                stepped = step => stepped,
                () = stop.notified() => {
                    *failed = true;
                    return Error::e_explain(ErrorType::InternalError, "the body was stopped");
                }
                () = wire.progress.notified(), if uploads => return Ok(Step::Sent),
            },
        };
        match stepped {
            Ok(Ok(step)) => Ok(step),
            Ok(Err(e)) => {
                self.failed = true;
                Err(self.broken(ErrorType::ReadError, "reading from the upstream", e))
            }
            Err(_) => {
                self.failed = true;
                Error::e_explain(ErrorType::ReadTimedout, "the upstream was silent for too long")
            }
        }
    }

    /// An error that allows another try on a fresh connection if this one had been idle and no byte of
    /// an answer came: the upstream closed it just as it was used.
    fn broken(
        &self,
        kind: ErrorType,
        what: &'static str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Box<Error> {
        let mut error = Error::because(kind, what, cause);
        if self.reused && self.header.is_none() && self.input.is_empty() {
            error.retry = pingora_core::RetryType::ReusedOnly;
        }
        error
    }

    fn accept(&mut self, head: Head) {
        self.body = BodyReader::new(head.framing);
        self.keep_alive = head.keep_alive;
        self.header = Some(head.header);
    }
}

#[async_trait]
impl Session for LegSession {
    async fn write_request_header(&mut self, request: Box<RequestHeader>, _end: bool) -> Result<()> {
        let payload = request.extensions.get::<Payload>().cloned();
        let payload = payload.unwrap_or(Payload {
            body: Vec::new(),
            more: false,
            first_byte: self.idle,
            idle: self.idle,
            hold_end: false,
            stop: None,
        });
        self.stop = payload.stop;
        (self.first_byte, self.idle, self.hold_end) = (payload.first_byte, payload.idle, payload.hold_end);
        self.method = request.method.clone();

        let mut head = Vec::with_capacity(1024);
        write_request(&request, &mut head);
        let length: usize = payload.body.iter().map(Bytes::len).sum();
        if length <= JOINED_BODY {
            payload.body.iter().for_each(|piece| head.extend_from_slice(piece));
            self.outgoing.push_back(head.into());
        } else {
            self.outgoing.push_back(head.into());
            self.outgoing.extend(payload.body.into_iter().filter(|piece| !piece.is_empty()));
        }
        self.wire.sent.store(!payload.more, Ordering::Relaxed);
        let chunked = request.headers.contains_key(TRANSFER_ENCODING);
        let left = request.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        self.writer = Some(Box::new(Writer {
            wire: self.wire.clone(),
            chunked,
            left: left.map(|l| l.saturating_sub(length as u64)),
            finished: !payload.more,
            idle: self.idle,
        }));

        // What the socket takes at once is written here; the rest while the answer is awaited. A body
        // that still comes through `Writer` must find the head gone.
        let (wire, outgoing, wait) = (&self.wire, &mut self.outgoing, payload.more);
        let write = std::future::poll_fn(|cx| {
            while let Some(data) = outgoing.front_mut() {
                match wire.poll_write_all(cx, data) {
                    Poll::Ready(Ok(())) => drop(outgoing.pop_front()),
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending if wait => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        match tokio::time::timeout(self.idle, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => {
                self.failed = true;
                Err(self.broken(ErrorType::WriteError, "writing to the upstream", e))
            }
            Err(_) => Error::e_explain(ErrorType::WriteTimedout, "the upstream does not take the request"),
        }
    }

    async fn read_response_header(&mut self) -> Result<()> {
        let mut interim = 0;
        let mut deadline: Option<Instant> = None;
        loop {
            match take_response(&mut self.input, &self.method) {
                Ok(Some(head)) if head.header.status.is_informational() => {
                    interim += 1;
                    // It has spoken, so the request has reached it: sending it again could do it twice.
                    self.reused = false;
                    if interim > MAX_INTERIM {
                        self.failed = true;
                        return Error::e_explain(ErrorType::InvalidHTTPHeader, "too many interim responses");
                    }
                    continue;
                }
                Ok(Some(head)) => {
                    self.accept(head);
                    return Ok(());
                }
                Ok(None) => {}
                Err(e) => {
                    self.failed = true;
                    return Err(Error::because(ErrorType::InvalidHTTPHeader, "reading the response head", e));
                }
            }
            // The clock of the first byte starts when the request is whole on the wire.
            if deadline.is_none() && self.outgoing.is_empty() && self.wire.sent.load(Ordering::Relaxed) {
                deadline = Some(Instant::now() + self.first_byte);
            }
            if let Step::Read(0) = self.step(deadline).await? {
                self.failed = true;
                return Err(self.broken(
                    ErrorType::ConnectionClosed,
                    "the upstream closed the connection before it answered",
                    io::Error::from(io::ErrorKind::UnexpectedEof),
                ));
            }
        }
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.body.is_done() {
                return Ok(None);
            }
            let data = self.body.take(&mut self.input).map_err(|e| {
                self.failed = true;
                Error::because(ErrorType::InvalidHTTPHeader, "reading the response body", e)
            })?;
            if self.body.is_done() {
                self.wire.answered.store(true, Ordering::Relaxed);
            }
            if !data.is_empty() || self.body.is_done() {
                return Ok(Some(data));
            }
            if let Step::Read(0) = self.step(None).await? {
                self.keep_alive = false;
                self.body.close().map_err(|e| {
                    self.failed = true;
                    Error::because(ErrorType::ConnectionClosed, "reading the response body", e)
                })?;
                // An empty piece tells Pingora's filters of the end, as the last piece of a framed body does.
                return Ok(Some(Bytes::new()));
            }
        }
    }

    async fn check_response_end_or_error(&mut self, _headers: bool) -> Result<bool> {
        Ok(self.body.is_done() && !self.hold_end)
    }

    fn response_finished(&self) -> bool {
        self.body.is_done()
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.header.as_deref()
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        self.writer.take()
    }

    async fn write_request_body(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if let Some(writer) = self.writer.as_mut() {
            writer.write_all_buf(&mut data).await?;
            if end {
                writer.finish().await?;
            }
        }
        Ok(())
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        match self.writer.as_mut() {
            Some(writer) => writer.finish().await,
            None => Ok(()),
        }
    }

    // The timeouts come with the payload: they differ between the first byte and the following ones.
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}
    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.failed = true;
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(self.hold_end.then(HeaderMap::new))
    }

    fn fd(&self) -> UniqueIDType {
        self.wire.id
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(futures::stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}
