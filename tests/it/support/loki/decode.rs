//! What stands in a push, by the types of another client of Loki, and by the rules of the real one for labels.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;
use loki_api::logproto::{EntryAdapter, PushRequest, StreamAdapter};
use loki_api::prost::Message;
use serde::Deserialize;

use super::MAX_PUSH;
use super::wire::Push;

/// `limits_config.max_label_names_per_series`, `max_label_name_length` and `max_label_value_length`
const MAX_LABELS: usize = 15;
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 2048;

/// Labels by their names.
pub(super) type Labels = BTreeMap<String, String>;

/// The labels of each stream, or what is wrong with them, and its entries.
pub(super) type Decoded = Vec<(Result<Labels, String>, Vec<(u64, String)>)>;

pub(super) fn decoded(push: &Push) -> Result<Decoded, String> {
    match (push.header("content-type"), push.header("content-encoding")) {
        (Some("application/x-protobuf"), None | Some("snappy")) => protobuf(&push.body),
        (Some("application/json"), None) => json(&push.body),
        (Some("application/json"), Some("gzip")) => {
            let mut plain = Vec::new();
            let most = u64::try_from(4 * MAX_PUSH).expect("a small number");
            GzDecoder::new(&push.body[..]).take(most).read_to_end(&mut plain).map_err(|e| e.to_string())?;
            json(&plain)
        }
        (kind, coding) => Err(format!("Content-Type {kind:?} with Content-Encoding {coding:?} is not supported")),
    }
}

fn protobuf(body: &[u8]) -> Result<Decoded, String> {
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| e.to_string())?;
    let push = PushRequest::decode(&plain[..]).map_err(|e| e.to_string())?;
    // Fields that these types do not know would be lost on the way to the ingester, too.
    if push.encode_to_vec() != plain {
        return Err("the push has fields that are not known".to_owned());
    }
    let entry = |EntryAdapter { timestamp, line }: EntryAdapter| {
        let time = timestamp.ok_or("an entry has no timestamp")?;
        let seconds = u64::try_from(time.seconds).map_err(|_| "a timestamp lies before 1970")?;
        let nanos =
            u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or("nanos of no second")?;
        Ok((seconds * 1_000_000_000 + u64::from(nanos), line))
    };
    let stream = |StreamAdapter { labels, entries, .. }: StreamAdapter| {
        let entries = entries.into_iter().map(entry).collect::<Result<_, &str>>()?;
        let labels = parsed(&labels).ok_or_else(|| format!("Error parsing labels '{labels}'")).and_then(checked);
        Ok((labels, entries))
    };
    push.streams.into_iter().map(stream).collect::<Result<_, &str>>().map_err(str::to_owned)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPush {
    streams: Vec<JsonStream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonStream {
    stream: BTreeMap<String, String>,
    values: Vec<(String, String)>,
}

fn json(body: &[u8]) -> Result<Decoded, String> {
    let push: JsonPush = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let stream = |JsonStream { stream, values }: JsonStream| {
        let entry = |(time, line): (String, String)| match time.parse::<u64>() {
            Ok(time_ns) if time_ns.to_string() == time => Ok((time_ns, line)),
            _ => Err(format!("'{time}' is no timestamp")),
        };
        let entries = values.into_iter().map(entry).collect::<Result<_, String>>()?;
        Ok((checked(stream.into_iter().collect()), entries))
    };
    push.streams.into_iter().map(stream).collect()
}

fn checked(labels: Vec<(String, String)>) -> Result<Labels, String> {
    if labels.is_empty() {
        return Err("error at least one label pair is required per stream".to_owned());
    }
    if labels.len() > MAX_LABELS {
        return Err(format!("entry for stream has {} label names; limit {MAX_LABELS}", labels.len()));
    }
    let count = labels.len();
    for (name, value) in &labels {
        let mut bytes = name.bytes();
        let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !begins || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') || name.len() > MAX_NAME {
            return Err(format!("'{name}' is no label name"));
        }
        if value.is_empty() || value.len() > MAX_VALUE {
            return Err(format!("the value of label '{name}' is empty or too long"));
        }
    }
    let map: Labels = labels.into_iter().collect();
    if map.len() < count { Err("stream has duplicate label names".to_owned()) } else { Ok(map) }
}

/// `{name="value", …}`, the values quoted as Go does it.
fn parsed(selector: &str) -> Option<Vec<(String, String)>> {
    let mut rest = selector.strip_prefix('{')?;
    let mut labels = Vec::new();
    loop {
        if rest == "}" {
            return Some(labels);
        }
        if !labels.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = unquoted(after)?;
        labels.push((name.to_owned(), value));
        rest = after;
    }
}

fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\n' => return None,
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'u' => {
                    let (digits, after) = chars.as_str().split_at_checked(4)?;
                    chars = after.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
}
