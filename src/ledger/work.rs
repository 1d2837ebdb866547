//! The work of a ledger's fold thread: it brings the totals up to the journal, hands them to the keeper, and
//! takes the lead when it is free.
//!
//! Owns what the threads of a ledger share, and the order of its locks. Refuses to know who appends and who asks.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use weir_filters::price::NanoUsd;

use super::alive::Alive;
use super::fold::Folder;
use super::journal::Journal;
use super::keeper::{Keeper, Report};
use super::{LedgerError, LedgerOptions, lock, now_ms};

/// Between two reads of the journal, while the fold is in time: in one go it would keep a worker of the
/// same core waiting for as long as it takes.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two looks for what other processes wrote, and between two prunings.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A question waits this long at most for the fold to reach the journal's end.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// What a ledger and its threads share.
pub(super) struct Inner {
    pub(super) alive: Alive,
    pub(super) options: LedgerOptions,
    pub(super) journal: Journal,
    pub(super) folder: Mutex<Folder>,
    /// Locked before `folder`, never after it.
    pub(super) keeper: Mutex<Keeper>,
    /// How the keeper was when it last was done: it is busy with the disk for long.
    pub(super) report: Mutex<Report>,
    pub(super) stopped: AtomicBool,
    /// Another process serves: this one does not become the writer of totals any more.
    pub(super) is_aside: AtomicBool,
    /// How many wait for the totals.
    pub(super) asking: AtomicUsize,
}

impl Inner {
    pub(super) fn run_fold(&self, every: Duration) {
        let mut folded = self.journal.written();
        let mut looked = Instant::now();
        while !self.stopped.load(Ordering::Acquire) {
            std::thread::park_timeout(every);
            if self.stopped.load(Ordering::Acquire) {
                // Whoever stops it folds the rest.
                return;
            }
            let written = self.journal.written();
            if written == folded && looked.elapsed() < LOOK_EVERY && lock(&self.report).leads {
                continue;
            }
            (folded, looked) = (written, Instant::now());
            self.tick(false, every);
        }
    }

    /// Folds all there is, with pauses for so long at most, and writes what changed.
    pub(super) fn tick(&self, force_snapshot: bool, pauses: Duration) {
        let mut keeper = lock(&self.keeper);
        self.take_over(&mut keeper);
        self.catch_up(None, pauses);
        if keeper.leads() {
            self.settle_for_the_dead();
        }
        let mut folder = lock(&self.folder);
        let o = &self.options;
        folder.view.prune(now_ms(), o.keep_minutes, o.keep_hours);
        if !keeper.leads() {
            folder.view.take_changes();
            *lock(&self.report) = keeper.report();
            return;
        }
        if let Err(e) = folder.raise_floors() {
            log::error!("ledger: the journal cannot be listed: {e}");
        }
        let writing = keeper.gather(&mut folder.view, force_snapshot);
        // Questions are answered while the disk is busy.
        drop(folder);
        keeper.write(writing);
        *lock(&self.report) = keeper.report();
    }

    /// Settles what processes that are gone have left under way. Only the one that leads does, so that it is done
    /// once.
    pub(super) fn settle_for_the_dead(&self) {
        let mut dead = lock(&self.folder).view.under_way.instances();
        dead.retain(|instance| *instance != self.alive.instance && !self.alive.is_alive(*instance));
        if dead.is_empty() {
            return;
        }
        // One that ended a moment ago may have settled since: what it wrote is read before it is judged.
        self.catch_up(None, Duration::ZERO);
        let (left, unreadable) = lock(&self.folder).view.take_left(&dead);
        self.alive.forget(&dead);
        if unreadable > 0 {
            log::error!(
                "ledger: {unreadable} requests were under way when the last process ended, and what was reserved for \
                 them cannot be read, mostly because a later release wrote it: they are not counted"
            );
        }
        if left.is_empty() {
            return;
        }
        let cost = left.iter().fold(0_u64, |sum, s| sum.saturating_add(s.cost.0));
        log::warn!(
            "ledger: {} requests were under way when the last process ended; they count as what was reserved for \
             them, {} USD",
            left.len(),
            NanoUsd(cost)
        );
        for settlement in &left {
            self.journal.append(settlement);
        }
        self.catch_up(None, Duration::ZERO);
    }

    /// Which of `ids` were never imported, by all that is in the journal at the call.
    pub(super) fn not_imported(&self, ids: impl Iterator<Item = u128>) -> Vec<bool> {
        self.catch_up(None, Duration::ZERO);
        let folder = lock(&self.folder);
        ids.map(|id| !folder.view.is_imported(id)).collect()
    }

    /// Becomes the writer of totals if nobody else is; otherwise keeps up with the one who is.
    fn take_over(&self, keeper: &mut Keeper) {
        if keeper.leads() {
            return;
        }
        let led = if self.is_aside.load(Ordering::Acquire) { Ok(None) } else { keeper.lead() };
        let found = match led {
            Ok(Some(view)) => Ok(Some(view)),
            Ok(None) => keeper.follow().map_err(LedgerError::from),
            Err(e) => Err(e),
        };
        match found {
            Ok(Some(view)) => {
                *lock(&self.folder) = Folder::new(view, &self.options.directory.join("journal"));
            }
            Ok(None) => {}
            Err(e) => log::error!("ledger: cannot take over: {e}"),
        }
    }

    /// Folds what there is at the call, or as much of it as can be until `deadline`. The totals are
    /// free for others between two segments. For `pauses` the core is, too, between two reads.
    fn catch_up(&self, deadline: Option<Instant>, pauses: Duration) {
        let begun = Instant::now();
        let written = self.journal.written();
        let heads = self.journal.heads();
        // Whoever asks for figures waits for the totals.
        let _asks = (deadline.is_some()).then(|| Asks::new(&self.asking));
        let mut pause = || {
            let alone = self.asking.load(Ordering::Acquire) == 0 && !self.stopped.load(Ordering::Acquire);
            if alone && begun.elapsed() < pauses {
                std::thread::sleep(PAUSE);
            }
        };
        let mut fold = || -> io::Result<()> {
            let mut plan = lock(&self.folder).plan(&heads)?;
            loop {
                let mut folder = lock(&self.folder);
                if folder.step(&mut plan, &mut pause)? {
                    folder.own_records = written;
                    return Ok(());
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(());
                }
            }
        };
        if let Err(e) = fold() {
            log::error!("ledger: the journal cannot be read: {e}");
        }
    }

    /// The totals with all that was there at the call, or as much as can be folded in time.
    pub(super) fn caught_up(&self) -> MutexGuard<'_, Folder> {
        self.catch_up(Some(Instant::now() + MAX_CATCH_UP), Duration::ZERO);
        lock(&self.folder)
    }
}

/// Somebody who waits for the totals.
struct Asks<'a>(&'a AtomicUsize);

impl<'a> Asks<'a> {
    fn new(asking: &'a AtomicUsize) -> Self {
        asking.fetch_add(1, Ordering::AcqRel);
        Self(asking)
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
