//! Pingora's phases: a line or two each; their bodies are in the modules beside this one.
//!
//! Owns the life of a request on the data plane. It refuses to know what a byte means (that is
//! `weir_filters`), where a record goes (the ledger) or who looks at it (admin).

mod attempt;
mod context;
mod drain;
mod drive;
mod exchange;
mod explain;
mod finish;
mod in_flight;
mod limits;
mod plan;
mod pricing;
mod record;
mod reply;
mod request;
mod response;
mod snapshot;
mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::channels::{Registry, Sticky};
use crate::front::Census;
use crate::ledger::Ledger;
use crate::leg::Leg;
use crate::metrics::Metrics;

pub use attempt::Attempt;
pub use context::{Context, Stage};
pub(crate) use drain::Drains;
pub use explain::{Asked, Explanation, Upstream};
pub(crate) use in_flight::InFlight;
pub use snapshot::Snapshot;

/// What all requests share.
pub(crate) struct Shared {
    /// The configuration in force. A request pins it once, so that a reload never splits one.
    pub(crate) live: ArcSwap<Snapshot>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// Records of requests.
    pub(crate) audit: Arc<Audit>,
    /// What keys, users and channels have used of their limits.
    pub(crate) accounts: Arc<Accounts>,
    /// The way to the upstreams.
    pub(crate) leg: Leg,
    /// What is known of the channels beyond the configuration in force.
    pub(crate) registry: Registry,
    /// Which channel each conversation had last.
    pub(crate) conversations: Sticky,
    /// Answers that are read for nobody.
    pub(crate) drains: Arc<Drains>,
    /// Requests under way.
    pub(crate) in_flight: InFlight,
    /// Connections of clients.
    pub(crate) census: Arc<Census>,
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

    // Pingora's default is a module that could compress; bytes pass as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        request::arrive(session, ctx).await
    }

    // The exchange is Weir's own (see `exchange`), in Pingora's last phase before its own would begin: it
    // is polled by the task that serves the client, without a channel between the two.
    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        exchange::run(&self.shared.leg, session, ctx).await?;
        Ok(false)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Context) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "an exchange goes past Pingora's own leg")
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        finish::ended(error, ctx);
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        reply::failure(session, error, ctx).await
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
