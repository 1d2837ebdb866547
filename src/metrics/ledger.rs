//! Metrics of the ledger's troubles: what waits, what was lost, what is damaged.

use prometheus::{IntCounter, IntGauge};

use super::{Declare, saturate};
use crate::ledger::LedgerStatus;

/// The ledger's own figures.
pub(super) struct LedgerMetrics {
    backlog: IntGauge,
    dropped: IntCounter,
    refused: IntCounter,
    corrupt: IntCounter,
    history_lost: IntGauge,
    set_aside: IntGauge,
}

impl LedgerMetrics {
    pub(super) fn declare(on: &Declare) -> prometheus::Result<Self> {
        Ok(Self {
            backlog: on.gauge(
                "weir_ledger_backlog_records",
                "Settlements that wait in memory because the disk takes none: they end with the process.",
            )?,
            dropped: on.counter(
                "weir_ledger_dropped_total",
                "Settlements that were lost because the disk took none until the backlog was full.",
            )?,
            refused: on.counter(
                "weir_ledger_refused_total",
                "Requests with a budget that were refused because what they may cost could not be written down.",
            )?,
            corrupt: on
                .counter("weir_ledger_corrupt_total", "Damaged parts of the journal that were passed over, ever.")?,
            history_lost: on
                .gauge("weir_ledger_history_lost", "1 if segments of the journal are gone that no totals cover.")?,
            set_aside: on.gauge(
                "weir_ledger_store_set_aside",
                "1 if the store was damaged at the start, set aside and rebuilt from the journal.",
            )?,
        })
    }
}

impl super::Metrics {
    /// How the ledger is doing.
    pub fn set_ledger(&self, status: &LedgerStatus) {
        self.set_journal_bytes(status.journal_bytes);
        self.set_fold_lag_records(status.fold_lag_records);
        self.set_store_up(status.store_up);
        self.set_ledger_append_errors(status.append_errors);
        let ledger = &self.ledger;
        ledger.backlog.set(saturate(status.backlog_records));
        for (counter, value) in [
            (&ledger.dropped, status.dropped),
            (&ledger.refused, status.refused),
            (&ledger.corrupt, status.corrupt_records),
        ] {
            // They never fall; two scrapes at once may come in either order.
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        ledger.history_lost.set(status.history_lost.into());
        ledger.set_aside.set(status.set_aside.is_some().into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn each_trouble_of_the_ledger_has_a_figure() {
        let metrics = Metrics::new();
        let bad = LedgerStatus {
            backlog_records: 3,
            dropped: 4,
            refused: 5,
            corrupt_records: 6,
            history_lost: true,
            set_aside: Some("store.broken-1".into()),
            append_errors: 7,
            ..LedgerStatus::default()
        };
        metrics.set_ledger(&bad);
        metrics.set_ledger(&LedgerStatus { backlog_records: 0, ..bad });
        let text = metrics.encode();
        for line in [
            "weir_ledger_append_errors_total 7",
            "weir_ledger_backlog_records 0",
            "weir_ledger_corrupt_total 6",
            "weir_ledger_dropped_total 4",
            "weir_ledger_history_lost 1",
            "weir_ledger_refused_total 5",
            "weir_ledger_store_set_aside 1",
            "weir_store_up 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
    }
}
