//! The recent records, to be asked for: by key, user, model, channel, status, time and id.
//!
//! Owns `data_dir/history`: the records in files of lines, and an index of them in a store of its own. Refuses to know
//! who makes records and how answers look.
//!
//! ```text
//! queue ─► writer ─► segments (lines, appended) ◄──────────── the lines of a page, and no others
//!             └────► table (memory) ─► keeper ─► index (sled) ─► where they are
//! ```
//!
//! **One segment, one block of the index.** While a segment is written its records are found in memory, a row of 48
//! bytes each. When it is whole, all its rows go into the index at once, sorted by term: some hundred rows of the store
//! for tens of thousands of records, where a row for each record and field would cost the store more than serving the
//! request did. A question reads two or three rows of each segment that has nothing, and then what it shows.
//!
//! **Newest first** is the order in which requests ended, as one process wrote them; `from` and `to` are about their
//! arrival, the record's `time`. Of two processes of an upgrade each has segments of its own.
//!
//! **Segments are the truth.** What a kill kept out of the index is read out of the segments at the next start, and an
//! index that is damaged is made anew from them while questions are answered from what there is. A power cut may take
//! the last records: money is the ledger's.

mod block;
mod index;
mod keeper;
mod query;
mod reading;
mod record;
mod search;
mod segment;
mod shelf;
mod table;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use query::{DEFAULT_LIMIT, MAX_LIMIT, Page, Query, StatusFilter};
pub(crate) use search::Unavailable;
#[cfg(test)]
pub(crate) use shelf::Status;

use crate::audit::queue::Taker;
use crate::config;
use crate::ledger::priority;
use keeper::{Keep, Keeper};
use segment::{Disk, RealDisk};
use shelf::Shared;
use work::{Orders, Work};
use writer::{Limits, Writer};

/// A segment is at most so large, in bytes of records and in records: what a start after a kill has to read, and what
/// memory holds.
const MAX_SEGMENT_BYTES: u64 = 32 << 20;
const MAX_SEGMENT_RECORDS: usize = 32 << 10;
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// Of what is kept, a segment is one part in so many at most: so much more than was asked for may be kept.
const SEGMENTS: u32 = 32;
const MIN_SEGMENT_AGE: Duration = Duration::from_secs(1);
const WRITE_AFTER: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(250);
/// How long the end may take: writing what waits, and two seconds for the index.
const MAX_CLOSE: Duration = Duration::from_secs(5);
const CLOSE_RETRY: Duration = Duration::from_millis(5);

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The recent records. Questions take milliseconds: ask them off the data plane's threads.
pub(crate) struct History {
    directory: PathBuf,
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    keep: Keep,
    now_ms: Clock,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What tests choose and nobody else.
struct Tuning {
    limits: Limits,
    look_every: Duration,
    tick: Duration,
    disk: Arc<dyn Disk>,
    now_ms: Clock,
}

impl Tuning {
    fn of(config: &config::History) -> Self {
        let limits = Limits {
            bytes: (config.max_total / u64::from(SEGMENTS)).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES),
            records: MAX_SEGMENT_RECORDS,
            age: (config.keep / SEGMENTS).max(MIN_SEGMENT_AGE),
            write_after: WRITE_AFTER,
        };
        Self { limits, look_every: LOOK_EVERY, tick: TICK, disk: Arc::new(RealDisk), now_ms: Arc::new(now_ms) }
    }
}

impl History {
    /// Opens the history in `directory`, which is made, and starts the thread that takes records from `taker`. What
    /// earlier processes left is found a moment later; beside one that still runs, when that one stands aside.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn open(directory: &Path, config: &config::History, taker: Taker) -> io::Result<Arc<Self>> {
        Self::open_tuned(directory, config, taker, Tuning::of(config))
    }

    fn open_tuned(directory: &Path, config: &config::History, taker: Taker, tuning: Tuning) -> io::Result<Arc<Self>> {
        segment::make_directory(directory)?;
        segment::remove_drafts(directory)?;
        let next = segment::list(directory)?.last().map_or(1, |(number, _)| number + 1);
        let Tuning { limits, look_every, tick, disk, now_ms } = tuning;
        let (shared, orders) = (Arc::new(Shared::default()), Arc::new(Orders::default()));
        let keep = Keep { age: config.keep, bytes: config.max_total, look_every };
        let stats = taker.stats().clone();
        let work = Work {
            taker,
            writer: Writer::new(directory.to_owned(), shared.clone(), stats, limits, disk, next),
            keeper: Keeper::new(directory.to_owned(), shared.clone(), keep, Instant::now()),
            orders: orders.clone(),
            now_ms: now_ms.clone(),
            tick,
        };
        let thread = Builder::new().name("weir-history".to_owned()).spawn(move || {
            // The store's threads, which it makes, do the same.
            priority::stand_back();
            work.run();
        })?;
        let (directory, thread) = (directory.to_owned(), Mutex::new(Some(thread)));
        Ok(Arc::new(Self { directory, shared, orders, keep, now_ms, thread }))
    }

    /// The records that `query` asks for.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn page(&self, query: &Query) -> Result<Page, Unavailable> {
        Ok(self.page_and_rows(query)?.0)
    }

    fn page_and_rows(&self, query: &Query) -> Result<(Page, usize), Unavailable> {
        search::page(&self.shared, &self.directory, query, self.keep.kept_from((self.now_ms)()))
    }

    /// The record with this id: a JSON object.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn find(&self, id: u128) -> Result<Option<String>, Unavailable> {
        search::find(&self.shared, &self.directory, id, self.keep.kept_from((self.now_ms)()))
    }

    /// How it is doing.
    #[cfg(test)]
    pub(crate) fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Whether its thread has ended, which it does not by itself.
    pub(crate) fn is_over(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Leaves the index to the process that serves now: this one only writes what it still records.
    pub(crate) fn stand_aside(&self) {
        self.orders.stand_aside();
    }

    /// Writes what waits and gives the history to whoever comes next. Returns in bounded time.
    pub(crate) fn close(&self) {
        self.orders.end();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let deadline = Instant::now() + MAX_CLOSE;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                log::error!("history: the disk takes too long; what is not in the index is read at the next start");
                return;
            }
            std::thread::sleep(CLOSE_RETRY);
        }
        if thread.join().is_err() {
            log::error!("history: its thread had panicked");
        }
    }

    /// What kill -9 leaves of this process: nothing more is written, and its locks are free.
    #[cfg(test)]
    fn kill(&self) {
        self.orders.die();
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.close();
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
