//! What a walk comes across, however its document arrives.

use proptest::prelude::*;

use super::*;

const WANTED: &[Wanted<u8>] = &[
    Wanted { path: &["usage"], what: 1, mark: false },
    Wanted { path: &["choices", "0", "usage"], what: 2, mark: false },
    Wanted { path: &["choices", "0"], what: 3, mark: true },
    Wanted { path: &["done"], what: 4, mark: false },
];

fn walk(pieces: &[&[u8]]) -> (Vec<(u8, String)>, usize, Text) {
    walk_for(&["content"], pieces)
}

fn walk_for(texts: &'static [&'static str], pieces: &[&[u8]]) -> (Vec<(u8, String)>, usize, Text) {
    let mut walker = Walker::new(WANTED, texts);
    let (mut values, mut ends) = (Vec::new(), 0);
    let mut found = |found: Found<'_, u8>| match found {
        Found::Value(what, raw, _) => {
            values.push((what, String::from_utf8_lossy(raw).into_owned()));
        }
        Found::End => ends += 1,
    };
    for piece in pieces {
        walker.feed(piece, &mut found);
    }
    walker.end(&mut found);
    (values, ends, walker.text)
}

fn values(json: &str) -> Vec<(u8, String)> {
    let whole = walk(&[json.as_bytes()]);
    for at in 0..=json.len() {
        let (head, tail) = json.as_bytes().split_at(at);
        assert_eq!(walk(&[head, b"", tail]), whole, "{json} at {at}");
    }
    whole.0
}

fn found(expected: &[(u8, &str)]) -> Vec<(u8, String)> {
    expected.iter().map(|(what, raw)| (*what, (*raw).to_owned())).collect()
}

#[test]
fn values_are_found_at_their_path_alone() {
    for (json, expected) in [
        (r#"{"usage":{"a":[1,"}"]},"b":2}"#, &[(1, r#"{"a":[1,"}"]}"#)][..]),
        (r#"{"b":{"usage":1},"c":[{"usage":2}]}"#, &[]),
        (r#"{"b":"\"usage\":1","c":"usage"}"#, &[]),
        (r#"{"usage" : null , "done": true}"#, &[(1, "null"), (4, "true")]),
        (r#"{"usage":1,"usage":2}"#, &[(1, "1"), (1, "2")]),
        (r#"{"done":"a\\\"b"}"#, &[(4, r#""a\\\"b""#)]),
        (r#"{"choices":[{"usage":{"a":1}},{"usage":{"a":2}}]}"#, &[(3, "{"), (2, r#"{"a":1}"#)]),
        (r#"{"choices":[[{"usage":1}]]}"#, &[(3, "[")]),
        (r#"{"choices":[]}"#, &[]),
        (r#"{"usage":{"usage":{"usage":3}}}"#, &[(1, r#"{"usage":{"usage":3}}"#)]),
        (r#"[{"usage":1},{"usage":2}]"#, &[(1, "1"), (1, "2")]),
        ("{\"usage\":1}\n{\"usage\":2}", &[(1, "1"), (1, "2")]),
        (r#"{"usage":{"a":1"#, &[]),
        (r#"[[[[[[[[{"usage":1}]]]]]]]]"#, &[]),
        (r#"}}]]{"usage":5}"#, &[(1, "5")]),
        (r#""usage":7"#, &[]),
    ] {
        assert_eq!(values(json), found(expected), "{json}");
    }
}

#[test]
fn documents_end_once_each() {
    for (json, ends) in [("", 0), ("[DONE]", 0), ("{}", 1), ("{}{}\n{}", 3), (r#"[{"a":{}},{}]"#, 2), (r#"{"a":"#, 1)] {
        assert_eq!(walk(&[json.as_bytes()]).1, ends, "{json}");
    }
}

#[test]
fn text_is_counted_at_any_depth() {
    let json = r#"{"a":[[[[[[[[{"content":"x\"y","b":"no"}]]]]]]]],"content":["no"],"c":"content","content":5,"d":"no","content":"zz"}"#;
    let mut expected = Text::default();
    expected.add(b"xyzz");
    expected.add(b"\"");
    assert_eq!(walk(&[json.as_bytes()]).2, expected);
    values(json);
}

#[test]
fn numbers_are_skipped_in_blocks_without_losing_what_follows() {
    for count in 0..70 {
        let json = format!(r#"{{"data":[[{}0]],"usage":{{"n":1}}}}"#, "0.5, ".repeat(count));
        assert_eq!(values(&json), found(&[(1, r#"{"n":1}"#)]), "{count}");
        assert_eq!(walk_for(&[], &[json.as_bytes()]).0, found(&[(1, r#"{"n":1}"#)]), "{count}, without text");
    }
}

#[test]
fn a_long_value_is_handed_out_in_part() {
    let json = format!(r#"{{"usage":"{}","done":1}}"#, "x".repeat(MAX_VALUE_BYTES));
    for size in [100, json.len()] {
        let mut walker = Walker::new(WANTED, &[]);
        let mut seen = Vec::new();
        for piece in json.as_bytes().chunks(size) {
            walker.feed(piece, |found| {
                if let Found::Value(what, raw, whole) = found {
                    seen.push((what, raw.len(), whole));
                }
            });
        }
        assert_eq!(seen, [(1, MAX_VALUE_BYTES, false), (4, 1, true)], "by {size}");
    }
}

/// What documents are made of, in whatever order.
const PARTS: &[&str] = &[
    "{",
    "{",
    "}",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\"",
    "\\",
    "1",
    "null",
    "x",
    "\"usage\"",
    "\"usage\":{\"a\":1}",
    "\"usage\":2",
    "\"choices\":[{",
    "\"choices\":[]",
    "\"content\":\"tü\\\"\"",
    "\"content\":",
    "\"done\":true",
    "\"other\":[1,2,{\"usage\":3}]",
    "}]",
    "},",
    ",\"a\":\"b\",",
    "\"a rather long string, longer than three words\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn a_document_in_one_piece_comes_to_the_same_as_in_many(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..16),
        size in 1..9_usize,
    ) {
        for document in [format!("{{{}}}", parts.concat()), parts.concat()] {
            for texts in [&[][..], &["content"]] {
                let whole = walk_for(texts, &[document.as_bytes()]);
                let pieces: Vec<_> = document.as_bytes().chunks(size).collect();
                prop_assert_eq!(walk_for(texts, &pieces), whole, "{}", document);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn values_first_and_text_afterwards_come_to_the_same_as_both_at_once(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..16),
    ) {
        let tail = br#"{"content":"tail","usage":3}"#;
        for document in [format!("{{{}}}", parts.concat()), parts.concat()] {
            let document = document.as_bytes();
            let (mut values, mut ends) = (Vec::new(), 0);
            let mut walker = Walker::new(WANTED, &["content"]);
            let mut found = |found: Found<'_, u8>| match found {
                Found::Value(what, raw, _) => values.push((what, String::from_utf8_lossy(raw).into_owned())),
                Found::End => ends += 1,
            };
            if walker.feed_values(document, &mut found) {
                walker.count_text(document);
            } else {
                walker.feed(document, &mut found);
            }
            // What follows shows the state that is left behind.
            walker.feed(tail, &mut found);
            walker.end(&mut found);
            prop_assert_eq!((values, ends, walker.text), walk(&[document, tail]));
        }
    }
}

#[test]
fn ordinary_documents_are_walked_whole() {
    for texts in [&[][..], &["content"]] {
        let walker = Walker::new(WANTED, texts);
        for document in [
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":"a"}},{"x":[]}],"usage":{"n":[1,2]},"done":true}"#,
            "{ \"a\" : { } , \"content\" : \"x\" , \"b\" : [ -1.5e3 , null ] }\n",
            "{}",
        ] {
            assert!(Whole::walk(document.as_bytes(), &walker.paths, true).is_some(), "{document}");
        }
    }
}
