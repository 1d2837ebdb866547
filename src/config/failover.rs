//! How channels share requests, stand in for each other and are given up: as written, and as meant.
//!
//! The fields of a channel that have to do with others, and `sticky`. What they do is decided in
//! `weir_filters::{balance, health, retry}`.

use std::time::Duration;

use http::HeaderName;
use weir_filters::balance::MAX_WEIGHT;
use weir_filters::health::Cooldown;
use weir_filters::retry::{Failure, Retries};

use super::mistake::Complaint;
use super::scalar::{Parsed, Word};
use super::section::{At, Fields, Reader, Section};
use super::{net, scalar, time};

/// Each attempt is an upstream that may bill it.
const MAX_ATTEMPTS: u32 = 10;
/// More in flight at one upstream than a process has sockets for.
const MAX_CONCURRENCY: u32 = 1_000_000;
/// More is no cooldown but a counter of failures.
const MAX_FAILURES: u32 = 1_000;
/// Priorities are put in order by hand.
const MAX_PRIORITY: u32 = 1_000_000;

const DEFAULT_ATTEMPTS: u32 = 2;
/// 529 is what Anthropic says when it is overloaded.
const DEFAULT_ON: [Failure; 8] = [
    Failure::Connect,
    Failure::Timeout,
    Failure::Status(429),
    Failure::Status(500),
    Failure::Status(502),
    Failure::Status(503),
    Failure::Status(504),
    Failure::Status(529),
];
const DEFAULT_COOLDOWN: Cooldown = Cooldown { failures: 3, time: Duration::from_secs(30) };
/// What is left for those after the first, beside twice the time to the first byte.
const DEFAULT_SLACK: Duration = Duration::from_secs(60);
/// How long the caches of the providers last at least.
const DEFAULT_TTL: Duration = Duration::from_secs(600);

pub(super) const RETRY: Fields = Fields { known: &["attempts", "within", "on"], later: &[] };
pub(super) const COOLDOWN: Fields = Fields { known: &["failures", "for"], later: &[] };
pub(super) const STICKY: Fields = Fields { known: &["header", "ttl"], later: &[] };

/// A channel among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Lower ones are asked first.
    pub priority: u32,
    /// The share among channels of the same priority; at least 1.
    pub weight: u32,
    /// What becomes of an answer whose client has left.
    pub on_disconnect: OnDisconnect,
    /// How many requests it serves at a time; 0: any number.
    pub max_concurrency: usize,
    /// When a request that failed here is tried elsewhere.
    pub retries: Retries,
    /// When it is not asked for a while.
    pub cooldown: Cooldown,
}

/// What becomes of an answer whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It is read to its end, so that what the upstream reports is counted.
    #[default]
    Drain,
    /// The upstream is let go; what was used is estimated.
    Abort,
}

/// `sticky:`, the turns of a conversation at one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The header that names a conversation, if clients send one.
    pub header: Option<HeaderName>,
    /// How long a conversation is remembered after its last turn.
    pub ttl: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        RawFailover::default().checked(Duration::from_secs(120))
    }
}

#[derive(Debug, Default)]
pub(super) struct RawFailover {
    priority: Option<At<u32>>,
    weight: Option<At<u32>>,
    on_disconnect: Option<At<OnDisconnect>>,
    max_concurrency: Option<At<u32>>,
    attempts: Option<At<u32>>,
    within: Option<At<Duration>>,
    on: Option<At<Vec<At<Failure>>>>,
    failures: Option<At<u32>>,
    time: Option<At<Duration>>,
}

#[derive(Debug)]
pub(super) struct RawSticky {
    header: Option<At<HeaderName>>,
    ttl: Option<At<Duration>>,
}

impl RawFailover {
    /// Reads a channel's fields.
    pub(super) fn read(r: &mut Reader<'_>, s: &Section, retry: &Section, cooldown: &Section) -> Self {
        Self {
            priority: r.optional_word(s, "priority", |word| scalar::number(word, 0..=MAX_PRIORITY)),
            weight: r.optional_word(s, "weight", |word| scalar::number(word, 1..=MAX_WEIGHT)),
            on_disconnect: r.optional_word(s, "on_disconnect", on_disconnect),
            max_concurrency: r.optional_word(s, "max_concurrency", |word| scalar::number(word, 0..=MAX_CONCURRENCY)),
            attempts: r.optional_word(retry, "attempts", |word| scalar::number(word, 1..=MAX_ATTEMPTS)),
            within: r.optional_word(retry, "within", time::positive_duration),
            on: r.optional_words(retry, "on", failure),
            failures: r.optional_word(cooldown, "failures", |word| scalar::number(word, 1..=MAX_FAILURES)),
            time: r.optional_word(cooldown, "for", time::positive_duration),
        }
    }

    /// Holds the fields against each other and `first_byte`, and fills in what was left out.
    pub(super) fn check(self, first_byte: Duration, r: &mut Reader<'_>) -> Failover {
        if let Some(within) = &self.within {
            let retries = self.attempts.as_ref().is_none_or(|attempts| attempts.value > 1);
            let after_timeout = self.on.as_ref().is_none_or(|on| on.value.iter().any(|f| f.value == Failure::Timeout));
            if retries && after_timeout && within.value <= first_byte {
                let complaint = Complaint::new("leaves no time for another attempt after `timeouts.first_byte`")
                    .suggest("make it longer, shorten `first_byte`, or leave `timeout` out of `on`");
                r.complain(within.at, complaint);
            }
        }
        self.checked(first_byte)
    }

    fn checked(self, first_byte: Duration) -> Failover {
        let on = self.on.map(|on| on.value.into_iter().map(|failure| failure.value).collect());
        Failover {
            priority: self.priority.map_or(0, |priority| priority.value),
            weight: self.weight.map_or(1, |weight| weight.value),
            on_disconnect: self.on_disconnect.map(|on| on.value).unwrap_or_default(),
            max_concurrency: self.max_concurrency.map_or(0, |max| max.value as usize),
            retries: Retries {
                attempts: self.attempts.map_or(DEFAULT_ATTEMPTS, |attempts| attempts.value),
                within: self.within.map_or_else(|| first_byte * 2 + DEFAULT_SLACK, |within| within.value),
                on: on.unwrap_or_else(|| DEFAULT_ON.to_vec()),
            },
            cooldown: Cooldown {
                failures: self.failures.map_or(DEFAULT_COOLDOWN.failures, |failures| failures.value),
                time: self.time.map_or(DEFAULT_COOLDOWN.time, |time| time.value),
            },
        }
    }
}

impl RawSticky {
    pub(super) fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            header: r.optional_word(s, "header", net::stripped_header),
            ttl: r.optional_word(s, "ttl", time::positive_duration),
        }
    }

    pub(super) fn checked(self) -> Sticky {
        Sticky { header: self.header.map(|h| h.value), ttl: self.ttl.map_or(DEFAULT_TTL, |ttl| ttl.value) }
    }
}

fn on_disconnect(word: Word<'_>) -> Parsed<OnDisconnect> {
    scalar::one_of(word, &[("drain", OnDisconnect::Drain), ("abort", OnDisconnect::Abort)])
}

/// `connect`, `timeout`, or a status that is an error.
fn failure(word: Word<'_>) -> Parsed<Failure> {
    match word.text {
        "connect" => Ok(Failure::Connect),
        "timeout" => Ok(Failure::Timeout),
        text => match text.parse() {
            Ok(status @ 400..=599) if text.len() == 3 => Ok(Failure::Status(status)),
            _ => Err(word.must_be("connect, timeout, or a status from 400 to 599")),
        },
    }
}
