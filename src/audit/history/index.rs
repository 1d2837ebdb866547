//! The index in the store: who may write it, and how blocks are written, looked up and removed.
//!
//! Owns the store's directory and its lock. Refuses to know segments' files and records.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{Row, Store, StoreError, set_aside};

use super::block::{self, FORMAT, FORMAT_KEY, Malformed, Meta, Spot};
use super::segment;

/// sled takes several times what it is told. Pages are read once in a while, newest first: what was just written is
/// still there.
const CACHE_BYTES: u64 = 8 << 20;
/// How long a question may still be reading when the store is to be closed.
const READERS_LINGER: Duration = Duration::from_secs(1);
const READERS_RETRY: Duration = Duration::from_millis(2);

/// The store, opened by the one process that may.
pub(super) struct Index {
    directory: PathBuf,
    pub(super) store: Arc<Store>,
    /// Held as long as the store is open.
    _lock: File,
}

/// What is found when an index is opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Segments whose rows are whole.
    pub(super) blocks: Vec<(u64, Meta)>,
    /// Those whose rows are not.
    pub(super) broken: Vec<u64>,
    /// Where the store was moved that could not be used.
    pub(super) set_aside: Option<PathBuf>,
}

impl Index {
    /// Opens or makes the index in `directory`. `Ok(None)`: another one has it open.
    pub(super) fn open(directory: &Path) -> Result<Option<(Self, Found)>, StoreError> {
        let failed = |e: io::Error| StoreError::Io(e.to_string());
        let Some(lock) = segment::try_lock(&directory.join("index.lock")).map_err(failed)? else { return Ok(None) };
        let place = directory.join("index");
        let opened = Self::open_store(&place);
        let (store, found) = match opened {
            Ok(opened) => opened,
            Err(StoreError::Locked) => return Ok(None),
            Err(StoreError::Broken(why)) => {
                let aside = set_aside(&place).map_err(failed)?;
                log::error!("history: {why}; the index is now {} and is made anew", aside.display());
                let (store, found) = Self::open_store(&place)?;
                (store, Found { set_aside: Some(aside), ..found })
            }
            Err(e) => return Err(e),
        };
        Ok(Some((Self { directory: place, store: Arc::new(store), _lock: lock }, found)))
    }

    fn open_store(place: &Path) -> Result<(Store, Found), StoreError> {
        let store = Store::open_with(place, CACHE_BYTES)?;
        match store.get(FORMAT_KEY)?.as_deref() {
            Some(FORMAT) => {}
            None => store.write([(FORMAT_KEY.to_vec(), Some(FORMAT.to_vec()))])?,
            Some(_) => return Err(StoreError::Broken("the index has a form that this release does not know".into())),
        }
        let mut found = Found::default();
        let mut from = Vec::new();
        // The first row of each segment.
        while let Some((key, value)) = first(&store, &from, FORMAT_KEY)? {
            let (number, is_meta) = block::segment_of(&key)?;
            if is_meta {
                found.blocks.push((number, Meta::decode(&value)?));
            } else {
                found.broken.push(number);
            }
            from = block::keys_of(number).1;
        }
        Ok((store, found))
    }

    /// Moves the store out of the way.
    pub(super) fn set_aside(self) -> io::Result<PathBuf> {
        let Self { directory, store, _lock } = self;
        wait_for_readers(store);
        set_aside(&directory)
    }

    /// Gives the index to whoever comes next.
    pub(super) fn close(self) {
        let Self { store, _lock, .. } = self;
        if let Err(e) = store.flush() {
            log::error!("history: the index could not be synced: {e}");
        }
        wait_for_readers(store);
    }

    /// Removes up to `most` rows of a segment, its meta row first. `true`: that were all.
    pub(super) fn remove(&self, segment: u64, most: usize) -> Result<bool, StoreError> {
        let (from, until) = block::keys_of(segment);
        let mut rows: Vec<Row> = Vec::new();
        self.store.scan(&from, &until, |key, _| {
            rows.push((key.to_vec(), None));
            if rows.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let all = rows.len() < most;
        self.store.write(rows)?;
        Ok(all)
    }
}

/// What one question reads.
pub(super) struct Look<'s> {
    store: &'s Store,
    /// Rows that were read.
    pub(super) rows: usize,
}

impl<'s> Look<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        Self { store, rows: 0 }
    }

    /// The places of the records of a segment that have one of the terms in a list, in their order.
    pub(super) fn places(
        &mut self,
        segment: u64,
        list: usize,
        terms: RangeInclusive<u32>,
    ) -> Result<Vec<u32>, StoreError> {
        let (from, until) = block::list_keys(segment, list, *terms.start());
        let mut places = Vec::new();
        let mut malformed = None;
        self.store.scan(&from, &until, |_, value| {
            self.rows += 1;
            match block::read_postings(value, terms.clone(), &mut places) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(e) => {
                    malformed = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(e) = malformed {
            return Err(e.into());
        }
        if terms.start() != terms.end() {
            places.sort_unstable();
        }
        Ok(places)
    }

    /// Where the records of a chunk are.
    pub(super) fn spots(&mut self, segment: u64, chunk: u32) -> Result<Vec<Spot>, StoreError> {
        self.rows += 1;
        let value = self.store.get(&block::columns_key(segment, chunk))?.ok_or(Malformed)?;
        Ok(block::read_columns(&value)?)
    }
}

impl From<Malformed> for StoreError {
    fn from(_: Malformed) -> Self {
        Self::Broken("a row of the index cannot be read".into())
    }
}

fn first(store: &Store, from: &[u8], until: &[u8]) -> Result<Option<block::Pair>, StoreError> {
    let mut found = None;
    store.scan(from, until, |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The lock of sled goes with the last that has the store.
fn wait_for_readers(store: Arc<Store>) {
    let deadline = Instant::now() + READERS_LINGER;
    while Arc::strong_count(&store) > 1 && Instant::now() < deadline {
        std::thread::sleep(READERS_RETRY);
    }
}
