//! The connection itself, and the writer of a body that comes through Pingora's body phase.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::protocols::{Stream, UniqueIDType};
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::Notify;

/// The connection, shared by the exchange and the writer of its body; both run in one task, so the
/// lock is never waited for.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Mutex<Stream>,
    pub(super) id: UniqueIDType,
    /// Whether the request is whole on the wire.
    pub(super) sent: AtomicBool,
    /// Whether the answer is whole: what is left of the request interests nobody any more.
    pub(super) answered: AtomicBool,
    /// Told whenever a body that comes through [`Writer`] moves on, so that the clocks start anew.
    pub(super) progress: Notify,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            id: stream.id(),
            stream: Mutex::new(stream),
            sent: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            progress: Notify::new(),
        }
    }

    pub(super) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_write_all(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<io::Result<()>> {
        let mut stream = self.stream();
        while data.has_remaining() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, data))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => data.advance(n),
            }
        }
        Pin::new(&mut *stream).poll_flush(cx)
    }
}

/// Writes a body that comes through Pingora's body phase.
pub(super) struct Writer {
    pub(super) wire: Arc<Wire>,
    pub(super) chunked: bool,
    /// What is left of the announced length.
    pub(super) left: Option<u64>,
    pub(super) finished: bool,
    pub(super) idle: Duration,
}

impl Writer {
    /// Writes all of `data`, or nothing more at all once the upstream has answered without it.
    async fn write(&mut self, mut data: Bytes) -> Result<()> {
        let Self { wire, idle, finished, .. } = self;
        let write = std::future::poll_fn(|cx| match wire.poll_write_all(cx, &mut data) {
            Poll::Pending | Poll::Ready(Err(_)) if wire.answered.load(Ordering::Relaxed) => {
                *finished = true;
                Poll::Ready(Ok(()))
            }
            other => other,
        });
        let written = tokio::time::timeout(*idle, write).await;
        wire.progress.notify_one();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Error::because(ErrorType::WriteError, "writing the body to the upstream", e)),
            Err(_) => Error::e_explain(ErrorType::WriteTimedout, "the upstream does not take the body"),
        }
    }
}

#[async_trait]
impl BodyWrite for Writer {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        let data = data.split_to(data.len());
        if self.finished || data.is_empty() {
            return Ok(());
        }
        if self.chunked {
            let mut framed = Vec::with_capacity(data.len() + 20);
            framed.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            framed.extend_from_slice(&data);
            framed.extend_from_slice(b"\r\n");
            return self.write(framed.into()).await;
        }
        // More than was announced would be read as another request by the upstream.
        let left = self.left.and_then(|left| left.checked_sub(data.len() as u64));
        let Some(left) = left else {
            return Error::e_explain(ErrorType::WriteError, "the body is longer than announced");
        };
        self.left = Some(left);
        self.write(data).await
    }

    async fn finish(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        if self.chunked {
            self.write(Bytes::from_static(b"0\r\n\r\n")).await?;
        } else if self.left.is_some_and(|left| left > 0) {
            return Error::e_explain(ErrorType::WriteError, "the body is shorter than announced");
        }
        self.wire.sent.store(true, Ordering::Relaxed);
        self.wire.progress.notify_one();
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}

/// Whether an idle connection is still silent and open: one that said something, or closed, is not
/// to be used again.
pub(super) fn is_silent(wire: &Wire) -> bool {
    let mut probe = [0; 1];
    let mut stream = wire.stream();
    let read = std::pin::pin!(stream.read(&mut probe));
    read.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
}
