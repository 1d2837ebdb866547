//! The way out: the peer, and the request as the upstream gets it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Uri};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use weir_filters::credential::upstream_header;

use crate::config::Durability;
use crate::ledger::Outcome;
use crate::leg::{self, Payload};

use super::context::{Context, Framing};
use super::finish;

/// A model may think for minutes without a byte. Probes keep the state of routers on the way alive, and
/// tell an upstream that thinks from a host that is gone.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 6,
    user_timeout: Duration::ZERO,
};

/// Where the chosen channel is.
pub(super) async fn peer(ctx: &mut Context) -> Result<Box<HttpPeer>> {
    let exchange = ctx.exchange.as_ref().ok_or_else(no_channel)?;
    let channel = &exchange.channel;
    let (url, timeouts) = (&channel.config().base_url, channel.config().timeouts);
    let address = channel
        .address()
        .await
        .or_err(ErrorType::ConnectError, "looking the upstream's name up")
        .map_err(Error::into_up)
        .inspect_err(|_| ctx.outcome = Some(Outcome::UpstreamError))?;
    let mut peer = HttpPeer::new(address, url.tls, url.host.clone());
    peer.options.alpn = leg::mark();
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.total_connection_timeout = Some(timeouts.connect);
    peer.options.read_timeout = Some(timeouts.first_byte.max(timeouts.idle));
    peer.options.write_timeout = Some(timeouts.idle);
    peer.options.idle_timeout = Some(leg::IDLE_TIMEOUT);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    Ok(Box::new(peer))
}

fn no_channel() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "no channel was chosen")
}

/// Writes the upstream's request anew: nothing of the client's head goes on unseen.
pub(super) fn request(session: &Session, upstream: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    let start = std::time::Instant::now();
    let exchange = ctx.exchange.as_mut().ok_or_else(no_channel)?;
    let channel = exchange.channel.config();
    let client = session.req_header();

    let mut parts: Parts = http::Request::new(()).into_parts().0;
    parts.method = client.method.clone();
    parts.uri = exchange.target.parse::<Uri>().or_err(ErrorType::InternalError, "the upstream's path")?;
    let headers = &mut parts.headers;
    headers.reserve(client.headers.len() + 4);
    headers.insert(HOST, exchange.channel.host_header().clone());
    ctx.snapshot.headers.request(&client.headers, |name, value| {
        headers.append(name, value.clone());
    });
    // A compressed answer hides its usage; no decision of the client's depends on the coding.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let key = &exchange.channel.key(exchange.key).value;
    let (name, value) = upstream_header(channel.protocol, key)
        .or_err(ErrorType::InternalError, "the upstream key is no header value")?;
    headers.insert(name, value);
    match exchange.more {
        Some(Framing::Chunked) => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(Framing::Length(length)) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        None => {
            let length: usize = exchange.body.iter().map(Bytes::len).sum();
            // RFC 9110, 8.6: no length for an empty body where none is expected.
            if length > 0 || !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE) {
                headers.insert(CONTENT_LENGTH, length.into());
            }
        }
    }
    parts.extensions.insert(Payload {
        body: exchange.body.clone(),
        more: exchange.more.is_some(),
        first_byte: channel.timeouts.first_byte,
        idle: channel.timeouts.idle,
        hold_end: ctx.snapshot.durability == Durability::Strict,
        stop: exchange.stop.clone(),
    });
    *upstream = RequestHeader::from(parts);
    exchange.asked = Some(start);
    ctx.overhead += start.elapsed();
    Ok(())
}

/// The upstream could not be reached: its next address is tried by the next request.
pub(super) fn not_connected(peer: &HttpPeer, ctx: &mut Context, error: Box<Error>) -> Box<Error> {
    if let (Some(exchange), Some(address)) = (&ctx.exchange, peer.address().as_inet()) {
        exchange.channel.is_unreachable(*address);
    }
    ctx.outcome = Some(finish::blame(&error, false));
    error
}

/// A try failed. One on a connection that had been idle is repeated if no byte of an answer came and
/// the body is still here: the upstream closed the connection just as it was used.
pub(super) fn failed(session: &Session, ctx: &Context, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let resendable = ctx.exchange.as_ref().is_some_and(|exchange| exchange.more.is_none());
    let answered = session.response_written().is_some_and(|head| !head.status.is_informational());
    let unanswered = ctx.status == 0 && !answered;
    error.retry.decide_reuse(reused && resendable && unanswered);
    error
}
