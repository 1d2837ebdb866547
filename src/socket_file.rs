//! A socket file in the data directory: its making, its permissions, its removal.
//!
//! Owns the file. Knows nothing of what is said over it, nor of who listens.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket whose file only its owner may open, removed on drop.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    /// The file to be removed, if it is this one's to remove.
    file: Option<(PathBuf, Identity)>,
}

/// Device and inode.
type Identity = (u64, u64);

impl Socket {
    /// A socket whose file belongs to somebody else in this process.
    pub(crate) fn lent(listener: UnixListener) -> Self {
        Self { listener, file: None }
    }

    /// The socket at `path` that another process has handed over, with its file.
    pub(crate) fn inherited(listener: UnixListener, path: &Path) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { listener, file: Some((path.to_owned(), identity)) })
    }

    /// The listener, for a runtime.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Leaves the file to the process that listens there from now on.
    pub(crate) fn leave_file(&mut self) {
        self.file = None;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another process may have put its own there since.
        if let Some((path, made)) = &self.file
            && fs::symlink_metadata(path).is_ok_and(|file| identity(&file) == *made)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens at `path`. A socket that a dead process left there is replaced; one that is alive, or any other file,
/// is an error.
pub(crate) fn bind(path: &Path) -> io::Result<Socket> {
    try_bind(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn try_bind(path: &Path) -> io::Result<Socket> {
    refuse_if_in_use(path)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A socket is born with the umask's permissions. In a directory that nobody else may enter that harms no one;
    // it moves to its place when only its owner may open it.
    let nursery = tempfile::Builder::new().prefix(".").rand_bytes(6).tempdir_in(parent)?;
    let born = nursery.path().join("s");
    let listener = UnixListener::bind(&born)?;
    fs::set_permissions(&born, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let identity = identity(&fs::symlink_metadata(&born)?);
    fs::rename(&born, path)?;
    Ok(Socket { listener, file: Some((path.to_owned(), identity)) })
}

fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_may_open_it_and_nothing_else_is_left() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let socket = bind(&path).unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead listener leaves its file");
        let _socket = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_one_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let _alive = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn another_file_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_successors_file_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let old = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = bind(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
    }
    #[test]
    fn a_file_that_was_left_or_is_lent_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let mut old = bind(&path).unwrap();
        drop(Socket::lent(old.listener().unwrap()));
        let new = Socket::inherited(old.listener().unwrap(), &path).unwrap();
        old.leave_file();
        drop(old);
        UnixStream::connect(&path).unwrap();
        drop(new);
        assert!(!path.exists(), "whoever inherited the file removes it");
    }
}
