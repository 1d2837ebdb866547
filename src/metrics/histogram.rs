//! A histogram that a request touches twice: its bucket and its sum.
//!
//! Owns the counting in buckets. Knows nothing of what is measured. `prometheus`'s own keeps two sets of cells and
//! two counts besides, so that bucket and sum of one observation are always seen together. Here a scrape may see
//! the one an instant before the other; the count is the sum of the buckets, so those never contradict each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::family::Declaration;

/// A histogram; clones share their cells.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Core>);

#[derive(Debug)]
struct Core {
    desc: Desc,
    /// Upper bounds, rising.
    bounds: &'static [f64],
    /// The sum, as the bits of an `f64`; then a count for each bound, and one for what is above them all.
    cells: Box<[AtomicU64]>,
}

impl Histogram {
    pub(super) fn new(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        let bounds = declaration.buckets;
        if !bounds.is_sorted_by(|a, b| a < b) {
            return Err(prometheus::Error::Msg(format!("the buckets of {} do not rise", declaration.name)));
        }
        let desc = Desc::new(declaration.name.into(), declaration.help.into(), Vec::new(), labels)?;
        let cells = (0..bounds.len() + 2).map(|_| AtomicU64::new(0)).collect();
        Ok(Self(Arc::new(Core { desc, bounds, cells })))
    }

    /// Counts one observation.
    pub(super) fn observe(&self, value: f64) {
        let Core { bounds, cells, .. } = &*self.0;
        let bucket = bounds.partition_point(|bound| *bound < value);
        cells[1 + bucket].fetch_add(1, Ordering::Relaxed);
        let sum = &cells[0];
        let mut bits = sum.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(bits) + value).to_bits();
            match sum.compare_exchange_weak(bits, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(present) => bits = present,
            }
        }
    }

    /// Adds the counts of its buckets to `counts`: one for each bound, and one for what is above them all.
    pub(super) fn add_to(&self, counts: &mut [u64]) {
        for (count, cell) in counts.iter_mut().zip(&self.0.cells[1..]) {
            *count += cell.load(Ordering::Relaxed);
        }
    }

    fn sample(&self) -> proto::Histogram {
        let Core { bounds, cells, .. } = &*self.0;
        let mut count = 0;
        let mut up_to = |cell: &AtomicU64| {
            count += cell.load(Ordering::Relaxed);
            count
        };
        let bucket = |(bound, cell): (&f64, &AtomicU64)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(up_to(cell));
            bucket
        };
        let buckets = bounds.iter().zip(&cells[1..]).map(bucket).collect();
        let mut sample = proto::Histogram::default();
        sample.set_bucket(buckets);
        sample.set_sample_count(up_to(&cells[1 + bounds.len()]));
        sample.set_sample_sum(f64::from_bits(cells[0].load(Ordering::Relaxed)));
        sample
    }
}

impl Collector for Histogram {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let desc = &self.0.desc;
        let mut metric = proto::Metric::from_label(desc.const_label_pairs.clone());
        metric.set_histogram(self.sample());
        let mut family = proto::MetricFamily::default();
        family.set_name(desc.fq_name.clone());
        family.set_help(desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: &[f64] = &[0.001, 0.01, 0.5, 2.5];

    fn histogram(buckets: &'static [f64]) -> prometheus::Result<Histogram> {
        let declaration =
            Declaration { name: "seconds", help: "Seconds.", open: &["route"], closed: &["class"], buckets };
        Histogram::new(&declaration, HashMap::from([("route".into(), "/a".into()), ("class".into(), "2xx".into())]))
    }

    proptest! {
        #[test]
        fn it_reads_like_the_histogram_of_the_prometheus_crate(
            values in prop::collection::vec(prop_oneof![0.0..4.0_f64, prop::sample::select(BOUNDS)], 0..40),
        ) {
            let ours = histogram(BOUNDS).unwrap();
            let labels = HashMap::from([("route".to_owned(), "/a".to_owned()), ("class".to_owned(), "2xx".to_owned())]);
            let opts = HistogramOpts::new("seconds", "Seconds.").const_labels(labels).buckets(BOUNDS.to_vec());
            let theirs = prometheus::Histogram::with_opts(opts).unwrap();
            for value in values {
                ours.observe(value);
                theirs.observe(value);
            }
            let text = |families: Vec<proto::MetricFamily>| TextEncoder::new().encode_to_string(&families).unwrap();
            prop_assert_eq!(text(ours.collect()), text(theirs.collect()));
        }
    }

    #[test]
    fn threads_lose_no_observation() {
        let shared = histogram(BOUNDS).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| shared.observe(0.25)));
            }
        });
        let sample = shared.sample();
        assert_eq!((sample.get_sample_count(), sample.get_sample_sum()), (40_000, 10_000.0));
    }

    #[test]
    fn buckets_that_do_not_rise_are_refused() {
        assert!(histogram(&[0.1, 0.1]).is_err());
        assert!(histogram(&[0.2, 0.1]).is_err());
    }
}
