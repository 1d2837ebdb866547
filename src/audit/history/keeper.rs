//! The upkeep of the history: what is whole goes into the index, what only files have is read, what is old goes.
//!
//! Owns the index and the order of the work on it, in steps of a millisecond or a few: between two of them records are
//! taken. Refuses to know how segments are written and read.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{Row, StoreError};

use super::block::{self, Meta};
use super::index::{Found, Index};
use super::reading::Reading;
use super::segment;
use super::shelf::{Block, Shared};

/// Between two looks whether the index is free.
const OPEN_EVERY: Duration = Duration::from_millis(200);
/// The same, after its disk failed.
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// Rows of the index that are written or removed in one step.
const STEP_ROWS: usize = 64;
/// Whole segments that are held in memory while there is no index: two megabytes each. The oldest of more are
/// read again later.
const MAX_WHOLE: usize = 8;
/// What sled takes on the disk for a byte of a row, about.
const STORE_FACTOR: u64 = 2;
/// What an empty file takes on the disk, so that many small ones are counted.
const LEAST_BYTES: u64 = 4096;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) age: Duration,
    pub(super) bytes: u64,
    /// Between two looks for what is too old, and for segments of other processes.
    pub(super) look_every: Duration,
}

/// Who does the upkeep.
pub(super) struct Keeper {
    directory: PathBuf,
    shared: Arc<Shared>,
    keep: Keep,
    index: Option<Index>,
    open_at: Instant,
    look_at: Instant,
    /// Another process does the upkeep from now on.
    is_aside: bool,
    reading: Reading,
    /// What goes into the index now.
    storing: Option<Storing>,
    /// Segments whose rows are to be removed.
    doomed: VecDeque<u64>,
}

struct Storing {
    segment: u64,
    pairs: std::vec::IntoIter<block::Pair>,
    meta: Meta,
}

impl Keeper {
    pub(super) fn new(directory: PathBuf, shared: Arc<Shared>, keep: Keep, now: Instant) -> Self {
        Self {
            reading: Reading::new(directory.clone(), shared.clone()),
            directory,
            shared,
            keep,
            index: None,
            open_at: now,
            look_at: now,
            is_aside: false,
            storing: None,
            doomed: VecDeque::new(),
        }
    }

    /// Does a little of what there is to do. `true`: there is more.
    pub(super) fn step(&mut self, now: Instant, now_ms: u64) -> bool {
        let failure = self.shared.lock().failure.take();
        let result = match failure {
            Some(e) => Err(e),
            None => self.try_step(now, now_ms),
        };
        let more = result.unwrap_or_else(|e| {
            self.fail(e, now);
            false
        });
        if !more {
            self.report();
        }
        more
    }

    /// Goes on until everything is in the index, or until `deadline`; then closes the index.
    pub(super) fn finish(&mut self, deadline: Instant) {
        while self.index.is_some() && Instant::now() < deadline {
            let stored = self.remove_doomed().and_then(|more| Ok(more || self.store_some()?));
            match stored {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    log::error!("history: the index cannot be written: {e}");
                    break;
                }
            }
        }
        self.close();
    }

    /// Leaves the index to the process that serves now, for good.
    pub(super) fn stand_aside(&mut self) {
        self.is_aside = true;
        self.close();
    }

    /// What is in the index is not found here any more.
    fn close(&mut self) {
        self.forget_store();
        if let Some(index) = self.index.take() {
            index.close();
        }
    }

    fn forget_store(&mut self) {
        let mut shelf = self.shared.lock();
        shelf.store = None;
        shelf.blocks.retain(|_, block| !matches!(block, Block::Stored(_)));
        drop(shelf);
        self.storing = None;
        self.doomed.clear();
    }

    fn fail(&mut self, e: StoreError, now: Instant) {
        log::error!("history: the index failed: {e}");
        self.forget_store();
        let Some(index) = self.index.take() else { return };
        self.open_at = now + REOPEN_EVERY;
        if let StoreError::Broken(_) = e {
            match index.set_aside() {
                Ok(aside) => {
                    log::error!("history: the index is now {} and is made anew", aside.display());
                    self.shared.lock().status.set_aside = Some(aside.display().to_string());
                    self.open_at = now;
                }
                Err(e) => log::error!("history: the index cannot be moved: {e}"),
            }
        }
    }

    fn try_step(&mut self, now: Instant, now_ms: u64) -> Result<bool, StoreError> {
        if self.index.is_none() {
            if self.is_aside || now < self.open_at {
                self.forget_whole();
                return Ok(false);
            }
            self.open_at = now + OPEN_EVERY;
            return self.open(now);
        }
        if self.remove_doomed()? || self.store_some()? || self.reading.step(now) {
            return Ok(true);
        }
        if now >= self.look_at {
            self.look_at = now + self.keep.look_every;
            self.reading.look().map_err(|e| StoreError::Io(e.to_string()))?;
            self.remove_old(now_ms);
            return Ok(!self.doomed.is_empty() || !self.reading.unread.is_empty());
        }
        Ok(false)
    }

    fn open(&mut self, now: Instant) -> Result<bool, StoreError> {
        let opened = Index::open(&self.directory);
        let Some((index, found)) = opened.inspect_err(|_| self.open_at = now + REOPEN_EVERY)? else {
            return Ok(false);
        };
        let files: BTreeMap<u64, u64> =
            segment::list(&self.directory).map_err(|e| StoreError::Io(e.to_string()))?.into_iter().collect();
        let Found { blocks, broken, set_aside } = found;
        self.doomed = broken.into();
        let mut shelf = self.shared.lock();
        for (number, meta) in blocks {
            // A file that is shorter has lost what the index knows of it.
            if files.get(&number).is_some_and(|bytes| *bytes >= meta.bytes) {
                shelf.blocks.insert(number, Block::Stored(meta));
            } else {
                self.doomed.push_back(number);
            }
        }
        shelf.store = Some(index.store.clone());
        if let Some(aside) = set_aside {
            shelf.status.set_aside = Some(aside.display().to_string());
        }
        drop(shelf);
        self.index = Some(index);
        self.look_at = now;
        Ok(true)
    }

    fn remove_doomed(&mut self) -> Result<bool, StoreError> {
        let (Some(index), Some(segment)) = (&self.index, self.doomed.front()) else { return Ok(false) };
        if index.remove(*segment, STEP_ROWS)? {
            self.doomed.pop_front();
        }
        Ok(true)
    }

    /// Puts some rows of a whole segment into the index, of the newest first.
    fn store_some(&mut self) -> Result<bool, StoreError> {
        let Some(index) = &self.index else { return Ok(false) };
        let Some(storing) = &mut self.storing else {
            let next = self.shared.lock().blocks.iter().rev().find_map(|(number, block)| match block {
                Block::Whole(table) => Some((*number, table.clone())),
                Block::Open(_) | Block::Stored(_) => None,
            });
            let Some((segment, table)) = next else { return Ok(false) };
            let (pairs, meta) = block::encode(segment, &table);
            self.storing = Some(Storing { segment, pairs: pairs.into_iter(), meta });
            return Ok(true);
        };
        let rows: Vec<Row> = storing.pairs.by_ref().take(STEP_ROWS).map(|(key, value)| (key, Some(value))).collect();
        if !rows.is_empty() {
            index.store.write(rows)?;
            return Ok(true);
        }
        let (segment, meta) = (storing.segment, storing.meta);
        index.store.write([(block::meta_key(segment), Some(meta.encode()))])?;
        self.storing = None;
        // There is more than before.
        self.look_at = self.look_at.min(Instant::now());
        let mut shelf = self.shared.lock();
        if let Some(block) = shelf.blocks.get_mut(&segment) {
            *block = Block::Stored(meta);
        } else {
            // It was removed meanwhile.
            drop(shelf);
            self.doomed.push_back(segment);
        }
        Ok(true)
    }

    /// Removes what is older than it may be, and the oldest of what is too much.
    fn remove_old(&mut self, now_ms: u64) {
        let kept_from = self.keep.kept_from(now_ms);
        // What only files know is read before its age is known.
        let mut all: BTreeMap<u64, (u64, u64)> =
            self.reading.unread.iter().map(|(n, bytes)| (*n, (*bytes, u64::MAX))).collect();
        let shelf = self.shared.lock();
        let mut total = shelf.own.as_ref().map_or(0, |own| own.table.bytes);
        for (number, block) in &shelf.blocks {
            let sizes = match block {
                Block::Open(table) => {
                    total += table.bytes;
                    continue;
                }
                Block::Whole(table) => (table.bytes, table.newest_ms),
                Block::Stored(meta) => (meta.bytes + meta.index_bytes * STORE_FACTOR, meta.newest_ms),
            };
            all.insert(*number, sizes);
        }
        drop(shelf);
        total += all.values().map(|(bytes, _)| bytes.max(&LEAST_BYTES)).sum::<u64>();
        for (number, (bytes, newest_ms)) in all {
            if total > self.keep.bytes || newest_ms < kept_from {
                total -= bytes.max(LEAST_BYTES);
                self.remove(number);
            }
        }
        self.shared.lock().status.bytes = total;
    }

    fn remove(&mut self, number: u64) {
        self.reading.unread.remove(&number);
        let block = self.shared.lock().blocks.remove(&number);
        let is_half_stored = self.storing.take_if(|storing| storing.segment == number).is_some();
        if is_half_stored || matches!(block, Some(Block::Stored(_))) {
            self.doomed.push_back(number);
        }
        segment::remove(&self.directory, number);
    }

    /// What memory has no room for is read again when there is an index.
    fn forget_whole(&mut self) {
        let mut shelf = self.shared.lock();
        let whole = shelf.blocks.iter().rev().filter(|(_, block)| matches!(block, Block::Whole(_)));
        let forgotten: Vec<u64> = whole.skip(MAX_WHOLE).map(|(number, _)| *number).collect();
        for number in forgotten {
            shelf.blocks.remove(&number);
        }
    }

    fn report(&self) {
        let mut shelf = self.shared.lock();
        let unindexed = shelf.blocks.values().filter(|block| !matches!(block, Block::Stored(_))).count();
        shelf.status.index_up = self.index.is_some();
        shelf.status.unread_segments = self.reading.unread.len() as u64;
        shelf.status.unindexed_segments = unindexed as u64;
    }
}

impl Keep {
    /// What arrived before is too old.
    pub(super) fn kept_from(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX))
    }
}
