//! Metrics of the edge: who is there, and who was turned away before any key decided.

use prometheus::{IntCounter, IntGauge};

use super::family::{Declaration, Family};
use super::{Declare, Metrics, saturate};
use crate::front::Turned;

/// The counters and gauges of the edge.
pub(super) struct EdgeMetrics {
    turned: [IntCounter; Turned::ALL.len()],
    connections: IntGauge,
    in_flight: IntGauge,
}

impl EdgeMetrics {
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        let turned: Family<IntCounter> = on.family(Declaration {
            name: "weir_clients_turned_away_total",
            help: "Clients that were turned away or cut off for how they came, sent or read, by the reason.",
            open: &[],
            closed: &["reason"],
            buckets: &[],
        })?;
        Ok(Self {
            turned: Turned::ALL.map(|why| turned.child(&[], &[why.name()])),
            connections: on.gauge("weir_connections", "Connections of clients.")?,
            in_flight: on
                .gauge("weir_requests_in_flight", "Requests under way, of those that server.max_in_flight counts.")?,
        })
    }
}

impl Metrics {
    /// Counts a client that was turned away.
    pub fn turned_away(&self, why: Turned) {
        self.edge.turned[why as usize].inc();
    }

    /// How many connections clients have.
    pub fn set_connections(&self, connections: usize) {
        self.edge.connections.set(saturate(connections as u64));
    }

    /// How many requests are under way.
    pub fn set_requests_in_flight(&self, requests: usize) {
        self.edge.in_flight.set(saturate(requests as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let metrics = Metrics::new();
        for (times, why) in Turned::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, times, "{}", why.name());
            (0..times).for_each(|_| metrics.turned_away(why));
        }
        metrics.set_connections(7);
        metrics.set_requests_in_flight(3);
        let text = metrics.encode();
        for (times, why) in Turned::ALL.into_iter().enumerate() {
            let line = format!("weir_clients_turned_away_total{{reason=\"{}\"}} {times}", why.name());
            assert!(text.lines().any(|other| other == line), "{line}");
        }
        assert!(text.contains("\nweir_connections 7\n") && text.contains("\nweir_requests_in_flight 3\n"));
    }
}
