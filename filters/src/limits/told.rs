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
        let named = |(name, value)| (HeaderName::from_static(name), value);
        lines.extend(standings(protocol, requests, tokens, unix_ms).map(named));
        lines
    }
}

/// How the limits of requests and of tokens stand, in the headers of a protocol.
pub fn standings(
    protocol: Protocol,
    requests: Option<Standing>,
    tokens: Option<Standing>,
    unix_ms: u64,
) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let lines = |names: [&'static str; 3], standing: Standing| {
        let reset = match protocol {
            Protocol::Anthropic => text(calendar::rfc3339_seconds(unix_ms.saturating_add(standing.reset_ms))),
            Protocol::OpenAi | Protocol::Gemini => text(span(standing.reset_ms)),
        };
        let values = [standing.limit.into(), standing.remaining.into(), reset];
        names.into_iter().zip(values)
    };
    let (of_requests, of_tokens) = match protocol {
        Protocol::Anthropic => (
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
            [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
        ),
        Protocol::OpenAi | Protocol::Gemini => (
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        ),
    };
    let requests = requests.map(|standing| lines(of_requests, standing));
    let tokens = tokens.map(|standing| lines(of_tokens, standing));
    requests.into_iter().flatten().chain(tokens.into_iter().flatten())
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
    let seconds = seconds(ms);
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

/// Dollars with at least two digits behind the point.
fn dollars(amount: NanoUsd) -> String {
    let text = amount.to_string();
    let kept = text.trim_end_matches('0').len().max(text.find('.').map_or(0, |point| point + 3));
    text[..kept.min(text.len())].to_owned()
}

fn text(text: String) -> HeaderValue {
    // Digits, letters and punctuation of ASCII: there is nothing that a header cannot hold.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
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
