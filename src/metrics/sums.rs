//! Sums over all series of a family, for whoever looks at the gateway as a whole.
//!
//! Owns which families are summed. Nothing here is on the way of a request; a sum costs a load for each series.

use super::declared::FIRST_TOKEN_SECONDS;
use super::family::Family;
use super::histogram::Histogram;

/// What was counted up to some moment, in buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// One for each of [`Buckets::bounds`], and one for what is above them all.
    pub counts: Vec<u64>,
}

impl Buckets {
    /// The upper bounds, rising, in seconds.
    pub fn bounds(&self) -> &'static [f64] {
        FIRST_TOKEN_SECONDS
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Buckets) -> Buckets {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, before)| now.saturating_sub(*before));
        Buckets { counts: counts.collect() }
    }

    /// The value below which the share `q` of all lies, in seconds, as Prometheus would tell it: spread evenly in its
    /// bucket, and never above the last bound. `None`: nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, bound) in self.counts.iter().zip(self.bounds()) {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (bound - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = *bound;
        }
        Some(lower)
    }
}

fn summed(family: &Family<Histogram>) -> Buckets {
    let mut counts = vec![0; FIRST_TOKEN_SECONDS.len() + 1];
    family.children().iter().for_each(|series| series.add_to(&mut counts));
    Buckets { counts }
}

impl super::Metrics {
    /// Requests that have ended since the start, whatever became of them.
    pub fn requests_ended(&self) -> u64 {
        self.families.requests.children().iter().map(prometheus::IntCounter::get).sum()
    }

    /// Streams that are being answered.
    pub fn streams(&self) -> u64 {
        u64::try_from(self.streams_active.get()).unwrap_or_default()
    }

    /// The times to the first token of all requests since the start.
    pub fn first_tokens(&self) -> Buckets {
        summed(&self.families.first_token)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    fn buckets(of: &[(usize, u64)]) -> Buckets {
        let mut counts = vec![0; FIRST_TOKEN_SECONDS.len() + 1];
        of.iter().for_each(|(at, count)| counts[*at] = *count);
        Buckets { counts }
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        assert_eq!(buckets(&[]).quantile(0.5), None);
        let bounds = FIRST_TOKEN_SECONDS;
        let even = buckets(&[(2, 10)]);
        let (lower, upper) = (bounds[1], bounds[2]);
        assert_eq!(even.quantile(0.5), Some(lower + (upper - lower) * 0.5));
        assert_eq!(even.quantile(1.0), Some(upper));
        let two = buckets(&[(0, 90), (3, 10)]);
        assert_eq!(two.quantile(0.45), Some(bounds[0] * 0.5), "the first bucket starts at nothing");
        assert_eq!(two.quantile(0.95), Some(bounds[2] + (bounds[3] - bounds[2]) * 0.5));
        let above = buckets(&[(bounds.len(), 3)]);
        assert_eq!(above.quantile(0.5), bounds.last().copied(), "more than the last bound cannot be told");
    }

    #[test]
    fn what_was_counted_since_is_the_difference_and_never_less_than_nothing() {
        let (before, after) = (buckets(&[(1, 4), (2, 1)]), buckets(&[(1, 6), (2, 1), (5, 2)]));
        assert_eq!(after.since(&before), buckets(&[(1, 2), (5, 2)]));
        assert_eq!(before.since(&after), buckets(&[]));
    }

    #[test]
    fn sums_are_over_all_series() {
        let metrics = Metrics::new();
        metrics.families.requests.child(&["/a"], &["200"]).inc_by(3);
        metrics.families.requests.child(&["/b"], &["429"]).inc_by(4);
        metrics.families.first_token.child(&["one", "m"], &[]).observe(FIRST_TOKEN_SECONDS[1]);
        metrics.families.first_token.child(&["two", "m"], &[]).observe(FIRST_TOKEN_SECONDS[1]);
        let stream = metrics.stream();
        assert_eq!((metrics.requests_ended(), metrics.streams()), (7, 1));
        assert_eq!(metrics.first_tokens(), buckets(&[(1, 2)]));
        drop(stream);
        assert_eq!(metrics.streams(), 0);
    }
}
