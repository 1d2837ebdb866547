//! Records as files of lines: one that is written, and those before it, closed and compressed.
//!
//! Owns when a file is closed, what gives way when there is no room, and that a line is whole or not there. Two
//! processes may write the same file for a while, as they do at an upgrade. Refuses to know what a line says.

mod active;
mod closed;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use memchr::{memchr, memchr_iter, memrchr};
use rustix::io::Errno;

use crate::config::{Files, FullDisk};

use self::active::Active;
use self::closed::{Closed, Compressor};
use super::batch::Batch;
use super::queue::{Next, Taker};

/// Between two looks at the clock while nothing is written.
const TICK: Duration = Duration::from_millis(250);
/// Between two looks whether the file still has its name, and two attempts on a disk that refused.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two sums of all files, beside the one after each closed file.
const SUM_EVERY: Duration = Duration::from_secs(30);
/// Between two lines of the log about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `records.jsonl`
    Records,
    /// `access.log`
    Access,
}

impl What {
    /// The beginning of a file's name, and its ending.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            What::Records => ("records", "jsonl"),
            What::Access => ("access", "log"),
        }
    }

    fn lines(self, batch: &Batch) -> &[u8] {
        match self {
            What::Records => &batch.lines,
            What::Access => &batch.access,
        }
    }
}

/// A number that is raised by whoever wants all files opened anew, as after a logrotate.
pub(crate) type Reopen = Arc<AtomicU64>;

/// The sink.
pub(crate) struct FileSink {
    config: Files,
    what: What,
    directory: PathBuf,
    active: Option<Active>,
    closed: Closed,
    compressor: Option<Compressor>,
    reopen: Reopen,
    reopened: u64,
    looked: Instant,
    summed: Option<Instant>,
    said: Option<Instant>,
    /// When a file last could not be closed.
    stuck: Option<Instant>,
}

impl FileSink {
    /// Files in the directory that `config` names, from `data_dir` on.
    pub(crate) fn new(config: &Files, what: What, data_dir: &Path, reopen: &Reopen) -> Self {
        let directory = data_dir.join(&config.directory);
        let closed = Closed::new(&directory, what.name());
        Self {
            config: config.clone(),
            what,
            active: None,
            closed,
            compressor: None,
            reopened: reopen.load(Ordering::Relaxed),
            reopen: reopen.clone(),
            looked: Instant::now(),
            summed: None,
            said: None,
            stuck: None,
            directory,
        }
    }

    /// Writes what comes, to the end.
    pub(crate) fn run(mut self, taker: &Taker) {
        if self.config.compress {
            self.compressor = Some(Compressor::start(self.closed.clone()));
        }
        loop {
            match taker.next_within(TICK) {
                Next::Batch(batch) => {
                    let lines = self.what.lines(&batch);
                    let lost = self.write(lines);
                    let all = batch.len() as u64;
                    // A request without a line of its own in the access log is none of its records.
                    taker.stats().drop_records(lost.min(all));
                    taker.stats().deliver(all - lost.min(all));
                }
                Next::Nothing => {}
                Next::Closed => break,
            }
            self.look_after();
        }
        if let Some(active) = &self.active {
            active.sync();
        }
    }

    /// Writes whole lines; the answer is how many could not be.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        while !rest.is_empty() {
            if let Err(e) = self.write_some(&mut rest) {
                let full =
                    [Errno::NOSPC, Errno::DQUOT].into_iter().any(|full| e.raw_os_error() == Some(full.raw_os_error()));
                if full && self.config.when_full == FullDisk::DropOldest && self.closed.remove_oldest() {
                    continue;
                }
                let lost = memchr_iter(b'\n', rest).count() as u64;
                self.say(&format!("{}: {e}; records are dropped", self.directory.display()));
                return lost;
            }
        }
        0
    }

    /// Writes the lines that the open file has room for, one at least, and takes them off `rest`.
    fn write_some(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        // A file that could not be closed is written on, and closed later.
        let is_stuck = self.stuck.is_some_and(|since| since.elapsed() < SAY_EVERY);
        let rotate = if is_stuck { u64::MAX } else { self.config.rotate };
        let active = self.open()?;
        let room = usize::try_from(rotate.saturating_sub(active.len())).unwrap_or(usize::MAX);
        let fits = if room >= rest.len() { Some(rest.len()) } else { memrchr(b'\n', &rest[..room]).map(|at| at + 1) };
        let Some(take) =
            fits.or_else(|| active.is_empty().then(|| memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)))
        else {
            self.rotate();
            return Ok(());
        };
        let (written, failed) = active.append(&rest[..take]);
        *rest = &rest[written..];
        failed.map_or(Ok(()), Err)
    }

    fn open(&mut self) -> io::Result<&mut Active> {
        let wanted = self.reopen.load(Ordering::Relaxed);
        if wanted != self.reopened {
            self.reopened = wanted;
            self.active = None;
        }
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if self.active.as_ref().is_some_and(|active| !active.has_its_name()) {
                self.active = None;
            }
        }
        let active = match self.active.take() {
            Some(active) => active,
            None => Active::open(&self.directory, &self.closed.active_name())?,
        };
        Ok(self.active.insert(active))
    }

    /// Closes the open file under a name of its own.
    fn rotate(&mut self) {
        let Some(active) = self.active.take() else { return };
        active.sync();
        self.stuck = None;
        if active.has_its_name()
            && let Err(e) = self.closed.close(active.path(), SystemTime::now())
        {
            self.stuck = Some(Instant::now());
            log::error!("audit: {}: cannot be closed, and grows on: {e}", active.path().display());
            self.active = Some(active);
            return;
        }
        // The compressor waits for whoever still has it open.
        drop(active);
        self.summed = None;
        if let Some(compressor) = &self.compressor {
            compressor.wake();
        }
    }

    /// What time brings: files that are old enough, and files that are too many.
    fn look_after(&mut self) {
        let is_stuck = self.stuck.is_some_and(|since| since.elapsed() < SAY_EVERY);
        let due =
            self.active.as_ref().is_some_and(|a| !a.is_empty() && a.age(SystemTime::now()) >= self.config.rotate_every);
        if due && !is_stuck {
            self.rotate();
        }
        if self.summed.is_none_or(|summed| summed.elapsed() >= SUM_EVERY) {
            self.summed = Some(Instant::now());
            let open = self.active.as_ref().map_or(0, Active::len);
            self.closed.shrink_to(self.config.max_total.saturating_sub(open));
        }
    }

    fn say(&mut self, what: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            log::error!("audit: {what}");
        }
    }
}
