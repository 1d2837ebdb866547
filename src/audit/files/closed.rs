//! The files that are not written any more: their names, their number, and their compression.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use weir_filters::json::put_time_ms;

use crate::ledger::stand_back;

/// Between two looks for files that somebody still had open.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What is compressed between two looks whether to stop.
const PIECE: usize = 256 << 10;
/// The ending of what is compressed, and of what is not yet.
const GZ: &str = "gz";
const HALF: &str = "half";

/// The closed files of one directory.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    directory: PathBuf,
    stem: &'static str,
    ending: &'static str,
}

/// A closed file.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    len: u64,
}

impl Closed {
    pub(super) fn new(directory: &Path, (stem, ending): (&'static str, &'static str)) -> Self {
        Self { directory: directory.to_owned(), stem, ending }
    }

    /// The name of the file that is written.
    pub(super) fn active_name(&self) -> String {
        format!("{}.{}", self.stem, self.ending)
    }

    /// Gives the file a name of its own, by which it stands behind all others.
    pub(super) fn close(&self, active: &Path, now: SystemTime) -> io::Result<PathBuf> {
        // No other file may have it: not one of this process, nor one of another that writes here too.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let ms = u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let mut time = Vec::new();
        put_time_ms(&mut time, ms);
        let time: String =
            time.iter().map(|&byte| char::from(byte)).filter(|c| !matches!(c, '"' | '-' | ':')).collect();
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = self.directory.join(format!("{}-{time}-{pid}-{number:03}.{}", self.stem, self.ending));
        fs::rename(active, &path)?;
        Ok(path)
    }

    /// Removes the oldest; `false`: there is none.
    pub(super) fn remove_oldest(&self) -> bool {
        self.list().iter().any(|oldest| fs::remove_file(&oldest.path).is_ok())
    }

    /// Removes the oldest until the rest is no larger than `bytes`.
    pub(super) fn shrink_to(&self, bytes: u64) {
        let all = self.list();
        let mut sum: u64 = all.iter().map(|file| file.len).sum();
        for file in all {
            if sum <= bytes {
                return;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => sum -= file.len,
                Err(e) => log::warn!("audit: {}: {e}", file.path.display()),
            }
        }
    }

    /// All of them, the oldest first: a name has the time in it.
    fn list(&self) -> Vec<Found> {
        let begins = format!("{}-", self.stem);
        let ends = [format!(".{}", self.ending), format!(".{}.{GZ}", self.ending)];
        let is_one = |name: &OsStr| {
            name.to_str().is_some_and(|name| {
                let rest = name.strip_prefix(&begins).unwrap_or_default();
                has_time(rest) && ends.iter().any(|end| rest.ends_with(end))
            })
        };
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut all: Vec<Found> = entries
            .filter(|entry| is_one(&entry.file_name()))
            .filter_map(|entry| Some(Found { path: entry.path(), len: entry.metadata().ok()?.len() }))
            .collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Compresses what is not compressed. What somebody still writes stays for the next time.
    pub(super) fn compress_all(&self, stop: &AtomicBool) {
        for file in self.list() {
            if stop.load(Ordering::Acquire) {
                return;
            }
            if file.path.extension() != Some(OsStr::new(GZ))
                && let Err(e) = compress(&file.path, stop)
                && e.kind() != io::ErrorKind::NotFound
            {
                log::warn!("audit: {} is left as it is: {e}", file.path.display());
            }
        }
    }

    /// Removes what an earlier process left half compressed.
    fn remove_halves(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(self.stem) && name.ends_with(HALF)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether a name goes on as [`Closed::close`] writes it: somebody else's file of a like name stays.
fn has_time(rest: &str) -> bool {
    let time = rest.split('-').next().unwrap_or_default();
    time.len() == "20261130T192004.123Z".len()
        && time.bytes().zip(b"00000000T000000.000Z").all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte == *like,
        })
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Puts the compressed file in the place of the other, whole: after a crash there is one of the two.
fn compress(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    let mut from = File::open(path)?;
    match flock(&from, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // Somebody still writes it.
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let half = with_ending(path, HALF);
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    let written = (|| {
        let mut to = GzEncoder::new(made, Compression::fast());
        let mut piece = vec![0; PIECE];
        loop {
            if stop.load(Ordering::Acquire) {
                return Ok(false);
            }
            match from.read(&mut piece)? {
                0 => break,
                n => to.write_all(&piece[..n])?,
            }
        }
        to.finish()?.sync_all()?;
        Ok(true)
    })();
    match written {
        Ok(true) => {
            fs::rename(&half, with_ending(path, GZ))?;
            fs::remove_file(path)
        }
        other => {
            let _ = fs::remove_file(&half);
            other.map(|_| ())
        }
    }
}

/// The thread that compresses.
pub(super) struct Compressor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compressor {
    /// Begins with what an earlier process has left.
    pub(super) fn start(closed: Closed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            stand_back();
            closed.remove_halves();
            while !stopped.load(Ordering::Acquire) {
                closed.compress_all(&stopped);
                std::thread::park_timeout(LOOK_EVERY);
            }
        };
        let thread = Builder::new().name("weir-audit-gz".into()).spawn(run);
        if let Err(e) = &thread {
            log::error!("audit: closed files are not compressed: {e}");
        }
        Self { stop, thread: thread.ok() }
    }

    /// There is something to do.
    pub(super) fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("audit: the thread that compresses had panicked");
        }
    }
}
