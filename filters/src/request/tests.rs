//! What the scanner and the edits promise, example by example; `generated` tries what nobody thought of.

mod edits;
mod generated;

use super::*;

/// Bodies as clients write them, and some as nobody should.
const SAMPLES: &[&str] = &[
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}"#,
    r#"{"messages":[{"role":"user","content":"say \"model\":\"x\" \\"}],"max_tokens":64,"model":"claude-sonnet-4-5"}"#,
    "\u{feff} \r\n{ \"stream\" : null ,\t\"model\" : \"m\" , \"stream_options\" : { } } \n",
    r#"{"mod\u0065l":"caf\u00e9 \ud83d\ude00","stre\u0061m":false,"stream_options":{"a":1,"include_\u0075sage":false}}"#,
    r#"{"a":{"model":"no","stream":1},"b":[{"model":3}],"stream":true,"stream":false,"stream":true,"model":"é😀"}"#,
    r#"{"stream_options":{"include_usage":true},"stream_options":null,"max_tokens":1,"max_completion_tokens":7}"#,
    r#"{"generationConfig":{"maxOutputTokens":2048,"temperature":-0.5e-3},"contents":[],"n":[0,-1.25,1E+9,true,null]}"#,
    "{}",
    r#"{"model":"a","model":"b"}"#,
    r#"{"model":"a","mod\u0065l":"b"}"#,
    r#"{"model":null}"#,
    r#"{"model":"\ud83d"}"#,
    r#"{"stream":"true"}"#,
    r#"{"a":1}x"#,
    r#"{"a":[1,2}"#,
    r#"{"a":"\x"}"#,
    "{\"a\":\"b\tc\"}",
    r#"{"a":tru}"#,
    r#"{"a":1.}"#,
    "[1]",
    "",
    "  ",
];

fn scan(body: impl AsRef<[u8]>) -> Result<BodyFacts, BodyError> {
    scan_pieces([body.as_ref()])
}

fn scan_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<BodyFacts, BodyError> {
    let mut scanner = BodyScanner::new();
    for piece in pieces {
        scanner.feed(piece);
    }
    scanner.finish()
}

fn facts(body: &str) -> BodyFacts {
    scan(body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn model(body: &str) -> Option<String> {
    facts(body).model.map(|model| model.value.into_string())
}

#[test]
fn facts_and_mistakes_survive_any_split_in_two() {
    for sample in SAMPLES {
        let body = sample.as_bytes();
        let whole = scan(body);
        for at in 0..=body.len() {
            assert_eq!(scan_pieces([&body[..at], b"", &body[at..]]), whole, "{sample} split at {at}");
        }
        assert_eq!(scan_pieces(body.chunks(1)), whole, "{sample} byte by byte");
    }
}

#[test]
fn every_place_is_an_offset_in_the_whole_body() {
    let body = r#" {"a":1 , "model" : "m" ,"stream":true}"#;
    assert_eq!(
        facts(body),
        BodyFacts {
            model: Some(Member {
                value: "m".into(),
                span: 20..23,
                whole: 10..23,
                comma_before: Some(8),
                comma_after: Some(24),
            }),
            stream: Some(Member {
                value: true,
                span: 34..38,
                whole: 25..38,
                comma_before: Some(24),
                comma_after: None,
            }),
            object: 1..39,
            len: 39,
            ..BodyFacts::default()
        }
    );
    assert_eq!((&body[20..23], &body[10..23], &body[25..38]), ("\"m\"", "\"model\" : \"m\"", "\"stream\":true"));
}

#[test]
fn only_a_top_level_model_counts() {
    assert_eq!(model(r#"{"a":{"model":"x"},"b":[{"model":"y"}],"c":"\"model\":\"z\""}"#), None);
    assert_eq!(model(r#"{"a":{"model":"x"},"model":"m","b":{"model":1}}"#).as_deref(), Some("m"));
    assert_eq!(model(r#"{"Model":"x","model ":"y","models":"z"}"#), None);
}

#[test]
fn escapes_are_decoded_in_keys_and_names() {
    assert_eq!(model(r#"{"\u006d\u006F\u0064\u0065\u006c":"m"}"#).as_deref(), Some("m"));
    assert_eq!(model(r#"{"model":"a\/b\n\u0041\ud83d\ude00\"\\"}"#).as_deref(), Some("a/b\nA😀\"\\"));
}

#[test]
fn the_last_stream_counts_and_null_is_false() {
    let stream = |body| facts(body).stream.map(|stream| stream.value);
    assert_eq!(stream(r#"{"stream":true}"#), Some(true));
    assert_eq!(stream(r#"{"stream":true,"stream":false}"#), Some(false));
    assert_eq!(stream(r#"{"stream":true,"stream":null}"#), Some(false));
    assert_eq!(stream(r#"{"a":{"stream":true}}"#), None);
    let repeated = |times: usize| format!("{{{}}}", vec![r#""stream":true"#; times].join(","));
    assert_eq!(facts(&repeated(MAX_STREAMS)).overridden_streams.len(), MAX_STREAMS - 1);
    assert_eq!(scan(repeated(MAX_STREAMS + 1)), Err(BodyError::TooManyStreams));
}

#[test]
fn token_limits_are_the_largest_plain_number() {
    for (body, expected) in [
        (r#"{"max_tokens":0}"#, Some(0)),
        (r#"{"max_tokens":18446744073709551615}"#, Some(u64::MAX)),
        (r#"{"max_tokens":18446744073709551616}"#, Some(u64::MAX)),
        (r#"{"max_tokens":100000000000000000000000}"#, Some(u64::MAX)),
        (r#"{"max_tokens":-1,"max_output_tokens":1.5,"max_completion_tokens":1e3}"#, Some(1000)),
        (r#"{"max_tokens":"9","max_completion_tokens":null}"#, None),
        (r#"{"max_output_tokens":5,"max_tokens":4}"#, Some(5)),
        (r#"{"generationConfig":{"maxOutputTokens":1},"generationConfig":[9]}"#, Some(1)),
        (r#"{"generationConfig":{"a":{"maxOutputTokens":1},"maxOutputTokens":8}}"#, Some(8)),
        (r#"{"maxOutputTokens":8,"generationConfig":[{"maxOutputTokens":9}],"x":{"max_tokens":1}}"#, None),
    ] {
        assert_eq!(facts(body).max_tokens, expected, "{body}");
    }
}

#[test]
fn a_model_that_is_no_name_is_refused() {
    let long = "é".repeat(MAX_MODEL_BYTES / 2);
    let escaped = "\\u00e9".repeat(MAX_MODEL_BYTES / 2);
    assert_eq!(model(&format!(r#"{{"model":"{long}"}}"#)), Some(long.clone()));
    assert_eq!(model(&format!(r#"{{"model":"{escaped}"}}"#)), Some(long.clone()));
    for (value, fault) in [
        ("null".to_owned(), ModelFault::NotString),
        ("5".to_owned(), ModelFault::NotString),
        ("{}".to_owned(), ModelFault::NotString),
        ("[\"m\"]".to_owned(), ModelFault::NotString),
        ("true".to_owned(), ModelFault::NotString),
        ("\"\"".to_owned(), ModelFault::Empty),
        (format!("\"{long}x\""), ModelFault::TooLong),
        (format!("\"{}\"", "x".repeat(100_000)), ModelFault::TooLong),
        (r#""\ud83d""#.to_owned(), ModelFault::NotText),
        (r#""\ude00\ud83d""#.to_owned(), ModelFault::NotText),
    ] {
        let body = format!(r#"{{"a":1,"model":{value}}}"#);
        assert_eq!(scan(&body), Err(BodyError::BadModel(fault)), "{body:.60}");
    }
    assert_eq!(scan(b"{\"model\":\"a\xff\"}"), Err(BodyError::BadModel(ModelFault::NotText)));
    assert_eq!(scan(b"{\"model\":\"a\xc3\"}"), Err(BodyError::BadModel(ModelFault::NotText)));
}

#[test]
fn a_second_model_is_refused_however_it_is_spelled() {
    for body in [
        r#"{"model":"a","model":"a"}"#,
        r#"{"model":"a","x":{"model":"b"},"\u006dodel":"c"}"#,
        r#"{"mode\u006C":"a","model":null}"#,
    ] {
        assert_eq!(scan(body), Err(BodyError::DuplicateModel), "{body}");
    }
    for body in [r#"{"model":"a","Model":"b"}"#, r#"{"MODEL":"b","model":"a"}"#, r#"{"mod\u0045l":1,"model":"a"}"#] {
        assert_eq!(scan(body), Err(BodyError::DuplicateModel), "{body}");
    }
}

#[test]
fn a_stream_that_is_no_boolean_is_refused() {
    for value in ["1", "0", "\"true\"", "[]", "{}", "-1"] {
        let body = format!(r#"{{"stream":{value}}}"#);
        assert_eq!(scan(&body), Err(BodyError::BadStream), "{body}");
    }
}

#[test]
fn what_is_not_json_is_refused_at_its_first_wrong_byte() {
    for (body, offset) in [
        ("x", 0),
        ("}", 0),
        ("{,", 1),
        ("{a:1}", 1),
        ("{'a':1}", 1),
        (r#"{"a" 1}"#, 5),
        (r#"{"a":}"#, 5),
        (r#"{"a":1,}"#, 7),
        (r#"{"a":1 "b":2}"#, 7),
        (r#"{"a":[1,]}"#, 8),
        (r#"{"a":[,1]}"#, 6),
        (r#"{"a":[1}"#, 7),
        (r#"{"a":{]}"#, 6),
        (r#"{"a":1]"#, 6),
        (r#"{"a":01}"#, 6),
        (r#"{"a":+1}"#, 5),
        (r#"{"a":.5}"#, 5),
        (r#"{"a":-}"#, 6),
        (r#"{"a":1.}"#, 7),
        (r#"{"a":1e}"#, 7),
        (r#"{"a":1e+}"#, 8),
        (r#"{"a":1.2.3}"#, 8),
        (r#"{"a":0x10}"#, 6),
        (r#"{"a":NaN}"#, 5),
        (r#"{"a":nul}"#, 8),
        (r#"{"a":True}"#, 5),
        (r#"{"a":truely}"#, 9),
        (r#"{"a":"\q"}"#, 7),
        (r#"{"a":"\u12g4"}"#, 10),
        ("{\"a\":\"\n\"}", 6),
        ("{\"a\n\":1}", 3),
        ("{\"a\":\"\u{0}\"}", 6),
        ("{\"a\":1}\u{feff}", 7),
        (r#"{"a":1}{"b":2}"#, 7),
        (r#"{"a":1},"#, 7),
        (r#"{"model":"m"}}"#, 13),
        ("{\u{a0}}", 1),
        ("{\u{c}}", 1),
        ("{/**/}", 1),
        ("\u{fe0f}{}", 1),
        (" \u{feff}{}", 1),
    ] {
        assert_eq!(scan(body), Err(BodyError::NotJson { offset }), "{body:?}");
        serde_json::from_str::<serde_json::Value>(body).expect_err(body);
    }
}

#[test]
fn control_characters_are_refused_in_strings() {
    let around = |byte: u8| [&b"{\"a\":\"b"[..], &[byte], b"c\"}"].concat();
    for byte in 0..0x20 {
        assert_eq!(scan(around(byte)), Err(BodyError::NotJson { offset: 7 }), "{byte:#x}");
    }
    // DEL is no control character to JSON; broken UTF-8 outside the model's name is the upstream's matter.
    for byte in [b' ', b'!', 0x7f, 0x80, 0xff] {
        assert_eq!(scan(around(byte)).map(|facts| facts.len), Ok(11), "{byte:#x}");
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for body in ["[]", " [{\"model\":\"m\"}]", "\"model\"", "1", "-1", "true", "false", "null", "\u{feff}[]"] {
        assert_eq!(scan(body), Err(BodyError::NotObject), "{body:?}");
    }
}

#[test]
fn every_beginning_of_a_body_is_truncated() {
    for sample in SAMPLES {
        let Ok(whole) = scan(sample) else { continue };
        for end in 0..whole.object.end {
            assert_eq!(scan(&sample.as_bytes()[..end]), Err(BodyError::Truncated), "{sample} up to {end}");
        }
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |open: &str, close: &str, times: usize| {
        format!(r#"{{"a":{}1{},"model":"m"}}"#, open.repeat(times), close.repeat(times))
    };
    for (open, close) in [("[", "]"), (r#"{"model":"#, "}")] {
        assert_eq!(model(&nested(open, close, MAX_DEPTH - 1)).as_deref(), Some("m"));
        assert_eq!(scan(nested(open, close, MAX_DEPTH)), Err(BodyError::TooDeep));
    }
    // Objects and arrays in turn close in turn.
    assert_eq!(model(&nested(r#"[{"a":"#, "}]", 200)).as_deref(), Some("m"));
    assert_eq!(scan("[".repeat(1_000_000)), Err(BodyError::NotObject));
    assert_eq!(scan(format!("{{\"a\":{}", "[".repeat(1_000_000))), Err(BodyError::TooDeep));
}

#[test]
fn megabytes_with_the_model_last_are_scanned() {
    let content = r#"A line of text, some \"quotes\", \u00e9 and a \"model\":\"none\".\n"#.repeat(80_000);
    let body = format!(r#"{{"messages":[{{"content":"{content}"}}],"stream":true,"model":"last"}}"#);
    assert!(body.len() > 5_000_000, "{}", body.len());
    let facts = scan_pieces(body.as_bytes().chunks(16_384)).unwrap();
    let model = facts.model.unwrap();
    assert_eq!((&*model.value, &body[model.span]), ("last", "\"last\""));
    assert_eq!((facts.stream.unwrap().value, facts.len), (true, body.len()));
}

#[test]
fn a_long_key_is_no_member_of_ours() {
    let key = "model".repeat(1_000);
    assert_eq!(model(&format!(r#"{{"{key}":"x","model":"m"}}"#)).as_deref(), Some("m"));
    let padded = format!(r#"{{"stream_options":{{"{key}":1}}}}"#);
    assert_eq!(
        facts(&padded).stream_options,
        Some(StreamOptions::Object { span: 18..padded.len() - 1, empty: false, include_usage: None })
    );
}

#[test]
fn a_mistake_and_a_model_are_known_before_the_end() {
    let mut scanner = BodyScanner::new();
    assert_eq!((scanner.model(), scanner.error()), (None, None));
    scanner.feed(br#"{"model":"m""#);
    assert_eq!((scanner.model(), scanner.error()), (Some("m"), None));
    scanner.feed(br#","model""#);
    assert_eq!(scanner.error(), Some(&BodyError::DuplicateModel));
    scanner.feed(b"}");
    assert_eq!(scanner.finish(), Err(BodyError::DuplicateModel));
}

#[test]
fn finishing_twice_says_the_same() {
    let mut scanner = BodyScanner::new();
    scanner.feed(br#"{"model":"m"}"#);
    let first = scanner.finish();
    assert_eq!(first.as_ref().map(|facts| facts.len), Ok(13));
    assert_eq!(scanner.finish(), first);
}

#[test]
fn mistakes_name_what_and_where_but_not_the_body() {
    for (body, text) in [
        (r#"{"a":secret}"#, "the body is not JSON: unexpected byte at offset 5"),
        ("[\"secret\"]", "the body is not a JSON object"),
        (r#"{"a":"secret"#, "the body ends before its JSON object does"),
        (r#"{"model":"secret","model":"b"}"#, "the body has more than one member `model`"),
        (r#"{"model":["secret"]}"#, "the member `model` is not a string"),
        (r#"{"model":""}"#, "the member `model` is empty"),
        (r#"{"stream":"secret"}"#, "the member `stream` is not a boolean"),
    ] {
        assert_eq!(scan(body).unwrap_err().to_string(), text);
    }
    assert_eq!(BodyError::TooDeep.to_string(), "the body nests deeper than 512 levels");
    assert_eq!(BodyError::BadModel(ModelFault::TooLong).to_string(), "the member `model` is longer than 256 bytes");
}
