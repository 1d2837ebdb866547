//! How a client is told of limits: a message, and the headers of its own protocol.
//!
//! OpenAI's SDKs and tools read `x-ratelimit-…` with times such as `1m30s`; Anthropic's read
//! `anthropic-ratelimit-…` with points in time. Both obey `retry-after` and `x-should-retry`.

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use crate::calendar;
use crate::price::NanoUsd;
use crate::protocol::Protocol;

use super::{Exceeded, Limit, Period, Standing, Subject};

/// A wait that is told where nothing says how long it will be: a request under way ends at some time.
const SOON_MS: u64 = 1_000;

/// Header lines.
pub type Lines = Vec<(HeaderName, HeaderValue)>;

impl Exceeded {
    /// What happened and what to do, for a person.
    pub fn message(&self) -> String {
        let whose = match self.subject {
            Subject::Key => "This API key",
            Subject::User => "The user of this API key",
            Subject::Channel => "The provider's channel",
        };
        let (what, used) = match self.limit {
            Limit::Rpm => (format!("has a limit of {} requests a minute", self.allowed), "all of them are made".into()),
            Limit::Tpm => (
                format!("has a limit of {} tokens a minute", self.allowed),
                format!("{} are taken and this request may need {}", self.used, self.wanted),
            ),
            Limit::Concurrency => {
                (format!("has a limit of {} requests at a time", self.allowed), "all of them are under way".into())
            }
            Limit::Budget(period) => {
                let period = match period {
                    Period::Day => " a day",
                    Period::Month => " a month",
                    Period::Total => " in all",
                };
                let (used, wanted) = (NanoUsd(self.used), NanoUsd(self.wanted));
                (
                    format!("has a budget of ${}{period}", dollars(NanoUsd(self.allowed))),
                    format!("${} are spent or reserved and this request may cost ${}", dollars(used), dollars(wanted)),
                )
            }
        };
        let way_out = match (self.reset_ms, self.is_final) {
            (Some(ms), _) => format!("Try again in {}.", span(ms)),
            (None, false) => "Try again when one of them has ended.".into(),
            (None, true) if self.wanted > self.allowed && matches!(self.limit, Limit::Tpm | Limit::Budget(_)) => {
                "It is more than the whole limit: send a smaller request or a smaller 'max_tokens', or ask whoever \
                 gave you the key for a higher limit."
                    .into()
            }
            (None, true) => "Ask whoever gave you the key for a higher limit.".into(),
        };
        format!("{whose} {what}; {used}. {way_out}")
    }

    /// What goes with the status: when to try again, and how the limit stands.
    pub fn headers(&self, protocol: Protocol, unix_ms: u64) -> Lines {
        let mut lines = Lines::new();
        if !self.is_final || self.reset_ms.is_some() {
            lines.push((RETRY_AFTER, seconds(self.reset_ms.unwrap_or(SOON_MS)).into()));
        }
        if self.is_final {
            lines.push((HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false")));
        }
        let standing = Standing {
            limit: self.allowed,
            remaining: self.allowed.saturating_sub(self.used),
            reset_ms: self.reset_ms.unwrap_or(SOON_MS),
        };
        let (requests, tokens) = match self.limit {
            Limit::Rpm => (Some(standing), None),
            Limit::Tpm => (None, Some(standing)),
            Limit::Concurrency | Limit::Budget(_) => (None, None),
        };
        standings(protocol, requests, tokens, unix_ms, |name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                lines.push((HeaderName::from_static(name), value));
            }
        });
        lines
    }
}

/// The names of a limit's header lines: the limit, what remains of it, when it is whole again.
struct Names {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

const ANTHROPIC: [Names; 2] = [
    Names {
        limit: "anthropic-ratelimit-requests-limit",
        remaining: "anthropic-ratelimit-requests-remaining",
        reset: "anthropic-ratelimit-requests-reset",
    },
    Names {
        limit: "anthropic-ratelimit-tokens-limit",
        remaining: "anthropic-ratelimit-tokens-remaining",
        reset: "anthropic-ratelimit-tokens-reset",
    },
];

const OTHERS: [Names; 2] = [
    Names {
        limit: "x-ratelimit-limit-requests",
        remaining: "x-ratelimit-remaining-requests",
        reset: "x-ratelimit-reset-requests",
    },
    Names {
        limit: "x-ratelimit-limit-tokens",
        remaining: "x-ratelimit-remaining-tokens",
        reset: "x-ratelimit-reset-tokens",
    },
];

/// Says how the limits of requests and of tokens stand, in the header lines of a protocol. Each answer has
/// them, so nothing is allocated.
pub fn standings(
    protocol: Protocol,
    requests: Option<Standing>,
    tokens: Option<Standing>,
    unix_ms: u64,
    mut put: impl FnMut(&'static str, &[u8]),
) {
    let is_dated = protocol == Protocol::Anthropic;
    let names = if is_dated { &ANTHROPIC } else { &OTHERS };
    let mut text = Short::default();
    for (Names { limit, remaining, reset }, standing) in names.iter().zip([requests, tokens]) {
        let Some(standing) = standing else { continue };
        put(limit, text.clear().number(standing.limit).bytes());
        put(remaining, text.clear().number(standing.remaining).bytes());
        let text = text.clear();
        if is_dated {
            text.push(&calendar::rfc3339_seconds(unix_ms.saturating_add(standing.reset_ms)));
        } else {
            text.span(standing.reset_ms);
        }
        put(reset, text.bytes());
    }
}

/// Whether a header says how limits stand: the provider's own say nothing of the client's.
pub fn is_standing(name: &[u8]) -> bool {
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix.as_bytes()));
    begins("x-ratelimit-") || begins("anthropic-ratelimit-")
}

/// Whole seconds, rounded up: who waits so long does not come too early.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000).max(1)
}

/// `1h2m3s`, without the parts that are zero.
fn span(ms: u64) -> String {
    let mut text = Short::default();
    text.span(ms);
    text.bytes().iter().copied().map(char::from).collect()
}

/// ASCII text of less than fifty bytes: numbers, spans and points in time.
struct Short {
    bytes: [u8; 48],
    len: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }
}

impl Short {
    fn clear(&mut self) -> &mut Self {
        self.len = 0;
        self
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.push(itoa::Buffer::new().format(number).as_bytes());
        self
    }

    /// Twenty digits of days at most, and six of the rest.
    fn span(&mut self, ms: u64) {
        let seconds = seconds(ms);
        for (number, unit) in
            [(seconds / 86_400, b"d"), (seconds / 3600 % 24, b"h"), (seconds / 60 % 60, b"m"), (seconds % 60, b"s")]
        {
            if number > 0 {
                self.number(number).push(unit);
            }
        }
    }
}

/// Dollars with at least two digits behind the point.
fn dollars(amount: NanoUsd) -> String {
    let text = amount.to_string();
    let kept = text.trim_end_matches('0').len().max(text.find('.').map_or(0, |point| point + 3));
    text[..kept.min(text.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded(limit: Limit, allowed: u64, used: u64, wanted: u64) -> Exceeded {
        Exceeded { subject: Subject::Key, limit, allowed, used, wanted, reset_ms: Some(11_001), is_final: false }
    }

    fn shown(lines: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Vec<String> {
        lines.into_iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
    }

    #[test]
    fn a_refusal_names_the_limit_the_reset_and_the_way_out() {
        for (exceeded, message) in [
            (
                exceeded(Limit::Rpm, 60, 60, 1),
                "This API key has a limit of 60 requests a minute; all of them are made. Try again in 12s.",
            ),
            (
                Exceeded { subject: Subject::User, ..exceeded(Limit::Tpm, 1000, 900, 200) },
                "The user of this API key has a limit of 1000 tokens a minute; 900 are taken and this request may \
                 need 200. Try again in 12s.",
            ),
            (
                Exceeded { reset_ms: None, ..exceeded(Limit::Concurrency, 2, 2, 1) },
                "This API key has a limit of 2 requests at a time; all of them are under way. Try again when one of \
                 them has ended.",
            ),
            (
                Exceeded {
                    reset_ms: Some(90_061_000),
                    is_final: true,
                    ..exceeded(Limit::Budget(Period::Day), 5_000_000_000, 4_999_000_000, 2_000_001)
                },
                "This API key has a budget of $5.00 a day; $4.999 are spent or reserved and this request may cost \
                 $0.002000001. Try again in 1d1h1m1s.",
            ),
            (
                Exceeded { reset_ms: None, is_final: true, ..exceeded(Limit::Tpm, 10, 0, 11) },
                "This API key has a limit of 10 tokens a minute; 0 are taken and this request may need 11. It is \
                 more than the whole limit: send a smaller request or a smaller 'max_tokens', or ask whoever gave \
                 you the key for a higher limit.",
            ),
            (
                Exceeded {
                    reset_ms: None,
                    is_final: true,
                    ..exceeded(Limit::Budget(Period::Total), 1_000_000_000, 1_000_000_000, 5)
                },
                "This API key has a budget of $1.00 in all; $1.00 are spent or reserved and this request may cost \
                 $0.000000005. Ask whoever gave you the key for a higher limit.",
            ),
        ] {
            assert_eq!(exceeded.message(), message);
        }
    }

    #[test]
    fn each_protocol_has_its_own_headers() {
        let at = 1_795_248_115_042;
        let rpm = exceeded(Limit::Rpm, 60, 60, 1);
        assert_eq!(
            shown(rpm.headers(Protocol::OpenAi, at)),
            [
                "retry-after: 12",
                "x-ratelimit-limit-requests: 60",
                "x-ratelimit-remaining-requests: 0",
                "x-ratelimit-reset-requests: 12s",
            ]
        );
        let tpm = exceeded(Limit::Tpm, 60, 50, 11);
        assert_eq!(
            shown(tpm.headers(Protocol::Anthropic, at)),
            [
                "retry-after: 12",
                "anthropic-ratelimit-tokens-limit: 60",
                "anthropic-ratelimit-tokens-remaining: 10",
                "anthropic-ratelimit-tokens-reset: 2026-11-21T08:02:06Z",
            ]
        );
        let spent = Exceeded { is_final: true, reset_ms: None, ..exceeded(Limit::Budget(Period::Total), 1, 1, 1) };
        assert_eq!(shown(spent.headers(Protocol::Gemini, at)), ["x-should-retry: false"]);
        let full = Exceeded { reset_ms: None, ..exceeded(Limit::Concurrency, 1, 1, 1) };
        assert_eq!(shown(full.headers(Protocol::Gemini, at)), ["retry-after: 1"]);
    }

    #[test]
    fn numbers_and_spans_of_any_size_are_written() {
        for (ms, text) in
            [(0, "1s"), (1, "1s"), (60_000, "1m"), (3_600_001, "1h1s"), (u64::MAX, "213503982334d14h25m52s")]
        {
            assert_eq!(span(ms), text);
        }
        for number in [0, 1, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(Short::default().number(number).bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_providers_own_figures_are_recognised() {
        for (name, is) in [
            ("X-RateLimit-Remaining-Tokens", true),
            ("anthropic-ratelimit-input-tokens-limit", true),
            ("x-ratelimit", false),
            ("anthropic-version", false),
        ] {
            assert_eq!(is_standing(name.as_bytes()), is, "{name}");
        }
    }
}
