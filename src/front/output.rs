//! What the client has not taken yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::AsyncWrite;

/// A piece up to this size is copied behind what waits already, so that all leaves in one write; a
/// larger one is written from where it lies.
const COPIED: usize = 16 * 1024;

/// Bytes on their way out: small ones joined, at most one large piece, small ones behind it.
#[derive(Default)]
pub(super) struct Output {
    first: BytesMut,
    large: Bytes,
    last: BytesMut,
    written: u64,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.large.is_empty() && self.last.is_empty()
    }

    /// The end of what waits, to be written to.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.large.is_empty() { &mut self.first } else { &mut self.last }
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() <= COPIED || !self.large.is_empty() {
            self.tail().extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Writes until all is gone.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let mut stream = Pin::new(&mut *stream);
            let written = if self.large.is_empty() && self.last.is_empty() {
                ready!(stream.as_mut().poll_write(cx, &self.first))
            } else {
                let slices = [IoSlice::new(&self.first), IoSlice::new(&self.large), IoSlice::new(&self.last)];
                let from = usize::from(self.first.is_empty());
                ready!(stream.as_mut().poll_write_vectored(cx, &slices[from..]))
            };
            match written? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.advance(n),
            }
        }
        // A stream's answer can last for hours: what a burst needed is given back.
        self.first.clear();
        if self.first.capacity() > 2 * COPIED {
            self.first = BytesMut::new();
        }
        self.last = BytesMut::new();
        Pin::new(&mut *stream).poll_flush(cx)
    }

    /// How much the client's side has taken since this was asked last.
    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    fn advance(&mut self, mut n: usize) {
        self.written += n as u64;
        for part in [&mut self.first as &mut dyn Advance, &mut self.large, &mut self.last] {
            n -= part.take(n);
        }
    }
}

trait Advance {
    /// Takes up to `n` bytes off the front and says how many.
    fn take(&mut self, n: usize) -> usize;
}

impl Advance for Bytes {
    fn take(&mut self, n: usize) -> usize {
        let n = n.min(self.len());
        self.advance(n);
        n
    }
}

impl Advance for BytesMut {
    fn take(&mut self, n: usize) -> usize {
        let n = n.min(self.len());
        if n == self.len() {
            // The space stays where it is: to advance to the end would have the next line look for it.
            self.clear();
        } else {
            self.advance(n);
        }
        n
    }
}
