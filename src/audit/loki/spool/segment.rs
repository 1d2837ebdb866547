//! One file of the spool: a header that says how far it has been delivered, then frames, each with its length and a
//! checksum.
//!
//! Owns the file's form, and the lock that says whose it is. Refuses to know which other files there are.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use weir_filters::loki::Frame;

const MAGIC: &[u8; 8] = b"weirlok1";

/// Where the first frame begins: behind the magic word and the place up to which all is delivered.
pub(super) const BEGIN: u64 = 16;

/// Before a frame: its length and its checksum.
pub(super) const BEFORE_FRAME: u64 = 8;

/// The longest frame that is believed: twice what is pushed at once, and not what a broken length says.
pub(super) const MAX_FRAME: usize = 8 << 20;

/// The writes of the spool, so that a test can let them fail.
pub(crate) trait Disk: Send {
    /// Makes a new file that only the owner reads.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `at`.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// The real one.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

/// A file that this process alone has.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    /// Its length, as far as frames are whole.
    pub(super) len: u64,
    /// Where the next frame begins that nobody has in hand yet.
    pub(super) next: u64,
    /// Records from there on.
    pub(super) left: u64,
}

/// What was found in a file that an earlier process, or another one, has left.
#[derive(Debug)]
pub(super) enum Found {
    /// Frames that are to be delivered.
    Frames {
        segment: Segment,
        /// The highest timestamp among them.
        last_ns: u64,
        /// Bytes at its end that are no frame: a write that was cut off.
        torn: u64,
    },
    /// Nothing to deliver: the file can go.
    Nothing(File),
    /// It is somebody's, or gone by now.
    Taken,
}

impl Segment {
    /// A new file; `None`: another process took the name, or took this for one that was left.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        let file = match disk.create(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(e) => return Err(e),
        };
        if !is_ours(&file)? {
            return Ok(None);
        }
        let mut header = [0; 16];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(&BEGIN.to_le_bytes());
        if let Err(e) = disk.write(&file, &header, 0) {
            let _ = std::fs::remove_file(path);
            return Err(e);
        }
        Ok(Some(Self { file, len: BEGIN, next: BEGIN, left: 0 }))
    }

    /// Takes a file that nobody has, and cuts off what is torn at its end.
    pub(super) fn find(path: &Path) -> io::Result<Found> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Taken),
            Err(e) => return Err(e),
        };
        if !is_ours(&file)? {
            return Ok(Found::Taken);
        }
        let len = file.metadata()?.len();
        let mut header = [0; 16];
        if len < BEGIN || file.read_exact_at(&mut header, 0).is_err() || header[..8] != MAGIC[..] {
            return Ok(Found::Nothing(file));
        }
        let said = header.last_chunk().map_or(0, |said| u64::from_le_bytes(*said));
        let next = if (BEGIN..=len).contains(&said) { said } else { BEGIN };
        let mut segment = Self { file, len, next, left: 0 };
        let (mut end, mut last_ns) = (next, 0);
        while let Some((frame, after)) = segment.read(end) {
            segment.left += frame.len() as u64;
            last_ns = frame.entries().map(|entry| entry.time_ns).fold(last_ns, u64::max);
            end = after;
        }
        segment.len = end;
        if segment.left == 0 {
            return Ok(Found::Nothing(segment.file));
        }
        if end < len {
            segment.file.set_len(end)?;
        }
        Ok(Found::Frames { segment, last_ns, torn: len - end })
    }

    /// Appends a frame and says where it ends. After a failure the file is as it was; if it cannot be, it ends there
    /// all the same, and takes no more.
    pub(super) fn append(&mut self, disk: &dyn Disk, frame: &Frame) -> io::Result<u64> {
        let bytes = frame.as_bytes();
        let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME);
        let len = len.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a push of this size cannot be kept"))?;
        let mut framed = Vec::with_capacity(bytes.len() + 8);
        framed.extend_from_slice(&len.to_le_bytes());
        framed.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        framed.extend_from_slice(bytes);
        if let Err(e) = disk.write(&self.file, &framed, self.len) {
            let _ = self.file.set_len(self.len);
            return Err(e);
        }
        self.len += framed.len() as u64;
        self.left += frame.len() as u64;
        Ok(self.len)
    }

    /// Takes the next frame into somebody's hands, and says where it ends.
    pub(super) fn take(&mut self) -> Option<(Frame, u64)> {
        let (frame, end) = self.read(self.next)?;
        self.next = end;
        self.left = self.left.saturating_sub(frame.len() as u64);
        Some((frame, end))
    }

    /// Says in the file that all before `end` is delivered. If that cannot be written it is delivered again after a
    /// kill, and Loki knows it again.
    pub(super) fn delivered_to(&self, disk: &dyn Disk, end: u64) {
        let _ = disk.write(&self.file, &end.to_le_bytes(), 8);
    }

    /// Waits until it is on the disk.
    pub(super) fn sync(&self) {
        let _ = self.file.sync_data();
    }

    fn read(&self, at: u64) -> Option<(Frame, u64)> {
        let mut before = [0; 8];
        let begin = at.checked_add(BEFORE_FRAME).filter(|begin| *begin <= self.len)?;
        self.file.read_exact_at(&mut before, at).ok()?;
        let [a, b, c, d, checksum @ ..] = before;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok().filter(|len| *len <= MAX_FRAME)?;
        let end = begin.checked_add(len as u64).filter(|end| *end <= self.len)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, begin).ok()?;
        let is_whole = crc32fast::hash(&bytes) == u32::from_le_bytes(checksum);
        // One without records is what a file looks like that was made longer and never written.
        Frame::from_bytes(bytes).filter(|frame| is_whole && !frame.is_empty()).map(|frame| (frame, end))
    }
}

/// Takes the lock on a file, for as long as it is open. `false`: it is another's, or was removed before.
fn is_ours(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
