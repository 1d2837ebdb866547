//! Edits, by example.

use super::*;
use bytes::Bytes;

fn applied(body: &str, edits: &[Edit]) -> String {
    let pieces = apply(&[Bytes::copy_from_slice(body.as_bytes())], edits);
    String::from_utf8(pieces.concat()).unwrap()
}

fn asking(body: &str) -> Option<String> {
    ask_for_usage(&facts(body)).map(|edit| applied(body, &[edit]))
}

fn without(body: &str) -> String {
    applied(body, &without_model_and_stream(&facts(body)))
}

#[test]
fn the_model_changes_and_nothing_else() {
    let body = "{ \"a\" : [1 ,2],\t\"model\"\n:  \"old\\u0041\" , \"b\":\"model\" }";
    let edit = set_model(&facts(body), "new \"name\"\\\n").unwrap();
    assert_eq!(
        applied(body, &[edit]),
        "{ \"a\" : [1 ,2],\t\"model\"\n:  \"new \\\"name\\\"\\\\\\n\" , \"b\":\"model\" }"
    );
    assert_eq!(set_model(&facts(r#"{"a":{"model":"x"}}"#), "m"), None);
}

#[test]
fn usage_is_asked_for_wherever_it_was_not() {
    for (body, expected) in [
        (r#"{"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
        (" { }", r#" {"stream_options":{"include_usage":true} }"#),
        (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options": [{"include_usage":true}] }"#, r#"{"stream_options": {"include_usage":true} }"#),
        (r#"{"stream_options":true,"a":1}"#, r#"{"stream_options":{"include_usage":true},"a":1}"#),
        (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{ "x":1}}"#, r#"{"stream_options":{"include_usage":true, "x":1}}"#),
        (
            r#"{"stream_options":{"x":{"include_usage":true}}}"#,
            r#"{"stream_options":{"include_usage":true,"x":{"include_usage":true}}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage": false ,"x":1}}"#,
            r#"{"stream_options":{"include_usage": true ,"x":1}}"#,
        ),
        (r#"{"stream_options":{"include_usage":null}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{"include_usage":1}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{"include_usage":{"a":[]}}}"#, r#"{"stream_options":{"include_usage":true}}"#),
    ] {
        assert!(!asks_for_usage(&facts(body)), "{body}");
        assert_eq!(asking(body).as_deref(), Some(expected), "{body}");
        assert!(asks_for_usage(&facts(expected)), "{expected}");
    }
}

#[test]
fn the_last_of_repeated_options_is_the_one_that_changes() {
    for (body, expected) in [
        (
            r#"{"stream_options":{"include_usage":true},"stream_options":{"x":1}}"#,
            r#"{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"stream_options":null}"#,
            r#"{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
            r#"{"stream_options":{"include_usage":true,"include_usage":true}}"#,
        ),
    ] {
        assert_eq!(asking(body).as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn who_asked_for_usage_is_left_alone() {
    for body in [
        r#"{"stream_options":{"include_usage":true}}"#,
        r#"{"stream_options":{"a":0,"include\u005fusage" : true }}"#,
        r#"{"stream_options":null,"stream_options":{"include_usage":false,"include_usage":true}}"#,
    ] {
        assert!(asks_for_usage(&facts(body)), "{body}");
        assert_eq!(asking(body), None, "{body}");
    }
}

#[test]
fn model_and_stream_leave_with_one_comma_each() {
    for (body, expected) in [
        (r#"{"a":1}"#, r#"{"a":1}"#),
        (r#"{"model":"m"}"#, "{}"),
        (r#"{ "model" : "m" , "stream" : true }"#, "{    }"),
        (r#"{"model":"m","a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"model":"m"}"#, r#"{"a":1}"#),
        (r#"{"a":1, "model":"m" ,"b":2}"#, r#"{"a":1,  "b":2}"#),
        (r#"{"model":"m","stream":true,"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"stream":true,"model":"m"}"#, r#"{"a":1}"#),
        (r#"{"a":1,"stream":true,"model":"m","b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"stream":true,"a":1,"model":"m"}"#, r#"{"a":1}"#),
        (r#"{"stream":true,"a":{"stream":1},"stream":false,"model":"m","stream":null}"#, r#"{"a":{"stream":1}}"#),
        (r#"{"a":1,"stream":true,"b":2,"stream":null,"c":3}"#, r#"{"a":1,"b":2,"c":3}"#),
    ] {
        assert_eq!(without(body), expected, "{body}");
    }
}

#[test]
fn edits_are_made_in_order_across_pieces() {
    let edit = |range: Range<usize>, with: &'static str| Edit { range, with: Bytes::from_static(with.as_bytes()) };
    let edits = [edit(10..10, "!"), edit(1..5, ""), edit(0..0, ">"), edit(5..6, "five"), edit(8..8, "+")];
    let body = b"0123456789";
    for first in 0..=body.len() {
        for second in first..=body.len() {
            let pieces = [&body[..first], b"", &body[first..second], &body[second..]].map(Bytes::copy_from_slice);
            let out = apply(&pieces, &edits);
            assert_eq!(out.concat(), b">0five67+89!", "split at {first} and {second}");
            assert!(out.iter().all(|piece| !piece.is_empty()));
        }
    }
    assert_eq!(edited_len(body.len(), &edits), 12);
}

#[test]
fn untouched_pieces_are_not_copied() {
    let body = [Bytes::from_static(b"{\"model\":"), Bytes::from_static(b"\"m\",\"a\":1}")];
    let facts = scan_pieces(body.iter().map(|piece| &piece[..])).unwrap();
    let out = apply(&body, &[set_model(&facts, "n").unwrap()]);
    assert_eq!(out, [&b"{\"model\":"[..], b"\"n\"", b",\"a\":1}"]);
    assert_eq!((out[0].as_ptr(), out[2].as_ptr()), (body[0].as_ptr(), body[1][3..].as_ptr()));
}

#[test]
fn edits_that_overlap_or_lie_outside_do_no_harm() {
    let edit = |start, end, with: &'static str| Edit { range: Range { start, end }, with: with.into() };
    for (edits, expected) in [
        (vec![edit(1, 3, "x"), edit(2, 4, "y")], "0x3456789"),
        (vec![edit(3, 1, "x")], "0123456789"),
        (vec![edit(8, 40, "x")], "01234567x"),
        (vec![edit(40, 50, "x")], "0123456789x"),
    ] {
        assert_eq!(applied("0123456789", &edits), expected);
        assert_eq!(edited_len(10, &edits), expected.len());
    }
    assert_eq!(apply(&[], &[]), Vec::<Bytes>::new());
}
