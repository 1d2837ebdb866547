//! The way out: where the request goes, and what the upstream gets.

use std::io;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora_core::{Error, ErrorType, Result, RetryType};
use pingora_http::RequestHeader;
use weir_filters::refusal::Refusal;

use crate::channels::NoAddress;
use crate::clock;
use crate::config::Timeouts;
use crate::http1::{put_length, put_line};
use crate::ledger::Outcome;
use crate::leg::{self, Origin, Upload};

use super::context::Context;
use super::finish;

/// Where the chosen channel is, and how long it may take.
pub(super) async fn origin(ctx: &mut Context) -> Result<(Origin, Timeouts)> {
    let channel = &ctx.exchange.as_ref().ok_or_else(no_channel)?.channel;
    match channel.origin().await {
        Ok(origin) => Ok((origin, channel.config().timeouts)),
        Err(why) => {
            if matches!(why, NoAddress::Forbidden(_)) {
                ctx.snapshot.handles.channel(channel.index()).address_refused(&ctx.shared.metrics);
            }
            ctx.outcome = Some(Outcome::UpstreamError);
            Err(Error::explain(ErrorType::ConnectError, why.to_string()).into_up())
        }
    }
}

fn no_channel() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "no channel was chosen")
}

/// Writes the upstream's request anew: nothing of the client's head goes on unseen.
pub(super) fn send(client: &RequestHeader, ctx: &mut Context, leg: &mut leg::Exchange) -> Result<()> {
    let exchange = ctx.exchange.as_mut().ok_or_else(no_channel)?;
    let length: usize = exchange.body.iter().map(Bytes::len).sum();
    let mut head = BytesMut::with_capacity(1024 + if length <= 2048 { length } else { 0 });
    head.extend_from_slice(client.method.as_str().as_bytes());
    head.extend_from_slice(b" ");
    head.extend_from_slice(target(&exchange.target)?);
    head.extend_from_slice(b" HTTP/1.1\r\n");
    put_line(&mut head, b"host", exchange.channel.host_header().as_bytes());
    ctx.snapshot
        .headers
        .request(&client.headers, |name, value| put_line(&mut head, name.as_str().as_bytes(), value.as_bytes()));
    // A compressed answer hides its usage; no decision of the client's depends on the coding.
    put_line(&mut head, b"accept-encoding", b"identity");
    let (name, value) = exchange
        .channel
        .credential(exchange.key)
        .ok_or_else(|| Error::explain(ErrorType::InternalError, "the upstream key is no header value"))?;
    put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
    match exchange.more {
        Some(Upload::Chunked) => put_line(&mut head, b"transfer-encoding", b"chunked"),
        Some(Upload::Length(length)) => put_length(&mut head, length),
        // RFC 9110, 8.6: no length for an empty body where none is expected.
        None if length == 0 && matches!(client.method, Method::GET | Method::HEAD | Method::DELETE) => {}
        None => put_length(&mut head, length as u64),
    }
    head.extend_from_slice(b"\r\n");
    leg.send(client.method.clone(), head, &exchange.body, exchange.more);
    exchange.asked = Some(clock::now());
    Ok(())
}

/// The path and query that are asked for, which must be a single word.
fn target(target: &str) -> Result<&[u8]> {
    if target.bytes().all(|b| b > b' ' && b != 0x7f) && target.starts_with('/') {
        return Ok(target.as_bytes());
    }
    Error::e_explain(ErrorType::InternalError, "the upstream's path is no request target")
}

/// The upstream could not be reached: its next address is tried by the next request.
pub(super) fn not_connected(origin: &Origin, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    error.retry = RetryType::Decided(false);
    if is_ours(&error) {
        log::error!("no connection to an upstream can be opened: {}", error.root_cause());
        ctx.refused = Some(Refusal::Overloaded);
        return error;
    }
    if let Some(exchange) = &ctx.exchange {
        exchange.channel.is_unreachable(origin.address);
    }
    ctx.outcome = Some(finish::blame(&error, false));
    error
}

/// Whether it is this machine that has no connection to give: no descriptor, memory or port is left.
fn is_ours(error: &Error) -> bool {
    let system = error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(system, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL))
}

/// A try failed. One on a connection that had been idle is repeated if no byte of an answer came and
/// the body is still here: the upstream closed the connection just as it was used.
pub(super) fn failed(ctx: &Context, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let resendable = ctx.exchange.as_ref().is_some_and(|exchange| exchange.more.is_none());
    error.retry.decide_reuse(reused && resendable && ctx.status == 0);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_the_upstreams_fault() {
        for (code, ours) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::ECONNREFUSED, false),
            (libc::ETIMEDOUT, false),
            (libc::EHOSTUNREACH, false),
        ] {
            let error = Error::because(ErrorType::ConnectError, "connecting", io::Error::from_raw_os_error(code));
            assert_eq!(is_ours(&error.into_up()), ours, "{code}");
        }
        assert!(!is_ours(&Error::new(ErrorType::ConnectTimedout)));
    }
}
