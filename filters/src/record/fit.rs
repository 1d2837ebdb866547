//! What a record gives up when it is too long for whoever is to take it.
//!
//! Owns which fields can be done without. Refuses to know who sets the limit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a record can do without: it still says who asked for what when, how that ended and what it cost. The bodies go
/// before all else, the bigger one first.
const DISPENSABLE: [&str; 6] =
    ["request_body", "response_body", "usage_raw", "response_headers", "request_headers", "user_agent"];

const NULL: &str = "null";

/// The record if it has no more than `max` bytes, or else without what it can do without, each set to `null`, until it
/// has. `None`: it has more even then, or is no object.
pub fn fit(record: &str, max: usize) -> Option<Cow<'_, str>> {
    if record.len() <= max {
        return Some(Cow::Borrowed(record));
    }
    let Members(mut members) = serde_json::from_str(record).ok()?;
    let len_of = |members: &[(Cow<'_, str>, &str)], name: &str| {
        members.iter().find(|(member, _)| member == name).map_or(0, |(_, value)| value.len())
    };
    let mut order = DISPENSABLE;
    if len_of(&members, order[1]) > len_of(&members, order[0]) {
        order.swap(0, 1);
    }
    let mut len = record.len();
    for name in order {
        for (_, value) in members.iter_mut().filter(|(member, value)| member == name && value.len() > NULL.len()) {
            len -= value.len() - NULL.len();
            *value = NULL;
        }
        if len <= max {
            return Some(Cow::Owned(written(&members, len)));
        }
    }
    None
}

fn written(members: &[(Cow<'_, str>, &str)], capacity: usize) -> String {
    let mut out = Vec::with_capacity(capacity);
    for (name, value) in members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        crate::json::put_str(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
    // Put together from texts.
    String::from_utf8(out).unwrap_or_default()
}

/// The members of an object, in their order, each as it stands.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<_, &RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const RECORD: &str = concat!(
        r#"{"schema_version":1,"id":"0a","usage_raw":"{\"n\":1}","cost_nano_usd":7,"user_agent":"curl/8","#,
        r#""request_headers":{"a":"b"},"request_body":{"text":"12345"},"response_headers":{"c":"d"},"#,
        r#""response_body":{"text":"1234567"}}"#
    );

    fn fitted(max: usize) -> String {
        fit(RECORD, max).unwrap().into_owned()
    }

    #[test]
    fn what_fits_is_not_touched() {
        assert!(matches!(fit(RECORD, RECORD.len()), Some(Cow::Borrowed(RECORD))));
        assert!(matches!(fit("no json", 7), Some(Cow::Borrowed("no json"))));
    }

    #[test]
    fn the_bigger_body_goes_first_and_then_the_other_one() {
        let without_answer = RECORD.replace(r#"{"text":"1234567"}"#, "null");
        assert_eq!(fitted(RECORD.len() - 1), without_answer);
        assert_eq!(fitted(without_answer.len()), without_answer);
        assert_eq!(fitted(without_answer.len() - 1), without_answer.replace(r#"{"text":"12345"}"#, "null"));
    }

    #[test]
    fn in_the_end_it_says_who_and_how_much() {
        let least = concat!(
            r#"{"schema_version":1,"id":"0a","usage_raw":null,"cost_nano_usd":7,"user_agent":null,"#,
            r#""request_headers":null,"request_body":null,"response_headers":null,"response_body":null}"#
        );
        assert_eq!(fitted(least.len()), least);
        assert_eq!(fit(RECORD, least.len() - 1), None);
        assert_eq!(fit("[\"no record\"]", 12), None);
        assert_eq!(fit("no json", 6), None);
    }

    #[test]
    fn numbers_and_escapes_stand_as_they_stood() {
        let record = r#"{"a":1.10,"b\u0022":"\u00e9","request_body":{"text":"long long long"}}"#;
        assert_eq!(fit(record, 60).as_deref(), Some(r#"{"a":1.10,"b\"":"\u00e9","request_body":null}"#));
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
    fn what_is_no_longer_than_null_stays() {
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

    proptest! {
        #[test]
        fn whatever_fits_is_the_same_record_with_less(text in "\\PC{0,60}", raw in "\\PC{0,60}", max in 0..200_usize) {
            let record = json!({"id": text, "request_body": {"text": text}, "usage_raw": raw, "z": 1.5}).to_string();
            if let Some(fitted) = fit(&record, max) {
                prop_assert!(fitted.len() <= max);
                let (before, after): (Value, Value) =
                    (serde_json::from_str(&record).unwrap(), serde_json::from_str(&fitted).unwrap());
                for (name, value) in before.as_object().unwrap() {
                    prop_assert!(&after[name] == value || after[name].is_null());
                }
            }
        }
    }
}
