//! How an answer is framed for its client (RFC 9112, section 6), whatever framed it upstream.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};

use crate::http1::{Request, put_chunk_size, put_length};

use super::output::Output;

/// How an answer's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its head has not been written.
    Waiting,
    Length(u64),
    Chunked,
    UntilClose,
    Done,
}

/// An answer on its way out.
pub(super) struct Answer {
    end: End,
    version: Version,
    /// The request was a HEAD: there is no body.
    head_only: bool,
    pub(super) output: Output,
}

impl Answer {
    /// None: no request has come.
    pub(super) fn none() -> Self {
        Self { end: End::Done, version: Version::HTTP_11, head_only: false, output: Output::default() }
    }

    /// The answer to `request` is awaited.
    pub(super) fn await_for(&mut self, request: &Request) {
        self.end = End::Waiting;
        self.version = request.parts.version;
        self.head_only = request.parts.method == Method::HEAD;
    }

    /// What came is no request; it gets an answer all the same.
    pub(super) fn await_for_nonsense(&mut self) {
        (self.end, self.version, self.head_only) = (End::Waiting, Version::HTTP_11, false);
    }

    /// Whether its head has been queued.
    pub(super) fn has_begun(&self) -> bool {
        self.end != End::Waiting
    }

    /// Whether all of it has been written.
    pub(super) fn is_whole(&self) -> bool {
        self.end == End::Done && self.output.is_empty()
    }

    /// Queues the head; see [`Client::head`](super::Client::head). Gives whether the connection can be
    /// kept after it, if it is up to `keep_alive`.
    pub(super) fn head(
        &mut self,
        status: StatusCode,
        reason: Option<&[u8]>,
        length: Option<u64>,
        lines: impl FnOnce(&mut BytesMut),
        keep_alive: bool,
    ) -> bool {
        let out = self.output.tail();
        out.reserve(1024);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes()));
        out.extend_from_slice(b"\r\n");
        lines(out);
        if status.is_informational() {
            out.extend_from_slice(b"\r\n");
            return keep_alive;
        }
        let bodiless = self.head_only || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.end = match length {
            _ if bodiless => End::Done,
            Some(0) => End::Done,
            Some(length) => End::Length(length),
            None if self.version == Version::HTTP_10 => End::UntilClose,
            None => End::Chunked,
        };
        if let Some(length) = length {
            put_length(out, length);
        } else if self.end == End::Chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let keep_alive = keep_alive && self.end != End::UntilClose;
        let connection: &[u8] = if keep_alive { b"connection: keep-alive\r\n" } else { b"connection: close\r\n" };
        out.extend_from_slice(connection);
        out.extend_from_slice(b"\r\n");
        keep_alive
    }

    /// Queues a piece of the body; what goes beyond the announced length does not leave.
    pub(super) fn piece(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        match &mut self.end {
            End::Length(left) => {
                let n = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.end = End::Done;
                }
                self.output.push(data.slice(..n));
            }
            End::Chunked => {
                put_chunk_size(self.output.tail(), data.len());
                self.output.push(data);
                self.output.tail().extend_from_slice(b"\r\n");
            }
            End::UntilClose => self.output.push(data),
            End::Waiting | End::Done => {}
        }
    }

    /// Queues the end. `false`: it is shorter than announced, which only a close can tell.
    pub(super) fn end(&mut self) -> bool {
        let short = matches!(self.end, End::Length(_));
        if self.end == End::Chunked {
            self.output.tail().extend_from_slice(b"0\r\n\r\n");
        }
        self.end = End::Done;
        !short
    }
}
