//! The usage chunk goes, everything else stays.

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use support::{cases, pieces};
use weir_filters::cut::UsageCut;
use weir_filters::meter::Shape;

fn cut(pieces: &[&[u8]]) -> Vec<u8> {
    let mut cut = UsageCut::new();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&cut.feed(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&cut.finish());
    out
}

const ROLE: &str = r#"data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":null}"#;
const USAGE: &str = r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
const AZURE: &str = r#"data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#;
const NULL: &str = r#"data: {"choices":[],"usage":null}"#;
const MISTRAL: &str = r#"data: {"choices":[{"delta":{"content":"."}}],"usage":{"prompt_tokens":3}}"#;
const NESTED: &str = r#"data: {"x":{"choices":[],"usage":{"a":1}},"choices":[{"delta":{"content":"\"usage\":{}"}}]}"#;
const USAGE_FIRST: &str = r#"data:{"usage" : { "prompt_tokens":3 } , "choices" : [ ] , "id":"c"}"#;
const USAGE_IN_LINES: &str = "event: chunk\ndata: {\"usage\":\ndata: {\"total_tokens\":3},\ndata: \"choices\":[]}";
const SPLIT_KEYS: &str = "data: {\"usage\":{\"total_tokens\":3},\ndata: \"choices\":[{}]}";
const ERROR: &str = r#"data: {"error":{"message":"x"}}"#;
const COMMENT: &str = ": OPENROUTER PROCESSING";
const DONE: &str = "data: [DONE]";

fn joined(events: &[&str], end: &str) -> Vec<u8> {
    events.iter().map(|event| event.replace('\n', end) + end + end).collect::<String>().into_bytes()
}

#[test]
fn only_the_usage_chunk_is_cut() {
    let all = [
        COMMENT,
        AZURE,
        ROLE,
        NULL,
        NESTED,
        USAGE,
        SPLIT_KEYS,
        MISTRAL,
        ERROR,
        USAGE_IN_LINES,
        COMMENT,
        USAGE_FIRST,
        DONE,
    ];
    let kept = [COMMENT, AZURE, ROLE, NULL, NESTED, SPLIT_KEYS, MISTRAL, ERROR, COMMENT, DONE];
    for end in ["\n", "\r\n", "\r"] {
        let (all, kept) = (joined(&all, end), joined(&kept, end));
        assert_eq!(cut(&[&all]), kept, "{end:?}");
        assert_eq!(cut(&all.chunks(1).collect::<Vec<_>>()), kept, "{end:?}");
        for at in 0..=all.len() {
            assert_eq!(cut(&[&all[..at], b"", &all[at..]]), kept, "{end:?} at {at}");
        }
    }
}

#[test]
fn a_comment_or_a_byte_order_mark_before_the_usage_chunk_stays() {
    let stream = format!("\u{feff}{USAGE}\n\n: c\n{USAGE}\n\n\n{DONE}\n\n");
    let kept = format!("\u{feff}: c\n\n{DONE}\n\n").into_bytes();
    for at in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(at);
        assert_eq!(cut(&[head, tail]), kept, "at {at}");
    }
}

#[test]
fn a_usage_chunk_without_its_empty_line_is_cut_and_other_tails_stay() {
    assert_eq!(cut(&[USAGE.as_bytes()]), b"");
    assert_eq!(cut(&[USAGE.as_bytes(), b"\n"]), b"");
    assert_eq!(cut(&[&USAGE.as_bytes()[..USAGE.len() - 1]]), USAGE[..USAGE.len() - 1].as_bytes());
    assert_eq!(cut(&[DONE.as_bytes()]), DONE.as_bytes());
    assert_eq!(cut(&[b"da"]), b"da");
}

#[test]
fn an_ordinary_event_is_not_held_back_once_its_choice_is_seen() {
    let mut cut = UsageCut::new();
    let head = r#"data: {"id":"c","choices":["#;
    assert_eq!(cut.feed(Bytes::from(head)), "");
    assert_eq!(cut.feed(Bytes::from("{")), format!("{head}{{"));
    assert_eq!(cut.feed(Bytes::from(r#""delta":{"content":"H"#)), r#""delta":{"content":"H"#);
    assert_eq!(cut.feed(Bytes::from(": c\n\n")), ": c\n\n");
    assert_eq!(cut.feed(Bytes::from(": slow com")), ": slow com");
}

#[test]
fn a_chunk_without_usage_is_passed_without_a_copy() {
    let mut cut = UsageCut::new();
    let chunk = Bytes::from(joined(&[ROLE, COMMENT, MISTRAL, DONE], "\n"));
    let out = cut.feed(chunk.clone());
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
}

#[test]
fn an_event_too_long_to_hold_passes() {
    let long =
        format!("data: {{\"choices\":[],\"pad\":\"{}\",\"usage\":{{\"total_tokens\":1}}}}\n\n", "x".repeat(2 << 20));
    for size in [5000, 1 << 20, long.len()] {
        let pieces: Vec<_> = long.as_bytes().chunks(size).collect();
        assert_eq!(cut(&pieces).len(), long.len(), "by {size}");
    }
}

#[test]
fn recorded_streams_lose_their_usage_chunk_at_every_split() {
    for case in cases().into_iter().filter(|c| c.shape == Shape::Sse && c.name.contains("openai/")) {
        // Blocks as the recordings delimit them, each with its empty line.
        let text = String::from_utf8(case.body.clone()).unwrap();
        if text.contains('\r') {
            continue;
        }
        let kept: String = text
            .split_inclusive("\n\n")
            .filter(|block| {
                let data = block.trim_end().trim_start_matches("data: ");
                let json: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
                !(json["choices"].as_array().is_some_and(Vec::is_empty) && json["usage"].is_object())
            })
            .collect();
        let step = text.len() / 1000 + 1;
        for at in (0..=text.len()).step_by(step) {
            let (head, tail) = case.body.split_at(at);
            assert_eq!(cut(&[head, tail]), kept.as_bytes(), "{} at {at}", case.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn any_split_gives_the_same_stream(
        order in prop::collection::vec(0..13usize, 0..12),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        sizes in prop::collection::vec(0..120usize, 0..30),
    ) {
        let all = [
            COMMENT, AZURE, ROLE, NULL, NESTED, USAGE, SPLIT_KEYS, MISTRAL, ERROR, USAGE_IN_LINES, USAGE_FIRST, DONE, "",
        ];
        let chosen: Vec<&str> = order.iter().map(|&i| all[i]).collect();
        let kept: Vec<&str> =
            chosen.iter().copied().filter(|e| ![USAGE, USAGE_IN_LINES, USAGE_FIRST].contains(e)).collect();
        let stream = joined(&chosen, end);
        prop_assert_eq!(cut(&pieces(&stream, &sizes)), joined(&kept, end));
    }
}
