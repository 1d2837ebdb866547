//! Answers to clients of HTTP/1.0, which know no chunks.

use std::any::Any;

use async_trait::async_trait;
use http::Version;
use http::header::TRANSFER_ENCODING;
use pingora_core::Result;
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora_http::{RequestHeader, ResponseHeader};

/// Makes the answer to such a client end with its connection if it has no length. A module, because
/// Pingora asks for chunks after the last phase that could say no.
pub(super) struct Unchunked;

struct Client {
    knows_chunks: bool,
}

impl HttpModuleBuilder for Unchunked {
    fn init(&self) -> Module {
        Box::new(Client { knows_chunks: true })
    }
}

#[async_trait]
impl HttpModule for Client {
    async fn request_header_filter(&mut self, request: &mut RequestHeader) -> Result<()> {
        self.knows_chunks = request.version > Version::HTTP_10;
        Ok(())
    }

    async fn response_header_filter(&mut self, response: &mut ResponseHeader, _end: bool) -> Result<()> {
        if !self.knows_chunks {
            response.remove_header(&TRANSFER_ENCODING);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
