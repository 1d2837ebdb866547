//! How a channel is reached: its base path, its keys in turn, its place in the file; and how long a
//! client's idle connection is kept.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{answer, gateway, gemini, openai, secret_of, upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o"}"#;

#[tokio::test]
async fn a_base_path_stands_before_every_path() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let base = |path: &str| format!("http://{}{path}", upstream.address());
    let gateway = gateway()
        .channel(openai(upstream.address()).with("base_url", base("/openai/deployments/x")))
        .channel(gemini(upstream.address()).with("base_url", base("/google/")))
        .key("alice")
        .start()
        .await;
    for (path, line) in [
        ("/v1/chat/completions?api-version=1", "POST /openai/deployments/x/v1/chat/completions?api-version=1"),
        ("/v1beta/models/gemini-x:generateContent", "POST /google/v1beta/models/gemini-x:generateContent"),
    ] {
        assert_eq!(gateway.post(path).key("alice").body(BODY).send().await.status, 200);
        assert_eq!(upstream.received().pop().unwrap().line(), line);
    }
}

#[tokio::test]
async fn several_keys_of_a_channel_take_turns() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let keys = json!([{"name": "a", "value": "sk-up-a"}, {"name": "b", "value": "sk-up-b"}]);
    let gateway = gateway().channel(openai(upstream.address()).with("keys", keys)).key("alice").start().await;
    for _ in 0..4 {
        gateway.post(CHAT).key("alice").body(BODY).send().await;
    }
    let presented: Vec<_> = upstream.received().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(presented, ["Bearer sk-up-a", "Bearer sk-up-b", "Bearer sk-up-a", "Bearer sk-up-b"]);
}

#[tokio::test]
async fn the_first_channel_that_serves_a_model_is_asked() {
    let (first, second) = (upstream([answer(200, &[], "1")]).await, upstream([answer(200, &[], "2")]).await);
    let gateway = gateway()
        .channel(openai(first.address()).models(&["gpt-4*"]))
        .channel(openai(second.address()).named("second").models(&["gpt-*"]).with("priority", 1))
        .key("alice")
        .start()
        .await;
    for (model, text, channel) in [("gpt-4o", "1", "openai"), ("gpt-5", "2", "second")] {
        let answer = gateway.post(CHAT).key("alice").json(&json!({"model": model})).send().await;
        assert_eq!((answer.text().as_str(), answer.header("x-weir-channel")), (text, channel));
    }
    let answer = gateway.post(CHAT).key("alice").json(&json!({"model": "o3"})).send().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn an_idle_client_is_let_go_after_the_configured_time() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let builder = gateway().channel(openai(upstream.address())).key("alice");
    let gateway = builder.with("server.keepalive_timeout", "1s").start().await;
    let mut client = gateway.connect().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", BODY.len())]).await;
    client.send(BODY).await;
    assert_eq!(client.answer().await.status, 200);
    let idle = Instant::now();
    assert!(client.is_closed().await);
    let idle = idle.elapsed();
    assert!(idle > Duration::from_millis(800) && idle < Duration::from_secs(4), "{idle:?}");
}
