//! What a request leaves for its record: its head as it comes, its bodies as they pass, and all of it at its end.
//!
//! Owns what of a request is noted when. How a record looks is said by [`weir_filters::record`], where it goes by
//! [`crate::audit`]. What is noted is JSON at once, in a buffer that goes round: a head is not kept for its record.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, Method, Version};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use weir_filters::access::{Line, put_agents, put_request};
use weir_filters::decode::Encoding;
use weir_filters::json::put_u64;
use weir_filters::meter::{Reading, Shape};
use weir_filters::record::{AttemptRecord, Credentials, Head, Record, put_headers, put_request_head, within};
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use crate::audit::{Capture, Entry, Kept, Layout, term};
use crate::clock;
use crate::http1::Lines;
use crate::ledger::Outcome;
use crate::metrics::Observation;

use super::context::Context;
use super::finish::micros;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Buffers that a thread keeps for its next requests, and the largest that it keeps.
const SPARE: usize = 64;
const MAX_SPARE: usize = 4 << 10;
/// What the head of most requests comes to.
const USUAL: usize = 1 << 10;

thread_local!(static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });

/// What was noted of a request.
pub(super) struct Notes {
    /// One part behind the other: the client's address, the access log's request and agents, the record's head and
    /// the answer's header lines.
    bytes: Vec<u8>,
    address: usize,
    request: usize,
    agents: usize,
    head: usize,
    /// The length of the shortest credential that was presented.
    shortest: usize,
    /// What is kept of the bodies, if they are recorded.
    pub(super) capture: Option<Box<Capture>>,
}

impl Notes {
    fn begin() -> Self {
        let bytes = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(USUAL));
        Self { bytes, address: 0, request: 0, agents: 0, head: 0, shortest: usize::MAX, capture: None }
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() > MAX_SPARE {
            return;
        }
        bytes.clear();
        // Also while the thread ends.
        let _ = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.len() < SPARE {
                buffers.push(bytes);
            }
        });
    }
}

/// Notes a request that has come, if anybody wants its record.
pub(super) fn arrived(session: &Session, ctx: &mut Context) {
    if !ctx.shared.audit.is_wanted() {
        return;
    }
    let address = match &ctx.client {
        Some(client) => client.address(),
        None => session.client_addr().and_then(|address| Some(address.as_inet()?.ip())),
    };
    let head = session.req_header();
    let mut notes = Notes::begin();
    note_head(head, address, ctx, &mut notes);
    ctx.notes = Some(notes);
}

fn note_head(head: &RequestHeader, address: Option<IpAddr>, ctx: &Context, notes: &mut Notes) {
    let settings = &ctx.snapshot.audit;
    let credentials = credentials(head);
    notes.shortest = credentials.shortest();
    let value = |name: &HeaderName| head.headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let agent = credentials.hide(value(&USER_AGENT));
    let out = &mut notes.bytes;
    put_address(out, address);
    notes.address = out.len();
    if settings.access_log {
        let version = if head.version == Version::HTTP_2 { "2.0" } else { "1.1" };
        put_request(out, known(&head.method), &credentials.hide_in_path(head.uri.path()), version);
        notes.request = out.len();
        put_agents(out, &credentials.hide(value(&REFERER)), &agent);
    } else {
        notes.request = out.len();
    }
    notes.agents = out.len();
    let (mut ip, ip_len) = ([0; 46], notes.address.min(46));
    ip[..ip_len].copy_from_slice(&out[..ip_len]);
    let shown = settings.headers.then_some((&head.headers, &credentials));
    put_request_head(out, &ip[..ip_len], &agent, &credentials.hide(value(&TRACEPARENT)), shown);
    notes.head = out.len();
    if let Some(caps) = settings.caps {
        let mut capture = Capture::new(caps, ctx.shared.audit.room());
        capture.request.layout = Layout { shape: Shape::Json, encoding: encoding(&head.headers) };
        let secrets = credentials.all().filter_map(|secret| std::str::from_utf8(secret).ok());
        capture.secrets.extend(secrets.map(Secret::new));
        notes.capture = Some(Box::new(capture));
    }
}

/// Most addresses are of four small numbers, which need no machinery.
fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => {
            for (n, octet) in address.octets().into_iter().enumerate() {
                if n > 0 {
                    out.push(b'.');
                }
                put_u64(out, octet.into());
            }
        }
        // Into memory.
        Some(IpAddr::V6(address)) => drop(write!(out, "{address}")),
        None => {}
    }
}

fn credentials(head: &RequestHeader) -> Credentials<'_> {
    Credentials::of(lines_of(&head.headers), head.uri.query())
}

/// The method, if it is one that there is: any word can be sent as one.
fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" | "TRACE" | "CONNECT") => known,
        _ => "-",
    }
}

fn lines_of(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

fn encoding(headers: &HeaderMap) -> Encoding {
    Encoding::of(headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()))
}

/// The model without the request's own credential, if that is in it.
pub(super) fn without_credentials(model: &str, head: &RequestHeader) -> Option<Arc<str>> {
    match credentials(head).hide(model.as_bytes()) {
        Cow::Borrowed(_) => None,
        Cow::Owned(hidden) => Some(String::from_utf8_lossy(&hidden).into()),
    }
}

/// Notes the head of the answer that is passed on. Some upstreams repeat what they were sent.
pub(super) fn answered(lines: &Lines, client: &RequestHeader, ctx: &mut Context) {
    let Some(notes) = ctx.notes.as_mut().filter(|_| ctx.snapshot.audit.headers) else { return };
    notes.bytes.truncate(notes.head);
    let may_repeat = lines.iter().any(|(name, value)| name.len().max(value.len()) >= notes.shortest);
    let credentials = if may_repeat { credentials(client) } else { Credentials::default() };
    put_headers(&mut notes.bytes, || lines.iter(), &credentials);
}

/// Notes how the body of the answer is laid out.
pub(super) fn laid_out(layout: Layout, ctx: &mut Context) {
    if let Some(capture) = ctx.notes.as_mut().and_then(|notes| notes.capture.as_mut()) {
        capture.response.layout = layout;
        if let Some(exchange) = &ctx.exchange {
            // Some upstreams repeat the key that they were asked with.
            capture.secrets.push(exchange.channel.key(exchange.key).value.clone());
        }
    }
}

/// Keeps a piece of the request's body.
pub(super) fn sent(piece: &Bytes, ctx: &mut Context) {
    if let Some(capture) = ctx.notes.as_mut().and_then(|notes| notes.capture.as_mut()) {
        capture.request.push(piece);
    }
}

/// Keeps a piece of the answer's body.
pub(super) fn received(piece: &Bytes, notes: &mut Option<Notes>) {
    if let Some(capture) = notes.as_mut().and_then(|notes| notes.capture.as_mut()) {
        capture.response.push(piece);
    }
}

/// Leaves the record of a request that has ended.
pub(super) fn leave(ctx: &mut Context, observed: &Observation, reading: Option<&Reading>) {
    let Some(mut notes) = ctx.notes.take() else { return };
    let snapshot = ctx.snapshot.clone();
    let settings = &snapshot.audit;
    let operation = ctx.operation.map_or("", Operation::name);
    let route = ctx.route.map_or("", |route| &*snapshot.route_names[route]);
    let (key_id, key_name, user) = ctx.key.as_ref().map_or(("", "", ""), |key| (&*key.id, &*key.name, &*key.user));
    let exchange = ctx.exchange.as_ref();
    let (channel, channel_key) =
        exchange.map_or(("", ""), |exchange| (&**exchange.channel.name(), &*exchange.channel.key(exchange.key).name));
    let mut word = [0; 10];
    let model = ctx.written_model();
    // What the upstream says itself may hold the key that it was asked with.
    let echoes = |text: &&str| exchange.is_some_and(|e| e.channel.echo(e.key).is_in(text.as_bytes()));
    let response_bytes = reading.map_or(ctx.own_bytes, |reading| reading.body_bytes);
    let record = Record {
        id: ctx.id,
        time_ms: ctx.arrived_ms,
        node: &settings.node,
        key_id,
        key_name,
        user,
        route,
        operation,
        protocol: ctx.protocol.name(),
        channel,
        channel_key,
        model_requested: model,
        model_upstream: exchange.map_or("", |exchange| exchange.channel.maps(&ctx.model).unwrap_or(model)),
        model_reported: if ctx.shown_model.is_some() {
            model
        } else {
            reading.and_then(|r| r.model.as_deref()).filter(|text| !echoes(text)).unwrap_or("")
        },
        stream: observed.stream,
        status: ctx.status,
        outcome: observed.outcome.name(),
        error: error(ctx, observed.outcome, reading, &mut word),
        events: observed.events,
        request_bytes: ctx.request_bytes,
        response_bytes,
        usage: observed.usage,
        usage_raw: reading.and_then(|r| r.raw.as_deref()).filter(|text| !echoes(text)).unwrap_or(""),
        cost_nano_usd: observed.cost.0,
        duration_us: micros(observed.duration),
        first_token_us: observed.first_token.map(micros),
        overhead_us: observed.overhead.map(micros),
    };
    let now = clock::now();
    let last = exchange.map(|exchange| AttemptRecord {
        channel,
        channel_key,
        outcome: observed.outcome.name(),
        status: exchange.status,
        duration_us: micros(now.saturating_duration_since(exchange.begun)),
    });
    let failed = ctx.attempts.failed().iter().map(|attempt| AttemptRecord {
        channel: attempt.channel.name(),
        channel_key: &attempt.channel.key(attempt.key).name,
        outcome: attempt.outcome.name(),
        status: attempt.status,
        duration_us: micros(attempt.duration),
    });
    let capture = notes.capture.take();
    let head = Head { request: &notes.bytes[notes.agents..notes.head], response_headers: &notes.bytes[notes.head..] };
    ctx.shared.audit.leave(|left| {
        let batch = &mut left.batch;
        let places = record.put(failed.chain(last), &head, &mut batch.lines);
        if settings.access_log {
            let line = Line {
                client_ip: &notes.bytes[..notes.address],
                user: key_name,
                time_ms: ctx.arrived_ms,
                request: &notes.bytes[notes.address..notes.request],
                status: ctx.status,
                bytes: response_bytes,
                agents: &notes.bytes[notes.request..notes.agents],
            };
            line.put(&mut batch.access);
        }
        let entry = Entry {
            end: batch.lines.len(),
            id: ctx.id,
            time_ms: ctx.arrived_ms,
            status: ctx.status,
            key: term(key_name),
            user: term(user),
            model: term(within(model)),
            channel: term(channel),
        };
        if let Some(mut capture) = capture {
            capture.response.is_cut |= exchange.is_some_and(|exchange| !exchange.complete);
            left.keep(Kept { places, operation: ctx.operation, capture });
        }
        entry
    });
}

/// What went wrong, in one word; empty: nothing.
fn error<'a>(ctx: &Context, outcome: Outcome, reading: Option<&Reading>, word: &'a mut [u8; 10]) -> &'a str {
    let said = ctx.refused.as_ref().map(weir_filters::refusal::Refusal::reason).or(ctx.error);
    match outcome {
        Outcome::ClientAbort => said.unwrap_or("client_left"),
        _ if let Some(said) = said => said,
        Outcome::Ok if reading.is_some_and(|reading| reading.failed) => "error_in_answer",
        Outcome::Ok if ctx.status < 400 => "",
        Outcome::Timeout => "upstream_timeout",
        Outcome::UpstreamAbort => "upstream_broken",
        Outcome::Refused => "refused",
        Outcome::Ok | Outcome::UpstreamError => {
            if ctx.status == 0 {
                return "upstream_error";
            }
            let mut rest = &mut word[..];
            // Three digits are sure to fit.
            let _ = write!(rest, "status_{}", ctx.status);
            let left = rest.len();
            std::str::from_utf8(&word[..10 - left]).unwrap_or("upstream_error")
        }
    }
}
