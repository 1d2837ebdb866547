//! Servers that records are sent to: `audit.loki` and `audit.nsq` as written, and as meant.
//!
//! Knows nothing of how a record is sent (`crate::audit`).

use std::time::Duration;

use weir_filters::secret::Secret;

use super::audit::or;
use super::mistake::Complaint;
use super::raw::RawSecret;
use super::scalar::{self, Parsed, Word};
use super::section::{At, Fields, Reader, Section};
use super::tree::NodeId;
use super::validate::Check;
use super::{BaseUrl, net, time};

/// Loki refuses more labels for a stream by default.
const MAX_LABELS: usize = 10;

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

const DEFAULT_SPOOL: usize = 256 << 20;
const DEFAULT_BATCH: usize = 1 << 20;
const DEFAULT_BATCH_WAIT: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct RawDelivery {
    batch: Option<At<usize>>,
    batch_wait: Option<At<Duration>>,
    timeout: Option<At<Duration>>,
}

#[derive(Debug)]
pub(super) struct RawLoki {
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
pub(super) struct RawNsq {
    url: Option<At<BaseUrl>>,
    topic: Option<At<String>>,
    format: Option<At<NsqFormat>>,
    token: RawSecret,
    delivery: RawDelivery,
}

impl RawLoki {
    pub(super) fn read(r: &mut Reader<'_>, at: NodeId) -> Self {
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
    pub(super) fn read(r: &mut Reader<'_>, at: NodeId) -> Self {
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
    pub(super) fn loki(&mut self, raw: RawLoki) -> Option<Loki> {
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

    pub(super) fn nsq(&mut self, raw: RawNsq) -> Option<Nsq> {
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

fn loki_format(word: Word<'_>) -> Parsed<LokiFormat> {
    scalar::one_of(word, &[("protobuf", LokiFormat::Protobuf), ("json", LokiFormat::Json)])
}

fn nsq_format(word: Word<'_>) -> Parsed<NsqFormat> {
    scalar::one_of(word, &[("record", NsqFormat::Record), ("ai_event", NsqFormat::AiEvent)])
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
