//! The mock's own ledger: what it answered, independent of what anybody metered.
//!
//! Refuses to know credentials: of those it keeps the names of the forms, never a value.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use super::answer::Piece;
use super::ask::count;
use super::json::{Json, object};

/// Entries kept; the oldest go first. A long demo must not grow for ever.
const MAX_ENTRIES: usize = 100_000;

/// One answered request.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the order of arrival, from 1.
    pub number: u64,
    /// What was asked for. A path that no provider serves counts as `openai.other` and gets 404.
    pub operation: Operation,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The model asked for, or empty.
    pub model: String,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The status sent.
    pub status: u16,
    /// The usage reported on the wire so far: `Upstream` in a finished answer, `Partial` in one that
    /// was broken off after a report, `None` if nothing was reported.
    pub usage: Usage,
    /// Server-sent events sent, `[DONE]` and comments not counted.
    pub events: u64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// SHA-256 of the request's body.
    pub request_sha256: [u8; 32],
    /// Bytes of the answer's body sent so far.
    pub response_bytes: u64,
    /// SHA-256 of them.
    pub response_sha256: [u8; 32],
    /// SHA-256 of them without the usage chunk that `include_usage` asked for; `None` if there was no such chunk.
    pub response_sha256_without_usage: Option<[u8; 32]>,
    /// Whether the whole answer was handed to the connection.
    pub finished: bool,
    /// The names of the request's header fields, sorted.
    pub header_names: Vec<String>,
    /// Credential forms that should not have arrived: any that holds something else than the upstream
    /// key, `?key=`, and cookies.
    pub strays: Vec<&'static str>,
    /// `x-weir-request-id`, if one came with the request.
    pub request_id: Option<String>,
}

impl Entry {
    fn json(&self) -> Json {
        let usage = &self.usage;
        object! {
            "number": self.number,
            "operation": self.operation.name(),
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "stream": self.stream,
            "status": self.status,
            "usage": object! {
                "input_uncached": usage.input_uncached,
                "cache_read": usage.cache_read,
                "cache_write_5m": usage.cache_write_5m,
                "cache_write_1h": usage.cache_write_1h,
                "output": usage.output,
                "reasoning": usage.reasoning,
                "source": usage.source.name(),
            },
            "events": self.events,
            "request_bytes": self.request_bytes,
            "request_sha256": hex(&self.request_sha256),
            "response_bytes": self.response_bytes,
            "response_sha256": hex(&self.response_sha256),
            "response_sha256_without_usage": self.response_sha256_without_usage.as_ref().map(hex),
            "finished": self.finished,
            "header_names": self.header_names,
            "strays": self.strays,
            "request_id": self.request_id,
        }
    }
}

/// All entries.
#[derive(Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    last: u64,
    entries: BTreeMap<u64, Entry>,
}

impl Book {
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.pages().entries.values().cloned().collect()
    }

    pub(super) fn clear(&self) {
        self.pages().entries.clear();
    }

    pub(super) fn json(&self) -> Json {
        let entries: Vec<Json> = self.pages().entries.values().map(Entry::json).collect();
        object! { "entries": entries }
    }

    /// Enters a request at the moment its answer starts; returns its number.
    fn enter(&self, mut entry: Entry) -> u64 {
        let mut pages = self.pages();
        pages.last += 1;
        entry.number = pages.last;
        let number = entry.number;
        pages.entries.insert(number, entry);
        if pages.entries.len() > MAX_ENTRIES {
            pages.entries.pop_first();
        }
        number
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.pages().entries.get_mut(&number) {
            change(entry);
        }
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        // An entry is changed field by field, so a panic elsewhere leaves nothing half-written.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Follows one answer as it is sent. An entry is up to date before its bytes are handed on, so a
/// client that has read the end of an answer finds it finished in the ledger.
pub(super) struct Recorder {
    book: std::sync::Arc<Book>,
    number: u64,
    sent: u64,
    whole: Sha256,
    without_usage: Sha256,
    had_usage_chunk: bool,
}

impl Recorder {
    pub(super) fn new(book: std::sync::Arc<Book>, entry: Entry) -> Self {
        let number = book.enter(entry);
        let recorder =
            Self { book, number, sent: 0, whole: Sha256::new(), without_usage: Sha256::new(), had_usage_chunk: false };
        recorder.bytes_written();
        recorder
    }

    /// Some bytes of a piece are handed to the connection.
    pub(super) fn wrote(&mut self, bytes: &[u8], on_request: bool) {
        self.sent += count(bytes.len());
        self.whole.update(bytes);
        if on_request {
            self.had_usage_chunk = true;
        } else {
            self.without_usage.update(bytes);
        }
        self.bytes_written();
    }

    /// The last byte of a piece is handed to the connection.
    pub(super) fn piece_done(&self, piece: &Piece) {
        self.book.update(self.number, |entry| {
            entry.events += piece.events;
            if let Some(usage) = piece.usage {
                entry.usage = Usage { source: Source::Partial, ..usage };
            }
        });
    }

    /// The whole answer is handed to the connection.
    pub(super) fn finished(&self) {
        self.book.update(self.number, |entry| {
            entry.finished = true;
            if entry.usage.source == Source::Partial {
                entry.usage.source = Source::Upstream;
            }
        });
    }

    fn bytes_written(&self) {
        self.book.update(self.number, |entry| {
            entry.response_bytes = self.sent;
            entry.response_sha256 = self.whole.clone().finalize().into();
            entry.response_sha256_without_usage =
                self.had_usage_chunk.then(|| self.without_usage.clone().finalize().into());
        });
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
