//! Client keys that are made, changed and removed over the admin API while the gateway runs.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use weir_filters::key::KeyDigest;

use crate::support::{Gateway, Upstream, answer, eventually, gateway, key_named, openai, secret_of, upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

async fn ok() -> Upstream {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#;
    upstream([answer(200, &[("content-type", "application/json")], body)]).await
}

/// What the data plane says to a secret.
async fn status_of(gateway: &Gateway, secret: &str) -> u16 {
    gateway.post(CHAT).header("x-api-key", secret).body(BODY).send().await.status
}

/// Makes a key: its id and its secret.
async fn made(gateway: &Gateway, fields: &Value) -> (String, String) {
    let made = gateway.api("keys").post(fields).await.expect(201);
    let text = |field: &str| made[field].as_str().expect("text").to_owned();
    (text("id"), text("key"))
}

#[tokio::test]
async fn a_key_works_at_once_and_its_secret_is_shown_once() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let fields = json!({
        "name": "laptop", "user": "user-of-alice", "protocols": ["openai"], "models": ["gpt-*"], "channels": ["openai"],
        "limits": { "rpm": 1000 }, "expires": "2099-01-01T00:00:00Z",
    });
    let made = gateway.api("keys").post(&fields).await.expect(201);
    let secret = made["key"].as_str().expect("a secret");
    assert!(secret.starts_with("sk-weir-") && secret.len() == 56, "{secret}");
    let id = made["id"].as_str().expect("an id");
    assert_eq!((id.len(), &made["last_used"], &made["origin"]), (16, &Value::Null, &json!("api")));
    assert_eq!(status_of(&gateway, secret).await, 200);

    gateway.used("key", "laptop", 1).await;
    let mut shown = gateway.api(&format!("keys/{id}")).get().await;
    let last_used = shown["last_used"].take();
    assert!(last_used.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{last_used}");
    let no_budget = json!({ "day": null, "month": null, "total": null });
    let mut expected = fields.clone();
    expected["limits"] = json!({ "rpm": 1000, "tpm": null, "concurrency": null, "budget_usd": no_budget });
    expected["expires"] = json!("2099-01-01T00:00:00.000Z");
    for (field, value) in [
        ("id", json!(id)),
        ("enabled", json!(true)),
        ("origin", json!("api")),
        ("shadowed", json!(false)),
        ("previous_until", Value::Null),
        ("last_used", Value::Null),
    ] {
        expected[field] = value;
    }
    let fields = shown.as_object_mut().expect("fields");
    assert_eq!(fields.remove("etag"), Some(made["etag"].clone()), "what is used is no change");
    fields.remove("used");
    assert_eq!(shown, expected, "neither the secret nor its digest is shown");

    let rows = gateway.api("keys").rows().await;
    let origins: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["name"], &row["origin"])).collect();
    assert_eq!(origins, [(&json!("alice"), &json!("file")), (&json!("laptop"), &json!("api"))]);
    assert!(rows.iter().all(|row| row.get("key").is_none() && row.get("sha256").is_none()), "{rows:?}");
}

#[tokio::test]
async fn a_change_holds_for_the_next_request() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).start().await;
    let (id, secret) = made(&gateway, &json!({ "name": "laptop", "models": ["gpt-*"] })).await;
    let path = format!("keys/{id}");
    for (patch, status) in [
        (json!({ "enabled": false }), 403),
        (json!({ "enabled": true }), 200),
        (json!({ "models": ["o3"] }), 403),
        (json!({ "models": null }), 200),
        (json!({ "protocols": ["anthropic"] }), 403),
        (json!({ "protocols": null, "channels": ["other*"] }), 403),
        (json!({ "channels": null, "expires": "2020-01-01T00:00:00Z" }), 403),
        (json!({ "expires": null, "name": "renamed" }), 200),
    ] {
        let changed = gateway.api(&path).patch(&patch).await.expect(200);
        assert_eq!((&changed["id"], changed.get("key")), (&json!(id), None));
        assert_eq!(status_of(&gateway, &secret).await, status, "{patch}");
    }
    gateway.used("key", "renamed", 8).await;
    assert_eq!(gateway.api(&path).delete().await.expect(204), Value::Null);
    assert_eq!(status_of(&gateway, &secret).await, 401);
    assert_eq!(gateway.api(&path).delete().await.refused(404).0, "not_found");
    assert_eq!(gateway.api(&path).patch(&json!({})).await.refused(404).1, "there is no such key");
}

#[tokio::test]
async fn a_rotated_key_keeps_its_id_and_its_old_secret_for_the_overlap_alone() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).start().await;
    let (id, first) = made(&gateway, &json!({ "name": "laptop" })).await;
    let rotate = async |gateway: &Gateway, body: Value| {
        let rotated = gateway.api(&format!("keys/{id}/rotate")).post(&body).await.expect(200);
        assert_eq!(rotated["id"], id.as_str());
        (rotated["key"].as_str().expect("a secret").to_owned(), rotated["previous_until"].clone())
    };
    let (second, until) = rotate(&gateway, json!({})).await;
    assert_eq!((status_of(&gateway, &first).await, status_of(&gateway, &second).await, until), (401, 200, Value::Null));

    let (third, until) = rotate(&gateway, json!({ "overlap": "2s" })).await;
    assert!(until.is_string());
    assert_eq!((status_of(&gateway, &second).await, status_of(&gateway, &third).await), (200, 200));
    gateway.kill();
    gateway.start().await;
    assert_eq!(status_of(&gateway, &third).await, 200);
    eventually("the end of the overlap", async || (status_of(&gateway, &second).await == 401).then_some(())).await;
    assert_eq!(status_of(&gateway, &third).await, 200);

    let (fourth, _) = rotate(&gateway, json!({ "overlap": "24h" })).await;
    let (fifth, _) = rotate(&gateway, json!({ "overlap": "24h" })).await;
    let mut statuses = Vec::new();
    for secret in [&first, &second, &third, &fourth, &fifth] {
        statuses.push(status_of(&gateway, secret).await);
    }
    assert_eq!(statuses, [401, 401, 401, 200, 200], "two secrets at most");
    for (overlap, message) in [
        (json!("31d"), "`overlap` must be at most 30d"),
        (json!("soon"), "`overlap` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `soon`"),
        (json!(5), "`overlap` must be a duration such as 24h"),
    ] {
        let refused = gateway.api(&format!("keys/{id}/rotate")).post(&json!({ "overlap": overlap })).await;
        assert_eq!(refused.refused(400), ("invalid".into(), message.into()));
    }
    let rows = gateway.usage("key").await;
    assert_eq!(rows.len(), 1, "all of them are one key: {rows:?}");
}

#[tokio::test]
async fn what_was_answered_survives_kill_9_and_restart() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let mut secrets = Vec::new();
    for round in 0..5 {
        let (_, secret) = made(&gateway, &json!({ "name": format!("key-{round}") })).await;
        gateway.kill();
        secrets.push(secret);
        gateway.start().await;
        for secret in &secrets {
            assert_eq!(status_of(&gateway, secret).await, 200, "round {round}");
        }
    }
    let rows = gateway.api("keys").rows().await;
    for row in rows.iter().filter(|row| row["origin"] == "api").take(2) {
        let id = row["id"].as_str().expect("an id");
        gateway.api(&format!("keys/{id}")).delete().await.expect(204);
    }
    gateway.kill();
    gateway.start().await;
    let mut statuses = Vec::new();
    for secret in &secrets {
        statuses.push(status_of(&gateway, secret).await);
    }
    assert_eq!(statuses, [401, 401, 200, 200, 200]);

    let document = gateway.data_dir().join("catalog/keys.json");
    let mode = std::fs::metadata(&document).expect("the document").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(&document).expect("text");
    assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "only digests are kept");
    assert!(text.contains(&KeyDigest::of(&secrets[4]).to_string()));
}

#[tokio::test]
async fn a_document_that_cannot_be_read_stops_the_start_and_stays() {
    let mut gateway = gateway().start().await;
    made(&gateway, &json!({ "name": "laptop" })).await;
    gateway.stop().await;
    let document = gateway.data_dir().join("catalog/keys.json");
    let whole = std::fs::read(&document).expect("the document");
    for broken in [&whole[..whole.len() - 9], b"", b"{\"version\":1,\"objects\":[{\"name\":\"x\"}]}"] {
        std::fs::write(&document, broken).expect("it is written");
        let run = gateway.command(&["run"]);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(1) && said.contains("catalog/keys.json: "), "{said}");
        assert_eq!(std::fs::read(&document).expect("it is there"), broken);
    }
    std::fs::write(&document, &whole).expect("it is written");
    gateway.start().await;
    assert_eq!(gateway.api("keys").rows().await.len(), 1);
}

#[tokio::test]
async fn what_the_file_declares_is_listed_and_cannot_be_changed() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let row = gateway.api("keys").rows().await.remove(0);
    assert_eq!(
        (&row["name"], &row["origin"], &row["user"]),
        (&json!("alice"), &json!("file"), &json!("user-of-alice"))
    );
    let path = format!("keys/{}", row["id"].as_str().expect("an id"));
    assert_eq!(gateway.api(&path).get().await["name"], "alice");
    let refused =
        ("declared".to_owned(), "the key `alice` is declared in the configuration file; change it there".to_owned());
    assert_eq!(gateway.api(&path).patch(&json!({ "enabled": false })).await.refused(409), refused);
    assert_eq!(gateway.api(&path).delete().await.refused(409), refused);
    assert_eq!(gateway.api(&format!("{path}/rotate")).post(&json!({})).await.refused(409), refused);
    assert_eq!(status_of(&gateway, &secret_of("alice")).await, 200);
    let taken = gateway.api("keys").post(&json!({ "name": "alice" })).await;
    assert_eq!(taken.refused(409), ("name_taken".into(), "there is a key `alice` already".into()));
}

#[tokio::test]
async fn what_the_file_declares_later_shadows_what_was_made() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let (id, secret) = made(&gateway, &json!({ "name": "laptop", "user": "user-of-alice" })).await;
    gateway.rewrite(|config| {
        let declared = KeyDigest::of(&secret_of("laptop")).to_string();
        config["keys"].as_array_mut().expect("keys").push(json!({ "name": "laptop", "sha256": declared }));
    });
    gateway.admin("POST", "/admin/api/reload").send().await;
    assert_eq!((status_of(&gateway, &secret).await, status_of(&gateway, &secret_of("laptop")).await), (401, 200));
    let shadowed: Vec<Value> = gateway.api("keys").rows().await.iter().map(|row| row["shadowed"].clone()).collect();
    assert_eq!(shadowed, [json!(false), json!(false), json!(true)]);
    assert!(gateway.stderr().contains("the key `laptop` that was made over the admin API is not in force"));

    gateway.stop().await;
    gateway.start().await;
    assert_eq!(status_of(&gateway, &secret).await, 401);
    gateway.api(&format!("keys/{id}")).patch(&json!({ "name": "laptop-2" })).await.expect(200);
    assert_eq!(status_of(&gateway, &secret).await, 200, "another name brings it back");

    // A user who leaves the file must leave the keys first.
    gateway.rewrite(|config| {
        config["users"] = json!([]);
        config["keys"] = json!([]);
    });
    let reload = gateway.admin("POST", "/admin/api/reload").send().await;
    assert_eq!(reload.status, 422);
    let mistakes = json!(["the key `laptop-2`, made over the admin API: unknown user `user-of-alice`"]);
    assert_eq!(reload.json()["error"]["mistakes"], mistakes);
    assert_eq!(status_of(&gateway, &secret).await, 200);
}

#[tokio::test]
async fn a_user_has_ten_keys_unless_more_are_granted() {
    let gateway = gateway().with("users", json!([{ "name": "ten" }, { "name": "two", "max_keys": 2 }])).start().await;
    for (user, most) in [("ten", 10), ("two", 2)] {
        for i in 0..most {
            made(&gateway, &json!({ "name": format!("{user}-{i}"), "user": user })).await;
        }
        let refused = gateway.api("keys").post(&json!({ "name": "more", "user": user })).await.refused(409);
        let message = format!("the user `{user}` may have {most} keys and has as many; raise `max_keys`");
        assert_eq!(refused, ("too_many_keys".into(), message));
    }
    let (id, _) = made(&gateway, &json!({ "name": "nobody's" })).await;
    let moved = gateway.api(&format!("keys/{id}")).patch(&json!({ "user": "two" })).await;
    assert_eq!(moved.refused(409).0, "too_many_keys");
    let rows = gateway.api("keys").rows().await;
    assert_eq!(rows.len(), 13, "what was refused is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_lose_nothing() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).start().await;
    let makers = (0..20).map(|maker| {
        let gateway = &gateway;
        async move {
            let mut keys = Vec::new();
            for i in 0..5 {
                keys.push(made(gateway, &json!({ "name": format!("maker-{maker}-{i}") })).await);
            }
            keys
        }
    });
    let keys: Vec<(String, String)> = join_all(makers).await.into_iter().flatten().collect();
    let one = json!({ "name": "one" });
    let same = join_all((0..20).map(|_| gateway.api("keys").post(&one))).await;
    let mut statuses: Vec<u16> = same.into_iter().map(|said| said.answer.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1]), (201, 409), "of twenty with one name one is made");
    gateway.kill();
    gateway.start().await;
    assert_eq!(gateway.api("keys").rows().await.len(), 101);
    for (id, secret) in &keys {
        assert_eq!(status_of(&gateway, secret).await, 200, "{id}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_field() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key(key_named("alice")).start().await;
    let (id, _) = made(&gateway, &json!({ "name": "laptop" })).await;
    for (fields, field, message) in [
        (json!({}), "name", "`name` is missing"),
        (
            json!({ "name": "" }),
            "name",
            "`name` must be a printable name without `/ * ? #`, at most 128 bytes, and is empty",
        ),
        (json!({ "name": "a", "modles": ["x"] }), "modles", "unknown field `modles`; did you mean \"models\"?"),
        (json!({ "name": "a", "models": [] }), "models", "`models` must not be an empty list"),
        (
            json!({ "name": "a", "user": "user-of-alic" }),
            "user",
            "unknown user `user-of-alic`; did you mean \"user-of-alice\"?",
        ),
        (
            json!({ "name": "a", "channels": ["opnai"] }),
            "channels[0]",
            "unknown channel `opnai`; did you mean \"openai\"?",
        ),
        (
            json!({ "name": "a", "limits": { "rpm": 0 } }),
            "limits.rpm",
            "`rpm` must be at least 1, not `0`; leave it out for no limit",
        ),
        (json!({ "name": "a", "sha256": "ab" }), "sha256", "`sha256` is set by Weir and cannot be given"),
        (json!({ "name": "a", "id": "x" }), "id", "`id` is set by Weir and cannot be given"),
        (
            json!({ "name": "a", "expires": "soon" }),
            "expires",
            "`expires` must be a time after RFC 3339 such as 2027-01-01T00:00:00Z, not `soon`",
        ),
        (json!({ "name": "${HOME}" }), "name", "variables are not replaced here; give the value itself"),
    ] {
        let error = json!({ "error": { "code": "invalid", "field": field, "message": message } });
        assert_eq!(gateway.api("keys").post(&fields).await.expect(400), error, "{fields}");
        if fields != json!({}) {
            assert_eq!(gateway.api(&format!("keys/{id}")).patch(&fields).await.expect(400), error, "{fields}");
        }
    }
    let several = gateway.api("keys").post(&json!({ "name": "a", "enabled": 2, "expires": 3 })).await.expect(400);
    assert_eq!(several["error"]["mistakes"].as_array().map(Vec::len), Some(2), "{several}");
    for body in ["", "[]", "{", "null", "\"x\"", "{\"name\":\"a\",\"name\":\"b\"}", "\u{0}"] {
        let answer = gateway.admin("POST", "/admin/api/keys").body(body).send().await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let large = gateway.admin("POST", "/admin/api/keys").body(vec![b' '; 70_000]).send().await;
    assert_eq!((large.status, &large.json()["error"]["code"]), (413, &json!("too_large")));
    assert_eq!(gateway.api("keys").rows().await.len(), 2, "nothing was made");
}

#[tokio::test]
async fn without_the_token_nothing_is_shown_or_made() {
    let gateway = gateway().start().await;
    for (method, path) in [
        ("GET", "keys"),
        ("POST", "keys"),
        ("GET", "keys/x"),
        ("PATCH", "keys/x"),
        ("DELETE", "keys/x"),
        ("POST", "keys/x/rotate"),
        ("GET", "users"),
        ("POST", "users/price-rate"),
        ("PUT", "channels/order"),
    ] {
        let answer = gateway.admin_request(method, &format!("/admin/api/{path}")).body("{\"name\":\"x\"}").send().await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("unauthorized")), "{method} {path}");
    }
    assert!(!gateway.data_dir().join("catalog").exists());
}

#[tokio::test]
async fn changes_under_load_disturb_nobody() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let client = gateway.over(crate::support::Http::H1);
    let requests = async {
        for _ in 0..30 {
            let batch = (0..16).map(|_| client.post(CHAT).key("alice").body(BODY).send());
            for answer in join_all(batch).await {
                assert_eq!((answer.status, answer.broken), (200, false));
            }
        }
    };
    let changes = async {
        for i in 0..30 {
            let (id, secret) = made(&gateway, &json!({ "name": format!("key-{i}") })).await;
            assert_eq!(status_of(&gateway, &secret).await, 200);
            gateway.api(&format!("keys/{id}")).delete().await.expect(204);
            assert_eq!(status_of(&gateway, &secret).await, 401);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(requests, changes);
    assert_eq!(gateway.used("key", "alice", 480).await["failed"], 0);
}
