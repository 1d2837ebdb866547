//! Bodies that are kept as they came: what is no stream of a known protocol.

use std::io::Write as _;

use super::*;

const KEY: &str = "sk-zq9xw7vu";

fn kept(bytes: &[u8], cap: usize) -> Body {
    let body = put(&whole(Operation::OpenAiChat, Shape::Json, bytes), cap, &no_secrets());
    assert!(!body.reassembled && body.bytes == bytes.len() as u64);
    body
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

#[test]
fn text_is_kept_to_the_byte() {
    for text in ["", "{\"model\" : \"m\"}\r\n", "no JSON \u{0}\u{7f}\u{2028} é🦀"] {
        let body = kept(text.as_bytes(), text.len());
        assert_eq!((body.text.as_str(), body.is_base64, body.truncated), (text, false, false));
    }
}

#[test]
fn text_is_cut_at_the_cap_and_no_character_is_split() {
    let text = "aé🦀z";
    for (cap, expected) in [
        (0, ""),
        (1, "a"),
        (2, "a"),
        (3, "aé"),
        (4, "aé"),
        (5, "aé"),
        (6, "aé"),
        (7, "aé🦀"),
        (8, "aé🦀z"),
        (9, "aé🦀z"),
    ] {
        let body = kept(text.as_bytes(), cap);
        assert_eq!((body.text.as_str(), body.truncated, body.is_base64), (expected, cap < 8, false), "{cap}");
    }
}

#[test]
fn what_was_not_kept_is_missed() {
    let all = whole(Operation::OpenAiChat, Shape::Json, "aé".as_bytes());
    for captured in [Captured { cut: true, ..all }, Captured { total: 4, ..all }] {
        let body = put(&captured, MUCH, &no_secrets());
        assert_eq!((body.text.as_str(), body.truncated, body.bytes), ("aé", true, captured.total));
    }
    let split = put(&Captured { bytes: &"aé".as_bytes()[..2], ..all }, MUCH, &no_secrets());
    assert_eq!((split.text.as_str(), split.is_base64), ("a", false));
}

#[test]
fn what_is_no_text_is_kept_in_base64() {
    let body = kept(b"\x89PNG\r\n", MUCH);
    assert_eq!((body.text.as_str(), body.is_base64, body.truncated), ("iVBORw0K", true, false));
    let cut = kept(b"\x89PNG\r\n", 3);
    assert_eq!((cut.text.as_str(), cut.is_base64, cut.truncated), ("iVBO", true, true));
    // A character that is not whole where nothing was cut.
    let odd = kept(b"a\xC3", MUCH);
    assert_eq!((odd.text.as_str(), odd.is_base64, odd.truncated), ("YcM=", true, false));
}

#[test]
fn what_was_compressed_is_shown_decompressed() {
    let json = br#"{"choices":[]}"#;
    let gzip = gzip(json);
    let captured = |bytes, encoding| Captured { encoding, ..whole(Operation::OpenAiChat, Shape::Json, bytes) };
    let body = put(&captured(&gzip, Encoding::Gzip), MUCH, &no_secrets());
    let expected = Body {
        text: r#"{"choices":[]}"#.to_owned(),
        is_base64: false,
        bytes: gzip.len() as u64,
        truncated: false,
        reassembled: false,
    };
    assert_eq!(body, expected);
    let at_cap = put(&captured(&gzip, Encoding::Gzip), json.len(), &no_secrets());
    assert_eq!(at_cap, expected);
    let below = put(&captured(&gzip, Encoding::Gzip), json.len() - 1, &no_secrets());
    assert_eq!((below.text.as_str(), below.truncated), (r#"{"choices":[]"#, true));

    // Not what it claims to be, at once and later; and a coding that is not known.
    let plain = put(&captured(json, Encoding::Gzip), MUCH, &no_secrets());
    assert_eq!((plain.text.as_str(), plain.truncated), (r#"{"choices":[]}"#, false));
    let corrupt = [&gzip[..], b"no gzip"].concat();
    let corrupt = put(&captured(&corrupt, Encoding::Gzip), MUCH, &no_secrets());
    assert_eq!((corrupt.text.as_str(), corrupt.truncated), (r#"{"choices":[]}"#, true));
    let unknown = put(&captured(&gzip, Encoding::Unknown), MUCH, &no_secrets());
    assert!(unknown.is_base64 && !unknown.truncated && unknown.text.starts_with("H4sI"));
}

#[test]
fn a_bomb_is_not_decoded_to_its_end() {
    let bomb = gzip(&vec![b' '; 32 << 20]);
    let captured = Captured { encoding: Encoding::Gzip, ..whole(Operation::OpenAiChat, Shape::Json, &bomb) };
    let body = put(&captured, 100, &no_secrets());
    assert_eq!((body.text.as_str(), body.truncated), (" ".repeat(100).as_str(), true));

    // Of a stream, what lies beyond a compression that streams do not have is not read.
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let bomb = gzip([event("early"), ":\n".repeat(8 << 20), event("late")].concat().as_bytes());
    let captured = Captured { encoding: Encoding::Gzip, ..whole(Operation::OpenAiChat, Shape::Sse, &bomb) };
    let body = put(&captured, 100, &no_secrets());
    assert_eq!((body.text.as_str(), body.truncated, body.reassembled), ("early", true, true));
}

#[test]
fn streams_of_operations_that_stream_nothing_are_kept() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    for operation in Operation::ALL {
        let body = put(&whole(operation, Shape::Sse, stream), MUCH, &no_secrets());
        let known = matches!(operation, Operation::OpenAiChat | Operation::OpenAiCompletions);
        assert_eq!(body.reassembled, known, "{operation}");
        assert_eq!(body.text.as_bytes(), if known { b"Hi" } else { &stream[..] }, "{operation}");
    }
}

#[test]
fn secrets_are_masked_before_anything_is_encoded() {
    let mask = Mask::new(&[KEY, "pass/word"]);
    let text = format!(r#"{{"echo":"{KEY}","url":"https:\/\/u:pass\/word@host\/?k=pass%2Fword"}}"#);
    let body = put(&whole(Operation::OpenAiChat, Shape::Json, text.as_bytes()), MUCH, &mask);
    assert_eq!(body.text, r#"{"echo":"[secret]","url":"https:\/\/u:[secret]@host\/?k=[secret]"}"#);
    assert!(!body.truncated);

    let binary = [b"\xFF", KEY.as_bytes(), b"\xFF"].concat();
    let body = put(&whole(Operation::OpenAiChat, Shape::Opaque, &binary), MUCH, &mask);
    assert_eq!((body.text.as_str(), body.is_base64), ("/1tzZWNyZXRd/w==", true));
}

#[test]
fn a_secret_that_the_cap_cuts_leaves_nothing_of_itself() {
    let mask = Mask::new(&[KEY]);
    let text = format!("key={KEY};");
    for cap in 0..=text.len() {
        let body = put(&whole(Operation::OpenAiChat, Shape::Json, text.as_bytes()), cap, &mask);
        assert!(body.text.len() <= cap);
        assert!(!body.text.contains("sk-z"), "{} at {cap}", body.text);
    }
    let whole = put(&whole(Operation::OpenAiChat, Shape::Json, text.as_bytes()), text.len(), &mask);
    assert_eq!(whole.text, "key=[secret];");
    // Where nothing was cut, the end is only an end.
    let ends = put(&super::whole(Operation::OpenAiChat, Shape::Json, b"key=sk-zq9"), MUCH, &mask);
    assert_eq!(ends.text, "key=sk-zq9");
}

#[test]
fn debug_shows_nothing_of_a_body() {
    let body = whole(Operation::OpenAiChat, Shape::Json, b"{\"private\":1}");
    assert_eq!(format!("{body:?}"), "Captured(openai.chat, Json, Identity, 13 of 13 bytes, cut: false)");
}
