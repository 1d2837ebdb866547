//! What a line to import costs to read.

use std::hint::black_box;

use weir_filters::import::read;

use crate::runner::{Case, Work};

/// 2026-11-30T00:00:00Z.
const NOW: u64 = 1_796_000_000_000;

pub(crate) fn cases() -> Vec<Case> {
    let line = |file: &str| file.lines().next().unwrap_or_default().to_owned();
    let event = line(include_str!("../../tests/fixtures/import/served.apipark.jsonl"));
    let record = line(include_str!("../../tests/fixtures/import/records.weir.jsonl"));
    // A body that nobody reads, of quotes above all.
    let body = r#"{\"role\":\"user\",\"content\":\"A weir is a low dam.\"},"#.repeat(1_000);
    let with_body = record.replace(r#""response_body":null"#, &format!(r#""response_body":{{"text":"{body}"}}"#));
    assert!(with_body.len() > body.len(), "the record has a body");
    let case = |name: &str, work: Work, line: String| {
        Case::new(format!("import/{name}"), work, move || {
            let line = line.clone();
            move || {
                black_box(read(black_box(line.as_bytes()), NOW).is_ok());
            }
        })
    };
    vec![
        case("event", Work::Calls(1), event),
        case("record", Work::Calls(1), record),
        case("record with a body", Work::Bytes(with_body.len()), with_body),
    ]
}
