//! How the models of channels answer when they are probed.

use prometheus::{Gauge, IntGauge};

use super::family::{Declaration, Family};
use super::{Declare, saturate};

/// The gauges of probes. A model that is no longer probed has none.
pub(super) struct ProbeMetrics {
    success: Family<IntGauge>,
    duration: Family<Gauge>,
    last_success: Family<IntGauge>,
}

impl ProbeMetrics {
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        let declaration =
            |name, help| Declaration { name, help, open: &["channel", "model"], closed: &[], buckets: &[] };
        Ok(Self {
            success: on.family(declaration(
                "weir_probe_success",
                "1 if the last probe of a model was answered well, else 0.",
            ))?,
            duration: on
                .family(declaration("weir_probe_duration_seconds", "What the last probe of a model took in all."))?,
            last_success: on.family(declaration(
                "weir_probe_last_success_timestamp_seconds",
                "When a probe of a model was last answered well, in seconds since 1970.",
            ))?,
        })
    }
}

impl super::Metrics {
    /// A model was probed, and took so long; `None`: clients have proven it.
    pub fn probed(&self, channel: &str, model: &str, is_good: bool, seconds: Option<f64>, at_ms: u64) {
        let names = [channel, model];
        self.probes.success.child(&names, &[]).set(is_good.into());
        if let Some(seconds) = seconds {
            self.probes.duration.child(&names, &[]).set(seconds);
        }
        if is_good {
            self.probes.last_success.child(&names, &[]).set(saturate(at_ms / 1000));
        }
    }

    /// Of this channel only models are probed that `keep` tells.
    pub fn keep_probes(&self, channel: &str, keep: impl Fn(&str) -> bool) {
        self.retain_probes(|of, model| of != channel || keep(model));
    }

    /// Only channels are probed that `keep` tells.
    pub fn keep_probed_channels(&self, keep: impl Fn(&str) -> bool) {
        self.retain_probes(|channel, _| keep(channel));
    }

    fn retain_probes(&self, keep: impl Fn(&str, &str) -> bool) {
        let keep = |labels: &[Box<str>]| keep(&labels[0], &labels[1]);
        self.probes.success.retain(keep);
        self.probes.duration.retain(keep);
        self.probes.last_success.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn a_model_that_is_no_longer_probed_has_no_series() {
        let metrics = Metrics::new();
        for (channel, model, is_good) in [("one", "a", true), ("one", "b", false), ("two", "a", true)] {
            metrics.probed(channel, model, is_good, Some(0.25), 1_764_500_000_999);
        }
        let shown = || {
            let text = metrics.encode();
            let mut lines: Vec<String> =
                text.lines().filter(|line| line.starts_with("weir_probe_")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(
            shown(),
            [
                r#"weir_probe_duration_seconds{channel="one",model="a"} 0.25"#,
                r#"weir_probe_duration_seconds{channel="one",model="b"} 0.25"#,
                r#"weir_probe_duration_seconds{channel="two",model="a"} 0.25"#,
                r#"weir_probe_last_success_timestamp_seconds{channel="one",model="a"} 1764500000"#,
                r#"weir_probe_last_success_timestamp_seconds{channel="two",model="a"} 1764500000"#,
                r#"weir_probe_success{channel="one",model="a"} 1"#,
                r#"weir_probe_success{channel="one",model="b"} 0"#,
                r#"weir_probe_success{channel="two",model="a"} 1"#,
            ]
        );
        metrics.keep_probes("one", |model| model == "b");
        assert_eq!(shown().len(), 5);
        metrics.keep_probed_channels(|channel| channel == "one");
        assert_eq!(shown().len(), 2);
    }
}
