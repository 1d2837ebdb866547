//! How the sinks of records are doing: what they delivered, what was refused or lost, what waits.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge};

use super::family::{Declaration, Family};
use super::{Declare, saturate};
use crate::audit::SinkFigures;

/// The figures of sinks. A sink appears once it is there, and stays.
pub(super) struct SinkMetrics {
    events: Family<IntCounter>,
    dropped: Family<IntCounter>,
    queue: Family<IntGauge>,
    /// Two scrapes at once would each add what is new.
    turn: Mutex<()>,
}

impl SinkMetrics {
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        Ok(Self {
            events: on.family(Declaration {
                name: "weir_sink_events_total",
                help: "Records that a sink has delivered, or whose receiver refused them (failed).",
                open: &[],
                closed: &["sink", "result"],
                buckets: &[],
            })?,
            dropped: on.family(Declaration {
                name: "weir_sink_dropped_total",
                help: "Records that a sink has lost for want of room: its queue, its spool or the disk was full.",
                open: &[],
                closed: &["sink"],
                buckets: &[],
            })?,
            queue: on.family(Declaration {
                name: "weir_sink_queue_events",
                help: "Records that a sink was given and has not delivered yet, those in its spool included.",
                open: &[],
                closed: &["sink"],
                buckets: &[],
            })?,
            turn: Mutex::default(),
        })
    }
}

impl super::Metrics {
    /// How the sinks are doing.
    pub fn set_sinks(&self, sinks: &[SinkFigures]) {
        let _turn = self.sinks.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for SinkFigures { sink, delivered, failed, dropped, waiting } in sinks {
            let events = &self.sinks.events;
            for (counter, value) in [
                (events.child(&[], &[sink, "delivered"]), delivered),
                (events.child(&[], &[sink, "failed"]), failed),
                (self.sinks.dropped.child(&[], &[sink]), dropped),
            ] {
                // They never fall; figures of two scrapes may come in either order.
                counter.inc_by(value.saturating_sub(counter.get()));
            }
            self.sinks.queue.child(&[], &[sink]).set(saturate(*waiting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn each_sink_has_its_figures_and_counters_never_fall() {
        let metrics = Metrics::new();
        let loki = SinkFigures { sink: "loki", delivered: 5, failed: 2, dropped: 1, waiting: 9 };
        metrics.set_sinks(&[loki.clone(), SinkFigures { sink: "jsonl", dropped: 0, ..loki.clone() }]);
        metrics.set_sinks(&[SinkFigures { delivered: 4, waiting: 0, ..loki }]);
        let text = metrics.encode();
        for line in [
            "weir_sink_events_total{sink=\"loki\",result=\"delivered\"} 5",
            "weir_sink_events_total{sink=\"loki\",result=\"failed\"} 2",
            "weir_sink_dropped_total{sink=\"loki\"} 1",
            "weir_sink_dropped_total{sink=\"jsonl\"} 0",
            "weir_sink_queue_events{sink=\"loki\"} 0",
        ] {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let labels: Vec<_> = name.split_once('{').unwrap().1.trim_end_matches('}').split(',').collect();
            let found = text.lines().any(|other| {
                other.starts_with(name.split('{').next().unwrap())
                    && labels.iter().all(|label| other.contains(label))
                    && other.ends_with(&format!(" {value}"))
            });
            assert!(found, "{line} in\n{text}");
        }
    }
}
