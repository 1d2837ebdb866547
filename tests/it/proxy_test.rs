//! The gateway is asked as a client asks it, from the console: through its own address, with a client's key.

use serde_json::{Value, json};

use crate::support::{
    Authority, Gateway, answer, anthropic, gateway, gemini, key_named, mock, openai, secret_of, upstream,
};

async fn test(gateway: &Gateway, body: &Value) -> Value {
    gateway.api("proxy/test").post(body).await.expect(200)
}

#[tokio::test]
async fn each_operation_goes_through_the_gateway_like_any_other_request() {
    let mock = mock();
    let gateway = gateway()
        .channel(openai(mock.address()).models(&["*"]))
        .channel(anthropic(mock.address()))
        .channel(gemini(mock.address()))
        .key("alice")
        .start()
        .await;
    let cases = [
        ("openai.chat", "gpt-4o", "openai"),
        ("openai.responses", "gpt-4o", "openai"),
        ("openai.embeddings", "text-embedding-3-small", "openai"),
        ("anthropic.messages", "claude-sonnet-4-5", "anthropic"),
        ("gemini.generate", "gemini-2.5-flash", "gemini"),
        ("gemini.stream", "gemini-2.5-flash", "gemini"),
    ];
    for (operation, model, channel) in cases {
        let told = test(&gateway, &json!({ "key": secret_of("alice"), "operation": operation, "model": model })).await;
        assert_eq!((&told["status"], &told["error"]), (&json!(200), &Value::Null), "{operation}: {told}");
        assert_eq!(told["channel"], channel, "{operation}: {told}");
        assert!(told["text"].as_str().is_some_and(|text| !text.is_empty()), "{operation}: {told}");
        assert!(told["first_token_ms"].as_f64() <= told["total_ms"].as_f64(), "{operation}: {told}");
        let id = told["request_id"].as_str().expect("an id");
        let record = crate::support::eventually("its record", async || {
            let said = gateway.admin("GET", &format!("/admin/api/requests/{id}")).send().await;
            (said.status == 200).then(|| said.json())
        })
        .await;
        assert_eq!((&record["key_name"], &record["operation"]), (&json!("alice"), &json!(operation)));
    }
    gateway.used("key", "alice", cases.len() as u64).await;
}

#[tokio::test]
async fn what_the_gateway_refuses_is_told_with_its_reason_and_no_key() {
    let upstream =
        upstream([answer(503, &[("content-type", "application/json")], r#"{"error":{"message":"down"}}"#)]).await;
    let bound = key_named("alice").with("models", json!(["o3"]));
    let gateway = gateway().channel(openai(upstream.address())).key(bound).key("bob").start().await;
    let asked = |key: &str, model: &str| json!({ "key": key, "operation": "openai.chat", "model": model });
    for (key, model, code, status) in [
        ("sk-weir-canary-unknown", "gpt-4o", "key_refused", 401),
        (&*secret_of("alice"), "gpt-4o", "key_refused", 403),
        (&*secret_of("bob"), "none", "not_found", 404),
        (&*secret_of("bob"), "gpt-4o", "server_error", 503),
    ] {
        let told = test(&gateway, &asked(key, model)).await;
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!(status), &json!(code)), "{told}");
        assert!(told["error"]["detail"].is_string() && told["request_id"].is_string(), "{told}");
        assert!(!told.to_string().contains(key) && !gateway.stderr().contains(key), "{told}");
    }
    let refused = gateway.api("proxy/test").post(&asked("a\nb", "gpt-4o")).await.refused(400);
    assert_eq!(refused, ("invalid".into(), "`key` cannot be sent in a header".into()));
    let refused = gateway.api("proxy/test").post(&json!({ "key": "k", "operation": "models", "model": "m" })).await;
    assert!(refused.refused(400).1.starts_with("`operation` must be one of openai.chat, "));
}

#[tokio::test]
async fn a_gateway_with_tls_alone_is_asked_too() {
    let mock = mock();
    let mut gateway = gateway().channel(openai(mock.address())).key("alice").tls(Authority::new()).start().await;
    gateway.rewrite(|config| config["listen"] = json!([config["listen"][1]]));
    gateway.kill();
    gateway.start().await;
    let body = json!({ "key": secret_of("alice"), "operation": "openai.chat", "model": "gpt-4o", "prompt": "hi" });
    let told = test(&gateway, &body).await;
    assert_eq!((&told["status"], &told["channel"], &told["error"]), (&json!(200), &json!("openai"), &Value::Null));
}
