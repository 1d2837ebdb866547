//! Pingora's phases: a line or two each; their bodies are in the modules beside this one.
//!
//! Owns the life of a request on the data plane. It refuses to know what a byte means (that is
//! `weir_filters`), where a record goes (the ledger) or who looks at it (admin).

mod context;
mod finish;
mod http10;
mod reply;
mod request;
mod response;
mod snapshot;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::ledger::Ledger;
use crate::metrics::Metrics;

pub use context::{Context, Stage};
pub use snapshot::Snapshot;

/// What all requests share.
pub(crate) struct Shared {
    /// The configuration in force. A request pins it once, so that a reload never splits one.
    pub(crate) live: ArcSwap<Snapshot>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The metering proxy, as a Pingora plugin.
#[derive(Clone)]
pub struct Weir {
    shared: Arc<Shared>,
}

impl Weir {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl ProxyHttp for Weir {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.shared.clone())
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(http10::Unchunked));
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        request::arrive(session, ctx).await
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        upstream::peer(ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        upstream::request(session, upstream_request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        request::more_body(body.as_ref(), ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        response::head(session, upstream_response, ctx).await
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        response::body(body, end_of_stream, ctx);
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<Option<Bytes>> {
        Ok(response::end(ctx).await)
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        finish::ended(error, ctx);
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        reply::failure(session, error, ctx).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        upstream::not_connected(peer, ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        upstream::failed(session, ctx, error, client_reused)
    }

    // The path may hold a credential, and a client that leaves is no error of the gateway: what ended
    // a request is in its settlement.
    fn request_summary(&self, _session: &Session, ctx: &Context) -> String {
        format!("request {}", ctx.id())
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _log_context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
