//! What the client has not taken yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
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
    /// Something was written that the stream may still keep back, as encryption does.
    is_unflushed: bool,
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

    /// Writes until all is gone, from the stream as well.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
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
        if !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        // A stream's answer can last for hours: what a burst needed is given back.
        self.first.clear();
        if self.first.capacity() > 2 * COPIED {
            self.first = BytesMut::new();
        }
        self.last = BytesMut::new();
        ready!(Pin::new(&mut *stream).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// How much the client's side has taken since this was asked last.
    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    fn advance(&mut self, mut n: usize) {
        self.is_unflushed = true;
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes all at once and lets go of half of it at each flush, as encryption does before a client that is slow.
    #[derive(Default)]
    struct Slow {
        kept: Vec<u8>,
        gone: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.kept.extend_from_slice(data);
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let half = self.kept.len().div_ceil(2);
            let gone: Vec<u8> = self.kept.drain(..half).collect();
            self.gone.extend(gone);
            if self.kept.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn it_is_flushed_only_when_the_stream_keeps_nothing_back() {
        let (mut output, mut stream) = (Output::default(), Slow::default());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(output.poll_flush(cx, &mut stream).is_ready(), "there is nothing to write");
        output.push(Bytes::from_static(b"abcd"));
        assert!(output.poll_flush(cx, &mut stream).is_pending());
        assert!(output.is_empty(), "the stream has it all");
        assert!(output.poll_flush(cx, &mut stream).is_pending(), "and keeps a byte");
        assert!(output.poll_flush(cx, &mut stream).is_ready());
        assert_eq!(stream.gone, b"abcd");
    }
}
