//! The answer: its head is cleaned, its bytes are measured and passed on.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, VARY};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use weir_filters::cut::UsageCut;
use weir_filters::decode::Encoding;
use weir_filters::headers::echoes;
use weir_filters::meter::{Meter, Shape};

use crate::config::Durability;

use super::context::{Context, Exchange};
use super::finish;

/// Cleans the head and picks the meter.
pub(super) async fn head(session: &Session, header: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    ctx.status = header.status.as_u16();
    let id = ctx.id();
    let Some(exchange) = &mut ctx.exchange else { return Ok(()) };
    let operation = ctx.operation.expect("an exchange has an operation");

    let text = |name| header.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let shape = Shape::of(operation, text(CONTENT_TYPE));
    let encoding = Encoding::of(text(CONTENT_ENCODING));
    exchange.stream = matches!(shape, Shape::Sse | Shape::Ndjson | Shape::JsonArray);
    if exchange.stream {
        exchange.gauges.1 = Some(ctx.shared.metrics.stream());
    }
    // A compressed stream cannot be cut without compressing it anew: then the client gets the extra
    // report, which its protocol allows, and every byte stays as it was.
    let cut = exchange.injected && shape == Shape::Sse && encoding == Encoding::Identity && header.status.is_success();
    exchange.cut = cut.then(UsageCut::new);
    exchange.meter = Some(Meter::new(operation, shape, encoding));

    let secret = &exchange.channel.key(exchange.key).value;
    let stripped: Vec<_> = header
        .headers
        .iter()
        .filter(|(name, value)| {
            ctx.snapshot.headers.strips_response(name) || echoes(value, secret) || nominated(&header.headers, name)
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in &stripped {
        header.remove_header(name);
    }
    if cut {
        header.remove_header(&CONTENT_LENGTH);
    }
    header.insert_header("x-weir-request-id", id)?;
    header.insert_header("x-weir-channel", &**exchange.channel.name())?;
    if let Some(origin) = &ctx.cors_origin {
        header.insert_header("access-control-allow-origin", origin)?;
        header.append_header(VARY, "origin")?;
    }

    let length = header.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    exchange.left_to_hold = length;
    let empty =
        length == Some(0) || matches!(ctx.status, 204 | 304) || session.req_header().method == http::Method::HEAD;
    if empty {
        exchange.complete = true;
        finish::settle(ctx);
        if let Some(position) = ctx.exchange.as_ref().and_then(|exchange| exchange.position) {
            ctx.shared.ledger.synced(position).await;
        }
    }
    Ok(())
}

/// Whether the upstream's `Connection` header says that `name` is for this hop alone.
fn nominated(headers: &HeaderMap, name: &HeaderName) -> bool {
    let tokens = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Measures what came and passes it on. An answer is settled before its last byte leaves: a client
/// that has it whole has been counted.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut Context) {
    let strict = ctx.snapshot.durability == Durability::Strict;
    let arrived = ctx.arrived;
    let Some(exchange) = &mut ctx.exchange else { return };
    if let Some(data) = body.take() {
        if let Some(meter) = &mut exchange.meter {
            meter.feed(&data);
            if exchange.first_token.is_none() && meter.has_first_token() {
                exchange.first_token = Some(arrived.elapsed());
            }
        }
        *body = pass(exchange, data, strict);
    }
    if end && !exchange.complete {
        exchange.complete = true;
        if let Some(rest) = exchange.cut.as_mut().map(UsageCut::finish).filter(|rest| !rest.is_empty()) {
            *body = Some(join(body.take(), rest));
        }
        finish::settle(ctx);
    }
}

/// What of `data` the client gets now; never an empty piece, which would end a chunked answer.
fn pass(exchange: &mut Exchange, data: Bytes, strict: bool) -> Option<Bytes> {
    let data = match &mut exchange.cut {
        Some(cut) => cut.feed(data),
        None => data,
    };
    if strict && let Some(left) = &mut exchange.left_to_hold {
        *left = left.saturating_sub(data.len() as u64);
        if *left == 0 {
            // With a length, these bytes are the end: the client would be content before the disk is.
            exchange.held = Some(join(exchange.held.take(), data));
            return None;
        }
    }
    (!data.is_empty()).then_some(data)
}

/// The end of an answer under `ledger.durability: strict`: called after the last byte and before the
/// client is told of the end, it waits until the record is on the disk.
pub(super) async fn end(ctx: &mut Context) -> Option<Bytes> {
    if let Some(exchange) = &mut ctx.exchange {
        exchange.complete = true;
    }
    finish::settle(ctx);
    let exchange = ctx.exchange.as_mut()?;
    if let Some(position) = exchange.position {
        ctx.shared.ledger.synced(position).await;
    }
    let rest = exchange.cut.as_mut().map(UsageCut::finish).unwrap_or_default();
    Some(join(exchange.held.take(), rest)).filter(|bytes| !bytes.is_empty())
}

fn join(before: Option<Bytes>, after: Bytes) -> Bytes {
    match before {
        Some(before) if !before.is_empty() => {
            let mut joined = BytesMut::with_capacity(before.len() + after.len());
            joined.extend_from_slice(&before);
            joined.extend_from_slice(&after);
            joined.freeze()
        }
        _ => after,
    }
}
