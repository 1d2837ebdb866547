//! What survives a restart: an append-only journal, which is the truth, and sled, which is a view of
//! it. Owns the settlements and their sums; refuses to know what a request is and who asks.
//!
//! ```text
//! append ─► journal/ (a shard a thread) ─► fold ─► view (memory) ─► queries
//!               │                                    └─► store/ (sled) and totals.snapshot
//!               └─ fdatasync every 50 ms
//! ```
//!
//! Two threads of their own sync the journal and fold it; neither touches the data plane's runtime.
//! Nothing on the way of a request waits for the store: without it the totals are in memory, and
//! after a restart they come from the snapshot and the journal.

mod alive;
mod batch;
mod codec;
mod counters;
mod course;
#[cfg(test)]
mod fixtures;
mod fold;
mod id;
mod imported;
mod journal;
mod keeper;
mod keys;
mod pace;
pub(crate) mod priority;
mod query;
mod read_only;
mod recency;
mod record;
mod reserved;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;
pub(crate) mod wire;
mod work;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ahash::AHashSet;

pub use counters::Counters;
pub use course::Course;
pub use id::LedgerId;
pub use journal::Position;
pub use journal::segment::{Corrupt, CorruptKind, decode_segment, is_reservation, segment_around};
pub(crate) use journal::thread_number;
pub(crate) use priority::stand_back;
pub use query::{By, KeyTotal, MAX_ROWS, OperationTotal, Spends, Step, TooManyRows, Top, UsageQuery, UsageRow};
pub use read_only::{ReadOnlyLedger, read_only, try_store};
pub use record::{Outcome, Settlement};

#[cfg(test)]
pub(crate) use fixtures::settlement;

use crate::config::{Durability, WhenFull};
use alive::Alive;
use fold::Folder;
use journal::files::{Disk, RealDisk};
use journal::shard::Otherwise;
use journal::{Journal, SEGMENT_BYTES};
use keeper::{Keeper, Report, STORE_EVERY};
use work::Inner;

/// Between two folds while requests end.
const FOLD_EVERY: Duration = Duration::from_millis(500);

/// A child process that is just being started holds the locks of its parent until its exec: a
/// process that went down together with starting one does not make the next refuse to start.
const LOCK_LINGERS: Duration = Duration::from_millis(250);
const LOCK_RETRY: Duration = Duration::from_millis(25);

/// Why a ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it open.
    #[error("another process has the ledger open")]
    Locked,
    /// The directory cannot be read or written.
    #[error("the ledger's directory: {0}")]
    Io(#[from] io::Error),
}

/// What to do if another process has the ledger open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLocked {
    /// Do not open.
    #[default]
    Refuse,
    /// Write a journal of one's own and take over once the other is gone: the new process of a
    /// binary upgrade. Until then figures come from the last snapshot and both journals.
    Wait,
}

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// Where everything is kept; made if it is not there.
    pub directory: PathBuf,
    /// How many threads append: one shard each.
    pub shards: usize,
    /// Whether [`Ledger::synced`] waits.
    pub durability: Durability,
    /// How long counters of minutes are kept.
    pub keep_minutes: Duration,
    /// How long counters of hours are kept.
    pub keep_hours: Duration,
    /// What to do if another process has it open.
    pub when_locked: WhenLocked,
}

/// How the ledger is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Bytes of all segments, their preallocated space included, when they were last listed.
    pub journal_bytes: u64,
    /// Records of this process that are in the journal and not yet in the totals.
    pub fold_lag_records: u64,
    /// Whether the store is open and takes writes. Without it nothing is lost.
    pub store_up: bool,
    /// Whether this process writes the totals; `false` while it waits for another to leave.
    pub leads: bool,
    /// Records that the disk refused at first, and syncs that failed.
    pub append_errors: u64,
    /// Records that wait in memory for the disk.
    pub backlog_records: u64,
    /// Requests with a budget that were refused because their reservation could not be written.
    pub refused: u64,
    /// Records lost, because the disk took none for so long that the backlog was full.
    pub dropped: u64,
    /// Damaged parts of the journal that were found, ever.
    pub corrupt_records: u64,
    /// Records that came twice and count once.
    pub duplicates: u64,
    /// Where the store was moved, if it was damaged when it was opened.
    pub set_aside: Option<String>,
    /// Old segments are gone that no totals cover: somebody removed them, or store and snapshot.
    pub history_lost: bool,
}

/// The ledger of a running gateway.
///
/// Questions take milliseconds of CPU and a lock: ask them off the data plane's threads.
pub struct Ledger {
    id: LedgerId,
    inner: Arc<Inner>,
    /// One import at a time: what one has written the next one knows.
    importing: Mutex<()>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    sync: JoinHandle<()>,
    fold: JoinHandle<()>,
}

/// What tests choose and nobody else.
struct Tuning {
    segment_bytes: u64,
    fold_every: Duration,
    store_every: Range<Duration>,
    disk: Arc<dyn Disk>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            fold_every: FOLD_EVERY,
            store_every: STORE_EVERY,
            disk: Arc::new(RealDisk),
        }
    }
}

impl Ledger {
    /// Opens the ledger, folds what the last process left, and starts the threads. A damaged store
    /// is set aside and rebuilt.
    pub fn open(options: LedgerOptions) -> Result<Self, LedgerError> {
        Self::open_tuned(options, Tuning::default())
    }

    fn open_tuned(options: LedgerOptions, tuning: Tuning) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(&options.directory)?;
        let journal_directory = options.directory.join("journal");
        let Tuning { segment_bytes, fold_every, store_every, disk } = tuning;
        let is_new = id::is_new(&options.directory)?;
        let mut keeper = Keeper::new(&options.directory, store_every);
        let mut led = keeper.lead()?;
        let deadline = Instant::now() + LOCK_LINGERS;
        while led.is_none() && options.when_locked == WhenLocked::Refuse && Instant::now() < deadline {
            std::thread::sleep(LOCK_RETRY);
            led = keeper.lead()?;
        }
        let view = match (led, options.when_locked) {
            (Some(view), _) => view,
            (None, WhenLocked::Refuse) => return Err(LedgerError::Locked),
            (None, WhenLocked::Wait) => keeper.follow()?.unwrap_or_default(),
        };
        // While another process holds the ledger it is that one's, however empty it looks.
        let id = LedgerId::open(&options.directory, is_new && keeper.leads())?;
        let journal = Journal::open(&journal_directory, options.shards, segment_bytes, disk, |shard| {
            view.highest_seq(shard).saturating_add(1)
        })?;
        let inner = Arc::new(Inner {
            alive: Alive::enter(&options.directory)?,
            options,
            journal,
            folder: Mutex::new(Folder::new(view, &journal_directory)),
            keeper: Mutex::new(keeper),
            report: Mutex::new(Report::default()),
            stopped: AtomicBool::new(false),
            is_aside: AtomicBool::new(false),
            asking: AtomicUsize::new(0),
        });
        inner.tick(false, Duration::ZERO);
        let sync = spawn("weir-sync", &inner, |inner| inner.journal.run_sync())?;
        let fold = spawn("weir-fold", &inner, move |inner| {
            priority::stand_back();
            inner.run_fold(fold_every);
        })?;
        Ok(Self { id, inner, importing: Mutex::default(), threads: Mutex::new(Some(Threads { sync, fold })) })
    }

    /// What tells this ledger from all others, for as long as its counters are there.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Writes a settlement: when this returns, kill -9 does not lose it. What the disk refuses is
    /// counted, kept in memory and tried again.
    pub fn append<T: AsRef<str>>(&self, settlement: &Settlement<T>) -> Position {
        self.inner.journal.append(settlement)
    }

    /// Writes what a request is thought to cost before it is made, as the settlement that counts if no
    /// other one comes. When this returns, kill -9 does not lose it. Its own settlement takes its place.
    ///
    /// `false`: it could not be written, and the request is not to be made. With [`WhenFull::Serve`] it is made all
    /// the same: what the disk refuses is kept in memory, where a kill loses it.
    pub fn reserve<T: AsRef<str>>(&self, thought: &Settlement<T>, when_full: WhenFull) -> bool {
        let otherwise = match when_full {
            WhenFull::Serve => Otherwise::Keep,
            WhenFull::Refuse => Otherwise::Forget,
        };
        self.inner.journal.reserve(self.inner.alive.instance, thought, otherwise) || when_full == WhenFull::Serve
    }

    /// Writes settlements of requests that were not served here, each of which counts once however often it is
    /// imported; says of each whether it is new. When this returns, kill -9 does not lose it. Takes as long as the disk
    /// and the fold take: for threads that may block.
    ///
    /// # Errors
    /// What the disk says if it takes no more; what was written until then counts, and is known when it is imported
    /// again.
    pub fn import<T: AsRef<str>>(&self, settlements: &[Settlement<T>]) -> io::Result<Vec<bool>> {
        let _alone = lock(&self.importing);
        let mut is_new = self.inner.not_imported(settlements.iter().map(|s| s.id));
        let mut within = AHashSet::new();
        let mut last = None;
        for (settlement, is_new) in settlements.iter().zip(&mut is_new) {
            *is_new &= within.insert(settlement.id);
            if *is_new {
                last = Some(self.inner.journal.import(settlement)?);
            }
        }
        match last {
            Some(last) if !futures::executor::block_on(self.synced(last)) => {
                Err(io::Error::other("what was written could not be synced"))
            }
            _ => Ok(is_new),
        }
    }

    /// With [`Durability::Strict`], waits until the record is on the disk; otherwise returns at once.
    /// `false`: it is not on the disk and may not come there soon, because the disk refuses.
    pub async fn synced(&self, position: Position) -> bool {
        match self.inner.options.durability {
            Durability::Relaxed => true,
            Durability::Strict => self.inner.journal.synced(position).await,
        }
    }

    /// Answers from every record that was appended before the call, if they can be folded within a
    /// second; else from those that could. Records that wait for the disk are not among them.
    pub fn usage(&self, query: &UsageQuery) -> Vec<UsageRow> {
        self.inner.caught_up().view.usage(query)
    }

    /// The same of the values that cost most, so many, or of all; with what the others come to.
    ///
    /// # Errors
    /// There are more than [`MAX_ROWS`].
    pub fn top(&self, query: &UsageQuery, most: Option<usize>) -> Result<Top, TooManyRows> {
        self.inner.caught_up().view.top(query, most)
    }

    /// The figures of every key over all time, by the key's id; as fresh as [`Ledger::usage`].
    pub fn key_totals(&self) -> Vec<KeyTotal> {
        self.inner.caught_up().view.key_totals()
    }

    /// When the latest request of each of these keys arrived, in milliseconds since 1970-01-01 UTC, by the key's id; as
    /// fresh as [`Ledger::usage`].
    pub fn last_used(&self, key_ids: &[String]) -> HashMap<String, u64> {
        if key_ids.is_empty() {
            return HashMap::new();
        }
        let fold = self.inner.caught_up();
        let used = key_ids.iter().filter_map(|id| Some((id.clone(), fold.view.keys.get(id)?.last_used_ms)));
        used.collect()
    }

    /// When each user's latest request arrived, in milliseconds since 1970-01-01 UTC; as fresh as [`Ledger::usage`].
    pub fn user_last_used(&self) -> HashMap<String, u64> {
        self.inner.caught_up().view.user_last_used()
    }

    /// The figures of every operation and model over all days; as fresh as [`Ledger::usage`].
    pub fn operation_totals(&self) -> Vec<OperationTotal> {
        self.inner.caught_up().view.operation_totals()
    }

    /// What keys, users and channels spent on the day and in the month of `now_ms` and ever; as fresh as
    /// [`Ledger::usage`].
    pub fn spends(&self, now_ms: u64) -> Spends {
        self.inner.caught_up().view.spends(now_ms)
    }

    /// Requests, and those that failed, of each model that `channel` served in the minutes that began at `from_ms` or
    /// later, but for what was counted under the keys `except`; half a second behind at most.
    pub(crate) fn served(&self, channel: &str, from_ms: u64, except: &[&str]) -> HashMap<String, (u64, u64)> {
        lock(&self.inner.folder).view.served(channel, from_ms, except)
    }

    /// The sums of today, of yesterday and of the last twenty-four hours, from what is folded: half a second behind at
    /// most, so that whoever asks all the time makes nobody fold.
    pub fn course(&self, now_ms: u64) -> Course {
        lock(&self.inner.folder).view.course(now_ms)
    }

    /// How the ledger is doing, without touching the disk.
    pub fn status(&self) -> LedgerStatus {
        let inner = &self.inner;
        let mut status = LedgerStatus {
            append_errors: inner.journal.errors.load(Ordering::Relaxed),
            dropped: inner.journal.dropped.load(Ordering::Relaxed),
            refused: inner.journal.refused.load(Ordering::Relaxed),
            backlog_records: inner.journal.waiting(),
            ..LedgerStatus::default()
        };
        let report = lock(&inner.report).clone();
        (status.store_up, status.leads) = (report.store_up, report.leads);
        (status.set_aside, status.history_lost) = (report.set_aside, report.history_lost);
        let written = inner.journal.written();
        let folder = lock(&inner.folder);
        status.journal_bytes = folder.journal_bytes;
        status.fold_lag_records = written.saturating_sub(folder.own_records);
        status.corrupt_records = folder.view.meta.corrupt;
        status.duplicates = folder.view.meta.duplicates;
        status
    }

    /// Leaves the ledger, should it become free, to the process that serves now: this one only finishes what it
    /// has begun.
    pub(crate) fn stand_aside(&self) {
        self.inner.is_aside.store(true, Ordering::Release);
    }

    /// What kill -9 leaves of this process: nothing more is written, synced or folded, and its locks are free.
    #[cfg(test)]
    fn kill(self) {
        let threads = lock(&self.threads).take().expect("it was not closed");
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.journal.stop();
        threads.fold.thread().unpark();
        threads.sync.join().expect("no panic");
        threads.fold.join().expect("no panic");
        lock(&self.inner.keeper).close();
    }

    /// Folds and syncs everything, writes a snapshot and gives the ledger to whoever comes next.
    /// Questions are still answered; what is appended from now on is found by the next start.
    pub fn close(&self) {
        let Some(threads) = lock(&self.threads).take() else {
            return;
        };
        self.inner.journal.stop();
        let synced = threads.sync.join();
        self.inner.journal.finish();
        self.inner.stopped.store(true, Ordering::Release);
        threads.fold.thread().unpark();
        let folded = threads.fold.join();
        if synced.is_err() || folded.is_err() {
            log::error!("ledger: one of its threads had panicked");
        }
        self.inner.tick(true, Duration::ZERO);
        let mut keeper = lock(&self.inner.keeper);
        keeper.close();
        *lock(&self.inner.report) = keeper.report();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, inner: &Arc<Inner>, run: impl FnOnce(&Inner) + Send + 'static) -> io::Result<JoinHandle<()>> {
    let inner = Arc::clone(inner);
    Builder::new().name(name.to_owned()).spawn(move || run(&inner))
}

/// A panic under one of these locks leaves totals that the next start reads again from the journal;
/// until then they are the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
