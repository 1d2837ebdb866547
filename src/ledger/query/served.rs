//! What clients were served of a channel lately, by model.

use std::collections::HashMap;

use super::range;
use crate::ledger::view::{Grain, View};

impl View {
    /// Requests, and those that failed, of each model that `channel` served in the minutes that began at `from_ms` or
    /// later, but for what was counted under the key `except`.
    pub(crate) fn served(&self, channel: &str, from_ms: u64, except: &[&str]) -> HashMap<String, (u64, u64)> {
        let mut served: HashMap<String, (u64, u64)> = HashMap::new();
        for ((_, series), counters) in range(&self.cells[Grain::Minute as usize], Grain::Minute, Some(from_ms), None) {
            let series = &self.series[*series as usize];
            if *series.channel == *channel && !except.contains(&&*series.key_id) {
                let sums = served.entry(series.model.to_string()).or_default();
                *sums = (sums.0 + counters.requests, sums.1 + counters.failed);
            }
        }
        served
    }
}
