//! What is recorded of requests, and where the records go: `audit` as written, and as meant.
//!
//! Knows nothing of how a record looks (`crate::audit`) or of what a sink does with it.

use std::path::PathBuf;
use std::time::Duration;

use super::delivery::{Loki, Nsq, RawLoki, RawNsq};
use super::mistake::Complaint;
use super::raw::path;
use super::scalar::{self, Parsed, Word};
use super::section::{At, Fields, Reader, Section, subsection};
use super::time;
use super::validate::Check;

/// A file smaller than this would be made anew with every few records.
const MIN_ROTATE: usize = 64 << 10;
/// What a sink's queue may hold of one batch, and a body's cap: each is held in memory for every request under way.
const MAX_MAX_BODY: usize = 16 << 20;
pub(super) const AUDIT: Fields = Fields {
    known: &["node", "headers", "bodies", "max_body", "jsonl", "access_log", "history", "loki", "nsq"],
    later: &[],
};
pub(super) const FILES: Fields =
    Fields { known: &["directory", "rotate", "rotate_every", "max_total", "compress", "when_full"], later: &[] };
pub(super) const HISTORY: Fields = Fields { known: &["enabled", "keep", "max_total"], later: &[] };
/// `audit:`
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// What this gateway is called in records; `None`: the machine's name.
    pub node: Option<String>,
    /// Whether headers are recorded. Values of those that are not known to be harmless never are.
    pub headers: bool,
    /// What is recorded of bodies.
    pub bodies: Bodies,
    /// The most that is recorded of one body, in bytes of text.
    pub max_body: usize,
    /// Files of records.
    pub jsonl: Option<Files>,
    /// Files of lines in the `combined` format of web servers.
    pub access_log: Option<Files>,
    /// The recent records that can be asked for; `None`: none are kept.
    pub history: Option<History>,
    /// A Loki that records are pushed to.
    pub loki: Option<Loki>,
    /// An nsqd that records are published at.
    pub nsq: Option<Nsq>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            node: None,
            headers: true,
            bodies: Bodies::None,
            max_body: DEFAULT_MAX_BODY,
            jsonl: None,
            access_log: None,
            history: Some(History::default()),
            loki: None,
            nsq: None,
        }
    }
}

/// What is recorded of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// Nothing.
    #[default]
    None,
    /// The first 2 KiB of text.
    Truncated,
    /// All, up to `audit.max_body`.
    Full,
}

/// Files that one follows the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Where they are; a relative one is in `data_dir`.
    pub directory: PathBuf,
    /// The size at which a file is closed, in bytes.
    pub rotate: u64,
    /// The age at which a file is closed.
    pub rotate_every: Duration,
    /// The size of all files together, in bytes; the oldest make room.
    pub max_total: u64,
    /// Whether closed files are compressed.
    pub compress: bool,
    /// What gives way when the disk is full.
    pub when_full: FullDisk,
}

/// What gives way when the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullDisk {
    /// The oldest closed file is removed; if there is none, new records are dropped.
    #[default]
    DropOldest,
    /// New records are dropped; what is written stays.
    DropNew,
}

/// `audit.history`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// How long a record is kept.
    pub keep: Duration,
    /// The size of all records together, in bytes; the oldest make room.
    pub max_total: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { keep: DEFAULT_KEEP, max_total: DEFAULT_HISTORY }
    }
}

const DEFAULT_MAX_BODY: usize = 64 << 10;
const DEFAULT_ROTATE: usize = 64 << 20;
const DEFAULT_ROTATE_EVERY: Duration = Duration::from_secs(86_400);
const DEFAULT_MAX_TOTAL: usize = 500 << 20;
const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_HISTORY: u64 = 2 << 30;
#[derive(Debug)]
pub(super) struct RawAudit {
    node: Option<At<String>>,
    headers: Option<At<bool>>,
    bodies: Option<At<Bodies>>,
    max_body: Option<At<usize>>,
    jsonl: Option<RawFiles>,
    access_log: Option<RawFiles>,
    history: Option<RawHistory>,
    loki: Option<RawLoki>,
    nsq: Option<RawNsq>,
}

#[derive(Debug)]
struct RawFiles {
    directory: Option<At<PathBuf>>,
    rotate: Option<At<usize>>,
    rotate_every: Option<At<Duration>>,
    max_total: Option<At<usize>>,
    compress: Option<At<bool>>,
    when_full: Option<At<FullDisk>>,
}

#[derive(Debug)]
struct RawHistory {
    enabled: Option<At<bool>>,
    keep: Option<At<Duration>>,
    max_total: Option<At<usize>>,
}

impl RawAudit {
    pub(super) fn read(r: &mut Reader<'_>, root: &Section) -> Self {
        let s = subsection(r, root, "audit", &AUDIT);
        Self {
            node: r.optional_word(&s, "node", scalar::plain_name),
            headers: r.optional_word(&s, "headers", scalar::boolean),
            bodies: r.optional_word(&s, "bodies", bodies),
            max_body: r.optional_word(&s, "max_body", max_body),
            jsonl: RawFiles::read(r, &s, "jsonl"),
            access_log: RawFiles::read(r, &s, "access_log"),
            history: r.optional(&s, "history").map(|at| {
                let s = r.section(at, &HISTORY);
                RawHistory {
                    enabled: r.optional_word(&s, "enabled", scalar::boolean),
                    keep: r.optional_word(&s, "keep", time::positive_duration),
                    max_total: r.optional_word(&s, "max_total", scalar::size),
                }
            }),
            loki: r.optional(&s, "loki").map(|at| RawLoki::read(r, at)),
            nsq: r.optional(&s, "nsq").map(|at| RawNsq::read(r, at)),
        }
    }
}

impl RawFiles {
    fn read(r: &mut Reader<'_>, audit: &Section, name: &str) -> Option<Self> {
        let at = r.optional(audit, name)?;
        let s = r.section(at, &FILES);
        Some(Self {
            directory: r.required_word(&s, "directory", path),
            rotate: r.optional_word(&s, "rotate", rotate),
            rotate_every: r.optional_word(&s, "rotate_every", time::positive_duration),
            max_total: r.optional_word(&s, "max_total", scalar::size),
            compress: r.optional_word(&s, "compress", scalar::boolean),
            when_full: r.optional_word(&s, "when_full", full_disk),
        })
    }
}

impl Check<'_, '_> {
    pub(super) fn audit(&mut self, raw: RawAudit) -> Audit {
        if let (Some(jsonl), Some(access)) = (&raw.jsonl, &raw.access_log)
            && let (Some(first), Some(second)) = (&jsonl.directory, &access.directory)
            && first.value == second.value
        {
            // Each removes what it takes for its own oldest file.
            let complaint = Complaint::new("is the directory of `jsonl` too").suggest("give each one of its own");
            self.r.complain(second.at.max(first.at), complaint);
        }
        Audit {
            node: raw.node.map(|node| node.value),
            headers: or(raw.headers, true),
            bodies: or(raw.bodies, Bodies::None),
            max_body: or(raw.max_body, DEFAULT_MAX_BODY),
            jsonl: raw.jsonl.and_then(|files| self.files(files)),
            access_log: raw.access_log.and_then(|files| self.files(files)),
            history: history(raw.history),
            loki: raw.loki.and_then(|loki| self.loki(loki)),
            nsq: raw.nsq.and_then(|nsq| self.nsq(nsq)),
        }
    }

    fn files(&mut self, raw: RawFiles) -> Option<Files> {
        let last = [&raw.max_total, &raw.rotate].into_iter().flatten().map(|size| size.at).max();
        let (rotate, max_total) = (or(raw.rotate, DEFAULT_ROTATE), or(raw.max_total, DEFAULT_MAX_TOTAL));
        // The file that is written now is never removed.
        if max_total < 2 * rotate
            && let Some(at) = last
        {
            let message = "`max_total` must hold at least two files of the size `rotate`";
            self.r.report.add(at, Complaint::new(message));
        }
        Some(Files {
            directory: raw.directory?.value,
            rotate: rotate as u64,
            rotate_every: or(raw.rotate_every, DEFAULT_ROTATE_EVERY),
            max_total: max_total as u64,
            compress: or(raw.compress, true),
            when_full: or(raw.when_full, FullDisk::DropOldest),
        })
    }
}

fn history(raw: Option<RawHistory>) -> Option<History> {
    let default = History::default();
    let Some(raw) = raw else { return Some(default) };
    or(raw.enabled, true).then(|| History {
        keep: or(raw.keep, default.keep),
        max_total: raw.max_total.map_or(default.max_total, |size| size.value as u64),
    })
}

pub(super) fn or<T>(written: Option<At<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

fn bodies(word: Word<'_>) -> Parsed<Bodies> {
    scalar::one_of(word, &[("none", Bodies::None), ("truncated", Bodies::Truncated), ("full", Bodies::Full)])
}

fn full_disk(word: Word<'_>) -> Parsed<FullDisk> {
    scalar::one_of(word, &[("drop_oldest", FullDisk::DropOldest), ("drop_new", FullDisk::DropNew)])
}

fn max_body(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if size <= MAX_MAX_BODY { Ok(size) } else { Err(word.must_be("at most 16MiB")) }
}

fn rotate(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if size >= MIN_ROTATE { Ok(size) } else { Err(word.must_be("64KiB or more")) }
}
