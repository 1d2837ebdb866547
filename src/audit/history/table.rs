//! What is known of a segment's records while it is in memory: one row a record.
//!
//! Owns the row and its search. Refuses to know files and the store.

use crate::audit::batch::Entry;

use super::query::Wanted;

/// The names that can be asked for, in their order in every list of four here.
pub(super) const NAMES: [&str; 4] = ["key", "user", "model", "channel"];

/// A record in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Where its line begins.
    pub(super) at: u64,
    pub(super) time_ms: u64,
    /// How long its line is, line feed included.
    pub(super) len: u32,
    /// What [`short_id`] gives.
    pub(super) id: u32,
    /// What [`short`] gives for its names.
    pub(super) terms: [u32; 4],
    pub(super) status: u16,
}

/// The records of one segment, in the order of their lines.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    /// The end of the last line.
    pub(super) bytes: u64,
    /// The first and the last arrival.
    pub(super) oldest_ms: u64,
    pub(super) newest_ms: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self { rows: Vec::new(), bytes: 0, oldest_ms: u64::MAX, newest_ms: 0 }
    }
}

impl Table {
    /// Adds a record whose line has `len` bytes. Of a line that cannot be read there is no entry; it has its place all
    /// the same, because the others are known by theirs.
    pub(super) fn push(&mut self, len: usize, entry: Option<&Entry>) {
        let at = self.bytes;
        self.bytes += len as u64;
        // No line is as long as 4 GiB: it was in memory, with others.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let Some(entry) = entry else {
            let time_ms = self.rows.last().map_or(0, |row| row.time_ms);
            self.rows.push(Row { at, time_ms, len, id: 0, terms: [0; 4], status: 0 });
            return;
        };
        let terms = [entry.key, entry.user, entry.model, entry.channel].map(short);
        let (id, time_ms, status) = (short_id(entry.id), entry.time_ms, entry.status);
        self.rows.push(Row { at, time_ms, len, id, terms, status });
        self.oldest_ms = self.oldest_ms.min(time_ms);
        self.newest_ms = self.newest_ms.max(time_ms);
    }

    /// How many records there are.
    pub(super) fn len(&self) -> u32 {
        // They were in memory: four billions are not.
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Forgets all records but the first `records`.
    pub(super) fn truncate(&mut self, records: usize) {
        if let Some(first) = self.rows.get(records) {
            self.bytes = first.at;
            self.rows.truncate(records);
        }
    }

    /// The places below `before` that are asked for, newest first, with their rows.
    pub(super) fn search(&self, wanted: &Wanted, before: u32) -> impl Iterator<Item = (u32, &Row)> {
        let before = self.len().min(before);
        (0..before).zip(&self.rows[..before as usize]).rev().filter(move |(_, row)| wanted.admits(row))
    }

    /// The places of the records that may have the id, newest first, with their rows.
    pub(super) fn find(&self, id: u32) -> impl Iterator<Item = (u32, &Row)> {
        (0..self.len()).zip(&self.rows).rev().filter(move |(_, row)| row.id == id)
    }
}

/// A name's term in half the space. Two of a million names have the same half, and whoever finds a record reads it too.
pub(super) fn short(term: u64) -> u32 {
    high(term ^ term.rotate_left(32))
}

/// The same of an id, of which any part may be a clock or a counter.
pub(super) fn short_id(id: u128) -> u32 {
    let mixed = id ^ (id >> 64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let [low @ .., _, _, _, _, _, _, _, _] = mixed.to_le_bytes();
    high(u64::from_le_bytes(low).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

fn high(bits: u64) -> u32 {
    let [.., a, b, c, d] = bits.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
