//! Metrics of limits: what was refused, what is reserved, how good the estimates are, and which budgets come to an end.

use prometheus::{IntCounter, IntGauge};
use weir_filters::limits::{Limit, Period, Subject, Use};

use super::family::{Declaration, Family};
use super::{Declare, saturate};

/// The kinds of limits, in the order of their counters.
const KINDS: [Limit; 4] = [Limit::Rpm, Limit::Tpm, Limit::Concurrency, Limit::Budget(Period::Day)];

/// Who has budgets, in the order of their gauges.
const SUBJECTS: [Subject; 3] = [Subject::Key, Subject::User, Subject::Channel];

/// How far a budget is spent: values of the label `state`.
const STATES: [&str; 2] = ["near", "spent"];

/// The counters of limits.
pub(super) struct LimitMetrics {
    rejections: [IntCounter; KINDS.len()],
    held: IntGauge,
    reserved_tokens: IntCounter,
    settled_tokens: IntCounter,
    exceeded: IntCounter,
    tight: [[IntGauge; STATES.len()]; SUBJECTS.len()],
}

impl LimitMetrics {
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        let rejections: Family<IntCounter> = on.family(Declaration {
            name: "weir_limit_rejections_total",
            help: "Requests refused because a limit had no room for them.",
            open: &[],
            closed: &["limit"],
            buckets: &[],
        })?;
        let tight: Family<IntGauge> = on.family(Declaration {
            name: "weir_budgets_tight",
            help: "Keys, users and channels whose tightest budget is spent to four fifths or more (near) or wholly (spent).",
            open: &[],
            closed: &["subject", "state"],
            buckets: &[],
        })?;
        Ok(Self {
            tight: SUBJECTS.map(|subject| STATES.map(|state| tight.child(&[], &[subject.name(), state]))),
            rejections: KINDS.map(|limit| rejections.child(&[], &[limit.name()])),
            held: on.gauge("weir_limit_permits", "Requests under way that hold a part of a limit.")?,
            reserved_tokens: on.counter(
                "weir_limit_reserved_tokens_total",
                "Tokens that were reserved for requests that have ended.",
            )?,
            settled_tokens: on
                .counter("weir_limit_settled_tokens_total", "Tokens that these requests used in the end.")?,
            exceeded: on.counter(
                "weir_limit_estimate_exceeded_total",
                "Requests that used more tokens or cost more than was reserved for them.",
            )?,
        })
    }
}

impl super::Metrics {
    /// Counts a request that a limit refused.
    pub fn limit_rejection(&self, limit: Limit) {
        let kind = KINDS.iter().position(|kind| kind.name() == limit.name()).unwrap_or_default();
        self.limits.rejections[kind].inc();
    }

    /// One more request that holds a part of a limit, until the guard is dropped.
    pub fn permit(&self) -> super::GaugeGuard {
        super::GaugeGuard::new(&self.limits.held)
    }

    /// How many budgets are nearly or wholly spent: `count` is asked with the values of `subject` and `state`.
    pub fn set_tight_budgets(&self, count: impl Fn(&str, &str) -> usize) {
        for (gauges, subject) in self.limits.tight.iter().zip(SUBJECTS) {
            for (gauge, state) in gauges.iter().zip(STATES) {
                gauge.set(saturate(count(subject.name(), state) as u64));
            }
        }
    }

    /// Counts what was reserved for a request, and what it used.
    pub fn settled(&self, reserved: Use, used: Use) {
        self.limits.reserved_tokens.inc_by(reserved.tokens);
        self.limits.settled_tokens.inc_by(used.tokens);
        if used.tokens > reserved.tokens || used.cost > reserved.cost {
            self.limits.exceeded.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;
    use weir_filters::price::NanoUsd;

    #[test]
    fn refusals_permits_and_estimates_are_counted() {
        let metrics = Metrics::new();
        metrics.limit_rejection(Limit::Rpm);
        metrics.limit_rejection(Limit::Budget(Period::Month));
        metrics.limit_rejection(Limit::Budget(Period::Total));
        let permit = metrics.permit();
        metrics.settled(Use { tokens: 100, cost: NanoUsd(5) }, Use { tokens: 40, cost: NanoUsd(5) });
        metrics.settled(Use { tokens: 10, cost: NanoUsd(5) }, Use { tokens: 10, cost: NanoUsd(6) });
        let text = metrics.encode();
        for line in [
            r#"weir_limit_rejections_total{limit="rpm"} 1"#,
            r#"weir_limit_rejections_total{limit="tpm"} 0"#,
            r#"weir_limit_rejections_total{limit="budget"} 2"#,
            "weir_limit_permits 1",
            "weir_limit_reserved_tokens_total 110",
            "weir_limit_settled_tokens_total 50",
            "weir_limit_estimate_exceeded_total 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
        drop(permit);
        assert!(metrics.encode().contains("weir_limit_permits 0"));
    }
    #[test]
    fn tight_budgets_are_counted_by_whose_they_are_and_how_tight() {
        let metrics = Metrics::new();
        metrics.set_tight_budgets(|_, _| 9);
        metrics.set_tight_budgets(|subject, state| match (subject, state) {
            ("key", "near") => 4,
            ("channel", "spent") => 1,
            _ => 0,
        });
        let text = metrics.encode();
        for line in [
            r#"weir_budgets_tight{state="near",subject="key"} 4"#,
            r#"weir_budgets_tight{state="spent",subject="key"} 0"#,
            r#"weir_budgets_tight{state="near",subject="user"} 0"#,
            r#"weir_budgets_tight{state="spent",subject="channel"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
    }
}
