//! Records from their outside: what is put is one JSON object with every field.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::usage::Source;

/// The names of all fields, in their order.
const FIELDS: [&str; 41] = [
    "schema_version",
    "id",
    "time",
    "node",
    "key_id",
    "key_name",
    "user",
    "route",
    "operation",
    "protocol",
    "channel",
    "channel_key",
    "model_requested",
    "model_upstream",
    "model_reported",
    "stream",
    "status",
    "outcome",
    "error",
    "attempts",
    "events",
    "request_bytes",
    "response_bytes",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "usage_raw",
    "cost_nano_usd",
    "duration_ms",
    "ttft_ms",
    "overhead_us",
    "client_ip",
    "user_agent",
    "traceparent",
    "request_headers",
    "request_body",
    "response_headers",
    "response_body",
];

fn record<'a>() -> Record<'a> {
    Record {
        id: 0xab,
        time_ms: 1_764_530_404_123,
        node: "edge/0123456789abcdef",
        key_id: "k_1",
        key_name: "alice-laptop",
        user: "alice",
        route: "/v1/chat/completions",
        operation: "openai.chat",
        protocol: "openai",
        channel: "miniai",
        channel_key: "main",
        model_requested: "gpt-4o",
        model_upstream: "miniai-large",
        model_reported: "miniai-large-2026",
        stream: true,
        status: 200,
        outcome: "ok",
        error: "",
        events: 5,
        request_bytes: 300,
        response_bytes: 2000,
        usage: Usage {
            input_uncached: 10,
            cache_read: 4,
            cache_write_5m: 1,
            cache_write_1h: 2,
            output: 9,
            reasoning: 3,
            source: Source::Upstream,
        },
        usage_raw: "{\"prompt_tokens\":17}",
        cost_nano_usd: 12_345,
        duration_us: 1_234_500,
        first_token_us: Some(7),
        overhead_us: Some(42),
    }
}

fn nothing<'a>() -> Record<'a> {
    Record {
        key_id: "",
        key_name: "",
        user: "",
        route: "",
        operation: "",
        channel: "",
        channel_key: "",
        model_requested: "",
        model_upstream: "",
        model_reported: "",
        status: 0,
        usage: Usage::default(),
        usage_raw: "",
        first_token_us: None,
        overhead_us: None,
        ..record()
    }
}

/// Header lines as a request has them.
fn map(all: &[(&str, &str)]) -> HeaderMap {
    let line =
        |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) { (name.parse().unwrap(), value.parse().unwrap()) };
    let mut map = HeaderMap::new();
    for (name, value) in all.iter().map(line) {
        map.append(name, value);
    }
    map
}

fn lines<'a>(lines: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// The same lines as a request's and as an answer's: they are shown alike.
fn headers(all: &[(&str, &str)], query: Option<&str>) -> Value {
    let (mut out, mut of_map) = (Vec::new(), Vec::new());
    let small: Vec<_> = all.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    let small: Vec<_> = small.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let credentials = Credentials::of(lines(&small), query);
    put_headers(&mut out, || lines(all), &credentials);
    put_header_map(&mut of_map, &map(all), &credentials);
    let (shown, of_map) =
        (serde_json::from_slice::<Value>(&out).unwrap(), serde_json::from_slice::<Value>(&of_map).unwrap());
    assert_eq!(shown, of_map);
    shown
}

#[test]
fn every_field_is_there_in_its_order() {
    let mut out = Vec::new();
    let mut head = Vec::new();
    let sent = [("Content-Type", "application/json")];
    put_request_head(&mut head, b"::1", b"curl/8", b"", Some((&map(&sent), &Credentials::default())));
    let attempts = [
        AttemptRecord { channel: "a", channel_key: "k", outcome: "timeout", status: 0, duration_us: 1500 },
        AttemptRecord { channel: "miniai", channel_key: "main", outcome: "ok", status: 200, duration_us: 2 },
    ];
    let head = Head { request: &head, response_headers: b"{\"a\":\"b\"}" };
    let places = record().put(attempts.into_iter(), &head, &mut out);
    assert_eq!((&out[places.request..][..4], &out[places.response..]), (&b"null"[..], &b"null}\n"[..]));
    let text = String::from_utf8(out).unwrap();
    let expected = json!({
        "schema_version": SCHEMA_VERSION, "id": "000000000000000000000000000000ab", "time": "2025-11-30T19:20:04.123Z",
        "node": "edge/0123456789abcdef", "key_id": "k_1", "key_name": "alice-laptop", "user": "alice",
        "route": "/v1/chat/completions", "operation": "openai.chat", "protocol": "openai", "channel": "miniai",
        "channel_key": "main", "model_requested": "gpt-4o", "model_upstream": "miniai-large",
        "model_reported": "miniai-large-2026", "stream": true, "status": 200, "outcome": "ok", "error": null,
        "attempts": [
            {"channel": "a", "channel_key": "k", "outcome": "timeout", "status": null, "duration_ms": 1.5},
            {"channel": "miniai", "channel_key": "main", "outcome": "ok", "status": 200, "duration_ms": 0.002},
        ],
        "events": 5, "request_bytes": 300, "response_bytes": 2000, "input_tokens": 17, "output_tokens": 9,
        "cache_read_tokens": 4, "cache_write_tokens": 3, "reasoning_tokens": 3, "usage_source": "upstream",
        "usage_raw": "{\"prompt_tokens\":17}", "cost_nano_usd": 12345, "duration_ms": 1234.5, "ttft_ms": 0.007,
        "overhead_us": 42, "client_ip": "::1", "user_agent": "curl/8", "traceparent": null,
        "request_headers": {"content-type": "application/json"}, "request_body": null,
        "response_headers": {"a": "b"}, "response_body": null,
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    let mut from = 0;
    for name in FIELDS {
        let at = text[from..].find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} is out of order"));
        from += at;
    }
    assert_eq!(expected.as_object().unwrap().len(), FIELDS.len());
}

#[test]
fn what_is_absent_is_null_and_an_empty_list_is_a_list() {
    let mut out = Vec::new();
    let mut head = Vec::new();
    put_request_head(&mut head, b"", b"", b"", None);
    nothing().put([].into_iter(), &Head { request: &head, response_headers: b"" }, &mut out);
    let value: Value = serde_json::from_slice(&out).unwrap();
    for name in [
        "key_id",
        "key_name",
        "user",
        "route",
        "operation",
        "channel",
        "channel_key",
        "model_requested",
        "model_upstream",
        "model_reported",
        "status",
        "error",
        "usage_raw",
        "ttft_ms",
        "overhead_us",
        "client_ip",
        "user_agent",
        "traceparent",
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
    ] {
        assert_eq!(value[name], Value::Null, "{name}");
    }
    assert_eq!((&value["attempts"], &value["usage_source"]), (&json!([]), &json!("none")));
    assert_eq!(value.as_object().unwrap().len(), FIELDS.len());
}

#[test]
fn values_are_shown_only_of_names_that_are_known() {
    let shown = headers(
        &[
            ("Accept", "*/*"),
            ("X-Stainless-Lang", "python"),
            ("Authorization", "Bearer sk-canary-1"),
            ("x-api-key", "sk-canary-1"),
            ("Cookie", "session=canary"),
            ("x-unknown", "canary"),
            ("anthropic-beta", "a"),
            ("Anthropic-Beta", "b"),
            ("X-Unknown", "canary"),
        ],
        None,
    );
    let expected = json!({
        "accept": "*/*", "x-stainless-lang": "python", "authorization": "[redacted]", "x-api-key": "[redacted]",
        "cookie": "[redacted]", "x-unknown": "[redacted]", "anthropic-beta": "a, b",
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_credential_is_hidden_wherever_it_is_repeated() {
    let all = [
        ("user-agent", "tool sk-canary-1/2 sk-canary-1"),
        ("accept", "text/sk-canary-2"),
        ("host", "sk-canary-3.example"),
        ("origin", "http://short-1"),
        ("authorization", "Bearer  sk-canary-1"),
        ("x-goog-api-key", "sk-canary-2"),
        ("api-key", "short-1"),
    ];
    let shown = headers(&all, Some("a=b&key=sk-canary-3&alt=sse"));
    assert_eq!(shown["user-agent"], "tool [redacted]/2 [redacted]");
    assert_eq!((&shown["accept"], &shown["host"]), (&json!("text/[redacted]"), &json!("[redacted].example")));
    assert_eq!(shown["origin"], "http://short-1", "seven bytes are found in anything");
    assert_eq!(format!("{:?}", Credentials::of(lines(&all), None)), "Credentials(…)");
}

#[test]
fn a_credential_is_found_however_it_was_presented() {
    let all = [
        ("authorization", "Bearer\tsk-canary-1"),
        ("accept", "sk-canary-1"),
        ("user-agent", "sk-canary-2 sk%2Dcanary-2"),
        ("SK-Canary-1-x", "in a name"),
        ("x-sk-canary-2", "in another"),
    ];
    let query = Some("f%5B%5D=accept-1&f%5B%5D=accept-2&%6Bey=sk%2Dcanary-2&keys=nothing-1");
    let shown = headers(&all, query);
    let expected = json!({
        "authorization": "[redacted]", "accept": "[redacted]", "user-agent": "[redacted] [redacted]",
        "[redacted]": "[redacted]",
    });
    assert_eq!(shown, expected);
    let credentials = Credentials::of(lines(&all), query);
    let path = |path| String::from_utf8(credentials.hide_in_path(path).into_owned()).unwrap();
    assert_eq!(path("/v1/sk%2dcanary-1/x"), "[redacted]");
    assert_eq!(path("/v1/sk-canary-1/x"), "/v1/[redacted]/x");
    assert_eq!(path("/v1/models/a%2Fb"), "/v1/models/a%2Fb");
    assert_eq!(credentials.all().count(), 3, "accept-1 is no key's value");
    let many: Vec<String> = (0..20).map(|n| format!("sk-canary-{n:03}")).collect();
    let many = many.iter().map(|key| (&b"x-api-key"[..], key.as_bytes()));
    assert_eq!(&*Credentials::of(many, None).hide(b"a sk-canary-019"), b"a [redacted]");
}

#[test]
fn lines_of_one_name_are_joined_wherever_they_stand() {
    let apart = [("Via", "a"), ("accept", "b"), ("via", "c")];
    let mut out = Vec::new();
    put_headers(&mut out, || lines(&apart), &Credentials::default());
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!({"via": "a, c", "accept": "b"}));
    let together = [("via", "a"), ("via", "c"), ("accept", "b")];
    out.clear();
    put_header_map(&mut out, &map(&together), &Credentials::default());
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!({"via": "a, c", "accept": "b"}));
}

#[test]
fn long_texts_are_cut() {
    let mut out = Vec::new();
    let long = "é".repeat(MAX_TEXT);
    let mut head = Vec::new();
    put_request_head(&mut head, b"", long.as_bytes(), b"", None);
    let record = Record { model_requested: &long, ..record() };
    record.put([].into_iter(), &Head { request: &head, response_headers: b"" }, &mut out);
    let value: Value = serde_json::from_slice(&out).unwrap();
    for name in ["model_requested", "user_agent"] {
        assert_eq!(value[name], "é".repeat(MAX_TEXT / 2), "{name}");
    }
}

proptest! {
    #[test]
    fn any_head_gives_an_object_of_texts(
        all in prop::collection::vec((".{0,12}", prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        agent in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let lines = || all.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
        let mut out = Vec::new();
        put_headers(&mut out, lines, &Credentials::of(lines(), None));
        let shown: Value = serde_json::from_slice(&out).unwrap();
        prop_assert!(shown.as_object().unwrap().values().all(Value::is_string));
        let mut map = HeaderMap::new();
        for (name, value) in lines() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        let mut out = b"{\"x\":1".to_vec();
        put_request_head(&mut out, b"::1", &agent, &agent, Some((&map, &Credentials::of(lines(), None))));
        out.push(b'}');
        let value: Value = serde_json::from_slice(&out).unwrap();
        let shown = value["request_headers"].as_object().unwrap();
        prop_assert!(shown.values().all(Value::is_string) && shown.len() == map.keys_len());
    }

    #[test]
    fn any_texts_give_one_line(key: String, model: String, raw: String, node: String, numbers: [u64; 4]) {
        let record = Record {
            key_name: &key, model_requested: &model, usage_raw: &raw, node: &node,
            duration_us: numbers[0], cost_nano_usd: numbers[1], time_ms: numbers[2], overhead_us: Some(numbers[3]),
            ..record()
        };
        let mut head = Vec::new();
        put_request_head(&mut head, b"", b"", b"", None);
        let mut out = Vec::new();
        record.put([].into_iter(), &Head { request: &head, response_headers: b"" }, &mut out);
        prop_assert_eq!(memchr::memchr_iter(b'\n', &out).collect::<Vec<_>>(), [out.len() - 1]);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(value.as_object().unwrap().len(), FIELDS.len());
        prop_assert_eq!(value["cost_nano_usd"].as_u64(), Some(numbers[1]));
        if !key.is_empty() { prop_assert_eq!(value["key_name"].as_str(), Some(&*key)); }
    }
}
