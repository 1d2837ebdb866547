//! What single lines come to; whole files are in `tests/import.rs`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::usage::Source;

/// 2026-11-30T00:00:00Z.
const NOW: u64 = 1_796_000_000_000;

fn event(change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({
        "ai": {
            "ai_model": "gpt-4o-mini", "ai_model_cost": "", "ai_model_input_token": 12, "ai_model_output_token": 34,
            "ai_model_total_token": 46, "ai_provider": "openai",
            "ai_provider_statuses": [{"provider": "openai", "model": "gpt-4o-mini", "key": "openai-k1@ai-key", "status": "normal"}],
        },
        "api": "3b1f6c1e-6a55-4b0e-9a3c-1f6a3d0c9e11",
        "provider": "9a7d2c44-0f0e-4b8e-8a51-55f7f1c1b6aa",
        "request_id": "5f0c7c1e-2d0b-4f5f-9a39-0f6b1c2d3e4f",
        "time_iso8601": "2025-10-15T10:11:32.421+08:00",
    });
    change(&mut event);
    event
}

fn record(change: impl FnOnce(&mut Value)) -> Value {
    let mut record = json!({
        "schema_version": 1, "id": "000102030405060708090a0b0c0d0e0f", "time": "2025-10-15T02:11:32.421Z",
        "node": "a/0123456789abcdef", "key_id": "k1", "key_name": "alice-laptop", "user": "alice",
        "route": "/v1/chat/completions", "operation": "openai.chat", "protocol": "openai", "channel": "openai",
        "channel_key": "main", "model_requested": "gpt-4o", "model_upstream": "gpt-4o", "model_reported": null,
        "stream": true, "status": 200, "outcome": "ok", "error": null, "attempts": [{}, {}], "events": 9,
        "request_bytes": 100, "response_bytes": 2000, "input_tokens": 30, "output_tokens": 5, "cache_read_tokens": 10,
        "cache_write_tokens": 2, "reasoning_tokens": 3, "usage_source": "upstream", "usage_raw": null,
        "cost_nano_usd": 77, "duration_ms": 12.5, "ttft_ms": 3.25, "request_body": {"text": "x"},
    });
    change(&mut record);
    record
}

fn line(value: &Value) -> Result<Line, Unread> {
    read(value.to_string().as_bytes(), NOW).map(|line| line.expect("something"))
}

fn entry(value: &Value) -> Entry {
    match line(value).unwrap() {
        Line::Event { entry, .. } | Line::Record { entry, .. } => entry,
        Line::Keyless => panic!("a key made it"),
    }
}

#[test]
fn an_event_is_an_entry() {
    let Line::Event { entry, statuses, unread_statuses } = line(&event(|_| ())).unwrap() else { panic!("an event") };
    let expected = Entry {
        id: 0x4ae6_1b08_40df_27f2_6cca_a53f_ed36_8727,
        time_ms: 1_760_494_292_421,
        duration_us: 0,
        first_token_us: None,
        key_id: "apipark".into(),
        key_name: "apipark".into(),
        user: String::new(),
        route: "3b1f6c1e-6a55-4b0e-9a3c-1f6a3d0c9e11".into(),
        operation: Operation::OpenAiChat,
        channel: "openai".into(),
        model: "gpt-4o-mini".into(),
        status: 0,
        outcome: Outcome::Ok,
        stream: false,
        events: 0,
        request_bytes: 0,
        response_bytes: 0,
        usage: Usage { input_uncached: 12, output: 34, source: Source::Upstream, ..Usage::default() },
        cost: NanoUsd(0),
        attempts: 1,
    };
    assert_eq!(entry, expected);
    let status = KeyStatus { provider: "openai".into(), key: "openai-k1@ai-key".into(), verdict: Verdict::Good };
    assert_eq!((statuses, unread_statuses), (vec![status], 0));
}

#[test]
fn an_event_of_a_request_without_a_model_is_a_request() {
    let empty = event(|e| {
        for (_, value) in e["ai"].as_object_mut().unwrap() {
            *value = "".into();
        }
    });
    let Line::Event { entry, statuses, unread_statuses } = line(&empty).unwrap() else { panic!("an event") };
    assert_eq!((entry.usage, entry.cost), (Usage::default(), NanoUsd(0)));
    assert_eq!((&*entry.model, &*entry.channel, entry.outcome), ("", "", Outcome::Ok));
    assert_eq!((statuses, unread_statuses), (vec![], 0));
}

#[test]
fn what_an_event_does_not_say_is_nothing() {
    let least = json!({"request_id": "r", "time_iso8601": "2025-10-15T02:11:32Z"});
    let least = entry(&least);
    assert_eq!((least.usage.source, least.time_ms, &*least.route), (Source::None, 1_760_494_292_000, ""));
    for ai in [json!(null), json!(""), json!({}), json!("{}")] {
        assert_eq!(entry(&event(|e| e["ai"] = ai.clone())).usage.source, Source::None, "{ai}");
    }
}

#[test]
fn figures_beside_ai_count_as_those_in_it() {
    let flat = event(|e| {
        let ai = e["ai"].take();
        e.as_object_mut().unwrap().extend(ai.as_object().unwrap().clone());
    });
    assert_eq!(line(&flat), line(&event(|_| ())));
    let text = event(|e| e["ai"] = e["ai"].to_string().into());
    assert_eq!(line(&text), line(&event(|_| ())));
}

#[test]
fn tokens_are_what_can_be_known_of_them() {
    for (input, output, total, expected) in [
        (json!("12"), json!("34.0"), json!("46"), (12, 34)),
        (json!(12.0), json!(null), json!(""), (12, 0)),
        (json!(""), json!(34), json!(46), (12, 34)),
        (json!(12), json!(""), json!(46), (12, 34)),
        (json!(""), json!(""), json!(46), (46, 0)),
        (json!(50), json!(""), json!(46), (50, 0)),
        (json!(12), json!(34), json!(999), (12, 34)),
    ] {
        let event = event(|e| {
            e["ai"]["ai_model_input_token"] = input.clone();
            e["ai"]["ai_model_output_token"] = output.clone();
            e["ai"]["ai_model_total_token"] = total.clone();
        });
        let usage = entry(&event).usage;
        assert_eq!((usage.input_uncached, usage.output, usage.source), (expected.0, expected.1, Source::Upstream));
    }
}

#[test]
fn how_an_event_ended_is_said_by_its_status_or_else_by_its_last_try() {
    for (status, last, expected) in [
        (json!(200), "invalid", (200, Outcome::Ok)),
        (json!("404"), "normal", (404, Outcome::Ok)),
        (json!(503), "normal", (503, Outcome::UpstreamError)),
        (json!(""), "normal", (0, Outcome::Ok)),
        (json!(null), "", (0, Outcome::Ok)),
        (json!(null), "expired", (0, Outcome::UpstreamError)),
        (json!(null), "timeout", (0, Outcome::Timeout)),
        (json!(null), "invalid request", (400, Outcome::Ok)),
    ] {
        let event = event(|e| {
            e["status"] = status.clone();
            e["ai"]["ai_provider_statuses"] = json!([{"status": "normal"}, {"status": last}]);
        });
        let entry = entry(&event);
        assert_eq!((entry.status, entry.outcome, entry.attempts), (expected.0, expected.1, 2), "{status} {last}");
    }
}

#[test]
fn members_that_other_configurations_add_are_read() {
    let more = entry(&event(|e| {
        e["application"] = "shop".into();
        e["application_id"] = "a-17".into();
        e["api"] = "".into();
        e["request_uri"] = "http://gateway.example/ai/chat?x=1".into();
        e["request_time"] = 6.into();
        e["time_iso8601"] = "".into();
        e["msec"] = 1_760_507_297_342_u64.into();
        e["ai"]["ai_model_cost"] = "0.0125".into();
    }));
    assert_eq!((&*more.key_id, &*more.key_name, &*more.route), ("a-17", "shop", "/ai/chat"));
    assert_eq!((more.time_ms, more.duration_us, more.cost), (1_760_507_297_342, 6000, NanoUsd(12_500_000)));
}

#[test]
fn a_request_id_is_the_same_however_it_is_written_and_no_others() {
    let id = |value: Value| entry(&event(|e| e["request_id"] = value)).id;
    assert_eq!(id(json!(17)), id(json!(" 17 ")));
    assert_ne!(id(json!("17")), id(json!("18")));
}

#[test]
fn a_record_is_an_entry() {
    let Line::Record { entry, node } = line(&record(|_| ())).unwrap() else { panic!("a record") };
    let expected = Entry {
        id: 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
        time_ms: 1_760_494_292_421,
        duration_us: 12_500,
        first_token_us: Some(3_250),
        key_id: "k1".into(),
        key_name: "alice-laptop".into(),
        user: "alice".into(),
        route: "/v1/chat/completions".into(),
        operation: Operation::OpenAiChat,
        channel: "openai".into(),
        model: "gpt-4o".into(),
        status: 200,
        outcome: Outcome::Ok,
        stream: true,
        events: 9,
        request_bytes: 100,
        response_bytes: 2000,
        usage: Usage {
            input_uncached: 18,
            cache_read: 10,
            cache_write_5m: 2,
            cache_write_1h: 0,
            output: 5,
            reasoning: 3,
            source: Source::Upstream,
        },
        cost: NanoUsd(77),
        attempts: 2,
    };
    assert_eq!((entry, &*node), (expected, "a/0123456789abcdef"));
}

#[test]
fn a_record_without_a_key_is_told_apart() {
    assert_eq!(line(&record(|r| r["key_id"] = Value::Null)), Ok(Line::Keyless));
    let refused = record(|r| {
        for name in ["user", "route", "channel", "model_requested", "status", "operation", "ttft_ms"] {
            r[name] = Value::Null;
        }
        r["outcome"] = "refused".into();
        r["usage_source"] = "none".into();
    });
    let refused = entry(&refused);
    assert_eq!((refused.status, refused.outcome, refused.operation), (0, Outcome::Refused, Operation::OpenAiOther));
    assert_eq!((&*refused.user, &*refused.channel, refused.first_token_us), ("", "", None));
}

#[test]
fn each_mistake_is_named_and_nothing_is_quoted() {
    let field = |change: &dyn Fn(&mut Value)| line(&event(|e| change(e))).unwrap_err().to_string();
    let of_record = |change: &dyn Fn(&mut Value)| line(&record(|e| change(e))).unwrap_err().to_string();
    for (said, expected) in [
        (field(&|e| e["request_id"] = "".into()), "request_id: is missing"),
        (field(&|e| e["request_id"] = json!(["sk-secret"])), "request_id: must be text"),
        (field(&|e| e["time_iso8601"] = Value::Null), "time_iso8601: is missing"),
        (field(&|e| e["time_iso8601"] = "2126-01-01T00:00:00Z".into()), "time_iso8601: lies in the future"),
        (field(&|e| e["ai"] = json!([])), "ai: must be an object"),
        (field(&|e| e["ai"]["ai_model_input_token"] = (-1).into()), "ai_model_input_token: is negative"),
        (field(&|e| e["ai"]["ai_model_output_token"] = "x".into()), "ai_model_output_token: must be a number"),
        (field(&|e| e["ai"]["ai_model_total_token"] = 1e12.into()), "ai_model_total_token: is too large to be true"),
        (field(&|e| e["ai"]["ai_model_cost"] = "free".into()), "ai_model_cost: must be a number"),
        (field(&|e| e["ai"]["ai_model"] = json!({})), "ai_model: must be text"),
        (of_record(&|r| r["schema_version"] = 2.into()), "schema_version: 2 is not known to this release"),
        (of_record(&|r| r["schema_version"] = "x".into()), "schema_version: must be a number"),
        (of_record(&|r| r["id"] = "+00102030405060708090a0b0c0d0e0f".into()), "id: must be 32 hexadecimal digits"),
        (of_record(&|r| r["id"] = Value::Null), "id: is missing"),
        (of_record(&|r| r["time"] = "".into()), "time: is missing"),
        (of_record(&|r| r["outcome"] = "fine".into()), "outcome: is not a word that this release knows"),
        (of_record(&|r| r["operation"] = "openai.sing".into()), "operation: is not a word that this release knows"),
        (of_record(&|r| r["output_tokens"] = (-3).into()), "output_tokens: is negative"),
        (of_record(&|r| r["input_tokens"] = 1_000_000_001.into()), "input_tokens: is too large to be true"),
        (of_record(&|r| r["duration_ms"] = "long".into()), "duration_ms: must be a number"),
    ] {
        assert_eq!(said, expected);
    }
    for (bytes, expected) in [
        (&br#"{"request_id":"sk-secret"#[..], "not JSON: EOF while parsing a string at column 24"),
        (b"{\"request_id\":1}x", "not JSON: trailing characters at column 17"),
        (b"\xff\xfe", "not JSON: expected value at column 1"),
        (b"[{\"request_id\":1}]", "not a JSON object"),
        (b"\"sk-secret\"", "not a JSON object"),
        (b"17", "not a JSON object"),
        (
            b"{\"hello\":1}",
            "neither an ai_event message nor a record of Weir's: it has no request_id and no schema_version",
        ),
        (b"{\"ai\":{\"ai_model\":\"x\"}}", "request_id: is missing"),
    ] {
        assert_eq!(read(bytes, NOW).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_empty_line_is_nothing_and_a_byte_order_mark_is_no_mistake() {
    for nothing in [&b""[..], b" \t\r", b"\xef\xbb\xbf"] {
        assert_eq!(read(nothing, NOW), Ok(None));
    }
    let marked = [b"\xef\xbb\xbf", event(|_| ()).to_string().as_bytes(), b"\r"].concat();
    assert_eq!(read(&marked, NOW).unwrap(), line(&event(|_| ())).ok());
}

/// Any JSON, in the members that are looked at.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[0-9.:TZ+-]{0,25}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec!["ai_model", "ai_provider_statuses", "ai_model_total_token", "key", "status"]);
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..3)
                .prop_map(|members| members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn no_line_panics(bytes: Vec<u8>, cut: prop::sample::Index) {
        let _ = read(&bytes, NOW);
        for whole in [event(|_| ()), record(|_| ())] {
            let mut text = whole.to_string().into_bytes();
            let at = cut.index(text.len());
            let _ = read(&text[..at], NOW);
            text.splice(at..at, bytes.iter().copied());
            let _ = read(&text, NOW);
        }
    }

    #[test]
    fn any_member_may_be_anything(name: prop::sample::Index, value in any_json(), in_ai: bool) {
        for mut whole in [event(|_| ()), record(|_| ())] {
            let fields = whole.as_object_mut().unwrap();
            let ai = if in_ai { fields.get_mut("ai").and_then(Value::as_object_mut) } else { None };
            let fields = match ai { Some(ai) => ai, None => whole.as_object_mut().unwrap() };
            let name = name.get(&fields.keys().cloned().collect::<Vec<_>>()).clone();
            fields.insert(name.clone(), value.clone());
            match line(&whole) {
                Ok(Line::Event { entry, .. } | Line::Record { entry, .. }) => {
                    prop_assert!(entry.usage.total() <= 3_000_000_000 && entry.time_ms <= NOW + MAX_AHEAD_MS);
                }
                Ok(Line::Keyless) => {}
                // Whatever is wrong is the member that was changed, unless that made it another kind of line.
                Err(Unread::Field(at, _) | Unread::Missing(at)) => {
                    prop_assert!(at == name || name == "schema_version" || name == "ai" && at.starts_with("ai_"));
                }
                Err(why) => prop_assert!(name == "schema_version", "{why}"),
            }
        }
    }
}
