//! What is recorded of requests, and where the records go: `audit` as written, and as meant.
//!
//! Knows nothing of how a record looks (`crate::audit`) or of what a sink does with it.

use std::path::PathBuf;
use std::time::Duration;

use weir_filters::secret::Secret;

use super::mistake::Complaint;
use super::raw::{RawSecret, path, subsection};
use super::scalar::{self, Parsed, Word};
use super::section::{At, Fields, Reader, Section};
use super::validate::Check;
use super::{BaseUrl, net, time};

/// A file smaller than this would be made anew with every few records.
const MIN_ROTATE: usize = 64 << 10;
/// What a sink's queue may hold of one batch, and a body's cap: each is held in memory for every request under way.
const MAX_MAX_BODY: usize = 16 << 20;
/// Loki refuses more labels for a stream by default.
const MAX_LABELS: usize = 10;

pub(super) const AUDIT: Fields = Fields {
    known: &["node", "headers", "bodies", "max_body", "jsonl", "access_log", "history", "loki", "nsq"],
    later: &[],
};
pub(super) const FILES: Fields =
    Fields { known: &["directory", "rotate", "rotate_every", "max_total", "compress", "when_full"], later: &[] };
pub(super) const HISTORY: Fields = Fields { known: &["enabled", "keep", "max_total"], later: &[] };
pub(super) const LOKI: Fields = Fields {
    known: &[
        "url",
        "labels",
        "format",
        "gzip",
        "tenant",
        "username",
        "password",
        "password_file",
        "token",
        "token_file",
        "batch",
        "batch_wait",
        "timeout",
        "spool",
    ],
    later: &[],
};
pub(super) const NSQ: Fields =
    Fields { known: &["url", "topic", "format", "token", "token_file", "batch", "batch_wait", "timeout"], later: &[] };

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

/// `audit.loki`
#[derive(Clone, Debug, PartialEq)]
pub struct Loki {
    /// Where it is; `/loki/api/v1/push` is appended.
    pub url: BaseUrl,
    /// Labels of every stream, beside `service`, `route` and `status`.
    pub labels: Vec<(String, String)>,
    /// What is pushed.
    pub format: LokiFormat,
    /// Whether JSON is compressed. Protobuf always is.
    pub gzip: bool,
    /// `X-Scope-OrgID`
    pub tenant: Option<String>,
    /// How it lets Weir in.
    pub login: Option<Login>,
    /// How pushes are sent.
    pub delivery: Delivery,
    /// What may wait on the disk while it takes nothing, in bytes; 0: nothing.
    pub spool: u64,
}

/// What is pushed to Loki.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LokiFormat {
    /// `logproto.PushRequest` in snappy.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}

/// How a sink's server lets Weir in.
#[derive(Clone, Debug, PartialEq)]
pub enum Login {
    /// `Authorization: Basic`
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer`
    Bearer(Secret),
}

/// How records are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Bytes of records that are sent at once.
    pub batch: usize,
    /// How long a record waits for others.
    pub batch_wait: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

/// `audit.nsq`
#[derive(Clone, Debug, PartialEq)]
pub struct Nsq {
    /// nsqd's HTTP address; `/mpub` is appended.
    pub url: BaseUrl,
    /// The topic.
    pub topic: String,
    /// What a message holds.
    pub format: NsqFormat,
    /// A proxy in front of it may want one.
    pub token: Option<Secret>,
    /// How messages are sent.
    pub delivery: Delivery,
}

/// What a message of NSQ holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NsqFormat {
    /// The record.
    #[default]
    Record,
    /// The `ai_event` message of APIPark.
    AiEvent,
}

const DEFAULT_MAX_BODY: usize = 64 << 10;
const DEFAULT_ROTATE: usize = 64 << 20;
const DEFAULT_ROTATE_EVERY: Duration = Duration::from_secs(86_400);
const DEFAULT_MAX_TOTAL: usize = 500 << 20;
const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_HISTORY: u64 = 2 << 30;
const DEFAULT_SPOOL: usize = 256 << 20;
const DEFAULT_BATCH: usize = 1 << 20;
const DEFAULT_BATCH_WAIT: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

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

#[derive(Debug)]
struct RawDelivery {
    batch: Option<At<usize>>,
    batch_wait: Option<At<Duration>>,
    timeout: Option<At<Duration>>,
}

#[derive(Debug)]
struct RawLoki {
    url: Option<At<BaseUrl>>,
    labels: Vec<(At<String>, At<String>)>,
    format: Option<At<LokiFormat>>,
    gzip: Option<At<bool>>,
    tenant: Option<At<String>>,
    username: Option<At<String>>,
    password: RawSecret,
    token: RawSecret,
    delivery: RawDelivery,
    spool: Option<At<usize>>,
}

#[derive(Debug)]
struct RawNsq {
    url: Option<At<BaseUrl>>,
    topic: Option<At<String>>,
    format: Option<At<NsqFormat>>,
    token: RawSecret,
    delivery: RawDelivery,
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

impl RawLoki {
    fn read(r: &mut Reader<'_>, at: super::tree::NodeId) -> Self {
        let s = r.section(at, &LOKI);
        Self {
            url: r.required_word(&s, "url", net::base_url),
            labels: match r.optional(&s, "labels") {
                Some(at) => r.pairs(at, label_name, label_value),
                None => Vec::new(),
            },
            format: r.optional_word(&s, "format", loki_format),
            gzip: r.optional_word(&s, "gzip", scalar::boolean),
            tenant: r.optional_word(&s, "tenant", scalar::plain_name),
            username: r.optional_word(&s, "username", scalar::free_name),
            password: RawSecret::read(r, &s, "password", "password_file"),
            token: RawSecret::read(r, &s, "token", "token_file"),
            delivery: RawDelivery::read(r, &s),
            spool: r.optional_word(&s, "spool", size_or_none),
        }
    }
}

impl RawNsq {
    fn read(r: &mut Reader<'_>, at: super::tree::NodeId) -> Self {
        let s = r.section(at, &NSQ);
        Self {
            url: r.required_word(&s, "url", net::base_url),
            topic: r.required_word(&s, "topic", topic),
            format: r.optional_word(&s, "format", nsq_format),
            token: RawSecret::read(r, &s, "token", "token_file"),
            delivery: RawDelivery::read(r, &s),
        }
    }
}

impl RawDelivery {
    fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            batch: r.optional_word(s, "batch", batch),
            batch_wait: r.optional_word(s, "batch_wait", time::positive_duration),
            timeout: r.optional_word(s, "timeout", time::positive_duration),
        }
    }

    fn checked(self) -> Delivery {
        Delivery {
            batch: or(self.batch, DEFAULT_BATCH),
            batch_wait: or(self.batch_wait, DEFAULT_BATCH_WAIT),
            timeout: or(self.timeout, DEFAULT_TIMEOUT),
        }
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

    fn loki(&mut self, raw: RawLoki) -> Option<Loki> {
        if raw.labels.len() > MAX_LABELS {
            let complaint = Complaint::new(format!("must be among {MAX_LABELS} labels at most"));
            self.r.complain(raw.labels[MAX_LABELS].0.at, complaint);
        }
        if let (Some(gzip), Some(LokiFormat::Protobuf) | None) = (&raw.gzip, raw.format.as_ref().map(|f| f.value))
            && gzip.value
        {
            let complaint = Complaint::new("has no effect: protobuf is always compressed by snappy");
            self.r.complain(gzip.at, complaint.suggest("write `format: json`, or leave it out"));
        }
        let by_token = !raw.token.is_absent;
        if let (Some(username), true) = (&raw.username, by_token) {
            let complaint = Complaint::new("and `token` are both given").suggest("keep one of them");
            self.r.complain(username.at, complaint);
        }
        let login = match raw.username {
            Some(username) => {
                self.secret(raw.password).map(|password| Login::Basic { username: username.value, password })
            }
            None if by_token => self.secret(raw.token).map(Login::Bearer),
            None if !raw.password.is_absent => {
                self.r.report.add(raw.password.section, Complaint::new("`password` needs `username`"));
                None
            }
            None => None,
        };
        Some(Loki {
            url: raw.url?.value,
            labels: raw.labels.into_iter().map(|(name, value)| (name.value, value.value)).collect(),
            format: or(raw.format, LokiFormat::Protobuf),
            gzip: or(raw.gzip, true),
            tenant: raw.tenant.map(|tenant| tenant.value),
            login,
            delivery: raw.delivery.checked(),
            spool: or(raw.spool, DEFAULT_SPOOL) as u64,
        })
    }

    fn nsq(&mut self, raw: RawNsq) -> Option<Nsq> {
        let token = if raw.token.is_absent { None } else { self.secret(raw.token) };
        Some(Nsq {
            url: raw.url?.value,
            topic: raw.topic?.value,
            format: or(raw.format, NsqFormat::Record),
            token,
            delivery: raw.delivery.checked(),
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

fn or<T>(written: Option<At<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

fn bodies(word: Word<'_>) -> Parsed<Bodies> {
    scalar::one_of(word, &[("none", Bodies::None), ("truncated", Bodies::Truncated), ("full", Bodies::Full)])
}

fn full_disk(word: Word<'_>) -> Parsed<FullDisk> {
    scalar::one_of(word, &[("drop_oldest", FullDisk::DropOldest), ("drop_new", FullDisk::DropNew)])
}

fn loki_format(word: Word<'_>) -> Parsed<LokiFormat> {
    scalar::one_of(word, &[("protobuf", LokiFormat::Protobuf), ("json", LokiFormat::Json)])
}

fn nsq_format(word: Word<'_>) -> Parsed<NsqFormat> {
    scalar::one_of(word, &[("record", NsqFormat::Record), ("ai_event", NsqFormat::AiEvent)])
}

fn max_body(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if size <= MAX_MAX_BODY { Ok(size) } else { Err(word.must_be("at most 16MiB")) }
}

fn rotate(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if size >= MIN_ROTATE { Ok(size) } else { Err(word.must_be("64KiB or more")) }
}

/// Loki takes 4 MiB by default, nsqd 5 MiB.
fn batch(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if (1 << 10..=4 << 20).contains(&size) { Ok(size) } else { Err(word.must_be("from 1KiB to 4MiB")) }
}

fn size_or_none(word: Word<'_>) -> Parsed<usize> {
    if word.text == "0" { Ok(0) } else { scalar::size(word) }
}

/// Prometheus's and so Loki's rule; those that Weir sets itself are taken.
fn label_name(word: Word<'_>) -> Parsed<String> {
    let mut bytes = word.text.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let is_name = begins && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') && word.text.len() <= 64;
    match word.text {
        "service" | "service_name" | "route" | "status" => Err(Complaint::new("is a label that Weir sets itself")),
        text if is_name && !text.starts_with("__") => Ok(text.to_owned()),
        _ => Err(Complaint::new("is no label's name: letters, digits and `_`, at most 64, no digit and no `__` first")),
    }
}

fn label_value(word: Word<'_>) -> Parsed<String> {
    let fits = !word.text.is_empty() && word.text.len() <= 256 && !word.text.contains(char::is_control);
    if fits { Ok(word.text.to_owned()) } else { Err(word.must_be("a label's value of 1 to 256 bytes")) }
}

/// nsqd's rule for the names of topics.
fn topic(word: Word<'_>) -> Parsed<String> {
    let base = word.text.strip_suffix("#ephemeral").unwrap_or(word.text);
    let plain = base.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if plain && !base.is_empty() && word.text.len() <= 64 {
        return Ok(word.text.to_owned());
    }
    Err(word.must_be("a topic's name: letters, digits, `.`, `_` and `-`, at most 64"))
}
