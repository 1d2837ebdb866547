//! An `ai_event` message of apinto as APIPark has it sent.
//!
//! Owns what each member counts as. Its form and the sources are at the head of [`crate::import`].

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::members::Members;
use super::scalars::{micros_of_millis, moment, text, usd, whole};
use super::statuses::{self, KeyStatus, Verdict};
use super::{Entry, Flaw, Line, Unread};
use crate::outcome::Outcome;
use crate::price::NanoUsd;
use crate::route::Operation;
use crate::usage::{MAX_TOKENS, Source, Usage};

/// Goes before what is hashed, so that no other kind of id can have the same hash.
const ID_DOMAIN: &[u8] = b"weir ai_event request_id\0";

/// Who made the requests of messages that do not say so, as APIPark's own do not.
const NOBODY: &str = "apipark";

/// A year, in microseconds: no request takes longer.
const MAX_MICROS: u64 = 366 * 86_400 * 1_000_000;

/// Members that may hold the time, the first one first.
const TIMES: [&str; 4] = ["time_iso8601", "msec", "timestamp", "time_local"];

pub(super) fn read(members: &Members, latest_ms: u64) -> Result<Line, Unread> {
    let request_id = string(members, "request_id")?.ok_or(Unread::Missing("request_id"))?;
    let (statuses, unread_statuses) = statuses::read(members.get_ai("ai_provider_statuses"));
    let (status, outcome) = ending(members, statuses.last())?;
    let names = ["application", "consumer", "application_id"];
    let name = first_of(members, &names)?.unwrap_or_else(|| NOBODY.to_owned());
    let ids = ["application_id", "application", "consumer"];
    let entry = Entry {
        id: id_of(&request_id),
        time_ms: time(members, latest_ms)?,
        duration_us: number(members.get("request_time"), |v| micros_of_millis(v, MAX_MICROS), "request_time")?
            .unwrap_or(0),
        first_token_us: None,
        key_id: first_of(members, &ids)?.unwrap_or_else(|| name.clone()),
        key_name: name,
        user: String::new(),
        route: route(members)?,
        operation: Operation::OpenAiChat,
        channel: ai_string(members, "ai_provider")?,
        model: ai_string(members, "ai_model")?,
        status,
        outcome,
        stream: false,
        events: 0,
        request_bytes: 0,
        response_bytes: 0,
        usage: usage(members)?,
        cost: number(members.get_ai("ai_model_cost"), usd, "ai_model_cost")?.unwrap_or(NanoUsd(0)),
        attempts: u32::try_from(statuses.len()).unwrap_or(u32::MAX),
    };
    Ok(Line::Event { entry, statuses, unread_statuses })
}

/// The first half of a hash: ids of any form become one of ours, and none meets another's by chance.
pub(super) fn id_of(request_id: &str) -> u128 {
    let digest = Sha256::new().chain_update(ID_DOMAIN).chain_update(request_id).finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}

/// The status that is given, or else what the last try says. A request that was wrong counts as one that was answered
/// with 400: apinto says so much of it and no more.
fn ending(members: &Members, last: Option<&KeyStatus>) -> Result<(u16, Outcome), Unread> {
    if let Some(status) = number(members.get("status"), |v| whole(v, 999), "status")? {
        let status = u16::try_from(status).unwrap_or(0);
        return Ok((status, if status >= 500 { Outcome::UpstreamError } else { Outcome::Ok }));
    }
    Ok(match last.map(|last| last.verdict) {
        None | Some(Verdict::Good | Verdict::Silent) => (0, Outcome::Ok),
        Some(Verdict::WrongRequest) => (400, Outcome::Ok),
        Some(Verdict::Refused) => (0, Outcome::UpstreamError),
        Some(Verdict::Slow) => (0, Outcome::Timeout),
    })
}

fn usage(members: &Members) -> Result<Usage, Unread> {
    let tokens = |name| number(members.get_ai(name), |v| whole(v, MAX_TOKENS), name);
    let (input, output) = (tokens("ai_model_input_token")?, tokens("ai_model_output_token")?);
    let total = tokens("ai_model_total_token")?;
    let is_reported = input.or(output).or(total).is_some();
    // Where the total alone says something, it is what nobody else says.
    let rest = |known: Option<u64>| total.unwrap_or(0).saturating_sub(known.unwrap_or(0));
    let input = input.unwrap_or_else(|| rest(output));
    Ok(Usage {
        input_uncached: input,
        output: output.unwrap_or_else(|| rest(Some(input))),
        source: if is_reported { Source::Upstream } else { Source::None },
        ..Usage::default()
    })
}

fn time(members: &Members, latest_ms: u64) -> Result<u64, Unread> {
    let written = TIMES.into_iter().find_map(|name| Some((name, members.get(name)?)));
    let (name, value) = written.ok_or(Unread::Missing(TIMES[0]))?;
    match moment(value) {
        Ok(ms) if ms > latest_ms => Err(Unread::Field(name, Flaw::Ahead)),
        Ok(ms) => Ok(ms),
        Err(flaw) => Err(Unread::Field(name, flaw)),
    }
}

/// The API's id, or else the path of the request.
fn route(members: &Members) -> Result<String, Unread> {
    if let Some(api) = string(members, "api")? {
        return Ok(api);
    }
    let uri = first_of(members, &["uri", "request_uri"])?.unwrap_or_default();
    let path = match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => &uri,
    };
    Ok(path.split(['?', '#']).next().unwrap_or_default().to_owned())
}

fn number<T>(
    value: Option<&Value>,
    read: impl FnOnce(&Value) -> Result<T, Flaw>,
    name: &'static str,
) -> Result<Option<T>, Unread> {
    value.map(read).transpose().map_err(|flaw| Unread::Field(name, flaw))
}

fn string(members: &Members, name: &'static str) -> Result<Option<String>, Unread> {
    number(members.get(name), text, name)
}

fn ai_string(members: &Members, name: &'static str) -> Result<String, Unread> {
    number(members.get_ai(name), text, name).map(Option::unwrap_or_default)
}

fn first_of(members: &Members, names: &[&'static str]) -> Result<Option<String>, Unread> {
    for name in names {
        if let Some(found) = string(members, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
