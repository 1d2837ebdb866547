//! The families that have labels: names, sentences, labels, buckets.
//!
//! Owns the declarations. Knows nothing of when something is counted.

use prometheus::{Counter, IntCounter, IntGauge};

use super::Declare;
use super::family::{Declaration, Family};
use super::histogram::Histogram;

/// Whole requests: from a local refusal to a long stream.
const REQUEST_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 600.0];

/// What the gateway itself adds: tens of microseconds when all is well.
const OVERHEAD_SECONDS: &[f64] = &[0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Doublings from 10 ms, those that OpenTelemetry's conventions give for the duration of a model's operation, and on.
const UPSTREAM_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68];

/// OpenTelemetry's for the time to the first token, and on to 80 s for models that think first.
pub(super) const FIRST_TOKEN_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// OpenTelemetry's for the time per output token, and below it for upstreams of hundreds of tokens a second.
const PER_TOKEN_SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// Every family with labels.
pub(super) struct Families {
    pub(super) requests: Family<IntCounter>,
    pub(super) request_duration: Family<Histogram>,
    pub(super) overhead: Family<Histogram>,
    pub(super) upstream_duration: Family<Histogram>,
    pub(super) first_token: Family<Histogram>,
    pub(super) per_output_token: Family<Histogram>,
    pub(super) events: Family<IntCounter>,
    pub(super) tokens: Family<IntCounter>,
    pub(super) cache_read: Family<IntCounter>,
    pub(super) cache_write: Family<IntCounter>,
    pub(super) reasoning: Family<IntCounter>,
    pub(super) cost: Family<Counter>,
    pub(super) usage_source: Family<IntCounter>,
    pub(super) attempts: Family<IntCounter>,
    pub(super) inflight: Family<IntGauge>,
    pub(super) up: Family<IntGauge>,
    pub(super) keys_cooling: Family<IntGauge>,
    pub(super) cooldowns: Family<IntCounter>,
    pub(super) addresses_refused: Family<IntCounter>,
    pub(super) drains: Family<IntCounter>,
    pub(super) auth_failures: Family<IntCounter>,
    pub(super) streams_aborted: Family<IntCounter>,
}

impl Families {
    /// Declares them all.
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        Ok(Self {
            requests: on.family(Declaration {
                name: "weir_http_requests_total",
                help: "Requests that have ended, by the status that the client got (none: it left before one was sent).",
                open: &["route"],
                closed: &["code"],
                buckets: &[],
            })?,
            request_duration: on.family(Declaration {
                name: "weir_http_request_duration_seconds",
                help: "Time from a request's arrival to its end.",
                open: &["route"],
                closed: &["code_class"],
                buckets: REQUEST_SECONDS,
            })?,
            overhead: on.family(Declaration {
                name: "weir_gateway_overhead_seconds",
                help: "Time that the gateway itself added to a request.",
                open: &["route"],
                closed: &[],
                buckets: OVERHEAD_SECONDS,
            })?,
            upstream_duration: on.family(Declaration {
                name: "weir_upstream_duration_seconds",
                help: "Time that the upstream took, to the end of its answer.",
                open: &["channel", "model"],
                closed: &["operation"],
                buckets: UPSTREAM_SECONDS,
            })?,
            first_token: on.family(Declaration {
                name: "weir_time_to_first_token_seconds",
                help: "Time from a request's arrival to the first token of its answer.",
                open: &["channel", "model"],
                closed: &[],
                buckets: FIRST_TOKEN_SECONDS,
            })?,
            per_output_token: on.family(Declaration {
                name: "weir_time_per_output_token_seconds",
                help: "Mean time per output token after the first, of streams that ended whole.",
                open: &["channel", "model"],
                closed: &[],
                buckets: PER_TOKEN_SECONDS,
            })?,
            events: on.family(Declaration {
                name: "weir_sse_events_total",
                help: "Server-sent events of answers.",
                open: &["channel", "model"],
                closed: &[],
                buckets: &[],
            })?,
            tokens: on.family(Declaration {
                name: "weir_tokens_total",
                help: "Tokens by direction. Input is the whole prompt, cached or not.",
                open: &["channel", "model"],
                closed: &["type"],
                buckets: &[],
            })?,
            cache_read: on.family(Declaration {
                name: "weir_tokens_cache_read_total",
                help: "The part of the input tokens that came from the provider's cache.",
                open: &["channel", "model"],
                closed: &[],
                buckets: &[],
            })?,
            cache_write: on.family(Declaration {
                name: "weir_tokens_cache_write_total",
                help: "The part of the input tokens that was written to the provider's cache.",
                open: &["channel", "model"],
                closed: &[],
                buckets: &[],
            })?,
            reasoning: on.family(Declaration {
                name: "weir_tokens_reasoning_total",
                help: "The part of the output tokens that was reasoning.",
                open: &["channel", "model"],
                closed: &[],
                buckets: &[],
            })?,
            cost: on.family(Declaration {
                name: "weir_cost_usd_total",
                help: "What requests cost, in US dollars, their users' rates included. A float for graphs: the ledger's figures are exact.",
                open: &["channel", "model"],
                closed: &[],
                buckets: &[],
            })?,
            usage_source: on.family(Declaration {
                name: "weir_usage_source_total",
                help: "Requests that an upstream served, by where their usage comes from; invalid: reports that were not taken.",
                open: &[],
                closed: &["source"],
                buckets: &[],
            })?,
            attempts: on.family(Declaration {
                name: "weir_upstream_attempts_total",
                help: "Attempts to have a request served by a channel, by how they ended.",
                open: &["channel"],
                closed: &["outcome"],
                buckets: &[],
            })?,
            inflight: on.family(Declaration {
                name: "weir_channel_inflight",
                help: "Requests that a channel is serving.",
                open: &["channel"],
                closed: &[],
                buckets: &[],
            })?,
            up: on.family(Declaration {
                name: "weir_channel_up",
                help: "1 if requests are sent to a channel, 0 while it or all of its keys cool down.",
                open: &["channel"],
                closed: &[],
                buckets: &[],
            })?,
            keys_cooling: on.family(Declaration {
                name: "weir_channel_keys_cooling",
                help: "Keys of a channel that cool down.",
                open: &["channel"],
                closed: &[],
                buckets: &[],
            })?,
            cooldowns: on.family(Declaration {
                name: "weir_channel_cooldowns_total",
                help: "Times that a channel, or a key of it, began to cool down.",
                open: &["channel"],
                closed: &["what"],
                buckets: &[],
            })?,
            addresses_refused: on.family(Declaration {
                name: "weir_channel_addresses_refused_total",
                help: "Connections not made because a channel's host leads to an address that it may not reach.",
                open: &["channel"],
                closed: &[],
                buckets: &[],
            })?,
            drains: on.family(Declaration {
                name: "weir_drains_total",
                help: "Answers whose client had left, by what became of them: read to the end, cut, or refused for want of room.",
                open: &[],
                closed: &["result"],
                buckets: &[],
            })?,
            auth_failures: on.family(Declaration {
                name: "weir_auth_failures_total",
                help: "Requests refused for their credential.",
                open: &[],
                closed: &["reason"],
                buckets: &[],
            })?,
            streams_aborted: on.family(Declaration {
                name: "weir_streams_aborted_total",
                help: "Streams that did not end whole, by the side that broke off.",
                open: &[],
                closed: &["side"],
                buckets: &[],
            })?,
        })
    }
}
