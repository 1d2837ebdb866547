//! A channel is asked now: what came of it, where it is booked, and what it says of the channel.

use serde_json::{Value, json};

use crate::support::{
    Gateway, Script, UPSTREAM_KEY, answer, anthropic, chunked, gateway, gemini, mock, openai, raw_answer, upstream,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const SSE: (&str, &str) = ("content-type", "text/event-stream");
const PRICES: &str = r#"models: { "*": { input: "1000", output: "1000" } }"#;

fn stream(pieces: &[&str]) -> Script {
    pieces.iter().fold(chunked(200, &[SSE]), |script, piece| script.chunk(format!("data: {piece}\n\n"))).last_chunk()
}

fn pong() -> Script {
    stream(&[
        r#"{"choices":[{"index":0,"delta":{"content":"po"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"ng"}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        "[DONE]",
    ])
}

async fn run(gateway: &Gateway, channel: &str, body: &Value) -> Value {
    gateway.api(&format!("channels/{channel}/run")).post(body).await.expect(200)
}

#[tokio::test]
async fn an_answer_is_timed_counted_and_booked_under_the_channel_and_no_key() {
    let upstream = upstream([pong()]).await;
    let gateway = gateway()
        .channel(
            openai(upstream.address())
                .models(&["gpt-4o", "gpt-*"])
                .maps("gpt-4o", "large")
                .with("limits", json!({ "budget_usd": { "month": "1" } })),
        )
        .key("alice")
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await;
    let told = run(&gateway, "openai", &json!({})).await;
    assert_eq!((&told["ok"], &told["status"], &told["error"]), (&json!(true), &json!(200), &Value::Null), "{told}");
    assert_eq!((&told["model"], &told["key"], &told["text"]), (&json!("gpt-4o"), &json!("main"), &json!("pong")));
    assert_eq!(told["tokens"], json!({ "input": 9, "output": 2 }));
    let ms = |field: &str| told[field].as_f64().expect("a time");
    assert!(ms("connect_ms") <= ms("total_ms") && ms("first_token_ms") <= ms("total_ms"), "{told}");

    let asked = upstream.only();
    assert_eq!(asked.line(), "POST /v1/chat/completions");
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
    let body = asked.json();
    assert_eq!((&body["model"], &body["stream"], &body["max_tokens"]), (&json!("large"), &json!(true), &json!(16)));

    let row = gateway.used("channel", "openai", 1).await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"], &row["failed"]), (&json!(9), &json!(2), &json!(0)));
    assert_eq!(row["cost_micro_usd"], 11_000);
    gateway.used("model", "gpt-4o", 1).await;
    let keys: Vec<Value> = gateway.usage("key").await.iter().map(|row| row["key"].clone()).collect();
    assert_eq!(keys, [json!("(channel run)")]);
    let row = gateway.api("channels/openai").get().await;
    assert_eq!((&row["used"]["budget_usd"]["month"], &row["in_flight"]), (&json!("0.011"), &json!(0)));
}

#[tokio::test]
async fn each_protocol_is_asked_in_its_own_words() {
    let mock = mock();
    let gateway = gateway()
        .channel(openai(mock.address()).models(&["gpt-4o"]))
        .channel(anthropic(mock.address()).models(&["claude-sonnet-4-5"]))
        .channel(gemini(mock.address()).models(&["gemini-2.5-flash"]))
        .channel(openai(mock.address()).named("vectors").models(&["text-embedding-3-small"]))
        .start()
        .await;
    for channel in ["openai", "anthropic", "gemini", "vectors"] {
        let told = run(&gateway, channel, &json!({})).await;
        assert_eq!((&told["ok"], &told["status"]), (&json!(true), &json!(200)), "{channel}: {told}");
        assert!(told["text"].as_str().is_some_and(|text| !text.is_empty()), "{channel}: {told}");
        assert!(told["tokens"]["input"].as_u64() > Some(0), "{channel}: {told}");
    }
}

#[tokio::test]
async fn what_is_no_good_answer_is_told_by_its_reason() {
    let late = raw_answer("").wait(2_000);
    let half = chunked(200, &[SSE]).chunk("data: {\"choices\":[{\"delta\":{\"content\":\"po\"}}]}\n\n").close();
    for (script, code, status, detail) in [
        (answer(500, &[JSON], r#"{"error":{"message":"it broke"}}"#), "server_error", json!(500), json!("it broke")),
        (
            answer(401, &[JSON], format!(r#"{{"error":{{"message":"bad key {UPSTREAM_KEY}"}}}}"#)),
            "key_refused",
            json!(401),
            json!("bad key [secret]"),
        ),
        (answer(404, &[JSON], r#"{"error":"none"}"#), "not_found", json!(404), json!("none")),
        (answer(429, &[JSON], "{}"), "rate_limited", json!(429), Value::Null),
        (stream(&[r#"{"error":{"message":"overloaded"}}"#, "[DONE]"]), "error_inside", json!(200), json!("overloaded")),
        (stream(&["[DONE]"]), "empty", json!(200), Value::Null),
        (stream(&[]), "empty", json!(200), Value::Null),
        (answer(200, &[JSON], ""), "empty", json!(200), Value::Null),
        (half, "broken", json!(200), Value::Null),
        (raw_answer("").close(), "broken", Value::Null, Value::Null),
        (raw_answer("SSH-2.0\r\n\r\n").close(), "broken", Value::Null, Value::Null),
        (late, "timeout", Value::Null, Value::Null),
    ] {
        let upstream = upstream([script]).await;
        let channel = openai(upstream.address()).models(&["gpt-4o"]).timeouts("300ms", "300ms");
        let gateway = gateway().channel(channel).start().await;
        let told = run(&gateway, "openai", &json!({})).await;
        assert_eq!(
            (&told["ok"], &told["error"]["code"], &told["status"]),
            (&json!(false), &json!(code), &status),
            "{told}"
        );
        assert_eq!(told["error"]["detail"], detail, "{told}");
        assert!(!told.to_string().contains(UPSTREAM_KEY), "{told}");
        assert!(!gateway.stderr().contains(UPSTREAM_KEY));
    }
    let channel = openai(([127, 0, 0, 1], 1).into()).models(&["gpt-4o"]);
    let gateway = gateway().channel(channel).start().await;
    let told = run(&gateway, "openai", &json!({})).await;
    assert_eq!((&told["error"]["code"], &told["connect_ms"]), (&json!("connect"), &Value::Null));
    assert_eq!(gateway.usage("channel").await, Vec::<Value>::new(), "nobody was asked");
}

#[tokio::test]
async fn a_slow_answer_is_good_and_its_time_is_told() {
    let slow =
        chunked(200, &[SSE]).wait(400).chunk("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n").last_chunk();
    let upstream = upstream([slow]).await;
    let gateway = gateway().channel(openai(upstream.address()).models(&["gpt-4o"])).start().await;
    let told = run(&gateway, "openai", &json!({})).await;
    assert_eq!((&told["ok"], &told["text"]), (&json!(true), &json!("hi")));
    assert!(told["first_token_ms"].as_f64() >= Some(395.0), "{told}");
}

#[tokio::test]
async fn a_run_says_of_the_channel_what_a_request_would_and_brings_it_back() {
    let failing = answer(500, &[JSON], "{}");
    let upstream = upstream([failing.clone(), failing, pong()]).await;
    let cooldown = json!({ "failures": 2, "for": "5m" });
    let channel = openai(upstream.address()).models(&["gpt-4o"]).with("cooldown", cooldown);
    let gateway = gateway().channel(channel).key("alice").start().await;
    let state = async || gateway.api("channels/openai").get().await["state"].clone();
    run(&gateway, "openai", &json!({})).await;
    assert_eq!(state().await, "healthy");
    run(&gateway, "openai", &json!({})).await;
    assert_eq!(state().await, "cooling");
    assert_eq!(run(&gateway, "openai", &json!({})).await["ok"], true);
    assert_eq!(state().await, "healthy");

    gateway.api("channels/openai/drain").post(&json!({ "drain": true })).await.expect(200);
    assert_eq!(run(&gateway, "openai", &json!({})).await["ok"], true, "a drained one can be tried");
    assert_eq!(state().await, "draining");
}

#[tokio::test]
async fn the_model_and_the_key_are_chosen_and_what_there_is_not_is_named() {
    let wants = r#"{"error":{"message":"Unsupported parameter: use 'max_completion_tokens' instead."}}"#;
    let upstream = upstream([answer(400, &[JSON], wants), pong()]).await;
    let keys = json!([{ "name": "main", "value": "sk-first-key" }, { "name": "spare", "value": "sk-second-key" }]);
    let gateway = gateway().channel(openai(upstream.address()).with("keys", keys)).start().await;
    let refused = gateway.api("channels/openai/run").post(&json!({})).await.refused(400);
    assert_eq!(refused.1, "the channel `openai` names no model one by one: say which one to ask for");
    let refused = gateway.api("channels/openai/run").post(&json!({ "model": "gpt-5", "key": "x" })).await.refused(400);
    assert_eq!(refused.1, "the channel `openai` has no key of this name");
    gateway.api("channels/none/run").post(&json!({})).await.refused(404);

    let told = run(&gateway, "openai", &json!({ "model": "gpt-5", "key": "spare" })).await;
    assert_eq!((&told["ok"], &told["key"], &told["model"]), (&json!(true), &json!("spare"), &json!("gpt-5")), "{told}");
    let received = upstream.received();
    assert_eq!(received[1].header("authorization"), Some("Bearer sk-second-key"));
    assert_eq!(
        (&received[1].json()["max_completion_tokens"], &received[1].json()["max_tokens"]),
        (&json!(16), &Value::Null)
    );
    gateway.used("channel", "openai", 1).await;
}
