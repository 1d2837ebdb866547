//! One family of series: a name, its labels, and a cap on how many there may be.
//!
//! Owns the map from label values to series. Knows nothing of what is counted, of requests, or of who reads it.
//!
//! `prometheus`'s own vectors are not used for families of several labels: they find a series by a hash of
//! the values run together, so that channel `mini` with model `ai-1` and channel `miniai` with model `-1` are one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntCounter, IntGauge, Opts};

use super::histogram::Histogram;

/// Series of one family that carry names out of the configuration. Two thousand histograms are some forty
/// thousand lines, about 5 MB: what Prometheus still reads in one scrape without notice.
pub(super) const MAX_SERIES: usize = 2_000;

/// What a value is called that has no series of its own.
pub(super) const OTHER: &str = "other";

/// How a family is declared.
#[derive(Clone, Copy)]
pub(super) struct Declaration {
    /// The family's name.
    pub(super) name: &'static str,
    /// What it says, in a sentence.
    pub(super) help: &'static str,
    /// Labels whose values are names out of the configuration; beyond the cap they become `other`.
    pub(super) open: &'static [&'static str],
    /// Labels whose values are a closed set of the program; they keep their value.
    pub(super) closed: &'static [&'static str],
    /// Upper bounds, for a histogram.
    pub(super) buckets: &'static [f64],
}

/// A kind of series that can be made from a declaration.
pub(super) trait Series: Collector + Clone + 'static {
    /// Makes one series with these labels.
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self>;
}

impl Series for Counter {
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(declaration.name, declaration.help).const_labels(labels))
    }
}

impl Series for IntCounter {
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(declaration.name, declaration.help).const_labels(labels))
    }
}

impl Series for IntGauge {
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(declaration.name, declaration.help).const_labels(labels))
    }
}

impl Series for Gauge {
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(declaration.name, declaration.help).const_labels(labels))
    }
}

impl Series for Histogram {
    fn make(declaration: &Declaration, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::new(declaration, labels)
    }
}

/// A family; clones share their series.
#[derive(Clone)]
pub(super) struct Family<M>(Arc<Core<M>>);

struct Core<M> {
    declaration: Declaration,
    desc: Desc,
    cap: usize,
    dropped: IntCounter,
    children: Mutex<BTreeMap<Vec<Box<str>>, M>>,
}

impl<M: Series> Family<M> {
    /// A family without series. `dropped` counts the series that the cap refused.
    pub(super) fn new(declaration: Declaration, cap: usize, dropped: IntCounter) -> prometheus::Result<Self> {
        let labels = declaration.open.iter().chain(declaration.closed);
        let desc = Desc::new(
            declaration.name.into(),
            declaration.help.into(),
            labels.map(|&label| label.into()).collect(),
            HashMap::new(),
        )?;
        let children = Mutex::new(BTreeMap::new());
        Ok(Self(Arc::new(Core { declaration, desc, cap, dropped, children })))
    }

    /// The series with these label values, made if it is new. Takes a lock and allocates: callers keep what they get.
    ///
    /// Beyond the cap the series of `other` is given in its place and the refusal is counted. Those series are not
    /// capped: they are no more than the closed labels have combinations.
    pub(super) fn child(&self, open: &[&str], closed: &[&str]) -> M {
        let core = &*self.0;
        let mut children = core.children.lock().unwrap_or_else(PoisonError::into_inner);
        let key: Vec<Box<str>> = open.iter().chain(closed).map(|&value| value.into()).collect();
        if let Some(child) = children.get(&key) {
            return child.clone();
        }
        if children.len() < core.cap || open.iter().all(|&value| value == OTHER) {
            return core.insert(&mut children, key);
        }
        core.dropped.inc();
        let key: Vec<Box<str>> = open.iter().map(|_| OTHER).chain(closed.iter().copied()).map(Into::into).collect();
        match children.get(&key) {
            Some(child) => child.clone(),
            None => core.insert(&mut children, key),
        }
    }
}

impl<M: Series> Family<M> {
    /// Forgets the series whose label values, those of the open labels first, are not to stay.
    pub(super) fn retain(&self, stays: impl Fn(&[Box<str>]) -> bool) {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|values, _| stays(values));
    }

    /// Every series that there is.
    pub(super) fn children(&self) -> Vec<M> {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl<M: Series> Core<M> {
    fn insert(&self, children: &mut BTreeMap<Vec<Box<str>>, M>, key: Vec<Box<str>>) -> M {
        let names = self.declaration.open.iter().chain(self.declaration.closed);
        let labels = names.zip(&key).map(|(&name, value)| (name.to_owned(), value.to_string())).collect();
        // Names and buckets are constants of this program, which `every_family_can_be_made` makes; values are free.
        let child = M::make(&self.declaration, labels).expect("a declared family is well formed");
        children.insert(key, child.clone());
        child
    }
}

impl<M: Series> Collector for Family<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let children = self.children();
        let mut whole = MetricFamily::default();
        let mut metrics = Vec::with_capacity(children.len());
        for child in children {
            for mut family in child.collect() {
                metrics.append(&mut family.take_metric());
                whole = family;
            }
        }
        whole.set_metric(metrics);
        vec![whole]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(cap: usize) -> (Family<IntCounter>, IntCounter) {
        let dropped = IntCounter::new("dropped_total", "Dropped.").unwrap();
        let declaration = Declaration {
            name: "tokens_total",
            help: "Tokens.",
            open: &["channel", "model"],
            closed: &["type"],
            buckets: &[],
        };
        (Family::new(declaration, cap, dropped.clone()).unwrap(), dropped)
    }

    #[test]
    fn values_that_read_the_same_run_together_are_different_series() {
        let (family, _) = family(10);
        family.child(&["mini", "ai-1"], &["input"]).inc_by(3);
        assert_eq!(family.child(&["miniai", "-1"], &["input"]).get(), 0);
        assert_eq!(family.child(&["mini", "ai-1"], &["input"]).get(), 3);
    }

    #[test]
    fn beyond_the_cap_names_become_other_and_closed_values_stay() {
        let (family, dropped) = family(2);
        family.child(&["a", "m"], &["input"]).inc();
        family.child(&["a", "m"], &["output"]).inc();
        family.child(&["b", "m"], &["input"]).inc_by(5);
        family.child(&["c", "m"], &["input"]).inc_by(7);
        family.child(&["c", "m"], &["output"]).inc_by(2);
        assert_eq!(family.child(&[OTHER, OTHER], &["input"]).get(), 12);
        assert_eq!(family.child(&[OTHER, OTHER], &["output"]).get(), 2);
        assert_eq!(family.child(&["a", "m"], &["input"]).get(), 1);
        assert_eq!(dropped.get(), 3);
        assert_eq!(family.collect()[0].get_metric().len(), 4);
    }
}
