//! Properties over generated bodies, with serde_json as the judge.

use super::*;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fmt::Write as _;

const SPACES: [&str; 5] = ["", "", " ", "\n\t", "\r\n  "];

const DAMAGE: &[char] =
    &['{', '}', '[', ']', ':', ',', '"', '\\', ' ', '0', '7', '-', '+', '.', 'e', 'E', 't', 'u', '\n', '\u{1f}', 'é'];

/// Parts of serde_json's messages about what the scanner does not check.
const LEFT_TO_UPSTREAM: &[&str] = &["surrogate", "number out of range", "hex escape", "unicode code point"];

fn space() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&SPACES[..])
}

/// A string as JSON, each character plain, escaped briefly or escaped by number.
fn quoted(text: &str, spelling: &[u8]) -> String {
    let mut out = String::from('"');
    for (c, spelling) in text.chars().zip(spelling.iter().cycle()) {
        match (c, spelling % 4) {
            (_, 0) | ('\0'..' ', _) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            }
            ('"' | '\\', _) | ('/', 1) => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(
            &["model", "stream", "a\":\"b", "\\", "\\\"", "{\"model\":\"x\"}", "😀é\u{1}", "]},"][..]
        )
        .prop_map(str::to_owned),
        ".{0,12}",
    ]
}

fn json_text() -> impl Strategy<Value = String> {
    (text(), vec(any::<u8>(), 1..6)).prop_map(|(text, spelling)| quoted(&text, &spelling))
}

fn key(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (proptest::sample::select(names), vec(any::<u8>(), 1..6)).prop_map(|(key, spelling)| quoted(key, &spelling)),
        1 => json_text(),
    ]
}

/// A member list as an object's text.
fn object(members: Vec<(String, String, [&'static str; 4])>) -> String {
    let members: Vec<String> =
        members.into_iter().map(|(key, value, [a, b, c, d])| format!("{a}{key}{b}:{c}{value}{d}")).collect();
    format!("{{{}}}", members.join(","))
}

fn spaces() -> impl Strategy<Value = [&'static str; 4]> {
    [space(), space(), space(), space()]
}

fn value() -> impl Strategy<Value = String> {
    const NESTED: &[&str] = &["model", "stream", "stream_options", "include_usage", "maxOutputTokens"];
    let leaf = prop_oneof![
        json_text(),
        proptest::sample::select(&["0", "-0.5", "12", "1e3", "-7E-2", "true", "false", "null", "[]", "{}", "[ ]"][..])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec((space(), inner.clone(), space()), 0..4).prop_map(|items| {
                let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{}]", items.join(","))
            }),
            vec((key(NESTED), inner, spaces()), 0..4).prop_map(object),
        ]
    })
}

fn options() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &["include_usage", "x", "include_obfuscation"];
    prop_oneof![
        value(),
        vec((key(KEYS), prop_oneof![Just("true".to_owned()), Just("false".to_owned()), value()], spaces()), 0..4)
            .prop_map(object),
    ]
}

/// One top-level member; `model` is added apart, because it may stand only once.
fn member() -> impl Strategy<Value = (String, String, [&'static str; 4])> {
    let spelled = |name: &'static str| vec(any::<u8>(), 1..6).prop_map(move |spelling| quoted(name, &spelling));
    let boolean = proptest::sample::select(&["true", "false", "null"][..]).prop_map(str::to_owned);
    prop_oneof![
        2 => (spelled("stream"), boolean, spaces()),
        2 => (spelled("stream_options"), options(), spaces()),
        1 => (spelled("generationConfig"), value(), spaces()),
        1 => (spelled("max_tokens"), value(), spaces()),
        3 => (key(&["Models", "messages", "models", "streams"]), value(), spaces()),
    ]
}

/// A body that the scanner takes, with or without a model.
fn body() -> impl Strategy<Value = String> {
    let name = ("[a-z0-9./:é😀\"\\\\-]{1,20}", vec(any::<u8>(), 1..6));
    let model = (proptest::option::of(name), vec(any::<u8>(), 1..6), spaces(), any::<prop::sample::Index>());
    let members = vec(member(), 0..7).prop_map(|mut members| {
        members.retain(|(key, value, _)| match &*serde_json::from_str::<String>(key).unwrap() {
            "model" => false,
            "stream" => ["true", "false", "null"].contains(&value.as_str()),
            _ => true,
        });
        members
    });
    (members, model, space(), space()).prop_map(|(mut members, (name, spelling, around, at), before, after)| {
        if let Some((name, name_spelling)) = name {
            let at = at.index(members.len() + 1);
            members.insert(at, (quoted("model", &spelling), quoted(&name, &name_spelling), around));
        }
        format!("{before}{}{after}", object(members))
    })
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// Cuts a body at arbitrary places; equal cuts give empty pieces.
fn cut(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in cuts.into_iter().chain([body.len()]) {
        pieces.push(Bytes::copy_from_slice(&body[start..end]));
        start = end;
    }
    pieces
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    vec(any::<prop::sample::Index>(), 0..8)
}

/// The edited body, whose bytes outside the edits are checked to be the original's.
fn edited(body: &str, cuts: &[prop::sample::Index], edits: &[Edit]) -> Vec<u8> {
    let out = apply(&cut(body.as_bytes(), cuts), edits).concat();
    let (mut expected, mut from) = (Vec::new(), 0);
    for edit in edits {
        expected.extend_from_slice(&body.as_bytes()[from..edit.range.start]);
        expected.extend_from_slice(&edit.with);
        from = edit.range.end;
    }
    expected.extend_from_slice(&body.as_bytes()[from..]);
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    assert_eq!(edited_len(body.len(), edits), out.len());
    out
}

proptest! {
    #[test]
    fn spelled_strings_mean_what_they_spell(text in text(), spelling in vec(any::<u8>(), 1..6)) {
        prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text, &spelling)).unwrap(), text);
    }

    #[test]
    fn facts_are_those_of_a_full_parse(body in body()) {
        let value = parsed(body.as_bytes());
        let facts = facts(&body);
        prop_assert_eq!(facts.model.as_ref().map(|m| &*m.value), value.get("model").and_then(Value::as_str));
        let stream = value.get("stream").map(|stream| stream == &json!(true));
        prop_assert_eq!(facts.stream.as_ref().map(|s| s.value), stream);
        prop_assert_eq!(asks_for_usage(&facts), value["stream_options"]["include_usage"] == json!(true));
        prop_assert_eq!(facts.stream_options.is_some(), value.get("stream_options").is_some());
        prop_assert_eq!(parsed(&body.as_bytes()[facts.object.clone()]), value);
        prop_assert_eq!(facts.len, body.len());
    }

    #[test]
    fn facts_survive_any_chunking(body in body(), cuts in cuts()) {
        let pieces = cut(body.as_bytes(), &cuts);
        prop_assert_eq!(scan_pieces(pieces.iter().map(|piece| &piece[..])), scan(&body));
    }

    #[test]
    fn a_changed_model_changes_nothing_else(body in body(), cuts in cuts(), name in ".{1,20}") {
        let mut value = parsed(body.as_bytes());
        match set_model(&facts(&body), &name) {
            None => prop_assert_eq!(value.get("model"), None),
            Some(edit) => {
                value["model"] = json!(name);
                prop_assert_eq!(parsed(&edited(&body, &cuts, &[edit])), value);
            }
        }
    }

    #[test]
    fn asking_for_usage_changes_nothing_else(body in body(), cuts in cuts()) {
        let mut value = parsed(body.as_bytes());
        let found = facts(&body);
        let Some(edit) = ask_for_usage(&found) else {
            prop_assert!(asks_for_usage(&found));
            return Ok(());
        };
        if !value["stream_options"].is_object() {
            value["stream_options"] = json!({});
        }
        value["stream_options"]["include_usage"] = json!(true);
        let out = edited(&body, &cuts, &[edit]);
        prop_assert_eq!(parsed(&out), value);
        prop_assert!(asks_for_usage(&scan(&out).unwrap()));
    }

    #[test]
    fn model_and_usage_can_change_together(body in body(), cuts in cuts()) {
        let found = facts(&body);
        let mut edits: Vec<Edit> = set_model(&found, "other").into_iter().chain(ask_for_usage(&found)).collect();
        edits.sort_by_key(|edit| edit.range.start);
        let out = scan(edited(&body, &cuts, &edits)).unwrap();
        prop_assert!(asks_for_usage(&out));
        prop_assert_eq!(out.model.map(|m| m.value), found.model.map(|_| "other".into()));
    }

    #[test]
    fn removal_leaves_the_other_members(body in body(), cuts in cuts()) {
        let mut value = parsed(body.as_bytes());
        value.as_object_mut().unwrap().retain(|key, _| key != "model" && key != "stream");
        let out = edited(&body, &cuts, &without_model_and_stream(&facts(&body)));
        prop_assert_eq!(parsed(&out), value);
        let left = scan(&out).unwrap();
        prop_assert_eq!((left.model, left.stream), (None, None));
    }

    #[test]
    fn damage_is_judged_as_by_a_full_parse(
        body in body(),
        // Fewer than the characters of the shortest body, so that one is always left to damage.
        damage in vec((any::<prop::sample::Index>(), proptest::sample::select(DAMAGE), 0..3_u8), 1..3),
    ) {
        let mut damaged: Vec<char> = body.chars().collect();
        for (at, char, how) in damage {
            let at = at.index(damaged.len());
            match how {
                0 => damaged.insert(at, char),
                1 => damaged[at] = char,
                _ => drop(damaged.remove(at)),
            }
        }
        let bytes = damaged.into_iter().collect::<String>().into_bytes();
        let judge = serde_json::from_slice::<Value>(&bytes);
        match scan(&bytes) {
            Ok(_) => {
                let left_to_upstream = |error: &serde_json::Error| {
                    let text = error.to_string();
                    LEFT_TO_UPSTREAM.iter().any(|part| text.contains(part))
                };
                prop_assert!(judge.as_ref().err().is_none_or(left_to_upstream), "{:?}", judge);
            }
            Err(BodyError::NotJson { .. } | BodyError::Truncated) => prop_assert!(judge.is_err(), "{:?}", judge),
            Err(BodyError::NotObject) => prop_assert!(!judge.is_ok_and(|value| value.is_object())),
            Err(_) => {}
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_split_anywhere(bytes in vec(any::<u8>(), 0..200), cuts in cuts()) {
        let pieces = cut(&bytes, &cuts);
        prop_assert_eq!(scan_pieces(pieces.iter().map(|piece| &piece[..])), scan(&bytes));
    }

    #[test]
    fn arbitrary_json_bytes_never_panic_and_split_anywhere(
        tokens in vec(proptest::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"model\"", "\"stream\"", "\"stream_options\"", "\"include_usage\"",
            "true", "null", "-1.5e3", "\"m\"", " ", "\\u00", "\u{feff}", "{\"", "\":",
        ][..]), 0..40),
        cuts in cuts(),
    ) {
        let bytes = format!("{{{}", tokens.concat()).into_bytes();
        let pieces = cut(&bytes, &cuts);
        let found = scan_pieces(pieces.iter().map(|piece| &piece[..]));
        prop_assert_eq!(&found, &scan(&bytes));
        if let Ok(facts) = found {
            let out = apply(&pieces, &without_model_and_stream(&facts)).concat();
            prop_assert!(scan(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
        }
    }
}
