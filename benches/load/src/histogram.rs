//! Durations in log-linear buckets: three significant digits from a nanosecond to an hour, in the manner of
//! HdrHistogram. Recording is one index and one addition.

use std::fmt;

/// Buckets per power of two: a bucket is at most 1/1024 of its value wide.
const SUB_BITS: u32 = 10;
const SUB: u64 = 1 << SUB_BITS;

/// Longer durations count as this one: 2^42 ns is 73 minutes.
const MAX_VALUE: u64 = (1 << 42) - 1;

const BUCKETS: usize = index(MAX_VALUE) + 1;

/// Counts of durations in nanoseconds.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u128,
    max: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "an index is below BUCKETS")]
const fn index(value: u64) -> usize {
    if value < 2 * SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    ((shift as u64 + 1) * SUB + (value >> shift) - SUB) as usize
}

/// The largest value of a bucket.
const fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB {
        return index;
    }
    let shift = index / SUB - 1;
    ((index % SUB + SUB + 1) << shift) - 1
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[index(nanos.min(MAX_VALUE))] += 1;
        self.count += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.sum, self.max) = (0, 0, 0);
    }

    /// The value that this share of all values does not exceed, at most 0.1 % too large.
    fn quantile(&self, share: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(index).min(self.max);
            }
        }
        self.max
    }
}

/// A JSON object in microseconds; every figure is null if nothing was recorded.
impl fmt::Display for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return out.write_str(r#"{"p50":null,"p90":null,"p99":null,"p999":null,"max":null,"mean":null,"count":0}"#);
        }
        write!(out, "{{")?;
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            write!(out, r#""{name}":{:.3},"#, self.quantile(share) as f64 / 1e3)?;
        }
        let mean = self.sum as f64 / self.count as f64;
        write!(out, r#""max":{:.3},"mean":{:.3},"count":{}}}"#, self.max as f64 / 1e3, mean / 1e3, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for bucket in 0..BUCKETS {
            assert_eq!(index(highest(bucket)), bucket);
            assert_eq!(index(highest(bucket) + 1), bucket + 1);
        }
        assert_eq!(highest(BUCKETS - 1), MAX_VALUE);
    }

    #[test]
    fn a_bucket_is_a_thousandth_wide() {
        for bucket in 1..BUCKETS {
            let (low, high) = (highest(bucket - 1) + 1, highest(bucket));
            assert!((high - low) as f64 <= low as f64 / 1000.0, "{low}..={high}");
        }
    }

    #[test]
    fn quantiles_of_known_values_are_exact_to_three_digits() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|value| histogram.record(value * 1_000));
        for (share, exact) in [(0.5, 50_000_000.0), (0.9, 90_000_000.0), (0.99, 99_000_000.0), (0.999, 99_900_000.0)] {
            let found = histogram.quantile(share) as f64;
            assert!(found >= exact && found <= exact * 1.001, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), 100_000_000);
    }

    #[test]
    fn values_without_measure_count_as_the_largest() {
        let mut histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.quantile(0.5), MAX_VALUE);
    }

    #[test]
    fn figures_are_printed_in_microseconds() {
        let mut histogram = Histogram::new();
        [1_000, 1_500, 2_000].into_iter().for_each(|nanos| histogram.record(nanos));
        let printed = r#"{"p50":1.500,"p90":2.000,"p99":2.000,"p999":2.000,"max":2.000,"mean":1.500,"count":3}"#;
        assert_eq!(histogram.to_string(), printed);
        histogram.clear();
        assert!(histogram.to_string().starts_with(r#"{"p50":null,"#));
    }
}
