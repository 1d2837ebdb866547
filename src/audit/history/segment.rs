//! The files of the history: records, one a line, appended and never changed.
//!
//! Owns their names, their making and their reading. Refuses to know what is in a line.
//!
//! A file is a *segment*. Its number is the time of its making in milliseconds, or the next one that nobody has: numbers
//! grow with time and two processes never have the same. Whoever writes a segment holds a lock on it, which the kernel
//! gives back when the process is gone, however it went. No process writes on in a segment of another one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const EXTENSION: &str = "records";
const DRAFT: &str = "draft";

/// What is read at once of a segment.
const READ_BYTES: usize = 1 << 20;

/// The longest line that is read back. Two bodies of the largest size that can be recorded are shorter, unless most of
/// their text has to be escaped.
const MAX_LINE: usize = 64 << 20;

/// The writes of the history, so that a test can let them fail.
pub(super) trait Disk: Send + Sync {
    /// Makes the first segment from number `at_least` on that nobody has, locked for this process.
    fn create(&self, directory: &Path, at_least: u64) -> io::Result<(u64, File)> {
        create(directory, at_least)
    }

    /// Writes all of `bytes` at `at`.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

/// The real one.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Makes the directory of the segments. Who asked what is nobody else's business.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.{EXTENSION}"))
}

/// Every segment with its length in bytes, in order. Files of other names are left alone.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // It may have been removed since it was listed.
        if let (Some(number), Ok(meta)) = (number_of(&entry.path()), entry.metadata()) {
            all.push((number, meta.len()));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Removes a segment. What stays after a failure is found again, and removed at another time.
pub(super) fn remove(directory: &Path, number: u64) {
    let path = path(directory, number);
    if let Err(e) = fs::remove_file(&path)
        && e.kind() != ErrorKind::NotFound
    {
        log::warn!("history: {}: {e}", path.display());
    }
}

/// Removes what processes that are gone left half made.
pub(super) fn remove_drafts(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == DRAFT) && File::open(&path).is_ok_and(|f| !is_live(&f))
        {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether somebody writes the segment.
pub(super) fn is_live(file: &File) -> bool {
    if flock(file, FlockOperation::NonBlockingLockShared).is_ok() {
        let _ = flock(file, FlockOperation::Unlock);
        return false;
    }
    true
}

/// Takes the lock file `path` for as long as the answer lives; `None` if another one holds it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn create(directory: &Path, at_least: u64) -> io::Result<(u64, File)> {
    // Locked under another name: whoever finds the segment never takes it for one that was abandoned. The name is this
    // process's, and its history's in it.
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|e| io::Error::other(e.to_string()))?;
    let draft = directory.join(format!("{:016x}.{DRAFT}", u64::from_le_bytes(suffix)));
    let made = (|| {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        for number in at_least.. {
            match fs::hard_link(&draft, path(directory, number)) {
                Ok(()) => return Ok((number, file)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    })();
    let _ = fs::remove_file(&draft);
    made
}

fn number_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let right = path.extension()? == EXTENSION && stem.len() == 16;
    right.then(|| u64::from_str_radix(stem, 16).ok()).flatten()
}

/// The lines of a segment, from its beginning on; one that is written still has more later.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    /// Where the last whole line ended.
    at: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, at: 0 })
    }

    /// Whether somebody writes on.
    pub(super) fn is_live(&self) -> bool {
        is_live(&self.file)
    }

    /// Shows some of the next whole lines, line feeds included. `false`: there are none, for now; a line without an end
    /// is none.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            match self.file.read_at(&mut buffer[filled..], self.at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if filled == buffer.len() {
                if memchr::memrchr(b'\n', &buffer).is_some() || filled >= MAX_LINE {
                    break;
                }
                buffer.resize(filled * 2, 0);
            }
        }
        let Some(last) = memchr::memrchr(b'\n', &buffer[..filled]) else { return Ok(false) };
        let whole = &buffer[..=last];
        whole.split_inclusive(|byte| *byte == b'\n').for_each(&mut each);
        self.at += whole.len() as u64;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(lines: &mut Lines) -> Vec<usize> {
        let mut lengths = Vec::new();
        while lines.read(|line| lengths.push(line.len())).unwrap() {}
        lengths
    }

    #[test]
    fn a_number_is_taken_once_and_its_writer_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (first, file) = create(dir.path(), 5).unwrap();
        let (second, _other) = create(dir.path(), 5).unwrap();
        assert_eq!((first, second), (5, 6));
        fs::write(dir.path().join("notes.records"), "x").unwrap();
        fs::write(dir.path().join("0000000000000001.draft"), "").unwrap();
        remove_drafts(dir.path()).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [(5, 0), (6, 0)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no draft stays");
        let lines = Lines::open(&path(dir.path(), 5)).unwrap();
        assert!(lines.is_live());
        drop(file);
        assert!(!lines.is_live());
    }

    #[test]
    fn lines_of_any_length_are_read_whole_and_a_torn_one_when_it_has_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (number, file) = create(dir.path(), 1).unwrap();
        let mut lines = Lines::open(&path(dir.path(), number)).unwrap();
        assert!(read_all(&mut lines).is_empty());
        let long = 3 * READ_BYTES;
        let mut text = b"ab\n\n".to_vec();
        text.resize(text.len() + long, b'x');
        text.extend_from_slice(b"\ncd\ntorn");
        file.write_all_at(&text, 0).unwrap();
        assert_eq!(read_all(&mut lines), [3, 1, long + 1, 3]);
        file.write_all_at(b"!\n", text.len() as u64).unwrap();
        assert_eq!(read_all(&mut lines), [6]);
    }
}
