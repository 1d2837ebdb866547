//! One exchange with an upstream.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use pingora_core::protocols::Stream;
use pingora_core::{Error, ErrorType, Result, RetryType};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use crate::clock;
use crate::http1::{self, BodyReader, Framing, Response, take_response};

/// What a read asks for that may bring anything: an event of a stream, or fifty of them.
const SHARED_READ: usize = 16 * 1024;
/// What a read asks for of a long body.
const LARGE_READ: usize = 64 * 1024;
/// How many pieces of a request leave in one write.
const MAX_SLICES: usize = 16;
/// How much room for the next read is kept while nothing comes.
const KEPT_ROOM: usize = 4 * 1024;
/// Bodies up to this size are copied behind the head, so that both leave in one write.
const JOINED_BODY: usize = 32 * 1024;
/// How many interim (1xx) heads are passed over before the upstream counts as broken.
const MAX_INTERIM: usize = 16;
/// How much of a body that is still being read waits to be written before no more is read.
const MAX_WAITING: usize = 64 * 1024;

/// How a body is framed that follows its head piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What a step brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A part of the request left.
    Sent,
    /// Bytes of the answer came; none: the connection was closed.
    Read(usize),
}

/// An exchange: its request is written, its answer read. When both are whole the connection can
/// serve another one.
pub(crate) struct Exchange {
    stream: Stream,
    /// Read, but not passed on yet.
    input: BytesMut,
    /// The part of the request that the upstream has not taken yet: it is written while the answer
    /// is awaited, because an upstream may answer (and refuse) before it has read everything.
    outgoing: VecDeque<Bytes>,
    waiting: usize,
    /// The rest of the body, if it follows.
    upload: Option<Upload>,
    method: Method,
    interim: usize,
    answered: bool,
    body: BodyReader,
    keep_alive: bool,
    failed: bool,
    reused: bool,
    /// Encryption may keep something back until it is flushed.
    flushed: bool,
    /// When the request was whole on the wire.
    sent: Option<Instant>,
    /// When the upstream last took a byte, while it has not taken all.
    progress: Instant,
}

impl Exchange {
    pub(super) fn new(stream: Stream, reused: bool, now: std::time::Instant) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            outgoing: VecDeque::new(),
            waiting: 0,
            upload: None,
            method: Method::GET,
            interim: 0,
            answered: false,
            body: BodyReader::new(Framing::Empty),
            keep_alive: false,
            failed: false,
            reused,
            flushed: true,
            sent: None,
            progress: now.into(),
        }
    }

    /// Whether the connection had been idle before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The connection, if another exchange can follow on it: this one is whole in both directions,
    /// the upstream keeps the connection open, and has not said a byte too much.
    pub(super) fn into_reusable(self) -> Option<Stream> {
        let whole = self.answered && self.body.is_done() && self.is_sent();
        (whole && self.keep_alive && !self.failed && self.input.is_empty()).then_some(self.stream)
    }

    /// Queues the request: its head in wire form and its body, or the beginning of one that goes on as
    /// `upload` says. Nothing is written before the first [`Exchange::poll_step`].
    pub(crate) fn send(&mut self, method: Method, mut head: BytesMut, body: &[Bytes], upload: Option<Upload>) {
        self.method = method;
        self.upload = upload;
        let length: usize = body.iter().map(Bytes::len).sum();
        if length <= JOINED_BODY {
            body.iter().for_each(|piece| head.extend_from_slice(piece));
            self.queue(head.freeze());
        } else {
            self.queue(head.freeze());
            body.iter().filter(|piece| !piece.is_empty()).for_each(|piece| self.queue(piece.clone()));
        }
    }

    fn queue(&mut self, data: Bytes) {
        self.waiting += data.len();
        self.outgoing.push_back(data);
    }

    /// Whether a part of the request's body is still to come.
    pub(crate) fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }

    /// Whether the next piece of the upload has room.
    pub(crate) fn wants_more(&self) -> bool {
        self.upload.is_some() && self.waiting < MAX_WAITING && !self.failed
    }

    /// Queues a piece of the upload.
    ///
    /// # Errors
    /// When it is longer than was announced: the upstream would take the rest for another request.
    pub(crate) fn upload(&mut self, data: Bytes) -> Result<()> {
        match &mut self.upload {
            _ if data.is_empty() => {}
            None => {}
            Some(Upload::Chunked) => {
                let mut framed = BytesMut::with_capacity(data.len() + 20);
                http1::put_chunk_size(&mut framed, data.len());
                framed.extend_from_slice(&data);
                framed.extend_from_slice(b"\r\n");
                self.queue(framed.freeze());
            }
            Some(Upload::Length(left)) => {
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    self.failed = true;
                    return Error::e_explain(ErrorType::WriteError, "the body is longer than announced");
                };
                *left = rest;
                self.queue(data);
            }
        }
        Ok(())
    }

    /// The upload is whole.
    ///
    /// # Errors
    /// When it is shorter than was announced.
    pub(crate) fn uploaded(&mut self) -> Result<()> {
        match self.upload.take() {
            Some(Upload::Length(left)) if left > 0 => {
                self.failed = true;
                return Error::e_explain(ErrorType::WriteError, "the body is shorter than announced");
            }
            Some(Upload::Chunked) => self.queue(Bytes::from_static(b"0\r\n\r\n")),
            _ => {}
        }
        Ok(())
    }

    fn is_sent(&self) -> bool {
        self.outgoing.is_empty() && self.upload.is_none() && self.flushed
    }

    /// When the upstream is late: `first_byte` after the request was whole, until the answer's head is
    /// there; otherwise `idle` after `last`, or after it last took something of the request. `None`:
    /// it is the client's turn.
    pub(crate) fn due(&self, first_byte: Duration, idle: Duration, last: Instant) -> Option<Instant> {
        if !self.outgoing.is_empty() {
            return Some(self.progress.max(last) + idle);
        }
        match self.sent {
            Some(sent) if !self.answered => Some(sent + first_byte),
            _ if self.answered => Some(last + idle),
            _ => None,
        }
    }

    /// Writes what the upstream takes of the request, and reads once.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        if self.sent.is_none() && self.poll_send(cx).is_ready() {
            return Poll::Ready(Ok(Step::Sent));
        }
        let read = ready!(self.poll_read(cx));
        Poll::Ready(match read {
            Ok(n) => Ok(Step::Read(n)),
            Err(e) => {
                self.failed = true;
                Err(self.broken(ErrorType::ReadError, "reading from the upstream", e))
            }
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, input, body, .. } = self;
        let Some(left) = body.left().filter(|left| *left >= SHARED_READ as u64) else {
            if input.is_empty() && input.capacity() > KEPT_ROOM {
                *input = BytesMut::new();
            }
            return http1::poll_read(cx, stream, input, SHARED_READ);
        };
        // So much is sure to come: it is read to where it stays.
        // A read that leaves room says that nothing more is there, which saves the next one.
        input.reserve(usize::try_from(left).unwrap_or(usize::MAX).min(LARGE_READ) + 1);
        std::pin::pin!(stream.read_buf(input)).poll(cx)
    }

    /// Ready when something of an upload left, so that there may be room for more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = false;
        while !self.outgoing.is_empty() {
            match self.poll_write(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    moved = true;
                    self.left(n);
                }
                Poll::Ready(_) => self.give_up_sending(),
                Poll::Pending => break,
            }
        }
        if moved {
            (self.progress, self.flushed) = (clock::tokio_now(), false);
        }
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(_)) => self.give_up_sending(),
                Poll::Pending => {}
            }
        }
        if self.is_sent() {
            self.sent = Some(self.progress);
        }
        if moved && self.upload.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes what waits: its pieces in one go, as far as there is room for their places.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let [one] = self.outgoing.make_contiguous() {
            return stream.poll_write(cx, one);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let pieces = self.outgoing.len().min(MAX_SLICES);
        for (slice, piece) in slices.iter_mut().zip(&self.outgoing) {
            *slice = IoSlice::new(piece);
        }
        stream.poll_write_vectored(cx, &slices[..pieces])
    }

    /// `n` bytes left.
    fn left(&mut self, mut n: usize) {
        self.waiting -= n;
        while let Some(piece) = self.outgoing.front_mut() {
            let gone = n.min(piece.len());
            piece.advance(gone);
            n -= gone;
            if !piece.is_empty() {
                break;
            }
            self.outgoing.pop_front();
        }
    }

    /// The upstream takes no more, but may have answered before: what it said is read.
    fn give_up_sending(&mut self) {
        self.outgoing.clear();
        (self.waiting, self.upload) = (0, None);
        (self.failed, self.flushed) = (true, true);
    }

    /// An error that allows another try on a fresh connection if this one had been idle and no byte of
    /// an answer came: the upstream closed it just as it was used.
    fn broken(&self, kind: ErrorType, what: &'static str, cause: io::Error) -> Box<Error> {
        let mut error = Error::because(kind, what, cause).into_up();
        if self.reused && !self.answered && self.interim == 0 && self.input.is_empty() {
            error.retry = RetryType::ReusedOnly;
        }
        error
    }

    /// The answer's head, if it is there. Interim ones are passed over: the client has been told what it
    /// needs.
    pub(crate) fn take_head(&mut self) -> Result<Option<Response>> {
        loop {
            match take_response(&mut self.input, &self.method) {
                Ok(Some(head)) if head.status.is_informational() => {
                    // It has spoken, so the request has reached it: sending it again could do it twice.
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        self.failed = true;
                        return Err(
                            Error::explain(ErrorType::InvalidHTTPHeader, "too many interim responses").into_up()
                        );
                    }
                }
                Ok(Some(head)) => {
                    self.body = BodyReader::new(head.framing);
                    (self.keep_alive, self.answered) = (head.keep_alive, true);
                    return Ok(Some(head));
                }
                Ok(None) => return Ok(None),
                Err(e) => {
                    self.failed = true;
                    return Err(Error::because(ErrorType::InvalidHTTPHeader, "reading the response head", e).into_up());
                }
            }
        }
    }

    /// What has arrived of the answer's body: several chunks of one read are one piece.
    pub(crate) fn take_body(&mut self) -> Result<Bytes> {
        self.body.take(&mut self.input).map_err(|e| {
            self.failed = true;
            Error::because(ErrorType::InvalidHTTPHeader, "reading the response body", e).into_up()
        })
    }

    /// Whether the answer is whole.
    pub(crate) fn is_done(&self) -> bool {
        self.answered && self.body.is_done()
    }

    /// The connection was closed: the end of an answer without a length, and too early for any other.
    pub(crate) fn closed(&mut self) -> Result<()> {
        self.keep_alive = false;
        if !self.answered {
            self.failed = true;
            let what = "the upstream closed the connection before it answered";
            return Err(self.broken(ErrorType::ConnectionClosed, what, io::ErrorKind::UnexpectedEof.into()));
        }
        self.body.close().map_err(|e| {
            self.failed = true;
            Error::because(ErrorType::ConnectionClosed, "reading the response body", e).into_up()
        })
    }
}
