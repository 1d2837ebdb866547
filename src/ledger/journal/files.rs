//! Owns the journal's files: names, listing, creation, the lock that says who is writing. Refuses to
//! know what stands in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::segment::Header;
use super::window::Window;

/// The place of a segment: shards in order, and in each the segments in the order of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId {
    pub(crate) shard: u16,
    pub(crate) seq: u64,
}

/// The writes of the journal, so that a test can let them fail.
pub(crate) trait Disk: Send + Sync {
    /// Makes the segment of `header` with `bytes` of space, locked for this process. Fails with
    /// `AlreadyExists` when another process took the number first.
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File>;
    /// The piece of `file` around `at` in memory, if it can be had: instead of writes.
    fn window(&self, _file: &File, _at: u64) -> Option<Window> {
        None
    }
    /// Writes all of `bytes` at `at`.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until what was written is on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Waits until the names in a directory are on the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        sync_directory(path)
    }
}

/// The real one.
pub(crate) struct RealDisk;

const DRAFT: &str = "new-";
/// Makes the names of drafts differ, in case one process has two journals.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

impl Disk for RealDisk {
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File> {
        let id = SegmentId { shard: header.shard, seq: header.seq };
        let path = id.path(journal);
        fs::create_dir_all(shard_directory(journal, id.shard))?;
        // Written and locked under another name: whoever finds the segment finds it whole, and
        // never takes it for one that was abandoned.
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = path.with_extension(format!("{DRAFT}{}-{number}", std::process::id()));
        let made = (|| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&draft)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            preallocate(&file, bytes)?;
            file.write_all_at(&header.encode(), 0)?;
            fs::hard_link(&draft, &path)?;
            Ok(file)
        })();
        let _ = fs::remove_file(&draft);
        made
    }

    fn window(&self, file: &File, at: u64) -> Option<Window> {
        Window::open(file, at)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Gives the file its blocks at once: appends then neither fail for want of space nor change the
/// file's size, which a sync would have to write too. Where the file system cannot, the file is
/// sparse.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        Err(e) => Err(e.into()),
    }
}

impl SegmentId {
    pub(crate) fn path(self, journal: &Path) -> PathBuf {
        shard_directory(journal, self.shard).join(format!("{:016x}.journal", self.seq))
    }
}

pub(crate) fn shard_directory(journal: &Path, shard: u16) -> PathBuf {
    journal.join(format!("{shard:04x}"))
}

/// Every segment with its length in bytes, in order. Files of other names are left alone.
pub(crate) fn list(journal: &Path) -> io::Result<Vec<(SegmentId, u64)>> {
    let mut all = Vec::new();
    for directory in entries(journal)? {
        let Some(shard) = hex_name(&directory, "", 4).and_then(|n| u16::try_from(n).ok()) else {
            continue;
        };
        for file in entries(&directory)? {
            let Some(seq) = hex_name(&file, "journal", 16) else {
                continue;
            };
            // It may have been dropped since it was listed.
            if let Ok(meta) = fs::metadata(&file) {
                all.push((SegmentId { shard, seq }, meta.len()));
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Removes what processes that are gone left half made.
pub(crate) fn remove_drafts(journal: &Path) -> io::Result<()> {
    for directory in entries(journal)? {
        for file in entries(&directory)? {
            let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if extension.starts_with(DRAFT) && File::open(&file).is_ok_and(|f| is_sealed(&f)) {
                fs::remove_file(&file)?;
            }
        }
    }
    Ok(())
}

/// The highest number of a segment of `shard`, 0 without one.
pub(crate) fn highest(journal: &Path, shard: u16) -> io::Result<u64> {
    let found = entries(&shard_directory(journal, shard))?;
    Ok(found.iter().filter_map(|file| hex_name(file, "journal", 16)).max().unwrap_or(0))
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(found) => found.map(|e| Ok(e?.path())).collect(),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn hex_name(path: &Path, extension: &str, digits: usize) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let right = path.extension().unwrap_or_default() == extension && stem.len() == digits;
    right.then(|| u64::from_str_radix(stem, 16).ok()).flatten()
}

/// Whether nobody writes the segment any more. A writer holds a lock on its file, which the kernel
/// gives back when the process is gone, however it went.
pub(crate) fn is_sealed(file: &File) -> bool {
    if flock(file, FlockOperation::NonBlockingLockShared).is_ok() {
        let _ = flock(file, FlockOperation::Unlock);
        return true;
    }
    false
}

/// Takes the lock file `path` for as long as the answer lives; `None` if another process holds it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once_and_its_writer_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let header = Header { shard: 0xab, seq: 0x1f, salt: 1 };
        let file = RealDisk.create(dir.path(), header, 4096).unwrap();
        let again = RealDisk.create(dir.path(), header, 4096).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        fs::write(shard_directory(dir.path(), 0xab).join("notes.txt"), "x").unwrap();
        let id = SegmentId { shard: 0xab, seq: 0x1f };
        assert_eq!(list(dir.path()).unwrap(), [(id, 4096)]);
        let other = File::open(id.path(dir.path())).unwrap();
        assert!(!is_sealed(&other));
        drop(file);
        assert!(is_sealed(&other));
        assert_eq!(list(&dir.path().join("absent")).unwrap(), []);
    }

    #[test]
    fn a_lock_file_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
