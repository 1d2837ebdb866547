//! The queue before each sink: bounded in bytes, never waited for, and its losses are counted.
//!
//! Owns what waits for one sink and the figures of that sink. Refuses to know what the sink does with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Batch;

/// What may wait for one sink: some twenty thousand records, or a minute of three hundred a second. A sink that is
/// behind by more has its own place for it (the spool of Loki), or has lost.
const MAX_BYTES: usize = 32 << 20;

/// What became of the records that a sink was given. All figures only grow, but for those that wait.
///
/// At any time: records that were given to it = waiting + in hand + delivered + failed + dropped.
#[derive(Debug, Default)]
pub(crate) struct SinkStats {
    /// Written, or taken by the other side.
    pub(crate) delivered: AtomicU64,
    /// Refused by the other side for what they are; they are not sent again.
    pub(crate) failed: AtomicU64,
    /// Lost because there was no room for them: in the queue, the spool or on the disk.
    pub(crate) dropped: AtomicU64,
    /// In the queue, or in the sink's hands.
    pub(crate) waiting: AtomicU64,
}

impl SinkStats {
    /// `records` have been delivered.
    pub(crate) fn deliver(&self, records: u64) {
        self.leave(&self.delivered, records);
    }

    /// `records` were refused by the other side.
    pub(crate) fn fail(&self, records: u64) {
        self.leave(&self.failed, records);
    }

    /// `records` are lost for want of room.
    pub(crate) fn drop_records(&self, records: u64) {
        self.leave(&self.dropped, records);
    }

    /// `records` wait that were not given through the queue, such as those of an earlier process's spool.
    pub(crate) fn find(&self, records: u64) {
        self.waiting.fetch_add(records, Ordering::Relaxed);
    }

    /// `records` are left where another sink, of this process or the next, will find them.
    pub(crate) fn leave_behind(&self, records: u64) {
        self.waiting.fetch_sub(records, Ordering::Relaxed);
    }

    fn leave(&self, to: &AtomicU64, records: u64) {
        to.fetch_add(records, Ordering::Relaxed);
        self.waiting.fetch_sub(records, Ordering::Relaxed);
    }
}

/// What a sink finds when it looks.
#[derive(Debug)]
pub(crate) enum Next {
    /// Records.
    Batch(Arc<Batch>),
    /// Nothing came in time.
    Nothing,
    /// Nothing is left and nothing will come: the sink ends.
    Closed,
}

/// The side that gives.
#[derive(Debug)]
pub(crate) struct Giver(Arc<Shared>);

/// The side that takes: the sink's.
#[derive(Debug)]
pub(crate) struct Taker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
    stats: Arc<SinkStats>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// The giver is gone.
    is_closed: bool,
    /// The taker is gone.
    is_abandoned: bool,
}

/// A queue and the figures of its sink.
#[cfg(test)]
pub(crate) fn queue() -> (Giver, Taker) {
    queue_of(MAX_BYTES, Arc::default())
}

/// A queue whose sink goes on counting in `stats`.
pub(crate) fn queue_into(stats: Arc<SinkStats>) -> (Giver, Taker) {
    queue_of(MAX_BYTES, stats)
}

pub(crate) fn queue_of(max_bytes: usize, stats: Arc<SinkStats>) -> (Giver, Taker) {
    let shared = Arc::new(Shared { state: Mutex::default(), more: Condvar::new(), stats, max_bytes });
    (Giver(shared.clone()), Taker(shared))
}

impl Giver {
    /// Gives `batch`, or counts it as dropped if there is no room. One batch always has room.
    pub(crate) fn give(&self, batch: &Arc<Batch>) {
        let records = batch.len() as u64;
        let shared = &*self.0;
        shared.stats.find(records);
        let mut state = shared.lock();
        let has_room = state.batches.is_empty() || state.bytes + batch.size() <= shared.max_bytes;
        if !has_room || state.is_abandoned {
            drop(state);
            shared.stats.drop_records(records);
            return;
        }
        state.bytes += batch.size();
        state.batches.push_back(batch.clone());
        drop(state);
        shared.more.notify_one();
    }

    /// The figures of the sink.
    pub(crate) fn stats(&self) -> &Arc<SinkStats> {
        &self.0.stats
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.more.notify_one();
    }
}

impl Taker {
    /// The next batch, waited for until `deadline` at most.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        let mut state = self.0.lock();
        loop {
            if let Some(batch) = state.batches.pop_front() {
                state.bytes -= batch.size();
                return Next::Batch(batch);
            }
            if state.is_closed {
                return Next::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = self.0.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same, waited for as long as `wait`.
    pub(crate) fn next_within(&self, wait: Duration) -> Next {
        self.next(Instant::now() + wait)
    }

    /// Whether nothing will come any more: what a sink still holds is to be done with soon.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// The figures of the sink.
    pub(crate) fn stats(&self) -> &Arc<SinkStats> {
        &self.0.stats
    }
}

impl Drop for Taker {
    /// What nobody takes any more is lost, and counted.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_abandoned = true;
        let left: u64 = state.batches.drain(..).map(|batch| batch.len() as u64).sum();
        state.bytes = 0;
        drop(state);
        self.0.stats.drop_records(left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::batch_of;
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    fn figures(stats: &SinkStats) -> [u64; 4] {
        [&stats.delivered, &stats.failed, &stats.dropped, &stats.waiting].map(|n| n.load(Ordering::Relaxed))
    }

    #[test]
    fn batches_come_in_their_order_and_then_the_end() {
        let (giver, taker) = queue();
        for id in [1, 2] {
            giver.give(&Arc::new(batch_of([("{}", id)])));
        }
        drop(giver);
        for id in [1, 2] {
            assert!(matches!(taker.next_within(SOON), Next::Batch(b) if b.entries[0].id == id));
        }
        assert!(taker.is_closed());
        assert!(matches!(taker.next_within(SOON), Next::Closed));
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted_and_one_batch_always_has_room() {
        let (giver, taker) = queue_of(1, Arc::default());
        let batch = Arc::new(batch_of([("{}", 1), ("{}", 2)]));
        giver.give(&batch);
        giver.give(&batch);
        assert_eq!(figures(taker.stats()), [0, 0, 2, 2]);
        assert!(matches!(taker.next_within(SOON), Next::Batch(_)));
        assert!(matches!(taker.next_within(SOON), Next::Nothing));
        taker.stats().deliver(2);
        giver.give(&batch);
        assert_eq!(figures(taker.stats()), [2, 0, 2, 2]);
    }

    #[test]
    fn a_sink_that_is_gone_loses_what_waits_and_what_comes() {
        let (giver, taker) = queue();
        giver.give(&Arc::new(batch_of([("{}", 1)])));
        drop(taker);
        giver.give(&Arc::new(batch_of([("{}", 2)])));
        assert_eq!(figures(giver.stats()), [0, 0, 2, 0]);
    }

    #[test]
    fn who_waits_is_woken() {
        let (giver, taker) = queue();
        let waits = std::thread::spawn(move || matches!(taker.next_within(Duration::from_secs(10)), Next::Batch(_)));
        std::thread::sleep(SOON);
        giver.give(&Arc::new(batch_of([("{}", 1)])));
        assert!(waits.join().unwrap());
    }
}
