//! Frames that wait on the disk, in their order, within a bound.
//!
//! Owns the files of one directory that are this process's: those that it made, and those that were left by processes
//! that are gone. A file belongs to whoever has its lock, so that two gateways, as at an upgrade, share the directory
//! and no frame. What is over the bound costs the oldest file: after a long outage the last hours are worth more
//! than the first. What was written survives kill -9; a power cut may cost what was not synced yet. Refuses to know
//! where frames go.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_filters::loki::Frame;

pub(crate) use segment::{Disk, RealDisk};
use segment::{Found, Segment};

use super::super::queue::SinkStats;

/// Files that the bound is divided into: so much of it is lost at once when there is no room.
const FILES: u64 = 32;

/// Smaller files would be made anew with every few frames.
const LEAST_FILE: u64 = 64 << 10;

/// How often a name is tried that another process took first.
const TRIES: u64 = 100;

/// Where a frame that was taken ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    number: u64,
    end: u64,
}

/// The frames on the disk.
pub(super) struct Spool {
    directory: PathBuf,
    disk: Box<dyn Disk>,
    max_bytes: u64,
    stats: Arc<SinkStats>,
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
    /// The number of the file that is written.
    writing: Option<u64>,
    /// The highest number that was given: none is given twice, as a place has nothing else to be known by.
    given: u64,
}

impl Spool {
    /// The spool in `directory`. Nothing is read and nothing made before it is needed.
    pub(super) fn new(directory: PathBuf, max_bytes: u64, disk: Box<dyn Disk>, stats: Arc<SinkStats>) -> Self {
        Self { directory, disk, max_bytes, stats, segments: BTreeMap::new(), bytes: 0, writing: None, given: 0 }
    }

    /// Takes over what processes have left that are gone, and says the last timestamp in it. What was left is counted
    /// as waiting from here on.
    pub(super) fn adopt(&mut self) -> u64 {
        let mut last_ns = 0;
        for (number, path) in files(&self.directory) {
            if self.segments.contains_key(&number) {
                continue;
            }
            match Segment::find(&path) {
                Ok(Found::Frames { segment, last_ns: last, torn }) => {
                    if torn > 0 {
                        log::warn!("{}: {torn} bytes at its end were not written whole, and are lost", path.display());
                    }
                    self.stats.find(segment.left);
                    self.bytes += segment.len;
                    self.segments.insert(number, segment);
                    last_ns = last_ns.max(last);
                }
                // Removed while it is locked: nobody else takes it for one that was left.
                Ok(Found::Nothing(_locked)) => _ = fs::remove_file(&path),
                Ok(Found::Taken) => {}
                Err(e) => log::warn!("{}: {e}; it is left as it is", path.display()),
            }
        }
        self.make_room(0);
        last_ns
    }

    /// Puts a frame behind all others.
    pub(super) fn append(&mut self, frame: &Frame) -> io::Result<Place> {
        let need = segment::BEFORE_FRAME + frame.as_bytes().len() as u64;
        let file = (self.max_bytes / FILES).max(LEAST_FILE);
        if let Some(writing) = self.writing.and_then(|number| self.segments.get(&number))
            && writing.len > segment::BEGIN
            && writing.len + need > file
        {
            writing.sync();
            self.writing = None;
        }
        if !self.make_room(need + segment::BEGIN) {
            return Err(io::Error::new(ErrorKind::StorageFull, "`spool` is too small for what is pushed at once"));
        }
        let number = match self.writing {
            Some(number) => number,
            None => self.create()?,
        };
        let Some(writing) = self.segments.get_mut(&number) else { return Err(ErrorKind::NotFound.into()) };
        match writing.append(&*self.disk, frame) {
            Ok(end) => {
                self.bytes += need;
                Ok(Place { number, end })
            }
            Err(e) => {
                // Another file may have better luck, and this one's end is what it was.
                self.writing = None;
                if self.segments.get(&number).is_some_and(|segment| segment.len == segment::BEGIN) {
                    self.remove(number);
                }
                Err(e)
            }
        }
    }

    /// Puts a frame behind all others that the caller has in hand already: it is not taken again.
    pub(super) fn append_in_hand(&mut self, frame: &Frame) -> io::Result<Place> {
        let place = self.append(frame)?;
        if let Some(segment) = self.segments.get_mut(&place.number) {
            segment.next = place.end;
            segment.left -= frame.len() as u64;
        }
        Ok(place)
    }

    /// The oldest frame, which is in the caller's hands from here on.
    pub(super) fn take(&mut self) -> Option<(Frame, Place)> {
        loop {
            let (&number, segment) = self.segments.iter_mut().find(|(_, segment)| segment.next < segment.len)?;
            if let Some((frame, end)) = segment.take() {
                return Some((frame, Place { number, end }));
            }
            let left = segment.left;
            let path = path(&self.directory, number);
            log::error!("{}: cannot be read any more; {left} records in it are lost", path.display());
            self.lose(number);
        }
    }

    /// The frame that was taken is delivered.
    pub(super) fn delivered(&mut self, place: Place) {
        let Some(segment) = self.segments.get(&place.number) else { return };
        if place.end == segment.len {
            self.remove(place.number);
        } else {
            segment.delivered_to(&*self.disk, place.end);
        }
    }

    /// Whether the frame that was taken is still on the disk, or had to make room.
    pub(super) fn has(&self, place: Place) -> bool {
        self.segments.contains_key(&place.number)
    }

    /// Whether there is nothing that could be taken.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.values().all(|segment| segment.next == segment.len)
    }

    /// Records that nobody has in hand.
    pub(super) fn records(&self) -> u64 {
        self.segments.values().map(|segment| segment.left).sum()
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) {
        self.segments.values().for_each(Segment::sync);
    }

    /// Removes the oldest files until there is room for `need` bytes more; `false`: there never is.
    fn make_room(&mut self, need: u64) -> bool {
        while self.bytes + need > self.max_bytes {
            let Some((&oldest, _)) = self.segments.first_key_value() else { return false };
            self.lose(oldest);
        }
        true
    }

    fn create(&mut self) -> io::Result<u64> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let highest = files(&self.directory).last().map_or(0, |(number, _)| *number);
        let first = highest.max(self.given) + 1;
        for number in first..first + TRIES {
            self.given = number;
            if let Some(segment) = Segment::create(&*self.disk, &path(&self.directory, number))? {
                self.bytes += segment.len;
                self.segments.insert(number, segment);
                self.writing = Some(number);
                return Ok(number);
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Removes a file and what nobody has in hand of it.
    fn lose(&mut self, number: u64) {
        let left = self.segments.get(&number).map_or(0, |segment| segment.left);
        self.stats.drop_records(left);
        self.remove(number);
    }

    fn remove(&mut self, number: u64) {
        let path = path(&self.directory, number);
        if let Some(segment) = self.segments.remove(&number) {
            self.bytes -= segment.len;
            if let Err(e) = fs::remove_file(&path)
                && e.kind() != ErrorKind::NotFound
            {
                log::warn!("{}: {e}; what is in it is delivered again by the next process", path.display());
            }
        }
        if self.writing == Some(number) {
            self.writing = None;
        }
    }
}

const EXTENSION: &str = "spool";

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.{EXTENSION}"))
}

/// The files of the spool, whosever they are, in their order.
fn files(directory: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let number = |path: &Path| {
        let digits = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<_> = paths.filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort_unstable();
    found
}
