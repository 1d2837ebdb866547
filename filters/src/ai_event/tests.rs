use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::import;
use crate::record::{AttemptRecord, Head};
use crate::usage::{Source, Usage};

/// What APIPark's consumer reads a message as. It has the cost and the tokens as anything, and takes whole numbers.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Message {
    ai: Ai,
    api: String,
    provider: String,
    request_id: String,
    time_iso8601: String,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are called so")]
struct Ai {
    ai_model: String,
    ai_model_cost: serde_json::Number,
    ai_model_input_token: u64,
    ai_model_output_token: u64,
    ai_model_total_token: u64,
    ai_provider: String,
    ai_provider_statuses: Vec<Status>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are called so")]
struct Status {
    provider: String,
    model: String,
    key: String,
    status: String,
}

fn served<'a>() -> crate::record::Record<'a> {
    crate::record::Record {
        id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        time_ms: 1_796_066_404_123,
        node: "edge-1/00c0ffee00c0ffee",
        key_id: "5e884898da280471",
        key_name: "alice-laptop",
        user: "alice",
        route: "openai",
        operation: "openai.chat",
        protocol: "openai",
        channel: "openai",
        channel_key: "main",
        model_requested: "fast",
        model_upstream: "gpt-4o-mini",
        model_reported: "gpt-4o-mini-2024-07-18",
        stream: false,
        status: 200,
        outcome: "ok",
        error: "",
        events: 0,
        request_bytes: 120,
        response_bytes: 900,
        usage: Usage { input_uncached: 10, cache_read: 2, output: 34, source: Source::Upstream, ..Usage::default() },
        usage_raw: "",
        cost_nano_usd: 22_200,
        duration_us: 812_500,
        first_token_us: None,
        overhead_us: Some(140),
    }
}

fn attempt<'a>(channel: &'a str, channel_key: &'a str, outcome: &'a str, status: u16) -> AttemptRecord<'a> {
    AttemptRecord { channel, channel_key, outcome, status, duration_us: 7_000 }
}

/// A record as Weir writes it.
fn line<'a>(record: &crate::record::Record<'_>, attempts: impl IntoIterator<Item = AttemptRecord<'a>>) -> Vec<u8> {
    let mut head = Vec::new();
    crate::record::put_request_head(&mut head, b"192.0.2.7", b"curl/8", b"", None);
    let mut line = Vec::new();
    record.put(attempts.into_iter(), &Head { request: &head, response_headers: b"" }, &mut line);
    line
}

fn message(record: &crate::record::Record<'_>, attempts: &[AttemptRecord<'_>]) -> String {
    let mut out = Vec::new();
    assert!(put(&line(record, attempts.iter().copied()), &mut out));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_that_was_served() {
    assert_eq!(
        message(&served(), &[attempt("openai", "main", "ok", 200)]),
        concat!(
            r#"{"ai":{"ai_model":"gpt-4o-mini","ai_model_cost":0.0000222,"ai_model_input_token":12,"#,
            r#""ai_model_output_token":34,"ai_model_total_token":46,"ai_provider":"openai","ai_provider_statuses":["#,
            r#"{"key":"openai-main@ai-key","model":"gpt-4o-mini","provider":"openai","status":"normal"}]},"#,
            r#""api":"openai","provider":"edge-1","request_id":"0af76519-16cd-43dd-8448-eb211c80319c","#,
            r#""time_iso8601":"2026-11-30T19:20:04.123Z"}"#
        )
    );
}

#[test]
fn a_request_that_was_refused_before_any_channel_was_asked() {
    let refused = crate::record::Record {
        key_id: "",
        key_name: "",
        user: "",
        channel: "",
        channel_key: "",
        model_requested: "",
        model_upstream: "",
        model_reported: "",
        status: 401,
        outcome: "refused",
        error: "unknown_key",
        usage: Usage::default(),
        cost_nano_usd: 0,
        ..served()
    };
    assert_eq!(
        message(&refused, &[]),
        concat!(
            r#"{"ai":{"ai_model":"","ai_model_cost":0,"ai_model_input_token":0,"ai_model_output_token":0,"#,
            r#""ai_model_total_token":0,"ai_provider":"","ai_provider_statuses":[]},"api":"openai","#,
            r#""provider":"edge-1","request_id":"0af76519-16cd-43dd-8448-eb211c80319c","#,
            r#""time_iso8601":"2026-11-30T19:20:04.123Z"}"#
        )
    );
}

#[test]
fn a_request_that_was_tried_elsewhere_after_two_failures() {
    let elsewhere = crate::record::Record { channel: "azure", channel_key: "eu", ..served() };
    let attempts = [
        attempt("openai", "main", "upstream_error", 429),
        attempt("openai", "spare", "timeout", 0),
        attempt("azure", "eu", "ok", 200),
    ];
    let message: Message = serde_json::from_str(&message(&elsewhere, &attempts)).unwrap();
    assert_eq!(message.ai.ai_provider, "azure");
    let status = |provider: &str, model: &str, key: &str, status: &str| {
        let [provider, model, key, status] = [provider, model, key, status].map(str::to_owned);
        Status { provider, model, key, status }
    };
    assert_eq!(
        message.ai.ai_provider_statuses,
        [
            status("openai", "fast", "openai-main@ai-key", "exceeded"),
            status("openai", "fast", "openai-spare@ai-key", "timeout"),
            status("azure", "gpt-4o-mini", "azure-eu@ai-key", "normal"),
        ]
    );
}

#[test]
fn a_stream_is_told_like_any_other_answer() {
    let attempts = [attempt("openai", "main", "ok", 200)];
    let streamed = crate::record::Record { stream: true, events: 40, first_token_us: Some(90_000), ..served() };
    assert_eq!(message(&streamed, &attempts), message(&served(), &attempts));
}

#[test]
fn a_request_that_no_channel_could_serve_names_the_last_one_that_was_asked() {
    let failed = crate::record::Record {
        channel: "",
        channel_key: "",
        model_upstream: "",
        status: 502,
        outcome: "upstream_error",
        usage: Usage::default(),
        ..served()
    };
    let message: Message =
        serde_json::from_str(&message(&failed, &[attempt("openai", "", "upstream_error", 0)])).unwrap();
    assert_eq!((&*message.ai.ai_provider, &*message.ai.ai_model), ("openai", "fast"));
    assert_eq!(message.ai.ai_provider_statuses[0].key, "", "no key was used");
}

#[test]
fn every_end_of_an_attempt_has_its_word() {
    for (outcome, status, word) in [
        ("ok", 200, "normal"),
        ("ok", 400, "invalid request"),
        ("ok", 404, "invalid request"),
        ("ok", 422, "invalid request"),
        ("ok", 501, "invalid request"),
        ("ok", 401, "invalid"),
        ("ok", 403, "invalid"),
        ("ok", 402, "quota exhausted"),
        ("ok", 429, "exceeded"),
        ("upstream_error", 500, "invalid"),
        ("upstream_error", 503, "invalid"),
        ("upstream_error", 504, "timeout"),
        ("upstream_error", 0, "timeout"),
        ("ok", 408, "timeout"),
        ("timeout", 0, "timeout"),
        ("timeout", 200, "timeout"),
        ("upstream_abort", 200, "normal"),
        ("client_abort", 200, "normal"),
        ("client_abort", 0, ""),
    ] {
        let message: Message =
            serde_json::from_str(&message(&served(), &[attempt("openai", "main", outcome, status)])).unwrap();
        assert_eq!(message.ai.ai_provider_statuses[0].status, word, "{outcome} {status}");
    }
}

#[test]
fn a_message_is_imported_as_what_was_recorded() {
    let elsewhere = crate::record::Record { channel: "azure", channel_key: "eu", ..served() };
    let attempts = [attempt("openai", "main", "upstream_error", 401), attempt("azure", "eu", "ok", 200)];
    let line = import::read(message(&elsewhere, &attempts).as_bytes(), elsewhere.time_ms).unwrap().unwrap();
    let import::Line::Event { entry, statuses, unread_statuses } = line else { panic!("{line:?}") };
    assert_eq!((entry.time_ms, &*entry.route, entry.attempts), (elsewhere.time_ms, "openai", 2));
    assert_eq!((&*entry.channel, &*entry.model), ("azure", "gpt-4o-mini"));
    assert_eq!((entry.usage.input(), entry.usage.output, entry.cost.0), (12, 34, 22_200));
    assert_eq!(unread_statuses, 0);
    let read: Vec<_> = statuses.iter().map(|status| (&*status.provider, status.verdict)).collect();
    assert_eq!(read, [("openai", import::Verdict::Refused), ("azure", import::Verdict::Good)]);
    assert!(statuses[1].names().any(|name| name == "eu"), "the key is found by its name");
}

#[test]
fn every_word_is_one_that_the_import_knows() {
    for (outcome, status, expected) in [
        ("ok", 200, import::Verdict::Good),
        ("ok", 404, import::Verdict::WrongRequest),
        ("ok", 401, import::Verdict::Refused),
        ("ok", 402, import::Verdict::Refused),
        ("ok", 429, import::Verdict::Refused),
        ("upstream_error", 503, import::Verdict::Refused),
        ("timeout", 0, import::Verdict::Slow),
        ("client_abort", 0, import::Verdict::Silent),
    ] {
        let message = message(&served(), &[attempt("openai", "main", outcome, status)]);
        let line = import::read(message.as_bytes(), served().time_ms).unwrap().unwrap();
        let import::Line::Event { statuses, .. } = line else { panic!("{line:?}") };
        assert_eq!(statuses[0].verdict, expected, "{outcome} {status}");
    }
}

#[test]
fn a_body_of_any_size_and_fields_of_later_releases_do_not_matter() {
    let mut record: Value = serde_json::from_slice(&line(&served(), [])).unwrap();
    let mut short = Vec::new();
    assert!(put(record.to_string().as_bytes(), &mut short));
    record["request_body"] = json!({"text": "x".repeat(3 << 20), "encoding": "utf-8"});
    record["later"] = json!([[{}]]);
    let mut long = Vec::new();
    assert!(put(record.to_string().as_bytes(), &mut long));
    assert_eq!(short, long);
}

#[test]
fn what_is_no_record_becomes_no_message() {
    for line in ["", "\n", "{", "{}", "[]", "null", r#"{"id":7}"#] {
        let mut out = b"before".to_vec();
        assert!(!put(line.as_bytes(), &mut out), "{line}");
        assert_eq!(out, b"before", "{line}");
    }
}

proptest! {
    #[test]
    fn each_member_is_of_its_type_whatever_the_record_says(
        texts in proptest::collection::vec("\\PC{0,12}", 8),
        figures in proptest::collection::vec(0..=u64::MAX, 3),
        status in 0..=599_u16,
        tries in 0..4_usize,
    ) {
        let record = crate::record::Record {
            id: u128::from(figures[0]),
            node: &texts[0],
            route: &texts[1],
            channel: &texts[2],
            model_requested: &texts[3],
            model_upstream: &texts[4],
            usage: Usage { input_uncached: figures[1], output: figures[0], ..Usage::default() },
            cost_nano_usd: figures[2],
            ..served()
        };
        let attempts: Vec<_> = (0..tries).map(|_| attempt(&texts[5], &texts[6], &texts[7], status)).collect();
        let written = message(&record, &attempts);
        let read: Message = serde_json::from_str(&written).expect(&written);
        prop_assert_eq!(read.ai.ai_provider_statuses.len(), tries);
        prop_assert_eq!((read.ai.ai_model_input_token, read.ai.ai_model_output_token), (figures[1], figures[0]));
        prop_assert_eq!(read.ai.ai_model_total_token, figures[0].saturating_add(figures[1]));
        prop_assert!(read.ai.ai_model_cost.as_f64().is_some());
        prop_assert_eq!(&read.api, &texts[1]);
        prop_assert_eq!(read.request_id.len(), 36);
        prop_assert_eq!(read.time_iso8601.len(), 24);
        prop_assert!(!read.provider.contains('/'));
        prop_assert!(!written.contains('\n'));
    }
}
