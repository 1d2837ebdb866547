//! The request record: one JSON object a request, the same fields in the same order, each of one type.
//!
//! Owns names and order of the fields (`conf/record.schema.json` says their types), and which header lines may be shown.
//! A record is put together in pieces, because what a request's head says is known long before its end, and its
//! bodies are not read on the thread that serves. It refuses to know where records go, and takes no time.

mod fit;
mod headers;
#[cfg(test)]
mod tests;

pub use fit::fit;
pub use headers::{Credentials, put_header_map, put_headers};

use http::HeaderMap;

use crate::json::{put_bytes_lossy, put_hex128, put_ms, put_str, put_time_ms, put_u64};
use crate::usage::Usage;

/// The version of the record's form; another one is made when a field changes its meaning or its type.
pub const SCHEMA_VERSION: u64 = 1;

/// The longest text of a client's own that a record repeats (its agent, its trace, its model), in bytes: what
/// programs write there has tens of bytes.
pub const MAX_TEXT: usize = 512;

/// What a record says, but for what is in its [`Head`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The request's id.
    pub id: u128,
    /// When it arrived, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Which gateway served it.
    pub node: &'a str,
    /// The key's stable id; empty: no key made it. The same holds for all texts here: what is empty is `null`.
    pub key_id: &'a str,
    /// The key's name.
    pub key_name: &'a str,
    /// The key's user.
    pub user: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// The operation's name.
    pub operation: &'a str,
    /// The dialect's name.
    pub protocol: &'a str,
    /// The channel that served it.
    pub channel: &'a str,
    /// The name of the channel's key that it was asked with.
    pub channel_key: &'a str,
    /// The model that the client asked for.
    pub model_requested: &'a str,
    /// The model that the upstream was asked for.
    pub model_upstream: &'a str,
    /// The model that the upstream says it used.
    pub model_reported: &'a str,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The status that the client got; 0: it left before one was sent.
    pub status: u16,
    /// How it ended.
    pub outcome: &'a str,
    /// What went wrong, in one word of a closed set.
    pub error: &'a str,
    /// Server-sent events of the answer.
    pub events: u64,
    /// Bytes of the client's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The tokens.
    pub usage: Usage,
    /// The upstream's last report, as it stood.
    pub usage_raw: &'a str,
    /// What it cost.
    pub cost_nano_usd: u64,
    /// From arrival to the end, in microseconds.
    pub duration_us: u64,
    /// From arrival to the first token.
    pub first_token_us: Option<u64>,
    /// What Weir added before the upstream was asked.
    pub overhead_us: Option<u64>,
}

/// One of the times that a channel was asked.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRecord<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The name of its key.
    pub channel_key: &'a str,
    /// How it ended.
    pub outcome: &'a str,
    /// What the upstream answered; 0: nothing.
    pub status: u16,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

/// The fields that a request's head says, in JSON, as they are put into its record.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What [`put_request_head`] put.
    pub request: &'a [u8],
    /// What [`put_headers`] put of the answer; empty: there is none to show.
    pub response_headers: &'a [u8],
}

/// Where a record's bodies stand in what [`Record::put`] put: each is the word `null`, four bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlaces {
    /// Of `request_body`.
    pub request: usize,
    /// Of `response_body`.
    pub response: usize,
}

impl Record<'_> {
    /// Puts the record and a line feed behind it. `attempts` are in their order.
    pub fn put<'a>(
        &self,
        attempts: impl Iterator<Item = AttemptRecord<'a>>,
        head: &Head<'_>,
        out: &mut Vec<u8>,
    ) -> BodyPlaces {
        out.extend_from_slice(b"{\"schema_version\":1,\"id\":");
        put_hex128(out, self.id);
        out.extend_from_slice(b",\"time\":");
        put_time_ms(out, self.time_ms);
        field(out, b",\"node\":", self.node);
        field(out, b",\"key_id\":", self.key_id);
        field(out, b",\"key_name\":", self.key_name);
        field(out, b",\"user\":", self.user);
        field(out, b",\"route\":", self.route);
        field(out, b",\"operation\":", self.operation);
        field(out, b",\"protocol\":", self.protocol);
        field(out, b",\"channel\":", self.channel);
        field(out, b",\"channel_key\":", self.channel_key);
        field(out, b",\"model_requested\":", within(self.model_requested));
        field(out, b",\"model_upstream\":", within(self.model_upstream));
        field(out, b",\"model_reported\":", within(self.model_reported));
        out.extend_from_slice(if self.stream { b",\"stream\":true" } else { b",\"stream\":false" });
        out.extend_from_slice(b",\"status\":");
        status(out, self.status);
        field(out, b",\"outcome\":", self.outcome);
        field(out, b",\"error\":", self.error);
        out.extend_from_slice(b",\"attempts\":[");
        for (n, attempt) in attempts.enumerate() {
            if n > 0 {
                out.push(b',');
            }
            attempt.put(out);
        }
        let usage = &self.usage;
        for (name, value) in [
            (&b"],\"events\":"[..], self.events),
            (b",\"request_bytes\":", self.request_bytes),
            (b",\"response_bytes\":", self.response_bytes),
            (b",\"input_tokens\":", usage.input()),
            (b",\"output_tokens\":", usage.output),
            (b",\"cache_read_tokens\":", usage.cache_read),
            (b",\"cache_write_tokens\":", usage.cache_write()),
            (b",\"reasoning_tokens\":", usage.reasoning),
        ] {
            out.extend_from_slice(name);
            put_u64(out, value);
        }
        field(out, b",\"usage_source\":", usage.source.name());
        field(out, b",\"usage_raw\":", self.usage_raw);
        out.extend_from_slice(b",\"cost_nano_usd\":");
        put_u64(out, self.cost_nano_usd);
        out.extend_from_slice(b",\"duration_ms\":");
        put_ms(out, self.duration_us);
        out.extend_from_slice(b",\"ttft_ms\":");
        or_null(out, self.first_token_us, put_ms);
        out.extend_from_slice(b",\"overhead_us\":");
        or_null(out, self.overhead_us, put_u64);
        out.extend_from_slice(head.request);
        out.extend_from_slice(b",\"request_body\":");
        let request = out.len();
        out.extend_from_slice(b"null,\"response_headers\":");
        out.extend_from_slice(if head.response_headers.is_empty() { b"null" } else { head.response_headers });
        out.extend_from_slice(b",\"response_body\":");
        let response = out.len();
        out.extend_from_slice(b"null}\n");
        BodyPlaces { request, response }
    }
}

impl AttemptRecord<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        field(out, b"{\"channel\":", self.channel);
        field(out, b",\"channel_key\":", self.channel_key);
        field(out, b",\"outcome\":", self.outcome);
        out.extend_from_slice(b",\"status\":");
        status(out, self.status);
        out.extend_from_slice(b",\"duration_ms\":");
        put_ms(out, self.duration_us);
        out.push(b'}');
    }
}

/// Puts what a request's head says: who asks, with which program, as part of which trace, and its header lines,
/// if they are to be shown. `user_agent` and `traceparent` have been freed of credentials.
pub fn put_request_head(
    out: &mut Vec<u8>,
    client_ip: &[u8],
    user_agent: &[u8],
    traceparent: &[u8],
    headers: Option<(&HeaderMap, &Credentials<'_>)>,
) {
    for (name, value) in
        [(&b",\"client_ip\":"[..], client_ip), (b",\"user_agent\":", user_agent), (b",\"traceparent\":", traceparent)]
    {
        out.extend_from_slice(name);
        if value.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            put_bytes_lossy(out, &value[..value.len().min(MAX_TEXT)]);
        }
    }
    out.extend_from_slice(b",\"request_headers\":");
    match headers {
        Some((map, credentials)) => put_header_map(out, map, credentials),
        None => out.extend_from_slice(b"null"),
    }
}

#[inline]
fn field(out: &mut Vec<u8>, name: &[u8], text: &str) {
    out.extend_from_slice(name);
    if text.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        put_str(out, text);
    }
}

fn status(out: &mut Vec<u8>, status: u16) {
    if status == 0 {
        out.extend_from_slice(b"null");
    } else {
        put_u64(out, status.into());
    }
}

fn or_null(out: &mut Vec<u8>, value: Option<u64>, put: fn(&mut Vec<u8>, u64)) {
    match value {
        Some(value) => put(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// The beginning of a text that is longer than a record repeats.
pub fn within(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
