//! Owns what one shard writes: its open segment, its reused buffer, and the backlog of records that
//! the disk would not take. Refuses to know threads: whoever calls holds the shard's mutex.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::files::{self, Disk};
use super::segment::{FRAME_HEAD, HEADER, Header, seal_frame};
use super::window::Window;

/// Records that one shard keeps in memory while the disk takes none, about forty thousand: a disk
/// that is full for a minute loses nothing, and a disk that is gone does not take the memory too.
pub(crate) const MAX_BACKLOG_BYTES: usize = 8 << 20;
/// The smallest segment: on a disk with less room than that nothing is worth while.
const MIN_SEGMENT_BYTES: u64 = 256 << 10;
/// How much smaller the next attempt at a segment is when there is no room for one.
const SHRINK: u64 = 4;
/// Numbers to try when other processes make segments in the same shard: there are two at most, but
/// each may have left many.
const MAX_CREATE_ATTEMPTS: u32 = 64;

/// Where and how big.
pub(crate) struct Place<'a> {
    pub(crate) journal: &'a Path,
    pub(crate) disk: &'a dyn Disk,
    pub(crate) segment_bytes: u64,
    pub(crate) shard: u16,
}

/// The segment being written.
pub(crate) struct Active {
    pub(crate) file: Arc<File>,
    pub(crate) seq: u64,
    /// Bytes of whole records, header included.
    pub(crate) end: u64,
    /// Bytes that there is space for.
    bytes: u64,
    salt: u32,
    window: Option<Window>,
    /// The disk gives windows.
    has_windows: bool,
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Appended {
    /// The kernel has it.
    Written,
    /// The disk refused it; it waits in memory. The error is given once per outage.
    Kept(Option<io::Error>),
    /// The backlog is full.
    Dropped,
    /// The disk refused it, and it is forgotten, as was asked for. The error is given once per outage.
    Refused(Option<io::Error>),
}

/// What is to become of a record that the disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// It waits in memory.
    Keep,
    /// It is forgotten.
    Forget,
}

/// The state of a shard.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) active: Option<Active>,
    /// Full segments whose last bytes were not synced yet.
    pub(crate) retired: Vec<Arc<File>>,
    /// A segment was made since the directory was last synced.
    pub(crate) directory_dirty: bool,
    /// Records that have been given a ticket.
    pub(crate) tickets: u64,
    /// Records, in order of their tickets, that the kernel has.
    pub(crate) written: u64,
    next_seq: u64,
    frame: Vec<u8>,
    backlog: VecDeque<Vec<u8>>,
    backlog_bytes: usize,
    /// The disk refused the last write.
    is_failing: bool,
    /// What may be forgotten is not even tried until the next [retry](Self::retry).
    is_refused: bool,
}

impl Shard {
    pub(crate) fn new(next_seq: u64) -> Self {
        Self { next_seq, ..Self::default() }
    }

    /// Writes the record that `encode` puts behind a frame's head, or else does with it as asked. While anything waits
    /// in the backlog everything goes there: tickets stay in order, and a failing disk is not asked once per request.
    pub(crate) fn append(
        &mut self,
        place: &Place<'_>,
        otherwise: Otherwise,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Appended {
        if otherwise == Otherwise::Forget && (self.is_refused || !self.backlog.is_empty()) {
            return Appended::Refused(None);
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(FRAME_HEAD, 0);
        encode(&mut frame);
        let was_failing = self.is_failing;
        let outcome = if self.backlog.is_empty() {
            match self.write(place, &mut frame) {
                Ok(()) => {
                    self.tickets += 1;
                    Appended::Written
                }
                Err(e) if otherwise == Otherwise::Forget => Appended::Refused((!was_failing).then_some(e)),
                Err(e) => self.keep(&frame, Some(e)),
            }
        } else {
            self.keep(&frame, None)
        };
        self.frame = frame;
        outcome
    }

    fn keep(&mut self, frame: &[u8], error: Option<io::Error>) -> Appended {
        if self.backlog_bytes + frame.len() > MAX_BACKLOG_BYTES {
            return Appended::Dropped;
        }
        self.backlog_bytes += frame.len();
        self.backlog.push_back(frame.to_vec());
        self.tickets += 1;
        Appended::Kept(error)
    }

    /// Writes what waits, oldest first, until all is written or the disk refuses again.
    pub(crate) fn retry(&mut self, place: &Place<'_>) -> io::Result<()> {
        self.is_refused = false;
        while let Some(mut frame) = self.backlog.pop_front() {
            let len = frame.len();
            if let Err(e) = self.write(place, &mut frame) {
                self.backlog.push_front(frame);
                return Err(e);
            }
            self.backlog_bytes -= len;
        }
        Ok(())
    }

    /// How many records wait in memory.
    pub(crate) fn waiting(&self) -> u64 {
        self.backlog.len() as u64
    }

    /// Whether the disk is to be tried again.
    pub(crate) fn is_down(&self) -> bool {
        self.is_refused || !self.backlog.is_empty()
    }

    /// Ends the open segment: the next record starts another.
    pub(crate) fn rotate(&mut self) {
        if let Some(active) = self.active.take() {
            self.retired.push(active.file);
        }
    }

    fn write(&mut self, place: &Place<'_>, frame: &mut [u8]) -> io::Result<()> {
        let result = self.try_write(place, frame);
        self.is_failing = result.is_err();
        self.is_refused = self.is_failing;
        result
    }

    fn try_write(&mut self, place: &Place<'_>, frame: &mut [u8]) -> io::Result<()> {
        let len = frame.len() as u64;
        if self.active.as_ref().is_some_and(|a| a.end + len > a.bytes) {
            self.rotate();
        }
        let active = match &mut self.active {
            Some(active) => active,
            none => {
                let made = create(place, &mut self.next_seq)?;
                self.directory_dirty = true;
                none.insert(made)
            }
        };
        seal_frame(frame, active.salt);
        if let Err(e) = active.write(place.disk, frame) {
            // A place on the disk that cannot be written is left behind. A full disk is not: the
            // next attempt overwrites the half-written record, so that no damage remains.
            if !is_full(&e) && active.end > HEADER {
                self.rotate();
            }
            return Err(e);
        }
        active.end += len;
        self.written += 1;
        Ok(())
    }
}

impl Active {
    fn write(&mut self, disk: &dyn Disk, frame: &[u8]) -> io::Result<()> {
        if self.has_windows && !self.window.as_ref().is_some_and(|w| w.covers(self.end, frame.len())) {
            // The old one is given back first: there may be no room for two.
            self.window = None;
            self.window = disk.window(&self.file, self.end).filter(|w| w.covers(self.end, frame.len()));
            self.has_windows = self.window.is_some();
        }
        match &mut self.window {
            Some(window) => window.write(frame, self.end),
            None => disk.write(&self.file, frame, self.end),
        }
    }
}

fn create(place: &Place<'_>, next_seq: &mut u64) -> io::Result<Active> {
    // Asked again each time: another process may have made segments, and dropped all but its last.
    *next_seq = (*next_seq).max(files::highest(place.journal, place.shard)?.saturating_add(1));
    let (mut attempts, mut bytes) = (0, place.segment_bytes);
    loop {
        attempts += 1;
        let header = Header { shard: place.shard, seq: *next_seq, salt: random()? };
        match place.disk.create(place.journal, header, bytes) {
            Ok(file) => {
                *next_seq += 1;
                let Header { seq, salt, .. } = header;
                let file = Arc::new(file);
                return Ok(Active { file, seq, end: HEADER, bytes, salt, window: None, has_windows: true });
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists && attempts < MAX_CREATE_ATTEMPTS => *next_seq += 1,
            // The last room of a disk is used too.
            Err(e) if is_full(&e) && bytes / SHRINK >= MIN_SEGMENT_BYTES => bytes /= SHRINK,
            Err(e) => return Err(e),
        }
    }
}

fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn random() -> io::Result<u32> {
    getrandom::u32().map_err(|e| io::Error::other(e.to_string()))
}
