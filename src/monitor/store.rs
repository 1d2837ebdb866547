//! The files of the monitor: lines, appended only, the oldest files removed.
//!
//! Owns their names and sizes, and that a line is whole or taken for none. One process writes here at a time, the one
//! that holds the lock: at an upgrade the next one waits until the last line of the one before is there.
//!
//! Lines are not forced to the disk: they survive the process, which is what a probe must not be made twice for. After a
//! loss of power some are asked once more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::line::{Finished, Line};

/// The folder, in the data directory.
const FOLDER: &str = "monitor";
/// Bytes after which another file is begun.
const FILE_BYTES: u64 = 4 << 20;
/// Bytes of all files: a week of a hundred channels that are asked for four models each half hour.
const MAX_TOTAL: u64 = 64 << 20;
/// A line is a run of fifty models at most, with what each upstream said.
const MAX_LINE: u64 = 1 << 20;

/// Where a line begins. Later lines have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) offset: u64,
}

/// The files, to be read by anybody.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// The files, to be written by whoever has the lock.
#[derive(Debug)]
pub(super) struct Store {
    folder: Folder,
    file_bytes: u64,
    max_total: u64,
    numbers: Vec<u32>,
    last: Option<(File, u64)>,
    _lock: File,
}

impl Folder {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join(FOLDER))
    }

    /// The right to write, if no other process has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.0.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Passes all lines to `each`, oldest first; how many could not be read.
    pub(super) fn replay(&self, mut each: impl FnMut(Place, Line)) -> io::Result<u64> {
        let mut broken = 0;
        for file in self.numbers()? {
            let mut reader = BufReader::new(File::open(self.path(file))?);
            let (mut offset, mut line) = (0, Vec::new());
            loop {
                line.clear();
                let read = reader.read_until(b'\n', &mut line)? as u64;
                if read == 0 {
                    break;
                }
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                match serde_json::from_slice(text) {
                    Ok(known) => each(Place { file, offset }, known),
                    Err(_) if text.is_empty() => {}
                    Err(e) => {
                        log::warn!("{}: no line of a probe at byte {offset}: {e}", self.path(file).display());
                        broken += 1;
                    }
                }
                offset += read;
            }
        }
        Ok(broken)
    }

    /// The run at a place; `None`: it gave way to newer ones.
    pub(super) fn run(&self, place: Place) -> io::Result<Option<Finished>> {
        let mut file = match File::open(self.path(place.file)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(place.offset))?;
        let mut line = Vec::new();
        BufReader::new(file).take(MAX_LINE).read_until(b'\n', &mut line)?;
        match serde_json::from_slice(&line)? {
            Line::Run(run) => Ok(Some(run)),
            _ => Err(io::Error::other("no run is where one was")),
        }
    }

    fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|digits| digits.len() == 8);
            numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.0.join(format!("{number:08}.jsonl"))
    }
}

impl Store {
    /// To be written with the right to.
    pub(super) fn open(folder: Folder, lock: File) -> io::Result<Self> {
        let numbers = folder.numbers()?;
        let mut store = Self { folder, file_bytes: FILE_BYTES, max_total: MAX_TOTAL, numbers, last: None, _lock: lock };
        if let Some(number) = store.numbers.last() {
            let mut file = OpenOptions::new().read(true).append(true).open(store.folder.path(*number))?;
            let mut size = file.seek(SeekFrom::End(0))?;
            let mut end = [b'\n'];
            if size > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut end)?;
            }
            // A kill in the middle of a line: what is left of it stays a line of its own.
            if end != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
            store.last = Some((file, size));
        }
        Ok(store)
    }

    /// Writes a line: where it is. When this returns, it survives the process.
    pub(super) fn append(&mut self, line: &Line) -> io::Result<Place> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.last.as_ref().is_none_or(|(_, size)| *size >= self.file_bytes) {
            let number = self.numbers.last().map_or(1, |last| last + 1);
            let path = self.folder.path(number);
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
            self.numbers.push(number);
            self.last = Some((file, 0));
            self.make_room();
        }
        let (Some((file, size)), Some(number)) = (&mut self.last, self.numbers.last()) else {
            return Err(io::Error::other("no file was begun"));
        };
        let place = Place { file: *number, offset: *size };
        if let Err(e) = file.write_all(&text) {
            // A part of it may be there, as when the disk is full.
            let _ = file.set_len(*size);
            return Err(e);
        }
        *size += text.len() as u64;
        Ok(place)
    }

    /// The oldest file that is there.
    pub(super) fn oldest(&self) -> u32 {
        self.numbers.first().copied().unwrap_or_default()
    }

    fn make_room(&mut self) {
        let size = |number: &u32| fs::metadata(self.folder.path(*number)).map_or(0, |data| data.len());
        let mut total: u64 = self.numbers.iter().map(size).sum();
        let mut gone = 0;
        // The newest is about to be written.
        while total + self.file_bytes > self.max_total && gone + 1 < self.numbers.len() {
            let number = self.numbers[gone];
            total -= size(&number);
            if let Err(e) = fs::remove_file(self.folder.path(number)) {
                log::warn!("{}: old probes stay: {e}", self.folder.path(number).display());
            }
            gone += 1;
        }
        self.numbers.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Amount, Begun, Head, Reason};
    use super::*;

    fn begun(model: &str) -> Line {
        let run = Head {
            id: "r".into(),
            channel: "c".into(),
            slot: Some(1),
            every_ms: 1000,
            begun_at: 5,
            reason: Reason::Schedule,
        };
        Line::Begun(Begun { run, model: model.into(), at: 6, reserved: Amount { tokens: 7, nano_usd: 8 } })
    }

    fn models(folder: &Folder) -> (Vec<String>, u64) {
        let mut models = Vec::new();
        let broken = folder.replay(|_, line| {
            if let Line::Begun(begun) = line {
                models.push(begun.model);
            }
        });
        (models, broken.expect("readable"))
    }

    fn opened(folder: &Folder) -> Store {
        let lock = folder.lock().expect("a folder").expect("nobody else");
        Store::open(folder.clone(), lock).expect("it opens")
    }

    #[test]
    fn a_torn_line_is_passed_over_and_what_follows_is_read() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(data_dir.path());
        opened(&folder).append(&begun("one")).expect("written");
        let path = folder.path(1);
        let mut file = OpenOptions::new().append(true).open(path).expect("a file");
        file.write_all(b"{\"kind\":\"beg").expect("written");
        assert_eq!(models(&folder), (vec!["one".to_owned()], 1));
        opened(&folder).append(&begun("two")).expect("written");
        assert_eq!(models(&folder), (vec!["one".to_owned(), "two".to_owned()], 1));
    }

    #[test]
    fn one_process_writes_at_a_time() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(data_dir.path());
        let store = opened(&folder);
        assert!(folder.lock().expect("a folder").is_none());
        drop(store);
        assert!(folder.lock().expect("a folder").is_some());
    }

    #[test]
    fn the_oldest_files_give_way_and_all_are_never_larger_than_they_may() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(data_dir.path());
        let mut store = opened(&folder);
        (store.file_bytes, store.max_total) = (1000, 5000);
        for n in 0..200 {
            store.append(&begun(&format!("model-{n}"))).expect("written");
        }
        let (models, _) = models(&folder);
        assert_eq!(models.last().map(String::as_str), Some("model-199"));
        let total: u64 = folder
            .numbers()
            .expect("numbers")
            .iter()
            .map(|number| fs::metadata(folder.path(*number)).expect("a file").len())
            .sum();
        assert!((3000..=5200).contains(&total), "{total}");
        assert!(store.oldest() > 1);
    }
}
