//! The thread that takes what the others have left and hands it to all sinks.
//!
//! Owns when that is done, and the buffers that go round. Refuses to know what a sink does.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::ledger::stand_back;

use super::batch::Batch;
use super::shards::Left;
use super::{Inner, bodies};

/// Between two rounds: what a person who follows does not notice, and a kill can cost the sinks.
const EVERY: Duration = Duration::from_millis(50);
/// Losses are told of no more often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Buffers that are kept for the next round. Fresh memory costs more than what is written into it.
const MAX_SPARE: usize = 16;
/// A larger one is not kept: it was needed for large bodies.
const MAX_SPARE_BYTES: usize = 1 << 20;

pub(super) struct Collector {
    inner: Arc<Inner>,
    /// Handed to sinks, which may still read them.
    lent: VecDeque<Arc<Batch>>,
    /// Records that were lost and not told of yet.
    unsaid: u64,
    said: Option<Instant>,
}

impl Collector {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, lent: VecDeque::new(), unsaid: 0, said: None }
    }

    /// Collects until it is stopped, and once more.
    pub(super) fn run(mut self) {
        stand_back();
        loop {
            let is_last = self.inner.stopped.load(Ordering::Acquire);
            // What it had in hand is lost; what comes later is not.
            if catch_unwind(AssertUnwindSafe(|| self.round())).is_err() {
                log::error!("audit: records could not be handed on, and the next ones are");
                self.lent.clear();
            }
            self.tell_of_losses(is_last);
            if is_last {
                return;
            }
            std::thread::park_timeout(EVERY);
        }
    }

    fn round(&mut self) {
        let Self { inner, lent, unsaid, .. } = self;
        let taken = inner.shards.collect(|| spare(lent));
        let sinks = inner.sinks();
        inner.live.tidy(Instant::now());
        for left in taken {
            let batch = Arc::new(bodies::put_into(left));
            sinks.give(&batch);
            inner.live.publish_records(&batch, Instant::now());
            if batch.size() <= MAX_SPARE_BYTES {
                lent.push_back(batch);
            }
        }
        while lent.len() > MAX_SPARE {
            lent.pop_front();
        }
        let dropped = inner.shards.take_dropped();
        if dropped > 0 {
            sinks.lose(dropped);
            inner.live.publish_loss(Instant::now());
            *unsaid += dropped;
        }
    }

    fn tell_of_losses(&mut self, is_last: bool) {
        if self.unsaid == 0 || (!is_last && self.said.is_some_and(|said| said.elapsed() < SAY_EVERY)) {
            return;
        }
        self.said = Some(Instant::now());
        let lost = std::mem::take(&mut self.unsaid);
        log::warn!("audit: {lost} records were lost: the gateway's threads left more than could be collected");
    }
}

/// A buffer that nobody reads any more, or a new one.
fn spare(lent: &mut VecDeque<Arc<Batch>>) -> Left {
    // The one that was used last is nearest to the core.
    let free = lent.iter().rposition(|batch| Arc::strong_count(batch) == 1);
    let Some(batch) = free.and_then(|at| lent.remove(at)).and_then(Arc::into_inner) else { return Left::with_room() };
    let mut left = Left { batch, ..Left::default() };
    left.clear();
    left
}

#[cfg(test)]
mod tests {
    use super::super::batch::batch_of;
    use super::*;

    #[test]
    fn a_buffer_goes_round_once_nobody_reads_it() {
        let batch = Arc::new(batch_of([("{\"a\":1}", 1)]));
        let place = batch.lines.as_ptr();
        let mut lent = VecDeque::from([batch.clone()]);
        assert_ne!(spare(&mut lent).batch.lines.as_ptr(), place, "a sink has it");
        drop(batch);
        let left = spare(&mut lent);
        assert_eq!((left.batch.lines.as_ptr(), left.batch.len(), left.batch.lines.len()), (place, 0, 0));
        assert!(lent.is_empty());
    }
}
