//! What is seen only by looking again: rates, times of the last minutes, and since when something stands still.
//!
//! Owns a thread that looks once a second, at counters that are there anyway. It takes no lock that a request waits for,
//! and stands back behind the threads that serve.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use weir_filters::attention::SinkCourse;

use crate::audit::SinkFigures;
use crate::ledger::stand_back;
use crate::metrics::Buckets;
use crate::proxy::Shared;

use super::conditions::Conditions;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Over so many looks the rate of requests is taken.
const RATE_LOOKS: usize = 11;
/// Every so many looks the times to the first token are kept, and the ledger is asked how it is.
const SELDOM: u64 = 10;
/// So many of those are kept: five minutes.
const TIME_LOOKS: usize = 31;

/// The thread, and what it has seen. It ends when this is dropped.
pub(super) struct Pulse {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    seen: Mutex<Seen>,
    stopped: AtomicBool,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    requests: VecDeque<(Instant, u64)>,
    first_tokens: VecDeque<Buckets>,
    sinks: BTreeMap<&'static str, Sink>,
    /// Records that the ledger lost, and when the last of them was.
    lost: (u64, Option<Instant>),
}

#[derive(Debug)]
struct Sink {
    figures: SinkFigures,
    dropped_at: Option<Instant>,
    failed_at: Option<Instant>,
    /// When a record last left it, or none waited.
    moved_at: Instant,
}

impl Pulse {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let inner = Arc::new(Inner { seen: Mutex::default(), stopped: AtomicBool::new(false) });
        inner.look(&shared, 0);
        let looking = inner.clone();
        let run = move || {
            stand_back();
            let (mut looks, mut conditions) = (0, Conditions::default());
            while !looking.stopped.load(Ordering::Acquire) {
                std::thread::park_timeout(EVERY);
                looks += 1;
                looking.look(&shared, looks);
                conditions.look(&shared, Instant::now());
            }
        };
        // Without it there are no rates, and all else is told.
        let thread = Builder::new().name("weir-pulse".into()).spawn(run);
        let thread = thread.inspect_err(|e| log::error!("the overview will show no rates: {e}")).ok();
        Self { inner, thread }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.inner.seen()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::error!("the overview's thread had panicked");
            }
        }
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, shared: &Shared, looks: u64) {
        let requests = shared.metrics.requests_ended();
        let sinks = shared.audit.figures();
        let seldom = looks.is_multiple_of(SELDOM);
        let first_tokens = seldom.then(|| shared.metrics.first_tokens());
        let lost = seldom.then(|| shared.ledger.status().dropped);
        let mut seen = self.seen();
        let now = Instant::now();
        seen.requests(now, requests);
        seen.sinks(now, &sinks);
        if let Some(first_tokens) = first_tokens {
            seen.first_tokens(first_tokens);
        }
        if let Some(lost) = lost {
            seen.lost(now, lost);
        }
    }
}

impl Seen {
    fn requests(&mut self, now: Instant, requests: u64) {
        self.requests.push_back((now, requests));
        while self.requests.len() > RATE_LOOKS {
            self.requests.pop_front();
        }
    }

    fn first_tokens(&mut self, buckets: Buckets) {
        self.first_tokens.push_back(buckets);
        while self.first_tokens.len() > TIME_LOOKS {
            self.first_tokens.pop_front();
        }
    }

    fn lost(&mut self, now: Instant, lost: u64) {
        if lost > self.lost.0 {
            self.lost = (lost, Some(now));
        }
    }

    fn sinks(&mut self, now: Instant, sinks: &[SinkFigures]) {
        self.sinks.retain(|name, _| sinks.iter().any(|sink| sink.sink == *name));
        for figures in sinks {
            let nothing =
                SinkFigures { sink: figures.sink, delivered: figures.delivered, failed: 0, dropped: 0, waiting: 0 };
            let known = self.sinks.entry(figures.sink).or_insert_with(|| Sink {
                figures: nothing,
                dropped_at: None,
                failed_at: None,
                moved_at: now,
            });
            let before = std::mem::replace(&mut known.figures, figures.clone());
            if figures.dropped > before.dropped {
                known.dropped_at = Some(now);
            }
            if figures.failed > before.failed {
                known.failed_at = Some(now);
            }
            if figures.delivered != before.delivered || figures.waiting == 0 {
                known.moved_at = now;
            }
        }
    }

    /// Requests that end in a second, of the last ten.
    pub(super) fn rate(&self) -> f64 {
        let (Some((begun, before)), Some((ended, after))) = (self.requests.front(), self.requests.back()) else {
            return 0.0;
        };
        let seconds = ended.saturating_duration_since(*begun).as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    /// The times to the first token that were counted in the last five minutes and up to `now`.
    pub(super) fn recent_first_tokens(&self, now: &Buckets) -> Buckets {
        self.first_tokens.front().map_or_else(|| now.clone(), |before| now.since(before))
    }

    /// How each sink has fared, and the ledger if it has lost anything.
    pub(super) fn courses(&self, now: Instant) -> Vec<(&'static str, SinkCourse)> {
        let ago = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let of_sinks = self.sinks.iter().map(|(name, sink)| {
            let course = SinkCourse {
                dropped: sink.figures.dropped,
                dropped_ago: ago(sink.dropped_at),
                failed: sink.figures.failed,
                failed_ago: ago(sink.failed_at),
                waiting: sink.figures.waiting,
                stuck_for: (sink.figures.waiting > 0).then(|| now.saturating_duration_since(sink.moved_at)),
            };
            (*name, course)
        });
        let of_ledger = SinkCourse { dropped: self.lost.0, dropped_ago: ago(self.lost.1), ..SinkCourse::default() };
        of_sinks.chain([("ledger", of_ledger)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(seen.rate().abs() < f64::EPSILON);
        seen.requests(start, 1_000_000);
        assert!(seen.rate().abs() < f64::EPSILON, "what was before is no rate");
        (1..=20).for_each(|n| seen.requests(start + second(n), 1_000_000 + n * 7));
        assert!((seen.rate() - 7.0).abs() < 1e-9);
        (21..=31).for_each(|n| seen.requests(start + second(n), 1_000_140));
        assert!(seen.rate().abs() < f64::EPSILON, "nothing comes any more");
    }

    #[test]
    fn times_are_those_of_the_last_five_minutes() {
        let mut seen = Seen::default();
        let counted = |n: u64| Buckets { counts: vec![n, 2 * n] };
        (0..100).for_each(|n| seen.first_tokens(counted(n)));
        assert_eq!(seen.recent_first_tokens(&counted(100)), counted(31));
    }

    #[test]
    fn a_sink_stands_still_while_records_wait_and_none_leaves() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let sink =
            |delivered, failed, dropped, waiting| SinkFigures { sink: "loki", delivered, failed, dropped, waiting };
        let course = |seen: &Seen, n| seen.courses(start + second(n))[0].1;
        seen.sinks(start, &[sink(5, 0, 0, 0)]);
        seen.sinks(start + second(1), &[sink(5, 0, 0, 9)]);
        assert_eq!(course(&seen, 31).stuck_for, Some(second(31)), "since it last stood empty");
        seen.sinks(start + second(40), &[sink(6, 0, 0, 8)]);
        assert_eq!(course(&seen, 41).stuck_for, Some(second(1)));
        seen.sinks(start + second(50), &[sink(7, 1, 4, 0)]);
        let after = course(&seen, 55);
        assert_eq!((after.failed_ago, after.dropped_ago, after.stuck_for), (Some(second(5)), Some(second(5)), None));
        seen.sinks(start + second(60), &[]);
        assert_eq!(seen.courses(start)[0].0, "ledger", "a sink that is gone is not told of");
    }

    #[test]
    fn what_a_sink_lost_before_it_was_first_seen_is_news() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        seen.sinks(start, &[SinkFigures { sink: "jsonl", delivered: 0, failed: 0, dropped: 3, waiting: 0 }]);
        seen.lost(start, 0);
        assert_eq!(seen.courses(start)[0].1.dropped_ago, Some(Duration::ZERO));
        assert_eq!(seen.courses(start)[1].1.dropped_ago, None);
        seen.lost(start, 2);
        assert_eq!(seen.courses(start + second(9))[1].1.dropped_ago, Some(second(9)));
    }
}
