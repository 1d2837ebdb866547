//! Connections to upstreams: new ones, and the pool of those that are idle.

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::l4::ext;
use pingora_core::protocols::{Stream, TcpKeepalive};
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::clock;
use crate::http1::Plain;

use super::exchange::Exchange;
use super::pool::Pool;

/// How long an idle connection is kept: below the shortest limit in common use among the servers in
/// front of LLM APIs (60 s), so that it is seldom closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// A model may think for minutes without a byte. Probes keep the state of routers on the way alive, and
/// tell an upstream that thinks from a host that is gone.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 6,
    user_timeout: Duration::ZERO,
};

/// Where a connection leads. One to the same origin can serve any request for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    /// The name in the certificate.
    pub(crate) host: Arc<str>,
    pub(crate) tls: bool,
}

// Origins come from the configuration: nobody can choose them so that they collide. What tells channels
// apart, nearly always, is the address.
impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.segments().iter().fold(0_u64, |word, &part| u64::from(part) ^ word.rotate_left(16)),
        };
        state.write_u64(ip << 17 ^ u64::from(self.address.port()) << 1 ^ u64::from(self.tls));
    }
}

/// Connects to upstreams.
pub struct Leg {
    transport: TransportConnector,
    idle: Pool<Origin, Stream>,
}

impl Leg {
    /// A leg whose upstream certificates are checked against the authorities of `options`.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        Self { transport: TransportConnector::new(options), idle: Pool::new() }
    }

    /// An exchange with `origin`, over a connection that is idle or else a new one, made within
    /// `timeout`.
    pub(crate) async fn open(&self, origin: &Origin, timeout: Duration) -> Result<Exchange> {
        let now = clock::now();
        while let Some(mut stream) = self.idle.take(origin, now) {
            if is_silent(&mut stream) {
                return Ok(Exchange::new(stream, true, now));
            }
        }
        // Boxed, because it is large and seldom: every waiting request would hold its room.
        Box::pin(self.connect(origin, timeout)).await
    }

    /// An exchange over a connection that was made for it, within `timeout`. It is not to be given back.
    pub(crate) async fn fresh(&self, origin: &Origin, timeout: Duration) -> Result<Exchange> {
        self.connect(origin, timeout).await
    }

    /// The same to a listener of this process. Its certificate is for names that lead elsewhere, and who answers is
    /// known.
    pub(crate) async fn own(&self, address: SocketAddr, tls: bool, time: Duration) -> Result<Exchange> {
        let connected = timeout(time, async {
            if !tls {
                return plain(address).await;
            }
            let mut peer = HttpPeer::new(address, true, "localhost".to_owned());
            peer.options.alpn = ALPN::H1;
            peer.options.verify_cert = false;
            peer.options.verify_hostname = false;
            self.transport.new_stream(&peer).await
        });
        match connected.await {
            Ok(stream) => Ok(Exchange::new(stream?, false, Instant::now())),
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, format!("{address} did not answer")),
        }
    }

    async fn connect(&self, origin: &Origin, time: Duration) -> Result<Exchange> {
        let connected = timeout(time, async {
            if origin.tls { self.encrypted(origin).await } else { plain(origin.address).await }
        });
        match connected.await {
            Ok(stream) => Ok(Exchange::new(stream?, false, Instant::now())),
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, format!("{} did not answer", origin.address)),
        }
    }

    async fn encrypted(&self, origin: &Origin) -> Result<Stream> {
        let mut peer = HttpPeer::new(origin.address, true, origin.host.to_string());
        peer.options.alpn = ALPN::H1;
        peer.options.tcp_keepalive = Some(KEEPALIVE);
        self.transport.new_stream(&peer).await
    }

    /// Takes an exchange back. Its connection is kept if another exchange can follow on it.
    pub(crate) fn close(&self, exchange: Exchange, origin: &Origin) {
        if let Some(stream) = exchange.into_reusable() {
            self.idle.put(origin, stream, IDLE_TIMEOUT, clock::now());
        }
    }
}

async fn plain(address: SocketAddr) -> Result<Stream> {
    let stream = ext::connect(&address, None).await?;
    stream.set_nodelay(true).or_err(ErrorType::ConnectError, "an option of the connection")?;
    ext::set_tcp_keepalive(&stream, &KEEPALIVE)?;
    Ok(Box::new(Plain(stream)))
}

/// Whether an idle connection is still silent and open: one that said something, or closed, is not
/// to be used again.
fn is_silent(stream: &mut Stream) -> bool {
    let mut probe = [0; 1];
    let read = std::pin::pin!(stream.read(&mut probe));
    read.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
}
