//! One request of a client, as Pingora's proxy sees it.

use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::request::Parts;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::clock;
use crate::http1::{give_back, put_line};

use super::client::Client;

type Messages = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// What Pingora is told of an answer whose head it did not write itself: that there is one.
static ANSWERED: LazyLock<ResponseHeader> =
    LazyLock::new(|| ResponseHeader::build(200, Some(0)).expect("200 is a status"));

/// A request, as a session of Pingora's. The phases ask it for the body and give it what they answer
/// themselves; an exchange with an upstream goes past it, to the [`Client`].
pub(super) struct Handle {
    client: Arc<Client>,
    request: RequestHeader,
    response: Option<Box<ResponseHeader>>,
    sent: usize,
    drain: Option<Duration>,
}

impl Handle {
    pub(super) fn new(client: Arc<Client>, parts: Parts) -> Self {
        Self { client, request: RequestHeader::from(parts), response: None, sent: 0, drain: None }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
        give_back(Parts::from(std::mem::replace(&mut self.request, nothing)).headers);
    }
}

#[async_trait]
impl Session for Handle {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.client.body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while self.client.body().await?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, end: bool) -> Result<()> {
        let length = response.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let interim = response.status.is_informational();
        self.client.head(response.status, None, length, |out| {
            for (name, value) in &response.headers {
                if !matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION) {
                    put_line(out, name.as_str().as_bytes(), value.as_bytes());
                }
            }
            if !interim && !response.headers.contains_key(DATE) {
                clock::with_date(|date| put_line(out, b"date", date));
            }
        });
        self.response = Some(response);
        // A head without a body, or one that somebody waits for; others leave with what follows.
        if end || interim { self.client.flush().await } else { Ok(()) }
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(response.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.sent += data.len();
        self.client.piece(data);
        if end {
            self.client.end();
        }
        self.client.flush().await
    }

    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, _tasks: Vec<HttpTask>) -> Result<bool> {
        Error::e_explain(ErrorType::InternalError, "an exchange goes past Pingora's")
    }

    // A client may pause for as long as `STALL` says, whatever it does.
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}
    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        Some(super::client::STALL)
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        Some(super::client::STALL)
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain
    }

    // The path may hold a credential.
    fn request_summary(&self) -> String {
        String::new()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        match &self.response {
            Some(response) => Some(response),
            None => self.client.is_answered().then(|| &*ANSWERED),
        }
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.client.close_after();
    }

    fn is_body_done(&mut self) -> bool {
        self.client.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.client.end();
        self.client.flush().await
    }

    fn is_body_empty(&mut self) -> bool {
        self.client.is_body_done() && self.client.body_bytes() == 0
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.client.is_body_done() {
            return Err(poll_fn(|cx| self.client.poll_gone(cx)).await);
        }
        self.client.body().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        usize::try_from(self.client.body_bytes()).unwrap_or(usize::MAX)
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    // A body that has been read is kept by whoever may have to send it again.
    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        Some(Box::new(futures::stream::empty()))
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
