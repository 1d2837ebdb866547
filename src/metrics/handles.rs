//! A snapshot's series, found once, and the counting of one request on them.
//!
//! Owns what a request does to the metrics. Knows nothing of names or help texts (`declared`), nor of registries.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Counter, IntCounter, IntGauge};
use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use super::declared::Families;
use super::family::{Family, OTHER};
use super::histogram::Histogram;
use super::{Cooled, GaugeGuard, Metrics};
use crate::ledger::Outcome;

/// A path that has no route.
const UNMATCHED: &str = "unmatched";

/// What is counted of a request that has ended.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Position of its route in the list given to [`Metrics::resolve`]; `None`: no route matched.
    pub route: Option<usize>,
    /// The status that the client got; 0: it left before one was sent.
    pub status: u16,
    /// From arrival to the end.
    pub duration: Duration,
    /// What the gateway itself added, where that could be told.
    pub overhead: Option<Duration>,
    /// Position of the channel that served it; `None`: none was asked.
    pub channel: Option<usize>,
    /// Position of the model in the channel's list; `None`: it is not in it.
    pub model: Option<usize>,
    /// What was asked for.
    pub operation: Option<Operation>,
    /// What the upstream took, to the end of its answer.
    pub upstream_duration: Option<Duration>,
    /// From arrival to the first token.
    pub first_token: Option<Duration>,
    /// Server-sent events of the answer.
    pub events: u64,
    /// The tokens.
    pub usage: Usage,
    /// Usage reports that were malformed or contradicted each other.
    pub invalid: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// What it cost.
    pub cost: NanoUsd,
    /// Whether it would have cost something, had its model a price.
    pub unpriced: bool,
}

/// The series of one snapshot. A series is looked up when the first request of the snapshot needs it and kept
/// here; after that a request finds it by position.
pub struct Handles {
    routes: Box<[RouteHandles]>,
    unmatched: RouteHandles,
    channels: Box<[ChannelHandles]>,
    other: ChannelHandles,
}

impl Handles {
    pub(super) fn new(families: &Families, routes: &[&str], channels: &[(&str, &[&str])]) -> Self {
        Self {
            routes: routes.iter().map(|name| RouteHandles::new(name)).collect(),
            unmatched: RouteHandles::new(UNMATCHED),
            channels: channels
                .iter()
                .map(|(name, models)| {
                    let gauge = |family: &Family<IntGauge>| family.child(&[name], &[]);
                    let gauges = [&families.inflight, &families.up, &families.keys_cooling].map(gauge);
                    ChannelHandles::new(name, models, gauges)
                })
                .collect(),
            // Not registered: it stands for a position that is not in the list, which no snapshot refers to.
            other: ChannelHandles::new(OTHER, &[], [(); 3].map(|()| unregistered())),
        }
    }

    /// The route at this position; any other position is `unmatched`.
    pub fn route(&self, position: Option<usize>) -> &RouteHandles {
        position.and_then(|i| self.routes.get(i)).unwrap_or(&self.unmatched)
    }

    /// The channel at this position; any other position is `other`.
    pub fn channel(&self, position: usize) -> &ChannelHandles {
        self.channels.get(position).unwrap_or(&self.other)
    }

    pub(super) fn observe(&self, metrics: &Metrics, seen: &Observation) {
        self.route(seen.route).observe(&metrics.families, seen);
        if let Some(channel) = seen.channel {
            self.channel(channel).observe(&metrics.families, seen);
            metrics.sources.count(seen);
        }
        if seen.unpriced {
            metrics.unpriced.inc();
        }
        if seen.stream {
            match seen.outcome {
                Outcome::ClientAbort => metrics.aborted_by_client.inc(),
                Outcome::UpstreamAbort | Outcome::UpstreamError | Outcome::Timeout => metrics.aborted_by_upstream.inc(),
                Outcome::Ok | Outcome::Refused => {}
            }
        }
    }
}

/// The counters of neighbouring statuses.
type CodeBlock = [OnceLock<IntCounter>; CODES_A_BLOCK];

/// The series of one route.
pub struct RouteHandles {
    name: Arc<str>,
    overhead: OnceLock<Histogram>,
    durations: [OnceLock<Histogram>; CLASSES.len()],
    /// By [`code_position`], in blocks that are made when they are needed: a route answers with few statuses, and
    /// those stand together.
    codes: [OnceLock<Box<CodeBlock>>; CODE_BLOCKS],
}

impl RouteHandles {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            overhead: OnceLock::new(),
            durations: [const { OnceLock::new() }; CLASSES.len()],
            codes: [const { OnceLock::new() }; CODE_BLOCKS],
        }
    }

    fn observe(&self, families: &Families, seen: &Observation) {
        let position = code_position(seen.status);
        let block = self.codes[position / CODES_A_BLOCK].get_or_init(Box::default);
        block[position % CODES_A_BLOCK]
            .get_or_init(|| {
                let digits = seen.status.to_string();
                let code = match position {
                    CODE_NONE => "none",
                    CODE_OTHER => OTHER,
                    _ => &digits,
                };
                families.requests.child(&[&self.name], &[code])
            })
            .inc();
        let class = class_position(seen.status);
        self.durations[class]
            .get_or_init(|| families.request_duration.child(&[&self.name], &[CLASSES[class]]))
            .observe(seen.duration.as_secs_f64());
        if let Some(overhead) = seen.overhead {
            self.overhead.get_or_init(|| families.overhead.child(&[&self.name], &[])).observe(overhead.as_secs_f64());
        }
    }
}

/// The series of one channel.
pub struct ChannelHandles {
    name: Arc<str>,
    inflight: IntGauge,
    up: IntGauge,
    keys_cooling: IntGauge,
    attempts: [OnceLock<IntCounter>; Outcome::ALL.len()],
    models: Box<[ModelHandles]>,
    other: ModelHandles,
}

impl ChannelHandles {
    fn new(name: &str, models: &[&str], [inflight, up, keys_cooling]: [IntGauge; 3]) -> Self {
        Self {
            name: name.into(),
            inflight,
            up,
            keys_cooling,
            attempts: [const { OnceLock::new() }; Outcome::ALL.len()],
            models: models.iter().map(|model| ModelHandles::new(model)).collect(),
            other: ModelHandles::new(OTHER),
        }
    }

    /// One more request that the channel serves, until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        GaugeGuard::new(&self.inflight)
    }

    /// How many requests the channel serves.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.inflight.get()).unwrap_or_default()
    }

    /// Whether requests are sent to the channel, and how many of its keys cool down.
    pub fn show_health(&self, is_up: bool, keys_cooling: usize) {
        self.up.set(is_up.into());
        self.keys_cooling.set(i64::try_from(keys_cooling).unwrap_or(i64::MAX));
    }

    /// Counts that the channel, or a key of it, begins to cool down. It is seldom: the series is looked up.
    pub fn cooled_down(&self, metrics: &Metrics, what: Cooled) {
        metrics.families.cooldowns.child(&[&self.name], &[what.name()]).inc();
    }

    /// Counts a connection that was not made, because the channel's host leads where it may not.
    pub fn address_refused(&self, metrics: &Metrics) {
        metrics.families.addresses_refused.child(&[&self.name], &[]).inc();
    }

    /// Counts an attempt that ended without an answer and was followed by another. The attempt that a request
    /// ends with is counted by [`Metrics::observe`].
    pub fn failed_attempt(&self, metrics: &Metrics, outcome: Outcome) {
        self.attempt(&metrics.families, outcome);
    }

    fn attempt(&self, families: &Families, outcome: Outcome) {
        self.attempts[outcome as usize].get_or_init(|| families.attempts.child(&[&self.name], &[outcome.name()])).inc();
    }

    fn observe(&self, families: &Families, seen: &Observation) {
        self.attempt(families, seen.outcome);
        let model = seen.model.and_then(|i| self.models.get(i)).unwrap_or(&self.other);
        model.observe(families, &self.name, seen);
    }
}

/// One model of a channel. Most of a snapshot's models are not asked for before the next snapshot.
struct ModelHandles {
    name: Arc<str>,
    series: OnceLock<Box<ModelSeries>>,
}

/// The series of a model.
#[derive(Default)]
struct ModelSeries {
    durations: [OnceLock<Histogram>; Operation::ALL.len()],
    first_token: OnceLock<Histogram>,
    per_output_token: OnceLock<Histogram>,
    events: OnceLock<IntCounter>,
    tokens: OnceLock<Tokens>,
    cost: OnceLock<Counter>,
}

impl ModelHandles {
    fn new(name: &str) -> Self {
        Self { name: name.into(), series: OnceLock::new() }
    }

    fn observe(&self, families: &Families, channel: &str, seen: &Observation) {
        let names = [channel, &self.name];
        let series = self.series.get_or_init(Box::default);
        let seconds = |cell: &OnceLock<Histogram>, family: &Family<Histogram>, seconds: f64| {
            cell.get_or_init(|| family.child(&names, &[])).observe(seconds);
        };
        if let (Some(took), Some(operation)) = (seen.upstream_duration, seen.operation) {
            series.durations[operation as usize]
                .get_or_init(|| families.upstream_duration.child(&names, &[operation.name()]))
                .observe(took.as_secs_f64());
        }
        if let Some(first_token) = seen.first_token {
            seconds(&series.first_token, &families.first_token, first_token.as_secs_f64());
        }
        if let Some(per_token) = time_per_output_token(seen) {
            seconds(&series.per_output_token, &families.per_output_token, per_token);
        }
        if seen.stream {
            series.events.get_or_init(|| families.events.child(&names, &[])).inc_by(seen.events);
        }
        if seen.usage.source != Source::None {
            series.tokens.get_or_init(|| Tokens::new(families, &names)).count(&seen.usage);
        }
        if seen.cost.0 > 0 {
            series.cost.get_or_init(|| families.cost.child(&names, &[])).inc_by(seen.cost.0 as f64 / 1e9);
        }
    }
}

/// Token counters, together: a model that has one has them all, at zero if need be.
struct Tokens {
    input: IntCounter,
    output: IntCounter,
    cache_read: IntCounter,
    cache_write: IntCounter,
    reasoning: IntCounter,
}

impl Tokens {
    fn new(families: &Families, names: &[&str]) -> Self {
        Self {
            input: families.tokens.child(names, &["input"]),
            output: families.tokens.child(names, &["output"]),
            cache_read: families.cache_read.child(names, &[]),
            cache_write: families.cache_write.child(names, &[]),
            reasoning: families.reasoning.child(names, &[]),
        }
    }

    fn count(&self, usage: &Usage) {
        for (counter, tokens) in [
            (&self.input, usage.input()),
            (&self.output, usage.output),
            (&self.cache_read, usage.cache_read),
            (&self.cache_write, usage.cache_write()),
            (&self.reasoning, usage.reasoning),
        ] {
            // Most answers have no cached or reasoning tokens: leave those cache lines alone.
            if tokens > 0 {
                counter.inc_by(tokens);
            }
        }
    }
}

/// Counters of where usage comes from.
pub(super) struct Sources {
    upstream: IntCounter,
    partial: IntCounter,
    estimated: IntCounter,
    none: IntCounter,
    invalid: IntCounter,
}

impl Sources {
    pub(super) fn new(family: &Family<IntCounter>) -> Self {
        let of = |source: Source| family.child(&[], &[source.name()]);
        Self {
            upstream: of(Source::Upstream),
            partial: of(Source::Partial),
            estimated: of(Source::Estimated),
            none: of(Source::None),
            invalid: family.child(&[], &["invalid"]),
        }
    }

    fn count(&self, seen: &Observation) {
        match seen.usage.source {
            Source::Upstream => self.upstream.inc(),
            Source::Partial => self.partial.inc(),
            Source::Estimated => self.estimated.inc(),
            Source::None => self.none.inc(),
        }
        if seen.invalid > 0 {
            self.invalid.inc_by(seen.invalid);
        }
    }
}

/// Mean seconds per output token after the first. Only a stream that ended whole and whose upstream said how many
/// tokens there were has one. Reasoning that was not sent counts among the tokens, as the providers count it.
fn time_per_output_token(seen: &Observation) -> Option<f64> {
    let whole = seen.stream && seen.outcome == Outcome::Ok && seen.usage.source == Source::Upstream;
    if !whole || seen.usage.output < 2 {
        return None;
    }
    let since_first = seen.duration.checked_sub(seen.first_token?)?;
    Some(since_first.as_secs_f64() / (seen.usage.output - 1) as f64)
}

/// Values of the label `code_class`.
const CLASSES: [&str; 7] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none", OTHER];

fn class_position(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100) - 1,
        0 => 5,
        _ => 6,
    }
}

/// Positions after those of the statuses 100 to 599.
const CODE_NONE: usize = 500;
const CODE_OTHER: usize = 501;

/// The first statuses of each class are the common ones.
const CODES_A_BLOCK: usize = 20;
const CODE_BLOCKS: usize = CODE_OTHER / CODES_A_BLOCK + 1;

fn code_position(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status) - 100,
        0 => CODE_NONE,
        _ => CODE_OTHER,
    }
}

fn unregistered() -> IntGauge {
    // The name and the help are constants and well formed.
    IntGauge::new("weir_channel_inflight", "Requests of no channel.").expect("a constant name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_place_of_its_own_or_is_other() {
        for (status, code, class) in [
            (0, CODE_NONE, "none"),
            (1, CODE_OTHER, "other"),
            (99, CODE_OTHER, "other"),
            (100, 0, "1xx"),
            (200, 100, "2xx"),
            (399, 299, "3xx"),
            (429, 329, "4xx"),
            (599, 499, "5xx"),
            (600, CODE_OTHER, "other"),
            (u16::MAX, CODE_OTHER, "other"),
        ] {
            assert_eq!((code_position(status), CLASSES[class_position(status)]), (code, class), "{status}");
        }
    }

    #[test]
    fn positions_of_enums_are_those_of_their_lists() {
        for (position, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, position, "{operation}");
        }
        for (position, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position, "{}", outcome.name());
        }
        for (position, reason) in super::super::AuthFailure::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position, "{}", reason.name());
        }
    }
}
