//! The file that is written now.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memchr::memrchr;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often a file is opened anew that has gone meanwhile.
const OPENS: usize = 16;

/// An open file. What is appended is whole lines or nothing.
pub(super) struct Active {
    path: PathBuf,
    file: File,
    len: u64,
    born: SystemTime,
    /// A line was torn and could not be taken back: whoever reads it finds it broken, and the next one whole.
    is_torn: bool,
}

impl Active {
    /// Opens or makes `name` in `directory`, which only its owner may read.
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(name);
        for _ in 0..OPENS {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            // Says that somebody writes. Between the two another process may have closed the file and be compressing it.
            let is_shared = flock(&file, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK);
            let metadata = file.metadata()?;
            let born = metadata.created().or_else(|_| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
            let active = Self { path: path.clone(), file, len: metadata.len(), born, is_torn: false };
            if is_shared && active.has_its_name() {
                return Ok(active);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it, those of another process included when it was last written here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How old it is.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.born).unwrap_or_default()
    }

    /// Whether the name still stands for it: nobody has moved or removed it.
    pub(super) fn has_its_name(&self) -> bool {
        let (Ok(named), Ok(open)) = (std::fs::metadata(&self.path), self.file.metadata()) else { return false };
        (named.dev(), named.ino()) == (open.dev(), open.ino())
    }

    /// Appends lines; gives the bytes of those that are written whole, and what kept the others from it.
    pub(super) fn append(&mut self, lines: &[u8]) -> (usize, Option<io::Error>) {
        let start = match self.file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(e) => return (0, Some(e)),
        };
        self.len = start;
        if self.is_torn {
            if let Err(e) = self.file.write_all(b"\n") {
                return (0, Some(e));
            }
            self.is_torn = false;
            return self.append(lines);
        }
        let mut done = 0;
        while done < lines.len() {
            match self.file.write(&lines[done..]) {
                Ok(0) => return self.torn(start, &lines[..done], io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.torn(start, &lines[..done], e),
            }
        }
        self.len = start + done as u64;
        (done, None)
    }

    /// Takes back the part of a line that was written last.
    pub(super) fn torn(&mut self, start: u64, written: &[u8], error: io::Error) -> (usize, Option<io::Error>) {
        let whole = memrchr(b'\n', written).map_or(0, |at| at + 1);
        self.len = start + written.len() as u64;
        if whole < written.len() {
            let alone = self.file.metadata().is_ok_and(|metadata| metadata.len() == self.len);
            let keep = start + whole as u64;
            if alone && self.file.set_len(keep).is_ok() {
                self.len = keep;
            } else {
                self.is_torn = true;
            }
        }
        (whole, Some(error))
    }

    /// Has the disk take what was written.
    pub(super) fn sync(&self) {
        if let Err(e) = self.file.sync_data() {
            log::warn!("audit: {}: {e}", self.path.display());
        }
    }
}
