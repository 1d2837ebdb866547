//! What Weir changes in a body, and that it changes nothing else.

use serde_json::json;

use crate::support::{Mock, Script, Upstream, answer, anthropic, gateway, gemini, mock, openai, sha256, upstream};

const CHAT: &str = "/v1/chat/completions";

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], "{}")]).await
}

#[tokio::test]
async fn a_mapped_model_changes_only_the_bytes_of_its_name() {
    let upstream = ok().await;
    let gateway = gateway()
        .channel(openai(upstream.address()).maps("gpt-4o", "miniai/\"large\""))
        .channel(anthropic(upstream.address()).maps("claude-x", "claude-y"))
        .key("alice")
        .start()
        .await;
    for (path, body, expected) in [
        (
            CHAT,
            "\u{feff} {\t\"messages\" : [ 1.0e+2 , \"\\u00e9 \\/ gpt-4o\" ] ,\n \"model\" : \"gpt-4o\" , \"z\":{\"model\":\"gpt-4o\"} }\r\n",
            "\u{feff} {\t\"messages\" : [ 1.0e+2 , \"\\u00e9 \\/ gpt-4o\" ] ,\n \"model\" : \"miniai/\\\"large\\\"\" , \"z\":{\"model\":\"gpt-4o\"} }\r\n",
        ),
        (CHAT, r#"{"model":"gpt-4\u006f"}"#, r#"{"model":"miniai/\"large\""}"#),
        (CHAT, r#"{"model":"gpt-4o-mini"}"#, r#"{"model":"gpt-4o-mini"}"#),
        ("/v1/embeddings", r#"{"input":"x","model":"gpt-4o"}"#, r#"{"input":"x","model":"miniai/\"large\""}"#),
        ("/v1/messages", r#"{"model":"claude-x","stream":true}"#, r#"{"model":"claude-y","stream":true}"#),
    ] {
        assert_eq!(gateway.post(path).key("alice").body(body).send().await.status, 200, "{body}");
        let received = upstream.received().pop().unwrap();
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
        assert_eq!(received.headers("content-length"), [expected.len().to_string()]);
    }
    gateway.used("model", "gpt-4o", 3).await;
}

#[tokio::test]
async fn a_mapped_model_of_gemini_changes_the_path() {
    let upstream = ok().await;
    let gateway = gateway()
        .channel(gemini(upstream.address()).maps("gemini-fast", "gemini-2.5-flash"))
        .key("alice")
        .start()
        .await;
    let body = r#"{"contents":[],"model":"ignored"}"#;
    for (path, line) in [
        ("/v1beta/models/gemini-fast:generateContent", "POST /v1beta/models/gemini-2.5-flash:generateContent"),
        ("/v1beta/models/gemini-fast:countTokens?x=1", "POST /v1beta/models/gemini-2.5-flash:countTokens?x=1"),
    ] {
        assert_eq!(gateway.post(path).key("alice").body(body).send().await.status, 200);
        let received = upstream.received().pop().unwrap();
        assert_eq!((received.line(), String::from_utf8_lossy(&received.body).as_ref()), (line, body));
    }
}

#[tokio::test]
async fn a_stream_is_made_to_report_its_usage_and_nothing_else_is_changed() {
    let upstream = ok().await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .channel(openai(upstream.address()).named("strict").models(&["mistral-*"]).with("inject_usage", false))
        .key("alice")
        .start()
        .await;
    for (body, expected) in [
        (
            r#"{ "model":"gpt-4o", "stream":true,"n":1e0 }"#,
            r#"{"stream_options":{"include_usage":true}, "model":"gpt-4o", "stream":true,"n":1e0 }"#,
        ),
        (
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"x": 1}}"#,
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true,"x": 1}}"#,
        ),
        (
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage" : false}}"#,
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage" : true}}"#,
        ),
        (
            r#"{"model":"gpt-4o","stream":true,"stream_options":null}"#,
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#, ""),
        (r#"{"model":"gpt-4o","stream":false}"#, ""),
        (r#"{"model":"gpt-4o"}"#, ""),
        (r#"{"model":"mistral-small","stream":true}"#, ""),
    ] {
        let expected = if expected.is_empty() { body } else { expected };
        assert_eq!(gateway.post(CHAT).key("alice").body(body).send().await.status, 200);
        let received = upstream.received().pop().unwrap();
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
    }
    for path in ["/v1/responses", "/v1/embeddings"] {
        let body = r#"{"model":"gpt-4o","stream":true,"input":"x"}"#;
        gateway.post(path).key("alice").body(body).send().await;
        assert_eq!(upstream.received().pop().unwrap().body, body.as_bytes(), "{path} is not asked to report");
    }
}

async fn chat(
    gateway: &crate::support::Gateway,
    model: &str,
    options: Option<bool>,
    mock: &Mock,
) -> ([u8; 32], String) {
    let mut body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "one two three"}]});
    if let Some(asked) = options {
        body["stream_options"] = json!({"include_usage": asked});
    }
    let answer = gateway.post(CHAT).key("alice").json(&body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let entry = mock.ledger().pop().unwrap();
    if options == Some(true) {
        assert_eq!(answer.sha256(), entry.response_sha256, "{model}: every byte of the upstream's");
    }
    (answer.sha256(), answer.text())
}

#[tokio::test]
async fn only_a_client_that_asked_gets_the_usage_chunk() {
    let mock = mock();
    let gateway = gateway().channel(openai(mock.address()).models(&["*"])).key("alice").start().await;
    for model in ["gpt-4o", "azure-gpt", "openrouter/x", "o3"] {
        for options in [None, Some(false)] {
            let (sum, text) = chat(&gateway, model, options, &mock).await;
            let entry = mock.ledger().pop().unwrap();
            assert_eq!(entry.response_sha256_without_usage, Some(sum), "{model}: all but the usage chunk");
            assert!(!text.contains("\"usage\":{"), "{model}: {text}");
            assert!(text.ends_with("data: [DONE]\n\n"), "{model}");
        }
        let (_, text) = chat(&gateway, model, Some(true), &mock).await;
        assert!(text.contains("\"usage\":{"), "{model}: {text}");
    }
    let row = gateway.used("model", "gpt-4o", 3).await;
    let entries: Vec<_> = mock.ledger().into_iter().filter(|entry| entry.model == "gpt-4o").collect();
    assert_eq!(row["input_tokens"], entries.iter().map(|entry| entry.usage.input()).sum::<u64>());
    assert_eq!(row["output_tokens"], entries.iter().map(|entry| entry.usage.output).sum::<u64>());
}

#[tokio::test]
async fn a_channel_that_is_not_to_be_asked_streams_untouched() {
    let mock = mock();
    let channel = openai(mock.address()).models(&["mistral-*", "gpt-*"]).with("inject_usage", false);
    let gateway = gateway().channel(channel).key("alice").start().await;
    let (sum, text) = chat(&gateway, "mistral-small", None, &mock).await;
    assert_eq!(sum, mock.ledger().pop().unwrap().response_sha256);
    assert!(text.contains("\"usage\":{"), "this provider reports unasked");
    let usage = mock.ledger().pop().unwrap().usage;
    let row = gateway.used("model", "mistral-small", 1).await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(usage.input()), &json!(usage.output)));

    let (sum, _) = chat(&gateway, "gpt-4o", None, &mock).await;
    assert_eq!(sum, mock.ledger().pop().unwrap().response_sha256);
    assert!(gateway.used("model", "gpt-4o", 1).await["output_tokens"].as_u64() > Some(0), "estimated, not zero");
    assert!(gateway.metrics().await.contains("\nweir_usage_source_total{source=\"estimated\"} 1\n"));
}

#[tokio::test]
async fn a_cut_usage_chunk_leaves_the_same_stream_however_it_is_split() {
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
    let kept = ["data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n", ": ping\n\n"];
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":8}}\n\n";
    let done = "data: [DONE]\n\n";
    let whole = [kept[0], kept[1], usage, done].concat();
    let expected = [kept[0], kept[1], done].concat();
    let scripts = [1, 3, 17, 64, 1000].map(|size| {
        let script = crate::support::chunked(200, &[("content-type", "text/event-stream")]);
        whole.as_bytes().chunks(size).fold(script, Script::chunk).last_chunk()
    });
    let with_length = answer(200, &[("content-type", "text/event-stream")], &whole);
    let count = scripts.len() as u64 + 1;
    let upstream = upstream(scripts.into_iter().chain([with_length])).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    for i in 0..count {
        let answer = gateway.post(CHAT).key("alice").body(body).send().await;
        assert_eq!((answer.text(), answer.broken), (expected.clone(), false), "{i}");
        assert_eq!(answer.sha256(), sha256(&expected));
    }
    let row = gateway.used("model", "gpt-4o", count).await;
    assert_eq!((&row["input_tokens"], &row["events"]), (&json!(7 * count), &json!(2 * count)));
}
