//! The members of a line that mean something; all others, bodies of megabytes among them, are passed over unread.
//!
//! Owns the reading of JSON. Refuses to know what a member means.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::scalars::is_nothing;
use super::{Flaw, Unread};

/// Every name that is looked at, in both kinds of lines, in order.
const NAMES: &[&str] = &[
    "ai",
    "ai_model",
    "ai_model_cost",
    "ai_model_input_token",
    "ai_model_output_token",
    "ai_model_total_token",
    "ai_provider",
    "ai_provider_statuses",
    "api",
    "application",
    "application_id",
    "attempts",
    "cache_read_tokens",
    "cache_write_tokens",
    "channel",
    "consumer",
    "cost_nano_usd",
    "duration_ms",
    "events",
    "id",
    "input_tokens",
    "key_id",
    "key_name",
    "model_requested",
    "msec",
    "node",
    "operation",
    "outcome",
    "output_tokens",
    "reasoning_tokens",
    "request_bytes",
    "request_id",
    "request_time",
    "request_uri",
    "response_bytes",
    "route",
    "schema_version",
    "status",
    "stream",
    "time",
    "time_iso8601",
    "time_local",
    "timestamp",
    "ttft_ms",
    "uri",
    "usage_source",
    "user",
];

/// The known members of one line. Of a name that stands there twice the last counts, as Go reads it.
pub(super) struct Members {
    outer: Map<String, Value>,
    /// What stands in `ai`.
    inner: Map<String, Value>,
}

impl Members {
    pub(super) fn of(line: &[u8]) -> Result<Self, Unread> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let mut outer = json.deserialize_any(Known).map_err(unread)?;
        json.end().map_err(unread)?;
        let inner = match outer.remove("ai") {
            None => Map::new(),
            Some(nothing) if is_nothing(&nothing) => Map::new(),
            Some(Value::Object(inner)) => inner,
            Some(Value::String(text)) => {
                serde_json::from_str(&text).map_err(|_| Unread::Field("ai", Flaw::NotAnObject))?
            }
            Some(_) => return Err(Unread::Field("ai", Flaw::NotAnObject)),
        };
        Ok(Self { outer, inner })
    }

    /// The member, if there is something in it.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.outer.get(name).filter(|value| !is_nothing(value))
    }

    /// The same of a member of `ai`, which may stand beside it.
    pub(super) fn get_ai(&self, name: &str) -> Option<&Value> {
        self.inner.get(name).filter(|value| !is_nothing(value)).or_else(|| self.get(name))
    }

    /// Whether there is something in the member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether any member is an event's alone.
    pub(super) fn has_event(&self) -> bool {
        !self.inner.is_empty() || self.outer.keys().any(|name| name.starts_with("ai_") || name == "time_iso8601")
    }
}

fn unread(error: serde_json::Error) -> Unread {
    if error.is_data() {
        return Unread::NotAnObject;
    }
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(&*text, |end| &text[..end]);
    Unread::Json { what: what.to_owned(), column: error.column() }
}

struct Known;

impl<'de> Visitor<'de> for Known {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key_seed(Name)? {
            match name {
                Some(name) => {
                    members.insert(name.to_owned(), access.next_value()?);
                }
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(NAMES.binary_search(&name).ok().map(|at| NAMES[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn what_nobody_asks_for_is_passed_over_however_deep_it_is() {
        let line = format!(r#"{{"request_body":{{"text":"{}"}},"id":"x","id":"y"}}"#, "\\u0000".repeat(100_000));
        assert_eq!(Members::of(line.as_bytes()).ok().unwrap().get("id"), Some(&"y".into()));
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        assert!(Members::of(deep.as_bytes()).is_ok());
    }
}
