//! Connections to upstreams: new ones, and the pool of those that are idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::upstreams::peer::{ALPN, Peer};

use super::pool::Pool;
use super::session::LegSession;
use super::wire::{Wire, is_silent};

/// How long an idle connection is kept if the peer does not say: below the shortest limit in common
/// use among the servers in front of LLM APIs (60 s), so that it is seldom closed under a request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// The protocol of a peer whose requests go through this leg. Pingora chooses the leg by it; it is
/// never said to an upstream.
pub fn mark() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"weir".to_vec()))
}

/// Connects Pingora's proxy to upstreams.
pub struct Leg {
    transport: TransportConnector,
    idle: Pool<Arc<Wire>>,
}

impl Leg {
    /// A leg whose upstream certificates are checked against the authorities of `options`.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        Self { transport: TransportConnector::new(options), idle: Pool::new() }
    }
}

#[async_trait]
impl Connector for Leg {
    type Session = LegSession;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<LegSession>, bool)> {
        let mut peer = peer.clone();
        if let Some(options) = peer.get_mut_peer_options() {
            options.alpn = ALPN::H1;
        }
        let stream = self.transport.new_stream(&peer).await?;
        Ok((Connection::Session(LegSession::new(stream, false)), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Option<LegSession> {
        let upstream = peer.reuse_hash();
        loop {
            let wire = self.idle.take(upstream, Instant::now())?;
            if is_silent(&wire) {
                return Some(LegSession::over(wire, true));
            }
        }
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: LegSession,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) {
        if let Some(wire) = session.into_reusable() {
            self.idle.put(peer.reuse_hash(), wire, idle_timeout.unwrap_or(IDLE_TIMEOUT), Instant::now());
        }
    }
}
