//! The price table that takes the place of the file's.

use serde_json::{Value, json};

use crate::support::{Gateway, answer, gateway, openai, upstream};

const ENTRIES: usize = 3_000;

/// What a thousand input tokens and a hundred output tokens of `gpt-4o` have cost in all, in millionths of a dollar.
async fn cost_after(gateway: &Gateway, requests: u64) -> u64 {
    let body = json!({ "model": "gpt-4o", "messages": [] });
    assert_eq!(gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status, 200);
    gateway.used("key", "alice", requests).await["cost_micro_usd"].as_u64().expect("a figure")
}

/// A tag lasts until the gateway starts anew.
fn without_tag(mut table: Value) -> Value {
    assert_eq!(table["etag"].take().as_str().map(str::len), Some(18));
    table.as_object_mut().expect("fields").remove("etag");
    table
}

#[tokio::test]
async fn a_table_is_in_force_at_once_survives_a_kill_and_gives_way_to_the_files_again() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;
    let upstream = upstream([answer(200, &[("content-type", "application/json")], usage)]).await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let none = json!({ "origin": null, "version": null, "models": [] });
    assert_eq!(without_tag(gateway.api("prices").get().await), none);
    assert_eq!(cost_after(&gateway, 1).await, 0);

    let table = json!({ "models": [
        { "model": "gpt-4o", "input": "2", "output": "10" },
        { "model": "gpt-*", "input": "1000", "output": "1000" },
    ] });
    let put = gateway.api("prices").put(&table).await.expect(200);
    assert_eq!((&put["origin"], &put["models"]), (&json!("api"), &table["models"]));
    assert_eq!(put["version"].as_str().map(str::len), Some(16));
    assert_eq!(cost_after(&gateway, 2).await, 3_000);
    gateway.kill();
    gateway.start().await;
    assert_eq!(without_tag(gateway.api("prices").get().await), without_tag(put));
    assert_eq!(cost_after(&gateway, 3).await, 6_000);

    std::fs::write(gateway.config_file().with_file_name("prices.yaml"), "models: { gpt-*: { input: 4, output: 20 } }")
        .expect("it is written");
    gateway.rewrite(|config| config["prices"] = json!("prices.yaml"));
    assert_eq!(gateway.admin("POST", "/admin/api/reload").send().await.status, 200);
    assert_eq!(cost_after(&gateway, 4).await, 9_000, "what was made over the API goes first");
    gateway.api("prices").delete().await.expect(204);
    let file = gateway.api("prices").get().await;
    assert_eq!((&file["origin"], &file["models"][0]["input"]), (&json!("file"), &json!("4")));
    assert_eq!(cost_after(&gateway, 5).await, 15_000);
    gateway.kill();
    gateway.start().await;
    assert_eq!(without_tag(gateway.api("prices").get().await), without_tag(file));
    assert_eq!(gateway.api("prices").delete().await.refused(404).0, "not_found");
}

#[tokio::test]
async fn a_wrong_table_changes_nothing_and_a_long_one_fits() {
    let gateway = gateway().start().await;
    for (body, field, message) in [
        (json!({}), "models", "`models` must be a list of entries, each with its `model`"),
        (json!({ "models": { "gpt-4o": {} } }), "models", "`models` must be a list of entries, each with its `model`"),
        (json!({ "models": [] }), "models", "`models` must not be an empty list; DELETE goes back to the file's"),
        (json!({ "model": [] }), "model", "unknown field `model`; did you mean \"models\"?"),
        (json!({ "models": [{ "model": "a", "output": "1" }] }), "models[0].input", "`input` is missing"),
    ] {
        let error = json!({ "error": { "code": "invalid", "field": field, "message": message } });
        assert_eq!(gateway.api("prices").put(&body).await.expect(400), error);
    }
    assert_eq!(gateway.api("prices").get().await["origin"], Value::Null);
    let entry =
        |i| json!({ "model": format!("provider/model-{i}"), "input": "0.15", "output": "0.6", "cache_read": "0.075" });
    let long = json!({ "models": (0..ENTRIES).map(entry).collect::<Vec<_>>() });
    let put = gateway.api("prices").put(&long).await.expect(200);
    assert_eq!(put["models"], long["models"]);
}
