//! Owns the ledger's own name: sixteen hexadecimal digits that no other ledger has, in a file beside its data. By it a
//! record says in which ledger it was counted. Refuses to know records.
//!
//! The name lives and dies with the counters. Whoever removes them and keeps the file begins a new ledger under a new
//! name, so that the records of the old one can be imported into it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::journal::files::{self, sync_directory};
use super::snapshot;

/// Digits of an id.
const DIGITS: usize = 16;

/// What tells a ledger from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerId(u64);

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl LedgerId {
    /// Whether a record's `node` says that it was counted in this ledger.
    pub fn is_of(self, node: &str) -> bool {
        node.rsplit_once('/').is_some_and(|(_, id)| read(id) == Some(self))
    }

    /// The id of the ledger in `directory`; a new one for a ledger that has none. `is_new`: there is nothing yet that
    /// an id which is found there could belong to.
    pub(super) fn open(directory: &Path, is_new: bool) -> io::Result<Self> {
        let path = path(directory);
        if !is_new {
            match fs::read_to_string(&path).map(|text| read(text.trim_ascii_end())) {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => log::error!("ledger: {} holds no id and is written anew", path.display()),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() == ErrorKind::InvalidData => {
                    log::error!("ledger: {} holds no id and is written anew", path.display());
                }
                Err(e) => return Err(e),
            }
        }
        let id = Self(getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?);
        let draft = path.with_extension("id.new");
        let mut file = File::create(&draft)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_directory(directory)?;
        Ok(id)
    }
}

/// Whether there is nothing yet of a ledger in `directory`: no journal, no store, no snapshot.
pub(super) fn is_new(directory: &Path) -> io::Result<bool> {
    let is_there = |name: &Path| directory.join(name).try_exists();
    Ok(files::list(&directory.join("journal"))?.is_empty()
        && !is_there(Path::new("store"))?
        && !is_there(&snapshot::path(directory))?)
}

fn path(directory: &Path) -> PathBuf {
    directory.join("ledger.id")
}

fn read(text: &str) -> Option<LedgerId> {
    // As it is written, and not as other numbers may be.
    let is_id = text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| u64::from_str_radix(text, 16).ok().map(LedgerId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_keeps_its_id_and_a_new_one_gets_another() {
        let home = tempfile::tempdir().unwrap();
        let made = LedgerId::open(home.path(), true).unwrap();
        assert_eq!(fs::read_to_string(home.path().join("ledger.id")).unwrap(), format!("{made}\n"));
        assert_eq!(LedgerId::open(home.path(), false).unwrap(), made);
        let next = LedgerId::open(home.path(), true).unwrap();
        assert_ne!(next, made, "its counters are gone");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_without_an_id_is_written_anew() {
        for text in ["", "0123456789abcde", "0123456789ABCDEF", "+123456789abcdef", "\u{fc}"] {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join("ledger.id"), text).unwrap();
            let made = LedgerId::open(home.path(), false).unwrap();
            assert_eq!(LedgerId::open(home.path(), false).unwrap(), made);
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("ledger.id"), [0xff, 0xfe]).unwrap();
        assert!(LedgerId::open(home.path(), false).is_ok());
    }

    #[test]
    fn a_node_names_the_ledger_behind_its_last_slash() {
        let id = LedgerId(0xab);
        for (node, is_own) in [
            ("fra-1/00000000000000ab", true),
            ("a/b/00000000000000ab", true),
            ("/00000000000000ab", true),
            ("00000000000000ab", false),
            ("fra-1/00000000000000ac", false),
            ("fra-1/ab", false),
            ("fra-1/00000000000000AB", false),
            ("fra-1/00000000000000ab/", false),
            ("", false),
        ] {
            assert_eq!(id.is_of(node), is_own, "{node}");
        }
    }
}
