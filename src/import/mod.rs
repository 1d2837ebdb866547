//! Lines of other gateways, and of Weir's own records, into the ledger: each counted once, or its number and why not.
//!
//! Owns what becomes of each line and the report. What a line says is [`weir_filters::import`]'s business, that it
//! counts once the ledger's; where lines come from it refuses to know.

mod parts;
#[cfg(test)]
mod tests;
mod words;

use std::io;

use serde::{Deserialize, Serialize};
use weir_filters::import::{Entry, KeyStatus, Line, read};

use crate::ledger::{Ledger, Settlement};

pub(crate) use parts::{GZIP, Part, Parts};
pub(crate) use words::Words;

/// Bytes of a line, and so of what the admin API takes at once: a record with a request's and an answer's body, each of
/// the most that `audit.max_body` can be and written as base64, has 43 MiB.
pub(crate) const MAX_LINE: usize = 64 << 20;

/// Mistakes that one report lists, about a hundred bytes each: a file of something else altogether would be all
/// mistakes. All of them are counted.
pub(crate) const MAX_LISTED: usize = 10_000;

/// What became of some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Lines on which there was something.
    pub lines: u64,
    /// Requests that are counted now.
    pub imported: u64,
    /// Requests that were counted before.
    pub known: u64,
    /// Records of requests that no key made: there are no counters for them.
    pub skipped: u64,
    /// What was said of upstream keys.
    pub statuses: Statuses,
    /// Lines that could not be read.
    pub unread: u64,
    /// The first of them.
    pub errors: Vec<Mistake>,
}

/// What became of the statuses of upstream keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses {
    /// Those that were read.
    pub seen: u64,
    /// Keys whose state they changed, or confirmed.
    pub applied: u64,
    /// Those that could not be read; their requests are counted all the same.
    pub unread: u64,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What an event says of an upstream key, and when it said so, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) time_ms: u64,
    pub(crate) status: KeyStatus,
}

impl Report {
    /// Adds what became of further lines.
    pub(crate) fn add(&mut self, other: Report) {
        let pairs = [
            (&mut self.lines, other.lines),
            (&mut self.imported, other.imported),
            (&mut self.known, other.known),
            (&mut self.skipped, other.skipped),
            (&mut self.unread, other.unread),
            (&mut self.statuses.seen, other.statuses.seen),
            (&mut self.statuses.applied, other.statuses.applied),
            (&mut self.statuses.unread, other.statuses.unread),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        let room = MAX_LISTED - self.errors.len();
        self.errors.extend(other.errors.into_iter().take(room));
    }

    /// Notes a line that could not be read.
    pub(crate) fn miss(&mut self, line: u64, reason: String) {
        self.lines += 1;
        self.unread += 1;
        if self.errors.len() < MAX_LISTED {
            self.errors.push(Mistake { line, reason });
        }
    }
}

/// Counts the requests of `lines`, the first of which has the number `first`, and gives what the new ones among them
/// say of upstream keys. All that is new is in the journal when this returns.
///
/// # Errors
/// When the journal takes no more. What was written until then is known when the lines come again.
pub(crate) fn count(ledger: &Ledger, lines: &[u8], first: u64, now_ms: u64) -> io::Result<(Report, Vec<Word>)> {
    let mut report = Report::default();
    let (mut settlements, mut said) = (Vec::new(), Vec::new());
    // What follows the last break is a line, unless there is nothing.
    let all = lines.strip_suffix(b"\n").unwrap_or(lines).split(|byte| *byte == b'\n');
    for (number, line) in (first..).zip(all) {
        let entry = match read(line, now_ms) {
            Ok(None) => continue,
            Err(why) => {
                report.miss(number, why.to_string());
                continue;
            }
            Ok(Some(Line::Keyless)) => {
                report.skipped += 1;
                None
            }
            Ok(Some(Line::Record { node, .. })) if ledger.id().is_of(&node) => {
                report.known += 1;
                None
            }
            Ok(Some(Line::Record { entry, .. })) => Some((entry, Vec::new())),
            Ok(Some(Line::Event { entry, statuses, unread_statuses })) => {
                report.statuses.seen += statuses.len() as u64;
                report.statuses.unread += unread_statuses;
                Some((entry, statuses))
            }
        };
        report.lines += 1;
        if let Some((entry, statuses)) = entry {
            settlements.push(settlement(entry));
            said.push(statuses);
        }
    }
    let mut words = Vec::new();
    for ((is_new, settlement), statuses) in ledger.import(&settlements)?.into_iter().zip(&settlements).zip(said) {
        if is_new {
            report.imported += 1;
            words.extend(statuses.into_iter().map(|status| Word { time_ms: settlement.time_ms, status }));
        } else {
            report.known += 1;
        }
    }
    Ok((report, words))
}

fn settlement(entry: Entry) -> Settlement<String> {
    Settlement {
        id: entry.id,
        time_ms: entry.time_ms,
        duration_us: entry.duration_us,
        first_token_us: entry.first_token_us,
        key_id: entry.key_id,
        key_name: entry.key_name,
        user: entry.user,
        route: entry.route,
        operation: entry.operation,
        channel: entry.channel,
        model: entry.model,
        status: entry.status,
        outcome: entry.outcome,
        stream: entry.stream,
        events: entry.events,
        request_bytes: entry.request_bytes,
        response_bytes: entry.response_bytes,
        usage: entry.usage,
        cost: entry.cost,
        // Whoever counted it had prices of their own.
        price_version: 0,
        unpriced: false,
        attempts: entry.attempts,
    }
}
