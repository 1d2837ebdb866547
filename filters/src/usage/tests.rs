//! How reports merge, and that quick and thorough reading agree.

use proptest::prelude::*;

use super::*;

const NAMES: &[Name] =
    &[("", "prompt", Field::Prompt), ("", "completion", Field::Completion), ("details", "cached", Field::Cached)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn a_plain_report_is_read_as_serde_reads_it(parts in prop::collection::vec(prop::sample::select(PARTS), 0..24)) {
        let report = format!("{{{}}}", parts.concat());
        for raw in [report.as_bytes(), &report.as_bytes()[..report.len() - 1]] {
            let mut counts = Counts::default();
            counts.set(Field::Prompt, 77);
            let before = counts.clone();
            let mut by_serde = counts.clone();
            let slow = by_serde.merge_with_serde(raw, NAMES, Place::Object(""), before.clone());
            let quick = counts.merge(raw, NAMES);
            prop_assert_eq!((quick, &counts), (slow, &by_serde), "{}", String::from_utf8_lossy(raw));
        }
    }
}

/// What reports are made of, and what they should not be made of.
const PARTS: &[&str] = &[
    "\"prompt\":",
    "\"completion\":",
    "\"cached\":",
    "\"details\":",
    "\"other\":",
    "\"pr\\u006fmpt\":",
    "{",
    "}",
    "[",
    "]",
    ",",
    ",",
    ",",
    ":",
    " ",
    "\n",
    "\u{b}",
    "0",
    "7",
    "12",
    "012",
    "1.0",
    "1e2",
    "-3",
    "1000000000",
    "1000000001",
    "null",
    "true",
    "false",
    "nul",
    "\"x\"",
    "\"ü\"",
    "\"\\n\"",
    "\"",
    "\"prompt\":3",
    "\"completion\":4",
    "\"details\":{\"cached\":2}",
    "\"other\":[{\"modality\":\"TEXT\",\"n\":1}]",
];

#[test]
fn ordinary_reports_are_plain() {
    for report in [
        r#"{"prompt":19,"completion":10,"total_tokens":29,"details":{"cached":0},"tier":"standard"}"#,
        r#"{ "prompt" : 1500, "x": [ { "modality": "TEXT", "n": 1500 } ], "y": [], "z": {}, "cached": null }"#,
    ] {
        assert!(plain::merge(report.as_bytes(), NAMES, Place::Object(""), &mut Counts::default()).is_some());
    }
}

fn merged(reports: &[&str]) -> ([Option<u64>; 3], u64) {
    let mut counts = Counts::default();
    let invalid = reports.iter().map(|r| counts.merge(r.as_bytes(), NAMES).invalid).sum();
    ([Field::Prompt, Field::Completion, Field::Cached].map(|field| counts.get(field)), invalid)
}

#[test]
fn the_last_value_that_is_not_null_counts() {
    let reports = [
        r#"{"prompt":3,"completion":1,"details":{"cached":2}}"#,
        r#"{"prompt":null,"completion":5,"details":null}"#,
        r#"{"completion":7,"details":{"cached":null},"other":[{"prompt":9}]}"#,
    ];
    assert_eq!(merged(&reports), ([Some(3), Some(7), Some(2)], 0));
}

#[test]
fn only_numbers_of_tokens_are_taken() {
    for (value, taken, invalid) in [
        ("0", Some(0), 0),
        ("1000000000", Some(1_000_000_000), 0),
        ("1000000001", None, 1),
        ("4294967297", None, 1),
        ("18446744073709551616", None, 1),
        ("1e999", None, 1),
        ("12.0", Some(12), 0),
        ("1.5e1", Some(15), 0),
        ("12.5", None, 1),
        ("-1", None, 1),
        ("-0.0", Some(0), 0),
        ("\"12\"", None, 1),
        ("true", None, 1),
        ("[12]", None, 1),
        ("{\"prompt\":12}", None, 1),
        ("null", None, 0),
        ("0x10", None, 1),
        ("12,\"completion\":1e999", None, 1),
    ] {
        let report = format!("{{\"prompt\":{value}}}");
        assert_eq!(merged(&[&report]), ([taken, None, None], invalid), "{value}");
    }
}

#[test]
fn an_invalid_value_leaves_the_last_good_one() {
    let reports = [r#"{"prompt":3,"details":{"cached":1}}"#, r#"{"prompt":-3,"details":7}"#];
    assert_eq!(merged(&reports), ([Some(3), None, Some(1)], 2));
}

#[test]
fn a_report_that_is_no_object_is_invalid() {
    for report in ["7", "\"none\"", "[]", "true", "{\"prompt\"", "\u{fffd}"] {
        assert_eq!(merged(&[report]), ([None; 3], 1), "{report}");
    }
}
