//! The answer: its head is cleaned, its bytes are measured and passed on.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use weir_filters::boundary::Boundary;
use weir_filters::cut::UsageCut;
use weir_filters::decode::Encoding;
use weir_filters::limits::told;
use weir_filters::meter::{Meter, Shape};
use weir_filters::refusal::Refusal;

use crate::audit::Layout;
use crate::clock;
use crate::config::Durability;
use crate::http1::{Lines, Response, put_line};
use crate::ledger::Outcome;

use super::context::{Context, Exchange};
use super::limits::Held;
use super::{finish, record};

/// The head as the client gets it.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) reason: Option<Bytes>,
    /// The length that it says, if it says one.
    pub(super) length: Option<u64>,
    lines: Lines,
}

/// Cleans the head and picks the meter.
pub(super) fn head(mut head: Response, ctx: &mut Context) -> Head {
    ctx.status = head.status.as_u16();
    ctx.attempts.end();
    let Some(exchange) = &mut ctx.exchange else { return Head::new(head) };
    let operation = ctx.operation.expect("an exchange has an operation");
    // What was kept to be sent again is not needed any more.
    exchange.body = Vec::new();
    exchange.status = head.status.as_u16();

    let text = |name| head.lines.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let shape = Shape::of(operation, text(&CONTENT_TYPE));
    let encoding = Encoding::of(text(&CONTENT_ENCODING));
    exchange.stream = matches!(shape, Shape::Sse | Shape::Ndjson | Shape::JsonArray);
    if exchange.stream {
        exchange.gauges.1 = Some(ctx.shared.metrics.stream());
    }
    // A compressed stream cannot be cut without compressing it anew: then the client gets the extra
    // report, which its protocol allows, and every byte stays as it was.
    let cut = exchange.injected && shape == Shape::Sse && encoding == Encoding::Identity && head.status.is_success();
    exchange.cut = cut.then(UsageCut::new);
    exchange.meter = Some(Meter::new(operation, shape, encoding));

    let echo = exchange.channel.echo(exchange.key);
    let nominated: Vec<Box<[u8]>> = head.lines.connection().filter(|t| !is_of_connections(t)).map(Box::from).collect();
    let standings = ctx.held.as_ref().is_some_and(Held::has_standings);
    head.lines.retain(|name, value| {
        !(standings && told::is_standing(name)
            || ctx.snapshot.headers.strips_response(name)
            || echo.is_in(value)
            || nominated.iter().any(|token| name.eq_ignore_ascii_case(token)))
    });
    if cut {
        head.length = None;
    }
    let may_say_more = shape == Shape::Sse && encoding == Encoding::Identity && head.length.is_none();
    exchange.boundary = (may_say_more && head.status.is_success()).then(Boundary::new);
    exchange.left_to_hold = head.length;
    record::laid_out(Layout { shape, encoding }, ctx);
    Head::new(head)
}

/// Whether a token of `Connection` is about the connection, and names no header line.
fn is_of_connections(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
}

impl Head {
    fn new(head: Response) -> Self {
        Self { status: head.status, reason: head.reason, length: head.length, lines: head.lines }
    }

    /// Its lines.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Its lines in wire form, without those that frame the body.
    pub(super) fn write(&self, out: &mut BytesMut, ctx: &Context) {
        for (name, value) in self.lines.iter() {
            put_line(out, name, value);
        }
        if self.lines.get(&DATE).is_none() {
            clock::with_date(|date| put_line(out, b"date", date));
        }
        self.set(ctx, |name, value| put_line(out, name.as_bytes(), value));
    }

    /// The same for Pingora, which writes HTTP/2.
    pub(super) fn to_pingora(&self, ctx: &Context) -> Result<ResponseHeader> {
        let mut header = ResponseHeader::build_no_case(self.status, Some(self.lines.len() + 6))?;
        for (name, value) in self.lines.iter() {
            // What HTTP/1.1 allows in a value and HTTP/2 does not is left out.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                header.append_header(name, value)?;
            }
        }
        if let Some(length) = self.length {
            header.insert_header(http::header::CONTENT_LENGTH, length)?;
        }
        self.set(ctx, |name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                // A static name and a checked value: there is nothing that could be refused.
                let _ = header.append_header(name, value);
            }
        });
        Ok(header)
    }

    /// What Weir says itself.
    fn set(&self, ctx: &Context, mut put: impl FnMut(&'static str, &[u8])) {
        put("x-weir-request-id", &ctx.id_digits());
        if let Some(exchange) = &ctx.exchange {
            put("x-weir-channel", exchange.channel.name().as_bytes());
        }
        if let Some(Held { permit, .. }) = &ctx.held {
            told::standings(ctx.protocol, permit.requests(), permit.tokens(), ctx.arrived_ms, &mut put);
        }
        if let Some(origin) = &ctx.cors_origin {
            put("access-control-allow-origin", origin.as_bytes());
            put("vary", b"origin");
        }
    }
}

/// Measures what came and gives what the client gets of it now. An answer is settled at its `end`, before
/// its last byte leaves: a client that has it whole has been counted.
pub(super) fn body(data: Bytes, end: bool, ctx: &mut Context) -> Bytes {
    let strict = ctx.snapshot.durability == Durability::Strict;
    let arrived = ctx.arrived;
    let Some(exchange) = &mut ctx.exchange else { return data };
    let mut passed = data;
    if !passed.is_empty() {
        if let Some(meter) = &mut exchange.meter {
            meter.feed(&passed);
            if exchange.first_token.is_none() && meter.has_first_token() {
                exchange.first_token = Some(clock::now().saturating_duration_since(arrived));
            }
        }
        record::received(&passed, &mut ctx.notes);
        passed = pass(exchange, passed, strict);
    }
    if end && !exchange.complete {
        exchange.complete = true;
        if let Some(rest) = exchange.cut.as_mut().map(UsageCut::finish).filter(|rest| !rest.is_empty()) {
            passed = join(passed, rest);
        }
        finish::settle(ctx);
    }
    passed
}

/// What of `data` the client gets now.
fn pass(exchange: &mut Exchange, data: Bytes, strict: bool) -> Bytes {
    let data = match &mut exchange.cut {
        Some(cut) => cut.feed(data),
        None => data,
    };
    if let Some(boundary) = &mut exchange.boundary {
        boundary.feed(&data);
    }
    if strict && let Some(left) = &mut exchange.left_to_hold {
        *left = left.saturating_sub(data.len() as u64);
        if *left == 0 {
            // With a length, these bytes are the end: the client would be content before the disk is.
            exchange.held = Some(join(exchange.held.take().unwrap_or_default(), data));
            return Bytes::new();
        }
    }
    data
}

/// The end of an answer under `ledger.durability: strict`: called after the last byte and before the
/// client is told of the end, it waits until the record is on the disk.
pub(super) async fn end(ctx: &mut Context) -> Bytes {
    if let Some(exchange) = &mut ctx.exchange {
        exchange.complete = true;
    }
    finish::settle(ctx);
    let Some(exchange) = &mut ctx.exchange else { return Bytes::new() };
    if let Some(position) = exchange.position {
        ctx.shared.ledger.synced(position).await;
    }
    let rest = exchange.cut.as_mut().map(UsageCut::finish).unwrap_or_default();
    join(exchange.held.take().unwrap_or_default(), rest)
}

/// What is left to say when a stream breaks off on the upstream's side: an error in the protocol's own words,
/// as one event more, and then the end. `None`: only the end of the connection can tell it, because the client
/// has a part of an event that it would take for whole, or is owed a length.
///
/// It is Weir's own event: it is neither measured nor counted.
pub(super) async fn last_words(error: &Error, ctx: &mut Context) -> Option<Bytes> {
    let end = ctx.exchange.as_ref()?.boundary.as_ref()?.end_event()?;
    finish::ended(Some(error), ctx);
    let refusal = match ctx.outcome {
        Some(Outcome::Timeout) => Refusal::UpstreamTimeout,
        _ => Refusal::UpstreamBroken,
    };
    ctx.error = Some(refusal.reason());
    finish::settle(ctx);
    if ctx.snapshot.durability == Durability::Strict
        && let Some(position) = ctx.exchange.as_ref().and_then(|exchange| exchange.position)
    {
        ctx.shared.ledger.synced(position).await;
    }
    let event = refusal.event(ctx.protocol, &ctx.id());
    Some([end, event.as_bytes()].concat().into())
}

fn join(before: Bytes, after: Bytes) -> Bytes {
    if before.is_empty() {
        return after;
    }
    let mut joined = BytesMut::with_capacity(before.len() + after.len());
    joined.extend_from_slice(&before);
    joined.extend_from_slice(&after);
    joined.freeze()
}
