//! Owns the question whether the process that made a reservation still runs: each holds a lock on a file of its
//! own, which the kernel gives back when the process is gone, however it went. Refuses to know what is reserved.
//!
//! After two upgrades in a row there are three processes of one ledger, and whoever leads it next must not take a
//! neighbour that still serves its last streams for a dead one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::journal::files;

/// The folder of the files, in the ledger's directory.
const FOLDER: &str = "processes";

/// A file without a lock that is older than this belongs to nobody: it is locked as soon as it is made.
const ABANDONED: Duration = Duration::from_secs(60);

/// This process's sign of life, and a look at those of others.
#[derive(Debug)]
pub(crate) struct Alive {
    folder: PathBuf,
    own: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

impl Alive {
    /// Shows that `instance` lives.
    pub(crate) fn enter(directory: &Path, instance: u64) -> io::Result<Self> {
        let folder = directory.join(FOLDER);
        fs::create_dir_all(&folder)?;
        remove_abandoned(&folder);
        let own = path(&folder, instance);
        match files::try_lock(&own)? {
            Some(lock) => Ok(Self { folder, own, _lock: lock }),
            None => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: it is locked", own.display()))),
        }
    }

    /// Whether `instance` lives. What cannot be told counts as alive: it is asked again.
    pub(crate) fn is_alive(&self, instance: u64) -> bool {
        let path = path(&self.folder, instance);
        match File::open(&path) {
            Ok(file) => !files::is_sealed(&file),
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes the signs of those that are known to be gone.
    pub(crate) fn forget(&self, dead: &[u64]) {
        for instance in dead {
            let _ = fs::remove_file(path(&self.folder, *instance));
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        let _ = fs::remove_file(&self.own);
    }
}

/// Of processes that were killed and left nothing to settle.
fn remove_abandoned(folder: &Path) {
    let is_old = |file: &File| {
        let made = file.metadata().and_then(|meta| meta.modified()).ok()?;
        made.elapsed().ok().map(|age| age > ABANDONED)
    };
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = found.path();
        if File::open(&path).is_ok_and(|file| is_old(&file) == Some(true) && files::is_sealed(&file)) {
            // Whoever is before this one in removing it has done as well.
            let _ = fs::remove_file(&path);
        }
    }
}

fn path(folder: &Path, instance: u64) -> PathBuf {
    folder.join(format!("{instance:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_gone_however_it_went() {
        let home = tempfile::tempdir().unwrap();
        let one = Alive::enter(home.path(), 1).unwrap();
        let other = Alive::enter(home.path(), 2).unwrap();
        assert!(Alive::enter(home.path(), 2).is_err());
        assert!(one.is_alive(1) && one.is_alive(2) && !one.is_alive(3));
        drop(other);
        assert!(!one.is_alive(2));
        // Of one that was killed the file stays, and no lock.
        for killed in [4, 5, 6] {
            fs::write(path(&one.folder, killed), "").unwrap();
            assert!(!one.is_alive(killed));
        }
        one.forget(&[4]);
        let old = std::time::SystemTime::now() - ABANDONED * 2;
        for instance in [1, 5] {
            File::options().write(true).open(path(&one.folder, instance)).unwrap().set_modified(old).unwrap();
        }
        let next = Alive::enter(home.path(), 7).unwrap();
        let mut left: Vec<_> = fs::read_dir(&one.folder).unwrap().map(|file| file.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, [1, 6, 7].map(|instance| path(&one.folder, instance)), "6 may be about to be locked");
        assert!(next.is_alive(1));
    }
}
