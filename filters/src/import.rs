//! Lines of other gateways, and of Weir's own record, as something that can be counted: bytes in, an [`Entry`] or
//! the reason why not out.
//!
//! Owns what a line may look like and what its members mean. Refuses to know where lines come from, what was
//! imported before, and where it is counted.
//!
//! # What an `ai_event` message is
//! APIPark has apinto send one JSON object for each request to the NSQ topic `apipark_ai_event`. Looked up in
//! APIParkLab/APIPark at 9192b399, eolinker/apinto at b5972ba1 and eolinker/eosc at 8a50f9b5:
//!
//! | fact | source |
//! | --- | --- |
//! | the members are `time_iso8601`, `request_id`, `api`, `provider` and an object `ai` with seven more | APIPark, scripts/resource/init_config.sh |
//! | a variable that was never set is written as `""`, whatever its type | apinto, entries/http-entry/entry.go |
//! | tokens are whole numbers; nothing sets `ai_model_cost` | apinto, ai-convert/label.go |
//! | `ai_provider_statuses` is a list of `{provider, model, key, status}`, one for each try | apinto, ai-convert/label.go |
//! | the words of a status | apinto, ai-convert/status.go |
//! | a status's key is `<provider>-<key>@ai-key` | APIPark, app/ai-event-handler/nsq.go, module/ai-key/iml.go |
//! | `provider` is the service, `api` the API, both by their ids; `request_id` is a UUID | APIPark, app/ai-event-handler/nsq.go; apinto, node/http-context/context.go |
//! | the time has milliseconds and the server's offset | apinto, entries/http-entry/reader.go |
//!
//! So a request without a model has `""` in all of `ai`, the list of statuses too. APIPark's own consumer expects a
//! list there, fails to read the message, and drops it. Whoever configures the output otherwise may add members
//! (`application`, `status`, `request_uri`, `msec`, …) or have those of `ai` beside the others, as APIPark's output to
//! Loki does.

mod ai_event;
mod members;
mod record;
mod scalars;
mod statuses;
#[cfg(test)]
mod tests;

use crate::outcome::Outcome;
use crate::price::NanoUsd;
use crate::route::Operation;
use crate::usage::Usage;

use members::Members;
pub use statuses::{KeyStatus, Verdict};

/// The version of Weir's record that is read.
pub const SCHEMA_VERSION: u64 = 1;

/// Times further ahead than this are a mistake, and would be the newest for ever: a time without an offset, read as
/// UTC, can be fourteen hours ahead of it.
const MAX_AHEAD_MS: u64 = 86_400_000;

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// An `ai_event` message.
    Event {
        /// The request.
        entry: Entry,
        /// What it says of upstream keys, in the order of the tries.
        statuses: Vec<KeyStatus>,
        /// How many statuses could not be read; the request counts all the same.
        unread_statuses: u64,
    },
    /// A record of Weir's.
    Record {
        /// The request.
        entry: Entry,
        /// Who made the record: `<name>/<16 hex digits of its ledger's id>`, or empty.
        node: String,
    },
    /// A record of Weir's of a request that no key made: the ledger has no counters for it.
    Keyless,
}

/// A request that can be counted. Texts are empty where nothing is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What tells it from all others: a record's own id, or the beginning of a hash of `request_id`.
    pub id: u128,
    /// When it arrived, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// From arrival to the first token, in microseconds.
    pub first_token_us: Option<u64>,
    /// The id of whose request it is.
    pub key_id: String,
    /// Its name.
    pub key_name: String,
    /// The key's user.
    pub user: String,
    /// The route.
    pub route: String,
    /// What was asked for.
    pub operation: Operation,
    /// The channel that served it.
    pub channel: String,
    /// The model.
    pub model: String,
    /// The status that the client got; 0: none is known.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Server-sent events of the answer.
    pub events: u64,
    /// Bytes of the client's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The tokens.
    pub usage: Usage,
    /// What it cost.
    pub cost: NanoUsd,
    /// How often an upstream was asked.
    pub attempts: u32,
}

/// Why a line cannot be read. Says what is wrong and quotes nothing: a line may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is no JSON.
    #[error("not JSON: {what} at column {column}")]
    Json {
        /// What the parser says.
        what: String,
        /// Where, in bytes from 1.
        column: usize,
    },
    /// It is JSON, and no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// It has the members of neither.
    #[error("neither an ai_event message nor a record of Weir's: it has no request_id and no schema_version")]
    Unknown,
    /// A record of a later release.
    #[error("schema_version: {0} is not known to this release")]
    Version(u64),
    /// A member is missing that is needed.
    #[error("{0}: is missing")]
    Missing(&'static str),
    /// A member is not what it should be.
    #[error("{0}: {1}")]
    Field(&'static str, Flaw),
}

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A list or an object.
    #[error("must be text")]
    NotText,
    /// Neither a number nor nothing.
    #[error("must be a number")]
    NotANumber,
    /// Less than nothing.
    #[error("is negative")]
    Negative,
    /// More than is believed.
    #[error("is too large to be true")]
    TooLarge,
    /// No moment between 1970 and 9999.
    #[error("must be a time: RFC 3339, `2006-01-02 15:04:05`, or seconds or milliseconds since 1970")]
    NotATime,
    /// A moment that is still to come.
    #[error("lies in the future")]
    Ahead,
    /// Not 32 hexadecimal digits.
    #[error("must be 32 hexadecimal digits")]
    NotAnId,
    /// Not an object.
    #[error("must be an object")]
    NotAnObject,
    /// A word that this release does not know.
    #[error("is not a word that this release knows")]
    UnknownWord,
}

/// Reads a line, without the end of the line; `None`: there is nothing on it. `now_ms` is the time of day, in
/// milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// Why it cannot be counted.
pub fn read(line: &[u8], now_ms: u64) -> Result<Option<Line>, Unread> {
    // Some programs begin a file with a byte order mark.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let members = Members::of(line)?;
    let latest = now_ms.saturating_add(MAX_AHEAD_MS);
    if members.has("schema_version") {
        record::read(&members, latest).map(Some)
    } else if members.has("request_id") || members.has_event() {
        ai_event::read(&members, latest).map(Some)
    } else {
        Err(Unread::Unknown)
    }
}
