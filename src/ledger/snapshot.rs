//! Owns the snapshot file: all totals behind one checksum, from which the store is rebuilt once the
//! segments that it came from are gone. Refuses to know what a row means.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal::files::sync_directory;
use super::rows::BadRows;
use super::view::View;
use super::wire::{Reader, put_int};

const MAGIC: &[u8] = b"WEIRSNP1";

/// The file's name in the ledger's directory.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join("totals.snapshot")
}

/// The bytes of the file.
pub(crate) fn encode(view: &View) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (key, value) in view.all_rows() {
        let value = value.unwrap_or_default();
        put_int(&mut out, key.len() as u64);
        out.extend_from_slice(&key);
        put_int(&mut out, value.len() as u64);
        out.extend_from_slice(&value);
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads what [`encode`] made.
pub(crate) fn decode(bytes: &[u8]) -> Result<View, BadRows> {
    let bad = |why: &str| BadRows(format!("the snapshot {why}"));
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| bad("is too short"))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err(bad("fails its checksum"));
    }
    let rows = body.strip_prefix(MAGIC).ok_or_else(|| bad("is of another format"))?;
    let mut reader = Reader::new(rows);
    let mut malformed = false;
    let rows = std::iter::from_fn(|| {
        if reader.is_empty() {
            return None;
        }
        let row = row(&mut reader);
        malformed = row.is_none();
        row
    });
    let view = View::from_rows(rows)?;
    if malformed {
        return Err(bad("has a malformed row"));
    }
    view.ok_or_else(|| bad("is not complete"))
}

fn row(reader: &mut Reader<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut part = || {
        let len = usize::try_from(reader.int()?).ok()?;
        Some(reader.take(len)?.to_vec())
    };
    Some((part()?, part()?))
}

/// Replaces the file; when this returns, the new one is on the disk.
pub(crate) fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = path(directory);
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    sync_directory(directory)
}

/// The totals in the file, if there is one that is whole.
pub(crate) fn read(directory: &Path) -> io::Result<Option<Result<View, BadRows>>> {
    match fs::read(path(directory)) {
        Ok(bytes) => Ok(Some(decode(&bytes))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Tells one snapshot file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    len: u64,
}

/// The stamp of the present file.
pub(crate) fn stamp(directory: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path(directory)).ok()?;
    Some(Stamp { inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()), len: meta.len() })
}

#[cfg(test)]
mod tests {
    use super::super::codec::{RecordRef, encode as encode_record};
    use super::super::fixtures::settlement;
    use super::*;

    fn view() -> View {
        let mut view = View::default();
        let mut payload = Vec::new();
        encode_record(&settlement(1, 5), &mut payload);
        view.apply(&RecordRef::decode(&payload).unwrap());
        view
    }

    #[test]
    fn a_snapshot_survives_a_round_trip_and_replaces_the_last() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        assert_eq!(stamp(dir.path()), None);
        write(dir.path(), b"an older one").unwrap();
        assert!(read(dir.path()).unwrap().unwrap().is_err());
        let older = stamp(dir.path());
        write(dir.path(), &encode(&view())).unwrap();
        assert_ne!(stamp(dir.path()), older);
        let back = read(dir.path()).unwrap().unwrap().unwrap();
        assert_eq!(back.keys, view().keys);
        assert_eq!(back.meta, view().meta);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_refused() {
        let good = encode(&view());
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert!(decode(&bytes).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
