//! Weir's own request record, as its log files have it.
//!
//! Owns what each field counts as. Refuses to know whose record it is.

use serde_json::Value;

use super::members::Members;
use super::scalars::{flag, micros_of_millis, moment, text, whole};
use super::{Entry, Flaw, Line, SCHEMA_VERSION, Unread};
use crate::outcome::Outcome;
use crate::price::NanoUsd;
use crate::route::Operation;
use crate::usage::{MAX_TOKENS, Source, Usage};

/// Bytes, events and microseconds beyond this are a mistake: a petabyte, or thirty years.
const MAX_FIGURE: u64 = 1_000_000_000_000_000;

/// The same of money, a million dollars.
const MAX_NANO_USD: u64 = 1_000_000_000_000_000;

/// Digits of an id.
const ID_DIGITS: usize = 32;

pub(super) fn read(members: &Members, latest_ms: u64) -> Result<Line, Unread> {
    let record = Record(members);
    match record.number("schema_version", u64::MAX)? {
        SCHEMA_VERSION => {}
        0 => return Err(Unread::Field("schema_version", Flaw::NotANumber)),
        later => return Err(Unread::Version(later)),
    }
    let id = record.id()?;
    let time_ms = record.needed("time", moment)?;
    if time_ms > latest_ms {
        return Err(Unread::Field("time", Flaw::Ahead));
    }
    let outcome = record.needed("outcome", |value| word(value, |text| text.parse::<Outcome>().ok()))?;
    let key_id = record.text("key_id")?;
    if key_id.is_empty() {
        return Ok(Line::Keyless);
    }
    let key_name = record.text("key_name")?;
    let operation = record.given("operation", |value| word(value, |text| text.parse::<Operation>().ok()))?;
    let entry = Entry {
        id,
        time_ms,
        duration_us: record.micros("duration_ms")?.unwrap_or(0),
        first_token_us: record.micros("ttft_ms")?,
        key_name: if key_name.is_empty() { key_id.clone() } else { key_name },
        key_id,
        user: record.text("user")?,
        route: record.text("route")?,
        // A key is admitted for an operation; what has none is nothing that tokens are counted of.
        operation: operation.unwrap_or(Operation::OpenAiOther),
        channel: record.text("channel")?,
        model: record.text("model_requested")?,
        status: u16::try_from(record.number("status", 999)?).unwrap_or(0),
        outcome,
        stream: members.get("stream").is_some_and(flag),
        events: record.number("events", MAX_FIGURE)?,
        request_bytes: record.number("request_bytes", MAX_FIGURE)?,
        response_bytes: record.number("response_bytes", MAX_FIGURE)?,
        usage: record.usage()?,
        cost: NanoUsd(record.number("cost_nano_usd", MAX_NANO_USD)?),
        attempts: members
            .get("attempts")
            .and_then(Value::as_array)
            .map_or(0, |tries| u32::try_from(tries.len()).unwrap_or(u32::MAX)),
    };
    Ok(Line::Record { entry, node: record.text("node")? })
}

struct Record<'a>(&'a Members);

impl Record<'_> {
    fn given<T>(&self, name: &'static str, read: impl FnOnce(&Value) -> Result<T, Flaw>) -> Result<Option<T>, Unread> {
        self.0.get(name).map(read).transpose().map_err(|flaw| Unread::Field(name, flaw))
    }

    fn needed<T>(&self, name: &'static str, read: impl FnOnce(&Value) -> Result<T, Flaw>) -> Result<T, Unread> {
        self.given(name, read)?.ok_or(Unread::Missing(name))
    }

    fn text(&self, name: &'static str) -> Result<String, Unread> {
        self.given(name, text).map(Option::unwrap_or_default)
    }

    fn number(&self, name: &'static str, max: u64) -> Result<u64, Unread> {
        self.given(name, |value| whole(value, max)).map(Option::unwrap_or_default)
    }

    fn micros(&self, name: &'static str) -> Result<Option<u64>, Unread> {
        self.given(name, |value| micros_of_millis(value, MAX_FIGURE))
    }

    fn id(&self) -> Result<u128, Unread> {
        self.needed("id", |value| {
            let digits = value.as_str().map(str::trim).filter(|digits| digits.len() == ID_DIGITS);
            // A sign would be read, too.
            let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(Flaw::NotAnId)
        })
    }

    /// A record has the whole prompt as its input, cached or not, and does not say how long what was written to a
    /// cache lives.
    fn usage(&self) -> Result<Usage, Unread> {
        let [input, output, cache_read, cache_write, reasoning] =
            ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"]
                .map(|name| self.number(name, MAX_TOKENS));
        let (cache_read, cache_write_5m) = (cache_read?, cache_write?);
        let source = self.given("usage_source", |value| {
            let all = [Source::Upstream, Source::Partial, Source::Estimated, Source::None];
            word(value, |text| all.into_iter().find(|source| source.name() == text))
        })?;
        Ok(Usage {
            input_uncached: input?.saturating_sub(cache_read + cache_write_5m),
            cache_read,
            cache_write_5m,
            cache_write_1h: 0,
            output: output?,
            reasoning: reasoning?,
            source: source.unwrap_or_default(),
        })
    }
}

fn word<T>(value: &Value, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Flaw> {
    read(value.as_str().ok_or(Flaw::NotText)?.trim()).ok_or(Flaw::UnknownWord)
}
