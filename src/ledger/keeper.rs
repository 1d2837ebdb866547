//! Owns what becomes of the totals on disk: who may write them, the store, the snapshot, and the
//! segments that are no longer needed. Refuses to know how they are added up.
//!
//! The store and the snapshot each hold totals with the offsets they were added up to. Of the two the
//! one with more records counted is the base, and the journal is folded on from there. A segment is
//! removed only once a snapshot that covers it is on the disk, so that losing the store, or whatever
//! sled had not yet synced, costs time and no record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::LedgerError;
use super::journal::files::{self, SegmentId};
use super::pace::Pace;
use super::rows::META;
use super::snapshot::{self, Stamp};
use super::view::{Meta, View};
use crate::store::{Row, Store, StoreError, set_aside};

/// Between two writes to the store: what a start must at most read again of the journal, which takes
/// it about a second for a minute of twenty thousand records a second.
pub(crate) const STORE_EVERY: Range<Duration> = Duration::from_secs(5)..Duration::from_secs(60);
/// Between two snapshots that let segments go. The later ones hold more: a day of busy minutes is tens
/// of megabytes.
const SNAPSHOT_EVERY: Range<Duration> = Duration::from_secs(10)..SNAPSHOT_AT_LEAST_EVERY;
/// Between two snapshots in any case: what a rebuild must at most read again.
const SNAPSHOT_AT_LEAST_EVERY: Duration = Duration::from_secs(600);
/// Between two attempts to open a store that failed.
const REOPEN_EVERY: Duration = Duration::from_secs(5);

/// The holder of the ledger's directory, if this process is that.
pub(crate) struct Keeper {
    directory: PathBuf,
    /// Held as long as this process may write totals.
    lock: Option<File>,
    store: Option<Store>,
    /// The store's content is not the base of the totals and must be replaced.
    stale: bool,
    reopen_at: Instant,
    store_pace: Pace,
    /// The floors of the snapshot that is on the disk.
    durable_floors: BTreeMap<u16, u64>,
    /// What that snapshot covers.
    covered: Option<Meta>,
    snapshot_at: Instant,
    snapshot_pace: Pace,
    /// The snapshot that a process without the lock has read.
    followed: Option<Stamp>,
    set_aside: Option<String>,
    history_lost: bool,
}

/// How the keeper is doing; the fields are those of [`super::LedgerStatus`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) store_up: bool,
    pub(crate) leads: bool,
    pub(crate) set_aside: Option<String>,
    pub(crate) history_lost: bool,
}

/// What is to be written at once.
pub(crate) struct Writing {
    rows: Option<Vec<Row>>,
    snapshot: Option<(Vec<u8>, BTreeMap<u16, u64>, Meta)>,
}

impl Keeper {
    pub(crate) fn new(directory: &Path, store_every: Range<Duration>) -> Self {
        let mut snapshot_pace = Pace::new(SNAPSHOT_EVERY);
        snapshot_pace.done(Instant::now(), Duration::ZERO);
        Self {
            directory: directory.to_owned(),
            lock: None,
            store: None,
            stale: false,
            reopen_at: Instant::now(),
            store_pace: Pace::new(store_every),
            durable_floors: BTreeMap::new(),
            covered: None,
            snapshot_at: Instant::now(),
            snapshot_pace,
            followed: None,
            set_aside: None,
            history_lost: false,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn report(&self) -> Report {
        Report {
            store_up: self.store.is_some(),
            leads: self.leads(),
            set_aside: self.set_aside.clone(),
            history_lost: self.history_lost,
        }
    }

    /// Takes the ledger's lock, if it is free, and answers the totals to go on from.
    pub(crate) fn lead(&mut self) -> Result<Option<View>, LedgerError> {
        let Some(lock) = files::try_lock(&self.directory.join("ledger.lock"))? else {
            return Ok(None);
        };
        let kept = self.read_snapshot()?;
        if let Some(view) = &kept {
            self.durable_floors.clone_from(&view.floors);
            self.covered = Some(view.meta);
        }
        let Some(stored) = self.open_store()? else {
            // sled itself is open elsewhere, by a process that does not know the lock.
            return Ok(None);
        };
        self.lock = Some(lock);
        let view = match (stored, kept) {
            (Some(stored), Some(kept)) if kept.meta.folded > stored.meta.folded => {
                log::warn!("ledger: the store is older than the snapshot and is brought up to date");
                self.stale = true;
                kept
            }
            (Some(mut stored), _) => {
                // The store has all that the snapshot has, but may not know yet which segments were
                // removed on the strength of it.
                for (shard, floor) in &self.durable_floors {
                    if stored.floors.get(shard).is_none_or(|known| known < floor) {
                        stored.set_floor(*shard, *floor);
                    }
                }
                stored
            }
            (None, kept) => {
                self.stale = true;
                kept.unwrap_or_default()
            }
        };
        self.look_for_lost_history(&view)?;
        Ok(Some(view))
    }

    /// The totals of the present snapshot, if it is another than the one that was read last: those
    /// of a process that does not hold the lock.
    pub(crate) fn follow(&mut self) -> io::Result<Option<View>> {
        let stamp = snapshot::stamp(&self.directory);
        if stamp.is_none() || stamp == self.followed {
            return Ok(None);
        }
        let view = self.read_snapshot()?;
        self.followed = stamp;
        Ok(view)
    }

    fn read_snapshot(&self) -> io::Result<Option<View>> {
        match snapshot::read(&self.directory)? {
            Some(Ok(view)) => Ok(Some(view)),
            Some(Err(bad)) => {
                log::error!("ledger: {}", bad.0);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn store_directory(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Opens the store, setting it aside if it is damaged. `Ok(None)`: another process has it.
    /// `Ok(Some(None))`: it says nothing, or cannot be opened for now.
    #[expect(clippy::option_option, reason = "three outcomes, told apart once, by one caller each")]
    fn open_store(&mut self) -> io::Result<Option<Option<View>>> {
        let opened = Store::open(&self.store_directory()).and_then(|store| {
            let rows = store.rows()?;
            let view = View::from_rows(rows).map_err(|bad| StoreError::Broken(bad.0))?;
            Ok((store, view))
        });
        match opened {
            Ok((store, view)) => {
                self.store = Some(store);
                Ok(Some(view))
            }
            Err(StoreError::Locked) => Ok(None),
            Err(StoreError::Io(e)) => {
                log::error!("ledger: the store cannot be opened, its totals come from the journal: {e}");
                self.fail_store();
                Ok(Some(None))
            }
            Err(StoreError::Broken(why)) => {
                let place = set_aside(&self.store_directory())?;
                log::error!("ledger: {why}; the store is now {} and is rebuilt", place.display());
                self.set_aside = Some(place.display().to_string());
                match Store::open(&self.store_directory()) {
                    Ok(store) => self.store = Some(store),
                    Err(e) => {
                        log::error!("ledger: {e}");
                        self.fail_store();
                    }
                }
                Ok(Some(None))
            }
        }
    }

    fn fail_store(&mut self) {
        self.store = None;
        self.stale = true;
        self.reopen_at = Instant::now() + REOPEN_EVERY;
    }

    /// Segments are numbered from 1 in each shard, without gaps: if some are missing and no totals cover
    /// them, what they held is lost, and that must be said.
    fn look_for_lost_history(&mut self, view: &View) -> io::Result<()> {
        let listed = files::list(&self.directory.join("journal"))?;
        let is_lost = |shard: &[(SegmentId, u64)]| {
            let id = shard[0].0;
            let mut next = view.floors.get(&id.shard).copied().unwrap_or(0).saturating_add(1);
            shard.iter().map(|(id, _)| *id).any(|id| {
                // What totals are known to have been added up from is not missed.
                let known =
                    view.offsets.range(SegmentId { seq: next, ..id }..SegmentId { seq: id.seq.max(next), ..id });
                let missing = id.seq.saturating_sub(next) > known.count() as u64;
                next = next.max(id.seq.saturating_add(1));
                missing
            })
        };
        self.history_lost = listed.chunk_by(|(a, _), (b, _)| a.shard == b.shard).any(is_lost);
        if self.history_lost {
            log::error!(
                "ledger: segments are missing that neither the store nor the snapshot covers: totals are too low"
            );
        }
        Ok(())
    }

    /// Gathers what must be written, while the totals stand still. Whatever has not been written when
    /// the process dies is in the journal.
    pub(crate) fn gather(&mut self, view: &mut View, force: bool) -> Writing {
        self.reopen_store();
        let now = Instant::now();
        let snapshot_due = self.snapshot_due(view, force);
        // The store is never older than the snapshot.
        let due = force || snapshot_due || self.store_pace.is_due(now);
        let rows = match &self.store {
            Some(_) if self.stale => {
                view.take_changes();
                Some(view.all_rows().collect())
            }
            Some(_) if due && view.is_changed() => Some(view.changed_rows()),
            Some(_) => None,
            None => {
                // A store that comes back is written anew.
                view.take_changes();
                None
            }
        };
        let snapshot = snapshot_due.then(|| {
            let bytes = snapshot::encode(view);
            self.snapshot_pace.done(now, now.elapsed());
            (bytes, view.floors.clone(), view.meta)
        });
        Writing { rows, snapshot }
    }

    fn snapshot_due(&self, view: &View, force: bool) -> bool {
        let age = self.snapshot_at.elapsed();
        let changed = self.covered != Some(view.meta);
        let covers_more = view.floors != self.durable_floors;
        // A snapshot takes the store along.
        let now = Instant::now();
        let paced = self.snapshot_pace.is_due(now) && self.store_pace.is_due(now);
        force && (changed || covers_more) || covers_more && paced || changed && age >= SNAPSHOT_AT_LEAST_EVERY
    }

    fn reopen_store(&mut self) {
        if self.store.is_some() || !self.leads() || Instant::now() < self.reopen_at {
            return;
        }
        self.reopen_at = Instant::now() + REOPEN_EVERY;
        // Whatever it holds, memory holds more.
        if let Err(e) = self.open_store() {
            log::error!("ledger: the store cannot be opened: {e}");
        }
        self.stale = true;
    }

    /// Writes it. What fails is tried again in full later; nothing is lost meanwhile, because the
    /// journal has it.
    pub(crate) fn write(&mut self, writing: Writing) {
        if let (Some(rows), Some(store)) = (writing.rows, &self.store) {
            let begun = Instant::now();
            let result = if self.stale { store.replace(META, rows) } else { store.write(rows) };
            self.store_pace.done(begun, begun.elapsed());
            match result {
                Ok(()) => self.stale = false,
                Err(e) => {
                    log::error!("ledger: totals could not be written to the store: {e}");
                    self.fail_store();
                }
            }
        }
        if let Some((bytes, floors, meta)) = writing.snapshot {
            self.snapshot_at = Instant::now();
            if let Some(store) = &self.store
                && let Err(e) = store.flush()
            {
                log::error!("ledger: the store could not be synced: {e}");
                self.fail_store();
            }
            match snapshot::write(&self.directory, &bytes) {
                Ok(()) => {
                    self.durable_floors = floors;
                    self.covered = Some(meta);
                    self.drop_segments();
                }
                Err(e) => log::error!("ledger: the snapshot could not be written: {e}"),
            }
        }
    }

    /// Removes the segments that the snapshot on the disk covers.
    pub(crate) fn drop_segments(&self) {
        let journal = self.directory.join("journal");
        let listed = files::list(&journal).unwrap_or_default();
        for (id, _) in listed {
            let covered = self.durable_floors.get(&id.shard).is_some_and(|floor| id.seq <= *floor);
            if covered && let Err(e) = fs::remove_file(id.path(&journal)) {
                log::warn!("ledger: a folded segment could not be removed: {e}");
            }
        }
    }

    /// Gives store and lock to whoever comes next.
    pub(crate) fn close(&mut self) {
        self.store = None;
        self.lock = None;
    }
}
