//! The history's thread: takes records, has them written, and does the upkeep when nothing comes.
//!
//! Owns the order of these. Refuses to know how each is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::audit::queue::{Next, Taker};

use super::Clock;
use super::keeper::Keeper;
use super::writer::Writer;

/// Between two steps of the upkeep: in one go it would keep a core that others want.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two steps while records come without a pause.
const STEP_AT_LEAST_EVERY: Duration = Duration::from_millis(20);
/// What may be done at the end.
pub(super) const FINISH: Duration = Duration::from_secs(2);

/// What the thread is to do.
#[derive(Debug, Default)]
pub(super) struct Orders(AtomicU8);

// 0: go on.
/// Leave the index to another process, and go on.
const STAND_ASIDE: u8 = 1;
/// Take what waits, write it and end.
const END: u8 = 2;
/// End as after kill -9.
#[cfg(test)]
const DIE: u8 = 3;

impl Orders {
    pub(super) fn stand_aside(&self) {
        self.0.fetch_max(STAND_ASIDE, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        self.0.fetch_max(END, Ordering::AcqRel);
    }

    #[cfg(test)]
    pub(super) fn die(&self) {
        self.0.store(DIE, Ordering::Release);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }
}

/// What the thread works with.
pub(super) struct Work {
    pub(super) taker: Taker,
    pub(super) writer: Writer,
    pub(super) keeper: Keeper,
    pub(super) orders: Arc<Orders>,
    pub(super) now_ms: Clock,
    /// Between two looks at what is asked of the thread, when nothing comes.
    pub(super) tick: Duration,
}

impl Work {
    /// Until it is told to end, or nothing can come any more.
    pub(super) fn run(mut self) {
        let mut stepped = Instant::now();
        let mut has_more = true;
        let mut is_aside = false;
        loop {
            let order = self.orders.get();
            #[cfg(test)]
            if order == DIE {
                return;
            }
            if order >= STAND_ASIDE && !is_aside {
                is_aside = true;
                if order == STAND_ASIDE {
                    self.keeper.stand_aside();
                }
            }
            let wait = if has_more { PAUSE } else { self.tick };
            let now = Instant::now();
            let until = self.writer.due().map_or(now + wait, |due| due.min(now + wait));
            let next = self.taker.next(if order == END { now } else { until });
            let now = Instant::now();
            match next {
                Next::Batch(batch) => {
                    self.writer.take(batch, now, (self.now_ms)());
                    self.writer.tend(Some(now));
                    if now.duration_since(stepped) < STEP_AT_LEAST_EVERY {
                        continue;
                    }
                }
                Next::Nothing if order != END => self.writer.tend(Some(now)),
                Next::Nothing | Next::Closed => break,
            }
            has_more = self.keeper.step(now, (self.now_ms)());
            stepped = Instant::now();
        }
        self.writer.tend(None);
        self.keeper.finish(Instant::now() + FINISH);
    }
}
