//! Owns what is read out of a record's line. Refuses to know any other field, and never fails: a line that cannot be
//! read is pushed as it is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::cut;

/// The longest line that Loki takes by default (`limits_config.max_line_size`).
pub const MAX_LINE: usize = 256 << 10;

/// The longest value of the label `route`: half of what Loki takes of any label's value by default.
const MAX_ROUTE: usize = 1024;

/// What the gateway's metrics call a request that no route matched.
const UNMATCHED: &str = "unmatched";

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
}
