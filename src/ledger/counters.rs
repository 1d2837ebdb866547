//! Owns the counters of a cell and their sums. Refuses to know what a cell is counted under.

use weir_filters::usage::Source;

use super::codec::RecordRef;
use super::wire::{Reader, put_int};

/// Sums over requests. All saturate: a hostile upstream may report any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Requests that failed ([`super::Settlement::is_failed`]).
    pub failed: u64,
    /// Server-sent events.
    pub events: u64,
    /// Prompt tokens at the full price.
    pub input_uncached: u64,
    /// Prompt tokens read from a cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache of five minutes.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache of an hour.
    pub cache_write_1h: u64,
    /// Generated tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Requests whose usage was estimated, or cut short of its last report.
    pub estimated: u64,
    /// Billionths of a US dollar.
    pub cost_nano_usd: u64,
    /// Bytes of the clients' bodies.
    pub request_bytes: u64,
    /// Bytes of the answers' bodies.
    pub response_bytes: u64,
    /// Sum of the durations, in microseconds.
    pub duration_us: u64,
    /// Requests that would have cost something, had their model a price.
    pub unpriced: u64,
}

const FIELDS: usize = 15;
/// What the first format had; a value may end there.
const FIRST_FIELDS: usize = 14;

impl Counters {
    /// The counters of one request.
    pub(crate) fn of(r: &RecordRef<'_>) -> Self {
        Self {
            requests: 1,
            failed: u64::from(r.is_failed()),
            events: r.events,
            input_uncached: r.usage.input_uncached,
            cache_read: r.usage.cache_read,
            cache_write_5m: r.usage.cache_write_5m,
            cache_write_1h: r.usage.cache_write_1h,
            output: r.usage.output,
            reasoning: r.usage.reasoning,
            estimated: u64::from(matches!(r.usage.source, Source::Estimated | Source::Partial)),
            cost_nano_usd: r.cost.0,
            request_bytes: r.request_bytes,
            response_bytes: r.response_bytes,
            duration_us: r.duration_us,
            unpriced: r.unpriced.into(),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Counters) {
        let mut sums = self.to_array();
        for (sum, value) in sums.iter_mut().zip(other.to_array()) {
            *sum = sum.saturating_add(value);
        }
        *self = Self::from_array(sums);
    }

    /// What people call input tokens: the whole prompt, cached or not.
    pub fn input_tokens(&self) -> u64 {
        self.input_uncached.saturating_add(self.cache_read).saturating_add(self.cache_write_tokens())
    }

    /// Prompt tokens written to a cache, whatever its life.
    pub fn cache_write_tokens(&self) -> u64 {
        self.cache_write_5m.saturating_add(self.cache_write_1h)
    }

    /// The cost in millionths of a US dollar, rounded to the nearest.
    pub fn cost_micro_usd(&self) -> u64 {
        self.cost_nano_usd.saturating_add(500) / 1000
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for value in self.to_array() {
            put_int(out, value);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut values = [0; FIELDS];
        let (first, later) = values.split_at_mut(FIRST_FIELDS);
        for value in first {
            *value = reader.int()?;
        }
        // Counters are the last of every row, so that one of an earlier format ends here.
        for value in later {
            if !reader.is_empty() {
                *value = reader.int()?;
            }
        }
        Some(Self::from_array(values))
    }

    /// The order on disk.
    fn to_array(self) -> [u64; FIELDS] {
        [
            self.requests,
            self.failed,
            self.events,
            self.input_uncached,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.estimated,
            self.cost_nano_usd,
            self.request_bytes,
            self.response_bytes,
            self.duration_us,
            self.unpriced,
        ]
    }

    fn from_array(v: [u64; FIELDS]) -> Self {
        Self {
            requests: v[0],
            failed: v[1],
            events: v[2],
            input_uncached: v[3],
            cache_read: v[4],
            cache_write_5m: v[5],
            cache_write_1h: v[6],
            output: v[7],
            reasoning: v[8],
            estimated: v[9],
            cost_nano_usd: v[10],
            request_bytes: v[11],
            response_bytes: v[12],
            duration_us: v[13],
            unpriced: v[14],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_and_survive_a_round_trip() {
        let mut sum = Counters { requests: 1, output: u64::MAX, duration_us: 9, ..Counters::default() };
        sum.add(&Counters { requests: 2, output: 1, cache_write_1h: 4, ..Counters::default() });
        assert_eq!(
            sum,
            Counters { requests: 3, output: u64::MAX, duration_us: 9, cache_write_1h: 4, ..Counters::default() }
        );
        sum.unpriced = 3;
        let mut bytes = Vec::new();
        sum.encode(&mut bytes);
        assert_eq!(Counters::decode(&mut Reader::new(&bytes)), Some(sum));
    }

    #[test]
    fn counters_of_the_first_format_are_read() {
        let of = |count: u8| Counters::decode(&mut Reader::new(&(1..=count).collect::<Vec<u8>>()));
        let first = of(14).expect("what the first format wrote");
        assert_eq!((first.requests, first.duration_us, first.unpriced), (1, 14, 0));
        assert_eq!(of(15), Some(Counters { unpriced: 15, ..first }));
        assert_eq!(of(13), None);
    }

    #[test]
    fn money_is_rounded_to_the_nearest_micro() {
        let cost = |nano| Counters { cost_nano_usd: nano, ..Counters::default() }.cost_micro_usd();
        assert_eq!([cost(499), cost(500), cost(1499)], [0, 1, 1]);
    }
}
