//! `GET /v1/models`: what a key may use, in the shape of whoever asks.

use serde_json::{Value, json};

use crate::support::{Gateway, anthropic, gateway, gemini, key_named, mock, openai, secret_of};

async fn open() -> Gateway {
    let address = mock().address();
    gateway()
        .channel(openai(address).models(&["gpt-4o", "gpt-4o-mini", "gpt-d*", "o3*"]).maps("gpt-default", "gpt-4o"))
        .channel(openai(address).named("second").models(&["gpt-4o", "mini/x"]))
        .channel(anthropic(address).models(&["claude-sonnet-4-5"]))
        .channel(gemini(address).models(&["gemini-2.5-flash"]))
        .key("alice")
        .key(key_named("mini").with("models", json!(["*mini*"])))
        .key(key_named("second").with("channels", json!(["second"])))
        .key(key_named("openai").with("protocols", json!(["openai"])))
        .start()
        .await
}

fn openai_model(id: &str, owner: &str) -> Value {
    json!({"id": id, "object": "model", "created": 0, "owned_by": owner})
}

#[tokio::test]
async fn a_list_names_what_the_key_may_use_and_no_globs() {
    let gateway = open().await;
    for (key, expected) in [
        (
            "alice",
            vec![("gpt-4o", "openai"), ("gpt-4o-mini", "openai"), ("gpt-default", "openai"), ("mini/x", "second")],
        ),
        ("mini", vec![("gpt-4o-mini", "openai"), ("mini/x", "second")]),
        ("second", vec![("gpt-4o", "second"), ("mini/x", "second")]),
    ] {
        let answer = gateway.get("/v1/models").key(key).send().await;
        let data: Vec<Value> = expected.into_iter().map(|(id, owner)| openai_model(id, owner)).collect();
        assert_eq!((answer.status, answer.json()), (200, json!({"object": "list", "data": data})), "{key}");
    }
    assert_eq!(gateway.usage("key").await, Vec::<Value>::new(), "a question about models is not usage");
}

#[tokio::test]
async fn a_list_has_the_shape_of_whoever_asks() {
    let gateway = open().await;
    let answer = gateway
        .get("/v1/models")
        .header("x-api-key", secret_of("alice"))
        .header("anthropic-version", "2023-06-01")
        .send()
        .await;
    let claude = json!({
        "type": "model",
        "id": "claude-sonnet-4-5",
        "display_name": "claude-sonnet-4-5",
        "created_at": "1970-01-01T00:00:00Z",
    });
    let page = json!({
        "data": [claude], "has_more": false, "first_id": "claude-sonnet-4-5", "last_id": "claude-sonnet-4-5",
    });
    assert_eq!((answer.status, answer.json()), (200, page));
    let answer = gateway.get("/v1beta/models").header("x-goog-api-key", secret_of("alice")).send().await;
    assert_eq!(answer.json()["models"][0]["name"], "models/gemini-2.5-flash");
    assert_eq!(answer.json()["models"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn one_model_is_shown_if_the_key_may_use_it() {
    let gateway = open().await;
    for (path, key, status, body) in [
        ("/v1/models/gpt-4o", "alice", 200, openai_model("gpt-4o", "openai")),
        ("/v1/models/mini/x", "alice", 200, openai_model("mini/x", "second")),
        ("/v1/models/gpt-4o", "second", 200, openai_model("gpt-4o", "second")),
    ] {
        let answer = gateway.get(path).key(key).send().await;
        assert_eq!((answer.status, answer.json()), (status, body), "{path} {key}");
    }
    for (path, key) in [("/v1/models/gpt-4o", "mini"), ("/v1/models/o3-mini", "alice"), ("/v1/models/none", "alice")] {
        let answer = gateway.get(path).key(key).send().await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")), "{path} {key}");
    }
    let answer = gateway.get("/v1beta/models/gemini-2.5-flash").key("alice").send().await;
    assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("models/gemini-2.5-flash")));
}

#[tokio::test]
async fn a_list_needs_a_key_that_may_speak_the_protocol() {
    let gateway = open().await;
    assert_eq!(gateway.get("/v1/models").send().await.status, 401);
    assert_eq!(gateway.get("/v1/models").key("openai").send().await.status, 200);
    assert_eq!(gateway.get("/v1beta/models").key("openai").send().await.status, 403);
    let answer = gateway.get("/v1/models").key("openai").header("anthropic-version", "2023-06-01").send().await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (403, &json!("permission_error")));
}
