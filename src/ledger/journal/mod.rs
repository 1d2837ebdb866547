//! Owns the append-only journal: the truth of the ledger. A record is in the page cache, and so
//! survives kill -9, when `append` returns. Refuses to know what the records add up to.
//!
//! There is one shard per worker thread, so its mutex is practically never contended. A shard is a
//! directory of bounded segments. A process only ever writes segments that it made itself: a torn
//! tail stays as it is, and the two processes of an upgrade do not meet.

pub(crate) mod files;
pub(crate) mod segment;
pub(crate) mod shard;
mod sync;
pub(crate) mod window;

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::Thread;

use tokio::sync::Notify;

use super::record::Settlement;
use super::{codec, imported, reserved};
use files::{Disk, SegmentId};
use shard::{Appended, Otherwise, Place, Shard};

/// Size of a segment: small enough that space comes back soon after the fold, large enough that one
/// is made seldom (about a hundred thousand records each).
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;

/// Where a settlement stands in the journal of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    shard: u16,
    /// Counts the records of the shard from 1; 0 is a record that was dropped.
    ticket: u64,
}

/// How far a shard of this process is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) id: SegmentId,
    pub(crate) end: u64,
}

/// The journal as this process writes it.
pub(crate) struct Journal {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    shards: Vec<ShardCell>,
    /// Something was written since the last sync began.
    dirty: AtomicBool,
    /// The syncing thread sleeps until it is woken.
    idle: AtomicBool,
    /// Somebody waits for a sync.
    wanted: AtomicBool,
    stopped: AtomicBool,
    progress: Notify,
    syncer: OnceLock<Thread>,
    pub(crate) errors: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Reservations that were not made because they could not be written.
    pub(crate) refused: AtomicU64,
}

/// Each on cache lines of its own: two threads that append must not slow each other down.
#[repr(align(128))]
struct ShardCell {
    state: Mutex<Shard>,
    /// Tickets up to this one have been through a sync.
    synced: AtomicU64,
    /// A sync failed on tickets up to this one.
    failed: AtomicU64,
}

impl Journal {
    /// Opens for writing with `shards` shards. `next_seq` gives the lowest number that is free in a
    /// shard: higher than any segment that ever was, so that an offset never meets another segment.
    pub(crate) fn open(
        directory: &Path,
        shards: usize,
        segment_bytes: u64,
        disk: Arc<dyn Disk>,
        next_seq: impl Fn(u16) -> u64,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        files::remove_drafts(directory)?;
        let count = u16::try_from(shards.max(1)).unwrap_or(u16::MAX);
        let cell = |shard| ShardCell {
            state: Mutex::new(Shard::new(next_seq(shard))),
            synced: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        Ok(Self {
            directory: directory.to_owned(),
            disk,
            segment_bytes,
            shards: (0..count).map(cell).collect(),
            dirty: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            progress: Notify::new(),
            syncer: OnceLock::new(),
            errors: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Writes `s` before it returns. What the disk refuses is kept in memory and tried again.
    pub(crate) fn append<T: AsRef<str>>(&self, s: &Settlement<T>) -> Position {
        self.write(Otherwise::Keep, |frame| codec::encode(s, frame)).0
    }

    /// Writes `thought` as a reservation of `instance`. `false`: it is not written, and was forgotten.
    pub(crate) fn reserve<T: AsRef<str>>(&self, instance: u64, thought: &Settlement<T>, otherwise: Otherwise) -> bool {
        let encode = |frame: &mut Vec<u8>| {
            reserved::begin(instance, frame);
            codec::encode(thought, frame);
        };
        self.write(otherwise, encode).1
    }

    /// Writes `s` as an import. What the disk refuses is forgotten: whoever imports has it still.
    pub(crate) fn import<T: AsRef<str>>(&self, s: &Settlement<T>) -> io::Result<Position> {
        let index = self.shard_of_thread();
        let encode = |frame: &mut Vec<u8>| {
            imported::begin(frame);
            codec::encode(s, frame);
        };
        let (outcome, ticket) = {
            let mut shard = self.lock(index);
            let outcome = shard.append(&self.place(index), Otherwise::Forget, encode);
            (outcome, shard.tickets)
        };
        // After a refusal, too: then the syncing thread tries the disk again.
        self.mark_dirty();
        match outcome {
            Appended::Refused(error) => Err(error.unwrap_or_else(|| io::Error::other("the journal cannot be written"))),
            _ => Ok(Position { shard: index, ticket }),
        }
    }

    /// Where the record is, and whether it is not forgotten.
    fn write(&self, otherwise: Otherwise, encode: impl FnOnce(&mut Vec<u8>)) -> (Position, bool) {
        let index = self.shard_of_thread();
        let (outcome, ticket) = {
            let mut shard = self.lock(index);
            let outcome = shard.append(&self.place(index), otherwise, encode);
            (outcome, shard.tickets)
        };
        let position = Position { shard: index, ticket };
        match outcome {
            Appended::Written => {}
            Appended::Refused(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                if let Some(e) = error {
                    log::error!("ledger: the journal cannot be written, requests with a budget are refused: {e}");
                }
                // The syncing thread tries the disk again.
                self.mark_dirty();
                return (Position { ticket: 0, ..position }, false);
            }
            Appended::Kept(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if let Some(e) = error {
                    log::error!("ledger: the journal cannot be written, records are kept in memory: {e}");
                }
            }
            Appended::Dropped => {
                // One line per outage's start would hide the size of the loss; the counter has it.
                if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::error!("ledger: the journal cannot be written and the backlog is full, records are lost");
                }
                return (Position { ticket: 0, ..position }, false);
            }
        }
        self.mark_dirty();
        (position, true)
    }

    /// The open segments and how far their records are whole.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let head = |index: u16| {
            let shard = self.lock(index);
            let active = shard.active.as_ref()?;
            Some(Head { id: SegmentId { shard: index, seq: active.seq }, end: active.end })
        };
        self.indices().filter_map(head).collect()
    }

    /// Records that this process has written.
    pub(crate) fn written(&self) -> u64 {
        self.indices().map(|index| self.lock(index).written).sum()
    }

    /// Records that wait in memory for a disk that takes them.
    pub(crate) fn waiting(&self) -> u64 {
        self.indices().map(|index| self.lock(index).waiting()).sum()
    }

    /// Whether the disk refused what was written last, somewhere.
    fn is_down(&self) -> bool {
        self.indices().any(|index| self.lock(index).is_down())
    }

    fn indices(&self) -> Range<u16> {
        // There are at most u16::MAX: `open` sees to it.
        0..u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    fn shard_of_thread(&self) -> u16 {
        u16::try_from(thread_number() % self.shards.len()).unwrap_or(0)
    }

    fn lock(&self, index: u16) -> MutexGuard<'_, Shard> {
        // A panic under the lock would leave a shard whose next write overwrites an unfinished
        // record: that is what the state is for, so it is still good.
        self.shards[usize::from(index)].state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn place(&self, index: u16) -> Place<'_> {
        Place { journal: &self.directory, disk: &*self.disk, segment_bytes: self.segment_bytes, shard: index }
    }
}

/// A number for this thread, given out in order: the workers of a runtime get shards of their own.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}
