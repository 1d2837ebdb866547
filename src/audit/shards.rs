//! Where the threads that serve leave their records: one place a thread, emptied by the collector.
//!
//! Owns what waits there, and its bound. A record is put under a lock that only the collector shares, some twenty times
//! a second for as long as it takes to swap two buffers. Refuses to know what a record says.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crate::ledger::thread_number;

use super::batch::{Batch, Entry};
use super::bodies::Kept;

/// What a thread may leave before the collector has come: a hundred times what it leaves between two of its rounds at
/// full load. A collector that is behind by more has a machine that does not run it.
const MAX_BYTES: usize = 8 << 20;
/// The same of bodies. All bodies of requests under way have 128 MiB.
const MAX_BODY_BYTES: usize = 32 << 20;
/// What wakes the collector before its time: a batch of this size is worth a write of its own, and still lies in the
/// nearer caches.
const WAKE_BYTES: usize = 256 << 10;

/// What a buffer has room for from the beginning: what comes until the collector is awake, too.
const ROOM: usize = WAKE_BYTES + WAKE_BYTES / 2;
/// What a record comes to, without bodies.
const USUAL: usize = 1 << 10;

/// The places of all threads.
pub(crate) struct Shards {
    cells: Vec<ShardCell>,
    collector: OnceLock<Thread>,
    woken: AtomicBool,
    dropped: AtomicU64,
}

/// Each on cache lines of its own: two threads that end requests must not slow each other down.
#[repr(align(128))]
struct ShardCell(Mutex<Left>);

/// What a thread has left.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) batch: Batch,
    /// Bodies that belong into its records, in their order.
    pub(crate) bodies: Vec<Kept>,
    /// Bytes of those.
    pub(crate) body_bytes: usize,
}

impl Left {
    /// With room for what is left until the collector is woken. Memory that is not written costs nothing, and the
    /// threads that serve need not ask for more.
    pub(crate) fn with_room() -> Self {
        let mut left = Self::default();
        left.batch.lines.reserve(ROOM);
        left.batch.entries.reserve(ROOM / USUAL);
        left
    }

    fn size(&self) -> usize {
        self.batch.size() + self.body_bytes
    }

    /// Keeps the bodies of the record that was put last, if there is room: without them it has none.
    pub(crate) fn keep(&mut self, kept: Kept) {
        if self.body_bytes >= MAX_BODY_BYTES {
            return;
        }
        self.body_bytes += kept.capture.size();
        self.bodies.push(kept);
    }

    /// Ready to be used again; its memory stays.
    pub(crate) fn clear(&mut self) {
        self.batch.lines.clear();
        self.batch.entries.clear();
        self.batch.access.clear();
        self.bodies.clear();
        self.body_bytes = 0;
    }
}

impl Shards {
    /// For so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            cells: (0..threads.max(1)).map(|_| ShardCell(Mutex::new(Left::with_room()))).collect(),
            collector: OnceLock::new(),
            woken: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    /// Says whom to wake.
    pub(crate) fn collected_by(&self, thread: Thread) {
        let _ = self.collector.set(thread);
    }

    /// Lets `put` leave one record. Without room it is dropped, and counted.
    pub(crate) fn leave(&self, put: impl FnOnce(&mut Left) -> Entry) {
        let cell = &self.cells[thread_number() % self.cells.len()];
        let mut left = lock(cell);
        if left.batch.size() >= MAX_BYTES {
            drop(left);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = left.size();
        let entry = put(&mut left);
        left.batch.entries.push(entry);
        let is_full = before < WAKE_BYTES && left.size() >= WAKE_BYTES;
        drop(left);
        if is_full && !self.woken.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Wakes the collector.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.collector.get() {
            thread.unpark();
        }
    }

    /// Takes what each thread has left; `empty` gives what takes its place.
    pub(crate) fn collect(&self, mut empty: impl FnMut() -> Left) -> Vec<Left> {
        self.woken.store(false, Ordering::Release);
        let filled = self.cells.iter().filter(|cell| !lock(cell).batch.is_empty());
        // Made before the lock is taken: who leaves a record does not wait for memory.
        filled.map(|cell| (empty(), cell)).map(|(fresh, cell)| std::mem::replace(&mut *lock(cell), fresh)).collect()
    }

    /// Records that had no room since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// A panic while a record is put leaves a line without its end, which the next record would run into: what there is goes.
fn lock(cell: &ShardCell) -> MutexGuard<'_, Left> {
    cell.0.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
        cell.0.clear_poison();
        let mut left = poisoned.into_inner();
        let end = left.batch.entries.last().map_or(0, |entry: &Entry| entry.end);
        left.batch.lines.truncate(end);
        left
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(line: &'static str) -> impl FnOnce(&mut Left) -> Entry {
        move |left| {
            left.batch.lines.extend_from_slice(line.as_bytes());
            Entry { end: left.batch.lines.len(), ..entry() }
        }
    }

    fn entry() -> Entry {
        Entry { end: 0, id: 1, time_ms: 2, status: 200, key: 0, user: 0, model: 0, channel: 0 }
    }

    fn collected(shards: &Shards) -> Vec<(String, usize)> {
        let text = |left: Left| (String::from_utf8(left.batch.lines).unwrap(), left.batch.entries.len());
        shards.collect(Left::default).into_iter().map(text).collect()
    }

    #[test]
    fn what_is_left_is_taken_once_and_in_its_order() {
        let shards = Shards::new(1);
        shards.leave(put("a\n"));
        shards.leave(put("b\n"));
        assert_eq!(collected(&shards), [("a\nb\n".to_owned(), 2)]);
        assert_eq!(collected(&shards), []);
    }

    #[test]
    fn a_panic_while_a_record_is_put_costs_only_that_record() {
        let shards = Shards::new(1);
        shards.leave(put("a\n"));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            shards.leave(|left| {
                left.batch.lines.extend_from_slice(b"half");
                panic!("on purpose")
            });
        }));
        assert!(broken.is_err());
        shards.leave(put("b\n"));
        assert_eq!(collected(&shards), [("a\nb\n".to_owned(), 2)]);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let shards = Shards::new(1);
        shards.leave(|left| {
            left.batch.lines.resize(MAX_BYTES, b'x');
            Entry { end: MAX_BYTES, ..entry() }
        });
        shards.leave(put("a\n"));
        assert_eq!((shards.take_dropped(), shards.take_dropped()), (1, 0));
        assert_eq!(collected(&shards).len(), 1);
        shards.leave(put("a\n"));
        assert_eq!(collected(&shards), [("a\n".to_owned(), 1)]);
    }
}
