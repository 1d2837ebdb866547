//! A channel that is taken out of service: nothing new is sent to it, what is under way ends.

use serde_json::{Value, json};

use crate::support::{Gate, Gateway, Upstream, answer, chunked, eventually, gateway, openai, upstream};

const CHAT: &str = "/v1/chat/completions";

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#)]).await
}

/// The status, and the channel that served; empty if none did.
async fn ask(gateway: &Gateway) -> (u16, String) {
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let answer = gateway.post(CHAT).key("alice").json(&body).send().await;
    (answer.status, answer.header("x-weir-channel").to_owned())
}

async fn drain(gateway: &Gateway, name: &str, drain: bool) -> Value {
    gateway.api(&format!("channels/{name}/drain")).post(&json!({ "drain": drain })).await.expect(200)
}

#[tokio::test]
async fn a_drained_channel_gets_no_request_through_restarts_until_it_is_put_back() {
    let (first, second) = (ok().await, ok().await);
    let other = openai(second.address()).named("second").with("priority", 1);
    let mut gateway = gateway().channel(openai(first.address())).channel(other).key("alice").start().await;
    assert_eq!(ask(&gateway).await, (200, "openai".into()));
    assert_eq!(gateway.api("channels/openai").get().await["state"], "healthy");

    let row = drain(&gateway, "openai", true).await;
    assert_eq!((&row["name"], &row["state"], &row["origin"]), (&json!("openai"), &json!("draining"), &json!("file")));
    assert_eq!(ask(&gateway).await, (200, "second".into()));
    gateway.api("reload").post(&json!({})).await.expect(200);
    assert_eq!(ask(&gateway).await, (200, "second".into()), "after a reload");
    gateway.kill();
    gateway.start().await;
    assert_eq!(ask(&gateway).await, (200, "second".into()), "after a kill");
    assert_eq!(gateway.api("channels/openai").get().await["state"], "draining");

    drain(&gateway, "second", true).await;
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let refused = gateway.post(CHAT).key("alice").json(&body).send().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(refused.text().contains("is being taken out of service"), "{}", refused.text());

    assert_eq!(drain(&gateway, "openai", false).await["state"], "healthy");
    assert_eq!(ask(&gateway).await, (200, "openai".into()));
    assert_eq!((first.heads(), second.heads()), (2, 3));
    let refused = gateway.api("channels/none/drain").post(&json!({ "drain": true })).await.refused(404);
    assert_eq!(refused, ("not_found".into(), "there is no such channel".into()));
}

#[tokio::test]
async fn what_is_drained_already_is_no_change() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).start().await;
    for (is_drained, state) in [(false, "healthy"), (true, "draining"), (true, "draining"), (false, "healthy")] {
        assert_eq!(drain(&gateway, "openai", is_drained).await["state"], state);
    }
    let changes = gateway.api("changes").rows().await;
    let drained: Vec<[&Value; 2]> =
        changes.iter().map(|row| [&row["before"]["draining"], &row["after"]["draining"]]).collect();
    assert_eq!(drained, [[&json!(true), &json!(false)], [&json!(false), &json!(true)]]);
}

#[tokio::test]
async fn a_stream_that_is_open_ends_and_is_seen_while_it_does() {
    let gate = Gate::new();
    let stream = chunked(200, &[("content-type", "text/event-stream")])
        .chunk("data: {\"choices\":[{\"delta\":{\"content\":\"he\"}}]}\n\n")
        .gate(&gate)
        .chunk("data: [DONE]\n\n")
        .last_chunk();
    let upstream = upstream([stream]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let body = json!({ "model": "gpt-4o", "messages": [], "stream": true });
    let asked = gateway.post(CHAT).key("alice").json(&body);
    let reads = tokio::spawn(asked.send());
    eventually("a request at the upstream", async || (upstream.heads() == 1).then_some(())).await;

    let row = drain(&gateway, "openai", true).await;
    assert_eq!((&row["state"], &row["in_flight"]), (&json!("draining"), &json!(1)));
    gate.open();
    let answer = reads.await.expect("no panic");
    assert_eq!((answer.status, answer.text().ends_with("data: [DONE]\n\n")), (200, true));
    eventually("nothing under way", async || {
        (gateway.api("channels/openai").get().await["in_flight"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_is_removed_and_made_anew_is_in_service() {
    let upstream = ok().await;
    let gateway = gateway().key("alice").start().await;
    let made = json!({
        "name": "made", "protocol": "openai", "base_url": format!("http://{}", upstream.address()),
        "keys": [{ "name": "main", "value": "sk-made" }], "models": ["*"],
    });
    gateway.api("channels").post(&made).await.expect(201);
    drain(&gateway, "made", true).await;
    assert_eq!(ask(&gateway).await.0, 503);
    gateway.api("channels/made").patch(&json!({ "weight": 2 })).await.expect(200);
    assert_eq!(ask(&gateway).await.0, 503, "a change does not put it back");
    gateway.api("channels/made").delete().await.expect(204);
    assert_eq!(gateway.api("channels").post(&made).await.expect(201)["state"], "healthy");
    assert_eq!(ask(&gateway).await, (200, "made".into()));
}
