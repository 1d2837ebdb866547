//! Owns what is read out of a record's line, and what a line gives up when Loki would refuse it for its length.
//! Refuses to know any other field, and never fails: a line that cannot be read is pushed as it is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::cut;

/// The longest line that Loki takes by default (`limits_config.max_line_size`).
pub const MAX_LINE: usize = 256 << 10;

/// The longest value of the label `route`: half of what Loki takes of any label's value by default.
const MAX_ROUTE: usize = 1024;

/// What the gateway's metrics call a request that no route matched.
const UNMATCHED: &str = "unmatched";

/// Without these a record still says who did what when, what it cost and how it ended. The first that are there go
/// first; bodies are in the record's counts too.
const DISPENSABLE: [&str; 6] =
    ["request_body", "response_body", "usage_raw", "response_headers", "request_headers", "user_agent"];

/// What a record's line says that a push needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The value of the label `route`.
    pub route: Cow<'a, str>,
    /// How long the request took, in nanoseconds.
    pub duration_ns: u64,
}

/// Reads a line, with or without its line feed.
pub fn read(line: &str) -> Seen<'_> {
    let Fields { route, duration_ms } = serde_json::from_str(line).unwrap_or_default();
    let mut route = route.unwrap_or(Cow::Borrowed(UNMATCHED));
    if route.len() > MAX_ROUTE {
        route = cut(&route, MAX_ROUTE).to_owned().into();
    }
    // Neither a negative number nor one that is none survives the conversion, which saturates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, at 584 years")]
    let duration_ns = (duration_ms * 1e6) as u64;
    Seen { route, duration_ns }
}

/// The line if it fits into `max` bytes; else without what it can do without, biggest body first, each set to `null`.
/// `None`: it does not fit even then.
pub fn fit(line: &str, max: usize) -> Option<Cow<'_, str>> {
    if line.len() <= max {
        return Some(Cow::Borrowed(line));
    }
    let Object(mut fields) = serde_json::from_str(line).ok()?;
    let size = |fields: &[(Cow<'_, str>, &str)], name: &str| {
        fields.iter().find(|(field, _)| field == name).map_or(0, |(_, value)| value.len())
    };
    let mut order = DISPENSABLE;
    if size(&fields, order[1]) > size(&fields, order[0]) {
        order.swap(0, 1);
    }
    let mut len = line.len();
    for name in order {
        for (_, value) in fields.iter_mut().filter(|(field, value)| field == name && value.len() > NULL.len()) {
            len -= value.len() - NULL.len();
            *value = NULL;
        }
        if len <= max {
            return Some(Cow::Owned(written(&fields, len)));
        }
    }
    None
}

const NULL: &str = "null";

fn written(fields: &[(Cow<'_, str>, &str)], len: usize) -> String {
    let mut text = String::with_capacity(len);
    for (name, value) in fields {
        text.push(if text.is_empty() { '{' } else { ',' });
        // A string is always written.
        text.push_str(&serde_json::to_string(name).unwrap_or_default());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

#[derive(Debug, Default)]
struct Fields<'a> {
    route: Option<Cow<'a, str>>,
    duration_ms: f64,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        "route" => fields.route = map.next_value::<Option<Name<'de>>>()?.map(|Name(route)| route),
                        "duration_ms" => fields.duration_ms = map.next_value()?,
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The fields of an object in their order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<_, &RawValue>()? {
                    fields.push((name, value.get()));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A text, borrowed unless something is escaped in it.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_and_duration_are_found_wherever_they_stand() {
        for (line, route, duration_ns) in [
            (r#"{"route":"/v1/messages","duration_ms":12.5}"#, "/v1/messages", 12_500_000),
            ("{\"a\":{\"route\":\"x\"},\"duration_ms\":7,\"b\":[1],\"route\":\"/a\\\"b\"}\n", "/a\"b", 7_000_000),
            (r#"{"route":null,"duration_ms":0.001}"#, "unmatched", 1_000),
            (r#"{"route":"/v1","duration_ms":-1}"#, "/v1", 0),
            (r#"{"route":"/v1","duration_ms":1e300}"#, "/v1", u64::MAX),
            (r#"{"route":7}"#, "unmatched", 0),
            ("{", "unmatched", 0),
            ("", "unmatched", 0),
        ] {
            assert_eq!(read(line), Seen { route: route.into(), duration_ns }, "{line}");
        }
    }

    #[test]
    fn a_route_is_no_longer_than_a_label_may_be() {
        let line = format!(r#"{{"route":"{}"}}"#, "ü".repeat(600));
        assert_eq!(read(&line).route, "ü".repeat(512));
    }

    fn long(request: usize, response: usize) -> String {
        let body = |n: usize| format!(r#"{{"text":"{}","bytes":{n}}}"#, "x".repeat(n));
        format!(
            r#"{{"id":"7","usage_raw":"{{}}","user_agent":"curl","request_headers":{{"a":"b"}},"request_body":{},"response_headers":null,"response_body":{}}}"#,
            body(request),
            body(response)
        )
    }

    #[test]
    fn a_line_that_fits_is_left_as_it_is() {
        let line = long(10, 10);
        assert_eq!(fit(&line, line.len()), Some(Cow::Borrowed(line.as_str())));
        assert_eq!(fit("no JSON at all", 14), Some("no JSON at all".into()));
    }

    #[test]
    fn the_bigger_body_goes_first_and_nothing_else_if_that_is_enough() {
        let shown = |request, response, max| fit(&long(request, response), max).map(Cow::into_owned);
        let kept = r#"{"text":"xxxxxxxxxx","bytes":10}"#;
        let head = r#"{"id":"7","usage_raw":"{}","user_agent":"curl","request_headers":{"a":"b"}"#;
        let without_response =
            format!(r#"{head},"request_body":{kept},"response_headers":null,"response_body":null}}"#);
        assert_eq!(shown(10, 500, 200), Some(without_response));
        let without_request = format!(r#"{head},"request_body":null,"response_headers":null,"response_body":{kept}}}"#);
        assert_eq!(shown(500, 10, 200), Some(without_request));
        let without_both = format!(r#"{head},"request_body":null,"response_headers":null,"response_body":null}}"#);
        assert_eq!(shown(500, 500, without_both.len()), Some(without_both.clone()));
        let least = r#"{"id":"7","usage_raw":null,"user_agent":null,"request_headers":null,"request_body":null,"response_headers":null,"response_body":null}"#;
        assert_eq!(shown(500, 500, 1), None);
        // `"curl"` and `{"a":"b"}` are longer than `null`; `"{}"` is not.
        let least = least.replacen(r#""usage_raw":null"#, r#""usage_raw":"{}""#, 1);
        assert_eq!(shown(500, 500, least.len()), Some(least));
    }

    #[test]
    fn what_is_too_long_and_no_record_is_not_guessed_at() {
        assert_eq!(fit("no JSON at all", 13), None);
        assert_eq!(fit(&format!(r#"{{"route":"{}"}}"#, "x".repeat(100)), 50), None);
    }
}
