//! Bodies of requests: JSON, read strictly.
//!
//! Owns what makes a body unfit before anybody looks at its fields. A field that is given twice is refused: JSON
//! leaves open which one counts. Knows nothing of which fields there are.

use std::fmt;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use http::StatusCode;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::answer;

/// Why a body is not looked at.
pub(super) struct Unfit {
    status: StatusCode,
    message: String,
}

impl Unfit {
    fn new(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// As an answer.
    pub(super) fn answer(&self) -> Response {
        answer::error(self.status, &self.message)
    }
}

/// A body that is an object; an empty body is an empty one.
pub(super) fn object(body: Result<Bytes, BytesRejection>) -> Result<Map<String, Value>, Unfit> {
    match value(body)? {
        None => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(_) => Err(Unfit::new("the body must be a JSON object")),
    }
}

/// A body that is a list of names.
pub(super) fn names(body: Result<Bytes, BytesRejection>) -> Result<Vec<String>, Unfit> {
    let not_names = || Unfit::new("the body must be a JSON list of names");
    let Some(Value::Array(items)) = value(body)? else { return Err(not_names()) };
    let names: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    names.ok_or_else(not_names)
}

fn value(body: Result<Bytes, BytesRejection>) -> Result<Option<Value>, Unfit> {
    let body = body.map_err(|rejection| Unfit {
        status: rejection.status(),
        message: "the body could not be read, or is too large".to_owned(),
    })?;
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    // What serde_json says has a position and no contents.
    parse(&body).map(Some).map_err(|e| Unfit::new(format!("the body is not JSON: {e}")))
}

fn parse(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice::<Strict>(body).map(|strict| strict.0)
}

/// Any value whose mappings have each name once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyValue.deserialize(deserializer).map(Strict)
    }
}

struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(AnyValue)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if fields.insert(name, access.next_value_seed(AnyValue)?).is_some() {
                // Its name is not repeated: it may be a secret in the wrong place.
                return Err(A::Error::custom("a field is given twice"));
            }
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written() {
        for value in [
            json!(null),
            json!({ "a": [1, -2, 2.5, true, "x", null, { "b": {} }] }),
            json!([["a"], []]),
            json!("\u{1F600}\n"),
            json!(u64::MAX),
        ] {
            assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_without_its_contents() {
        for (body, expected) in [
            (r#"{"a":1,"a":1}"#, "a field is given twice at line 1 column 13"),
            (r#"{"a":{"sk-canary":1,"sk-canary":2}}"#, "a field is given twice at line 1 column 34"),
            (r#"{"sk-canary"}"#, "expected `:` at line 1 column 13"),
            ("{} sk-canary", "trailing characters at line 1 column 4"),
            ("sk-canary", "expected value at line 1 column 1"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().to_string(), expected, "{body}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(parse(deep.as_bytes()).unwrap_err().to_string(), "recursion limit exceeded at line 1 column 128");
    }
}
