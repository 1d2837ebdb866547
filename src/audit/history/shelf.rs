//! What the history's thread and those who ask it share: which segments there are, and what is known of each.
//!
//! Owns the one lock of the history; it is held for microseconds, and no thread that serves knows it. Refuses to know
//! how segments come and go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::audit::batch::Batch;
use crate::store::{Store, StoreError};

use super::block::Meta;
use super::query::{Cursor, Wanted};
use super::table::{Row, Table};

/// The shelf behind its lock.
#[derive(Default)]
pub(super) struct Shared(Mutex<Shelf>);

/// Everything that can be asked for now.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) blocks: BTreeMap<u64, Block>,
    /// The segment that this process writes.
    pub(super) own: Option<Own>,
    pub(super) store: Option<Arc<Store>>,
    /// Why the store could not be read. The history's thread sees to it.
    pub(super) failure: Option<StoreError>,
    pub(super) status: Status,
}

/// How the history is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Whether the index is open. It is not while another process has it, or its disk fails: answers have only what
    /// this process has just recorded then.
    pub(crate) index_up: bool,
    /// Segments whose records are not all to be found yet.
    pub(crate) unread_segments: u64,
    /// Segments whose records are not in the index yet, but found.
    pub(crate) unindexed_segments: u64,
    /// Bytes of all segments and their part of the index.
    pub(crate) bytes: u64,
    /// Where the index was moved, if it was damaged.
    pub(crate) set_aside: Option<String>,
}

/// What is known of a segment.
pub(super) enum Block {
    /// It is being read, or another process writes it and this one reads along.
    Open(Table),
    /// It is whole and goes into the index.
    Whole(Arc<Table>),
    /// It is in the index.
    Stored(Meta),
}

/// A segment and what of it is not in the file yet.
pub(super) struct Own {
    pub(super) number: u64,
    pub(super) table: Table,
    /// Batches, with the place in the file where each will begin.
    pending: Vec<(u64, Arc<Batch>)>,
}

/// A record that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Cursor,
    pub(super) at: u64,
    pub(super) len: u32,
    /// Where it is if it is not in the file yet.
    pub(super) waits: Option<(Arc<Batch>, Range<usize>)>,
}

/// What a look at one segment brought.
pub(super) enum Looked {
    /// There is none that old.
    Nothing,
    /// It was in memory: everything in it was looked at, or as much as was wanted.
    Memory(u64, Vec<Found>),
    /// It is in the index; looked for are the records before this one.
    Stored(u64, Meta, u32, Arc<Store>),
}

impl Shared {
    /// A panic under this lock leaves records that are not found until the next start.
    pub(super) fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// The newest segment that has something before `before`, and what is wanted of it.
    pub(super) fn look(&self, wanted: &Wanted<'_>, before: Cursor, most: usize) -> Looked {
        let within = if before.before == 0 { 0..before.segment } else { 0..before.segment.saturating_add(1) };
        let own = self.own.as_ref().filter(|own| within.contains(&own.number));
        let other = self.blocks.range(within).next_back();
        let (number, table) = match (own, other) {
            (Some(own), other) if other.is_none_or(|(number, _)| *number < own.number) => (own.number, &own.table),
            (_, Some((number, Block::Open(table)))) => (*number, table),
            (_, Some((number, Block::Whole(table)))) => (*number, &**table),
            (_, Some((number, Block::Stored(meta)))) => {
                let Some(store) = &self.store else { return Looked::Memory(*number, Vec::new()) };
                let below = if *number == before.segment { before.before } else { u32::MAX };
                return Looked::Stored(*number, *meta, below, store.clone());
            }
            (_, None) => return Looked::Nothing,
        };
        let below = if number == before.segment { before.before } else { u32::MAX };
        let found = table.search(wanted, below).take(most).map(|(place, row)| self.found(number, place, row));
        Looked::Memory(number, found.collect())
    }

    /// The records in memory that may have the id, and the segments in the index, newest first.
    pub(super) fn with_id(&self, id: u32) -> (Vec<Found>, Vec<u64>) {
        let (mut found, mut stored) = (Vec::new(), Vec::new());
        let own = self.own.iter().map(|own| (own.number, &own.table));
        let others = self.blocks.iter().rev().filter_map(|(number, block)| match block {
            Block::Open(table) => Some((*number, table)),
            Block::Whole(table) => Some((*number, &**table)),
            Block::Stored(_) => {
                stored.push(*number);
                None
            }
        });
        for (number, table) in own.chain(others) {
            found.extend(table.find(id).map(|(place, row)| self.found(number, place, row)));
        }
        (found, stored)
    }

    fn found(&self, segment: u64, place: u32, row: &Row) -> Found {
        let own = self.own.as_ref().filter(|own| own.number == segment);
        let waits = own.and_then(|own| own.waits(row));
        Found { place: Cursor { segment, before: place }, at: row.at, len: row.len, waits }
    }
}

impl Own {
    pub(super) fn new(number: u64) -> Self {
        Self { number, table: Table::default(), pending: Vec::new() }
    }

    /// Adds records that are not in the file yet.
    pub(super) fn add(&mut self, batch: Arc<Batch>) {
        let at = self.table.bytes;
        self.table.rows.reserve(batch.len());
        let mut begin = 0;
        for entry in &batch.entries {
            self.table.push(entry.end - begin, Some(entry));
            begin = entry.end;
        }
        self.pending.push((at, batch));
    }

    /// What is not in the file yet, in its order.
    pub(super) fn waiting(&self) -> Vec<Arc<Batch>> {
        self.pending.iter().map(|(_, batch)| batch.clone()).collect()
    }

    /// All that waited is in the file, or was refused, so many records.
    pub(super) fn done(&mut self, refused: Option<usize>) {
        self.pending.clear();
        if let Some(records) = refused {
            self.table.truncate(self.table.rows.len().saturating_sub(records));
        }
    }

    fn waits(&self, row: &Row) -> Option<(Arc<Batch>, Range<usize>)> {
        let after = self.pending.partition_point(|(at, _)| *at <= row.at);
        let (at, batch) = &self.pending[after.checked_sub(1)?];
        let begin = usize::try_from(row.at - at).ok()?;
        Some((batch.clone(), begin..begin + row.len as usize))
    }
}
