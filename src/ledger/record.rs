//! The settlement of one request: the only input of ledger and metrics.

use std::sync::Arc;

pub use weir_filters::outcome::Outcome;
use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;
use weir_filters::usage::Usage;

/// What is known of a request once it has ended, for whatever reason.
///
/// Only requests that a key made are settled in the ledger; a refusal without a key reaches the
/// metrics alone, or a flood of strangers could fill the disk.
///
/// `T` is the form of its texts: a request that ends lends its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement<T = Arc<str>> {
    /// The request's id: 128 random bits, shown as 32 hex digits. A record is counted once per id.
    pub id: u128,
    /// When the request arrived, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// From arrival to the end, in microseconds.
    pub duration_us: u64,
    /// From arrival to the first token, in microseconds, if one was seen.
    pub first_token_us: Option<u64>,
    /// The key's stable id.
    pub key_id: T,
    /// The key's name: what people call it.
    pub key_name: T,
    /// The key's user, or empty.
    pub user: T,
    /// The route's name: the path pattern that matched.
    pub route: T,
    /// What was asked for.
    pub operation: Operation,
    /// The channel that served it, or empty if none was chosen.
    pub channel: T,
    /// The model that the client asked for, or empty.
    pub model: T,
    /// The status that the client got (0: it left before one was sent).
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Server-sent events of the answer.
    pub events: u64,
    /// Bytes of the client's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body, as the upstream sent it.
    pub response_bytes: u64,
    /// The tokens.
    pub usage: Usage,
    /// What it cost, its user's rate included; zero without a price.
    pub cost: NanoUsd,
    /// The version of the price table that said so; 0: no price was applied.
    pub price_version: u64,
    /// Whether it would have cost something, had its model a price.
    pub unpriced: bool,
    /// How often a channel was asked; 0 also in records of before this was counted.
    pub attempts: u32,
}

impl<T> Settlement<T> {
    /// Whether it counts as failed: neither delivered whole nor with a status below 400.
    pub fn is_failed(&self) -> bool {
        self.outcome != Outcome::Ok || self.status >= 400
    }
}
