//! Owns sled: the only file that names it. Refuses to know what a row means.
//!
//! What sled 0.34.7 asks of its user: a half-written `snap.*.generating` makes it refuse to open for
//! ever, so it is removed first (whoever opens a store holds a lock of his own by then, so it is nobody's); its cache
//! takes ten times what it is told, so it is told little; its `flush` is no promise against power
//! loss, so nothing here relies on it; a damaged file can make it panic, so each call is guarded.

use std::any::Any;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A key and its value; without a value the key is removed.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>);

/// Resident memory is reported to reach ten times this.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's own threads may hold its lock for a moment after the store was dropped, and so does a child
/// of this process between its fork and its exec.
const LOCK_LINGERS: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Rows in one batch of a rebuild: sled holds a batch in memory until it is written.
const REBUILD_BATCH: usize = 4096;
/// Broken stores that are kept for a look; older ones are removed, or a failing disk would be filled
/// with them.
const MAX_SET_ASIDE: u64 = 3;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process has it open.
    #[error("another process has the store open")]
    Locked,
    /// Its files are damaged.
    #[error("the store is damaged: {0}")]
    Broken(String),
    /// The disk failed or is full; the files may be good.
    #[error("the store's disk: {0}")]
    Io(String),
}

/// An open store of rows.
pub(crate) struct Store {
    db: sled::Db,
}

impl Store {
    /// Opens or makes the store in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, CACHE_BYTES)
    }

    /// The same, with another size of sled's cache.
    pub(crate) fn open_with(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        remove_half_snapshots(directory).map_err(|e| StoreError::Io(e.to_string()))?;
        let config = sled::Config::new().path(directory).cache_capacity(cache_bytes);
        let deadline = Instant::now() + LOCK_LINGERS;
        loop {
            match guarded(|| config.open()) {
                Err(StoreError::Locked) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
                opened => return opened.map(|db| Self { db }),
            }
        }
    }

    /// Every row.
    pub(crate) fn rows(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        guarded(|| self.db.iter().map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect())
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| Ok(self.db.get(key)?.map(|value| value.to_vec())))
    }

    /// Shows the rows whose keys are not before `from` and before `until`, in the order of their keys, for as long as
    /// `visit` goes on.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        until: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        guarded(|| {
            for row in self.db.range(from..until) {
                let (key, value) = row?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Writes all of `rows`, or after a crash none of them.
    pub(crate) fn write(&self, rows: impl IntoIterator<Item = Row>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(batch))
    }

    /// Makes `rows` the only content. The row of the key `meta` goes first and comes last, so that a crash
    /// in between leaves a store that says it is not complete.
    pub(crate) fn replace(&self, meta: &[u8], rows: impl IntoIterator<Item = Row>) -> Result<(), StoreError> {
        guarded(|| {
            self.db.remove(meta)?;
            self.db.clear()
        })?;
        let mut last = None;
        let mut part = Vec::with_capacity(REBUILD_BATCH);
        for row in rows {
            if row.0 == meta {
                last = Some(row);
                continue;
            }
            part.push(row);
            if part.len() == REBUILD_BATCH {
                self.write(part.drain(..))?;
            }
        }
        self.write(part.into_iter().chain(last))
    }

    /// Hands what was written to the kernel.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush()).map(|_| ())
    }
}

/// Moves a store that cannot be used out of the way, to `<its name>.broken-<number>` beside it, and answers where it
/// is now.
pub(crate) fn set_aside(directory: &Path) -> io::Result<PathBuf> {
    let base = directory.file_name().and_then(|name| name.to_str()).unwrap_or("store");
    let name = |n: u64| directory.with_file_name(format!("{base}.broken-{n}"));
    let mut taken: Vec<u64> = Vec::new();
    for entry in fs::read_dir(directory.parent().unwrap_or(directory))? {
        let found = entry?.file_name();
        let number = found.to_str().and_then(|f| f.strip_prefix(base)?.strip_prefix(".broken-"));
        taken.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    let next = taken.iter().max().map_or(1, |n| n.saturating_add(1));
    fs::rename(directory, name(next))?;
    for old in taken {
        if old.saturating_add(MAX_SET_ASIDE) <= next {
            let path = name(old);
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(name(next))
}

/// sled issues 1527 and 1533.
fn remove_half_snapshots(directory: &Path) -> io::Result<()> {
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        // A file in the directory's place is sled's to refuse.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    for entry in found {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let is_half = path.extension().is_some_and(|e| e == "generating");
        if name.starts_with("snap.") && is_half {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(sort(e)),
        Err(panic) => Err(StoreError::Broken(format!("sled panicked: {}", panic_text(&*panic)))),
    }
}

fn sort(e: sled::Error) -> StoreError {
    match e {
        sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => StoreError::Locked,
        // What sled says when a file is shorter than it must be, or a name is not what it must be.
        sled::Error::Io(e)
            if matches!(
                e.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotADirectory | ErrorKind::AlreadyExists
            ) =>
        {
            StoreError::Broken(e.to_string())
        }
        sled::Error::Io(e) => StoreError::Io(e.to_string()),
        other => StoreError::Broken(other.to_string()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str) -> Row {
        (key.into(), Some(value.into()))
    }

    #[test]
    fn rows_are_written_replaced_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        store.write([row("!", "meta"), row("a", "1"), row("b", "2")]).unwrap();
        store.write([(b"a".to_vec(), None), row("b", "3")]).unwrap();
        assert_eq!(store.rows().unwrap(), [(b"!".to_vec(), b"meta".to_vec()), (b"b".to_vec(), b"3".to_vec())]);
        assert!(matches!(Store::open(&path), Err(StoreError::Locked)));
        let many = (0..10_000).map(|n| row(&format!("k{n:05}"), "v"));
        store.replace(b"!", std::iter::once(row("!", "new")).chain(many)).unwrap();
        store.flush().unwrap();
        drop(store);
        let rows = Store::open(&path).unwrap().rows().unwrap();
        assert_eq!((rows.len(), rows[0].1.as_slice()), (10_001, b"new".as_slice()));
    }

    #[test]
    fn rows_are_found_by_their_key_and_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        store.write(["a", "b", "ba", "c", "d"].map(|key| row(key, key))).unwrap();
        assert_eq!(store.get(b"ba").unwrap().as_deref(), Some(&b"ba"[..]));
        assert_eq!(store.get(b"bb").unwrap(), None);
        let scan = |from: &str, until: &str, most: usize| {
            let mut found = Vec::new();
            let visit = |key: &[u8], value: &[u8]| {
                assert_eq!(key, value);
                found.push(String::from_utf8(key.to_vec()).unwrap());
                if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            store.scan(from.as_bytes(), until.as_bytes(), visit).unwrap();
            found
        };
        assert_eq!(scan("b", "d", 9), ["b", "ba", "c"]);
        assert_eq!(scan("a0", "z", 2), ["b", "ba"]);
        assert!(scan("e", "z", 9).is_empty());
    }

    #[test]
    fn a_half_written_snapshot_of_sled_does_not_keep_it_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        Store::open(&path).unwrap().write([row("a", "1")]).unwrap();
        fs::write(path.join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
        assert_eq!(Store::open(&path).unwrap().rows().unwrap().len(), 1);
    }

    #[test]
    fn only_the_newest_broken_stores_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        for n in 1..=5 {
            fs::create_dir(&path).unwrap();
            assert_eq!(set_aside(&path).unwrap(), dir.path().join(format!("store.broken-{n}")));
        }
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["store.broken-3", "store.broken-4", "store.broken-5"]);
    }
}
