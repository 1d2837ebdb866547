//! Reads without a buffer of their own.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

/// What one read can bring.
const SIZE: usize = 64 * 1024;

thread_local!(static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into()));

/// Reads once, at most `limit` bytes, and appends what came to `input`. While nothing comes nothing is
/// held: ten thousand streams that wait for their next event share one buffer a thread, and each keeps
/// room for what came last.
pub(crate) fn poll_read(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    input: &mut BytesMut,
    limit: usize,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let limit = limit.min(scratch.len());
        let mut buffer = ReadBuf::new(&mut scratch[..limit]);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}
