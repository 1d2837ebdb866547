//! Channels that are made, changed and removed over the admin API, and their secrets, which are never read there.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, answer, gateway, key_named, openai, upstream};

const CHAT: &str = "/v1/chat/completions";
const CANARY: &str = "sk-canary-upstream-c4f1";
const SECOND: &str = "sk-canary-upstream-9b2e";

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#)]).await
}

async fn status_of(gateway: &Gateway, model: &str) -> u16 {
    let body = json!({ "model": model, "messages": [] });
    gateway.post(CHAT).key("alice").json(&body).send().await.status
}

fn channel(name: &str, upstream: &Upstream, secret: &str) -> Value {
    json!({
        "name": name, "protocol": "openai", "base_url": format!("http://{}", upstream.address()),
        "keys": [{ "name": "main", "value": secret }], "models": [format!("{name}-*")],
    })
}

/// The keys that an upstream was presented.
fn presented(upstream: &Upstream) -> Vec<String> {
    let header = |received: &crate::support::Received| {
        received.header("authorization").unwrap_or_default().replace("Bearer ", "")
    };
    upstream.received().iter().map(header).collect()
}

#[tokio::test]
async fn a_channel_serves_at_once_and_no_more_once_it_is_removed() {
    let first = ok().await;
    let second = ok().await;
    let mut gateway = gateway().key("alice").start().await;
    assert_eq!(status_of(&gateway, "one-x").await, 404);
    let made = gateway.api("channels").post(&channel("one", &first, CANARY)).await.expect(201);
    let keys = json!([{ "name": "main", "state": "healthy", "cooling_until": null }]);
    assert_eq!((&made["keys"], &made["origin"]), (&keys, &json!("api")));
    assert_eq!(made["base_url"], format!("http://{}", first.address()));
    assert_eq!(status_of(&gateway, "one-x").await, 200);
    gateway.kill();
    gateway.start().await;
    assert_eq!(status_of(&gateway, "one-x").await, 200);
    gateway.api("channels/one").patch(&json!({ "models": ["two-*"], "timeouts": { "idle": "5s" } })).await.expect(200);
    assert_eq!((status_of(&gateway, "one-x").await, status_of(&gateway, "two-x").await), (404, 200));
    let moved = json!({
        "base_url": format!("http://{}", second.address()), "keys": [{ "name": "other", "value": SECOND }],
    });
    let changed = gateway.api("channels/one").patch(&moved).await.expect(200);
    assert_eq!((&changed["keys"][0]["name"], &changed["timeouts"]["idle"]), (&json!("other"), &json!("5s")));
    assert_eq!(status_of(&gateway, "two-x").await, 200);
    assert_eq!((presented(&first), presented(&second)), (vec![CANARY.to_owned(); 3], vec![SECOND.to_owned()]));

    let key = gateway.api("keys").post(&json!({ "name": "bound", "channels": ["one"] })).await.expect(201);
    let refused = gateway.api("channels/one").delete().await.refused(409);
    assert_eq!(refused, ("in_use".into(), "the channel `one` is named by the key `bound`".into()));
    gateway.api(&format!("keys/{}", key["id"].as_str().expect("an id"))).delete().await.expect(204);
    gateway.api("channels/one").delete().await.expect(204);
    assert_eq!(status_of(&gateway, "two-x").await, 404);
    assert_eq!(gateway.api("channels").rows().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_secret_is_kept_where_none_is_given_but_never_sent_elsewhere() {
    let first = ok().await;
    let second = ok().await;
    let gateway = gateway().key("alice").start().await;
    gateway.api("channels").post(&channel("one", &first, CANARY)).await.expect(201);
    let patch = json!({ "keys": [{ "name": "main" }, { "name": "second", "value": SECOND }] });
    gateway.api("channels/one").patch(&patch).await.expect(200);
    for _ in 0..2 {
        assert_eq!(status_of(&gateway, "one-x").await, 200);
    }
    assert_eq!(presented(&first), [CANARY, SECOND]);

    let elsewhere = format!("http://{}", second.address());
    let message = "`base_url` leads to another server: give the value of every key in `keys` too";
    for patch in [
        json!({ "base_url": elsewhere }),
        json!({ "base_url": elsewhere, "keys": [{ "name": "main" }] }),
        json!({ "base_url": elsewhere, "keys": [{ "name": "main" }, { "name": "second", "value": "sk-new" }] }),
        json!({ "base_url": format!("https://{}", first.address()) }),
    ] {
        let refused = gateway.api("channels/one").patch(&patch).await.refused(400);
        assert_eq!(refused, ("invalid".into(), message.into()), "{patch}");
    }
    let prefixed = json!({ "base_url": format!("http://{}/prefix", first.address()) });
    gateway.api("channels/one").patch(&prefixed).await.expect(200);
    let nameless = json!({ "keys": [{ "name": "third" }] });
    assert_eq!(gateway.api("channels/one").patch(&nameless).await.refused(400).0, "invalid");
    assert_eq!(second.received().len(), 0);
}

#[tokio::test]
async fn declared_channels_cannot_be_changed_and_names_stand_for_one() {
    let first = ok().await;
    let gateway = gateway().channel(openai(first.address())).key("alice").start().await;
    gateway.api("channels").post(&channel("made", &first, CANARY)).await.expect(201);
    let message = "the channel `openai` is declared in the configuration file; change it there";
    let declared = ("declared".to_owned(), message.to_owned());
    assert_eq!(gateway.api("channels/openai").patch(&json!({ "models": ["x"] })).await.refused(409), declared);
    assert_eq!(gateway.api("channels/openai").delete().await.refused(409), declared);
    assert_eq!(gateway.api("channels/order").put(&json!(["made", "openai"])).await.refused(409), declared);
    let taken = gateway.api("channels").post(&channel("openai", &first, CANARY)).await.refused(409);
    assert_eq!(taken.0, "name_taken");
    for (body, message) in [
        (json!(["mode"]), "unknown channel `mode`; did you mean \"made\"?"),
        (json!(["made", "made"]), "the channel `made` is named twice"),
        (json!([]), "the channel `made` is not named"),
        (json!({}), "the body must be a JSON list of names"),
    ] {
        assert_eq!(gateway.api("channels/order").put(&body).await.refused(400).1, message, "{body}");
    }
}

#[tokio::test]
async fn the_order_says_who_is_asked_first() {
    let upstreams = [ok().await, ok().await];
    let gateway = gateway().key("alice").start().await;
    for (name, upstream) in ["first", "second"].iter().zip(&upstreams) {
        let mut fields = channel(name, upstream, CANARY);
        fields["models"] = json!(["gpt-*"]);
        gateway.api("channels").post(&fields).await.expect(201);
    }
    for (order, asked) in [(["first", "second"], [3, 0]), (["second", "first"], [3, 3]), (["first", "second"], [6, 3])]
    {
        let rows = gateway.api("channels/order").put(&json!(order)).await.expect(200);
        let places: Vec<_> = rows["rows"].as_array().expect("rows").iter().map(|row| &row["priority"]).collect();
        assert_eq!(places, [0, 1]);
        for _ in 0..3 {
            assert_eq!(status_of(&gateway, "gpt-4o").await, 200);
        }
        assert_eq!(upstreams.each_ref().map(|upstream| upstream.received().len()), asked, "{order:?}");
    }
}

#[tokio::test]
async fn neither_the_environment_nor_files_of_the_gateway_can_be_had() {
    let first = ok().await;
    let gateway = gateway().key("alice").environment("CANARY", CANARY).start().await;
    std::fs::write(gateway.data_dir().join("secret"), SECOND).expect("a file");
    let file = gateway.data_dir().join("secret");
    for keys in [
        json!([{ "name": "main", "value": "${CANARY}" }]),
        json!([{ "name": "main", "value": "${NONE:-x}" }]),
        json!([{ "name": "main", "value_file": file }]),
        json!([{ "name": "main", "value_file": "secret" }]),
    ] {
        let mut fields = channel("one", &first, "");
        fields["keys"] = keys;
        let said = gateway.api("channels").post(&fields).await;
        let text = said.answer.text();
        assert_eq!(said.refused(400).0, "invalid");
        assert!(!text.contains(CANARY) && !text.contains(SECOND), "{text}");
    }
}

#[tokio::test]
async fn no_secret_leaves_by_an_answer_a_log_or_another_file() {
    let first = ok().await;
    let mut gateway = gateway().key(key_named("alice")).environment("WEIR_LOG", "debug").start().await;
    let mut said: Vec<String> = Vec::new();
    let mut secrets = vec![CANARY.to_owned(), SECOND.to_owned()];
    said.push(gateway.api("channels").post(&channel("one", &first, CANARY)).await.answer.text());
    for patch in [
        json!({ "keys": [{ "name": "main", "value": SECOND }] }),
        json!({ "keys": [{ "name": "main", "value": SECOND }, { "name": "main", "value": CANARY }] }),
        json!({ "keys": [{ "name": SECOND, "value": [CANARY] }] }),
        json!({ "keys": CANARY, "models": [] }),
        json!({ "base_url": format!("https://{CANARY}@host"), CANARY: SECOND }),
        json!({ "name": CANARY }),
    ] {
        said.push(gateway.api("channels/one").patch(&patch).await.answer.text());
    }
    said.push(gateway.admin("POST", "/admin/api/channels").body(format!("{{\"{CANARY}\"")).send().await.text());
    let key = gateway.api("keys").post(&json!({ "name": "laptop" })).await.expect(201);
    let id = key["id"].as_str().expect("an id").to_owned();
    let rotated = gateway.api(&format!("keys/{id}/rotate")).post(&json!({ "overlap": "1h" })).await.expect(200);
    secrets.extend([&key, &rotated].map(|key| key["key"].as_str().expect("a secret").to_owned()));
    for path in ["channels", "channels/one", "keys", "users", &format!("keys/{id}")] {
        said.push(gateway.api(path).get().await.to_string());
    }
    assert_eq!(status_of(&gateway, "one-x").await, 200);
    said.push(gateway.metrics().await);
    gateway.stop().await;
    said.extend([gateway.stdout(), gateway.stderr()]);
    assert!(said[said.len() - 1].contains("DEBUG"), "the log was to say everything");
    for secret in &secrets {
        let hits: Vec<_> = said.iter().filter(|text| text.contains(secret.as_str())).collect();
        assert_eq!(hits, Vec::<&String>::new(), "{secret}");
    }
    let mut holders = Vec::new();
    files_with(&gateway.data_dir(), &secrets, &mut holders);
    assert_eq!(holders, [gateway.data_dir().join("catalog/channels.json")], "upstream secrets are in one file");
}

fn files_with(folder: &Path, secrets: &[String], found: &mut Vec<std::path::PathBuf>) {
    for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files_with(&path, secrets, found);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            let holds = |secret: &String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            if secrets.iter().any(holds) {
                found.push(path);
            }
        }
    }
}
