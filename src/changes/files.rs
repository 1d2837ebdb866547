//! The files of the record: lines, appended only, the oldest files removed.
//!
//! Owns their names, when another one is begun, and that a line is whole or taken for none. Which file is the last is
//! looked up at each append: at an upgrade two processes write here for a moment. Knows nothing of what a line says.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use memchr::memrchr;

/// The folder, in the data directory.
const FOLDER: &str = "changes";

/// Bytes after which another file is begun. A page reads whole files.
pub(super) const FILE_BYTES: u64 = 1 << 20;

/// Bytes of all files: two hundred thousand changes of a key at least are kept.
pub(super) const MAX_TOTAL: u64 = 64 << 20;

/// Files that are read for one page.
const FILES_A_PAGE: usize = 4;

/// Where a line begins: the number of its file, and how far into it. Later lines have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    file: u32,
    offset: u32,
}

/// Sixteen hex digits: the id of a change.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.file, self.offset)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(is_hex) {
            return Err(());
        }
        let half = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| ());
        Ok(Self { file: half(&text[..8])?, offset: half(&text[8..])? })
    }
}

/// What an append left.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    before: u64,
    after: u64,
}

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// Writes whole lines; when this returns, they are on the disk.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<Mark> {
        let mut numbers = self.numbers()?;
        let mut last = numbers.last().copied().unwrap_or(0);
        if last == 0 || fs::metadata(self.path(last))?.len() >= FILE_BYTES {
            last += 1;
            self.begin(last)?;
            numbers.push(last);
            self.make_room(&numbers);
        }
        let path = self.path(last);
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let before = file.seek(SeekFrom::End(0))?;
        // A kill in the middle of a line: what is left of it stays a line of its own.
        let is_torn = before > 0 && !ends_a_line(&mut file)?;
        let text = [if is_torn { &b"\n"[..] } else { b"" }, lines].concat();
        match file.write_all(&text).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(Mark { path, before, after: before + text.len() as u64 }),
            Err(e) => {
                // A part of it may be there, as when the disk is full.
                let _ = file.set_len(before);
                Err(e)
            }
        }
    }

    /// Takes back the last append.
    pub(super) fn take_back(&self, mark: &Mark) -> io::Result<()> {
        let file = OpenOptions::new().append(true).open(&mark.path)?;
        if file.metadata()?.len() != mark.after {
            return Err(io::Error::other("another process has written behind it"));
        }
        file.set_len(mark.before)?;
        file.sync_all()
    }

    /// Passes whole lines to `each`, from the last one before `from` back, until it has enough or a few files were read:
    /// then the answer is the position of the last one passed.
    pub(super) fn scan(
        &self,
        from: Option<Position>,
        mut each: impl FnMut(Position, &[u8]) -> bool,
    ) -> io::Result<Option<Position>> {
        let mut numbers = self.numbers()?;
        numbers.retain(|number| from.is_none_or(|from| *number <= from.file));
        let oldest = numbers.first().copied();
        let mut read = 0;
        while let Some(number) = numbers.pop() {
            let mut bytes = Vec::new();
            match File::open(self.path(number)) {
                Ok(mut file) => file.read_to_end(&mut bytes)?,
                // It gave way to newer ones meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let end = from.filter(|from| from.file == number).map_or(usize::MAX, |from| from.offset as usize);
            let mut rest = &bytes[..end.min(bytes.len())];
            // What has no end yet is being written.
            rest = &rest[..memrchr(b'\n', rest).map_or(0, |at| at + 1)];
            while let Some(line) = rest.strip_suffix(b"\n") {
                let begin = memrchr(b'\n', line).map_or(0, |at| at + 1);
                let at = Position { file: number, offset: u32::try_from(begin).unwrap_or(u32::MAX) };
                rest = &rest[..begin];
                if !each(at, &line[begin..]) {
                    let is_last = begin == 0 && Some(number) == oldest;
                    return Ok((!is_last).then_some(at));
                }
            }
            read += 1;
            if read == FILES_A_PAGE && !numbers.is_empty() {
                return Ok(Some(Position { file: number, offset: 0 }));
            }
        }
        Ok(None)
    }

    /// Begins a file. Another process may have begun it already.
    fn begin(&self, number: u32) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(number)) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()?;
        // The folder itself is new at the first change.
        self.folder.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
    }

    /// Removes the oldest files while all of them are too large.
    fn make_room(&self, numbers: &[u32]) {
        let size = |number: &u32| fs::metadata(self.path(*number)).map_or(0, |data| data.len());
        let mut total: u64 = numbers.iter().map(size).sum();
        for number in &numbers[..numbers.len() - 1] {
            if total <= MAX_TOTAL {
                return;
            }
            total -= size(number);
            if let Err(e) = fs::remove_file(self.path(*number)) {
                log::warn!("{}: an old record of changes stays: {e}", self.path(*number).display());
            }
        }
    }

    /// The numbers of the files, the oldest first.
    fn numbers(&self) -> io::Result<Vec<u32>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(number_in));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}.jsonl"))
    }
}

fn number_in(name: &str) -> Option<u32> {
    name.strip_suffix(".jsonl").filter(|digits| digits.len() == 8)?.parse().ok()
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
