//! Segments that only files know: those of processes that were killed, those of a lost index, and those that another
//! process still writes.
//!
//! Owns what is read of which file. Refuses to know what becomes of it afterwards. The segments are the truth: what is
//! not in the index is read out of them. One that another process writes is read along, and is whole when that process
//! has left it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::batch::Entry;

use super::record::Record;
use super::segment::{self, Lines};
use super::shelf::{Block, Shared};
use super::table::Table;

/// Between two looks at what another process writes.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// What is to be read, and what is being read.
pub(super) struct Reading {
    directory: PathBuf,
    shared: Arc<Shared>,
    /// Segments that only files know, with their bytes.
    pub(super) unread: BTreeMap<u64, u64>,
    readers: BTreeMap<u64, Reader>,
}

struct Reader {
    lines: Lines,
    /// When to read on.
    at: Instant,
}

impl Reading {
    pub(super) fn new(directory: PathBuf, shared: Arc<Shared>) -> Self {
        Self { directory, shared, unread: BTreeMap::new(), readers: BTreeMap::new() }
    }

    /// Looks for segments that nobody knows here.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let files = segment::list(&self.directory)?;
        let shelf = self.shared.lock();
        let own = shelf.own.as_ref().map(|own| own.number);
        let is_known = |number: &u64| shelf.blocks.contains_key(number) || own == Some(*number);
        self.unread = files.into_iter().filter(|(number, _)| !is_known(number)).collect();
        Ok(())
    }

    /// Reads some lines: of one segment after the other, the newest first, and now and then of those that are still
    /// written. `true`: there is more.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        let due = self.readers.iter().rev().find(|(_, reader)| reader.at <= now).map(|(number, _)| *number);
        if let Some(number) = due {
            self.read(number, now);
            return true;
        }
        let Some((number, _)) = self.unread.pop_last() else { return false };
        match Lines::open(&segment::path(&self.directory, number)) {
            Ok(lines) => {
                self.shared.lock().blocks.insert(number, Block::Open(Table::default()));
                self.readers.insert(number, Reader { lines, at: now });
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => self.complain(number, &e),
        }
        true
    }

    fn read(&mut self, number: u64, now: Instant) {
        let Some(reader) = self.readers.get_mut(&number) else { return };
        // Asked first: what comes after the last line that is read then is of nobody.
        let is_live = reader.lines.is_live();
        let mut read: Vec<(usize, Option<Entry>)> = Vec::new();
        let result =
            reader.lines.read(|line| read.push((line.len(), Record::read(line).and_then(|r| r.entry(line.len())))));
        let mut shelf = self.shared.lock();
        if let Some(Block::Open(table)) = shelf.blocks.get_mut(&number) {
            read.iter().for_each(|(len, entry)| table.push(*len, entry.as_ref()));
        }
        match result {
            Ok(true) => return,
            Ok(false) if is_live => {
                reader.at = now + FOLLOW_EVERY;
                return;
            }
            Ok(false) => {}
            Err(e) => self.complain(number, &e),
        }
        self.readers.remove(&number);
        if let Some(Block::Open(table)) = shelf.blocks.remove(&number) {
            if table.rows.is_empty() {
                segment::remove(&self.directory, number);
            } else {
                shelf.blocks.insert(number, Block::Whole(Arc::new(table)));
            }
        }
    }

    fn complain(&self, number: u64, e: &io::Error) {
        log::error!("history: {}: {e}", segment::path(&self.directory, number).display());
    }
}
