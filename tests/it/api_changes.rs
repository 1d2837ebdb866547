//! The record of changes: who, what, before and after, and never a secret.

use serde_json::{Value, json};

use crate::support::{Gateway, eventually, gateway};

const CANARY: &str = "sk-canary-upstream-77ab";
const SECOND: &str = "sk-canary-upstream-88cd";

async fn rows(gateway: &Gateway, query: &str) -> Vec<Value> {
    gateway.api(&format!("changes{query}")).rows().await
}

/// Who, what was done, to what.
fn told(rows: &[Value]) -> Vec<(&str, &str, &str, Option<&str>)> {
    let text = |row: &'_ Value, field: &str| row[field].as_str().map(str::to_owned);
    rows.iter()
        .map(|row| {
            assert!(text(row, "time").is_some_and(|time| time.ends_with('Z')) && text(row, "id").is_some(), "{row}");
            let word = |field: &str| row[field].as_str().expect("text");
            (word("who"), word("action"), word("kind"), row["name"].as_str())
        })
        .collect()
}

fn channel(name: &str) -> Value {
    json!({
        "name": name, "protocol": "openai", "base_url": "https://api.example.com", "models": ["*"],
        "keys": [{ "name": "main", "value": CANARY }, { "name": "other", "value": SECOND }],
    })
}

#[tokio::test]
async fn every_change_is_recorded_with_who_made_it_and_survives_a_kill() {
    let mut gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    assert_eq!(rows(&gateway, "").await, Vec::<Value>::new());
    gateway.api("users").post(&json!({ "name": "alice" })).await.expect(201);
    gateway.api("users/alice").patch(&json!({ "max_keys": 3 })).await.expect(200);
    gateway.api("users/alice").patch(&json!({ "max_keys": 3 })).await.expect(200);
    gateway.api("users/alice").patch(&json!({ "max_keys": 0 })).await.refused(400);
    gateway.api("users/declared").delete().await.refused(409);
    let key = gateway.api("keys").post(&json!({ "name": "laptop", "user": "alice" })).await.expect(201);
    let path = format!("keys/{}", key["id"].as_str().expect("an id"));
    gateway.kill();
    gateway.start().await;
    gateway.api(&format!("{path}/rotate")).post(&json!({})).await.expect(200);
    gateway.api(&path).delete().await.expect(204);
    let socket = weir::admin::client::Client::new(gateway.data_dir().join("admin.sock"));
    assert_eq!(socket.post("/admin/api/reload").await.expect("an answer").status, 200);
    gateway.signal("HUP");
    let recorded = crate::support::eventually("the reload by the signal", async || {
        let rows = rows(&gateway, "").await;
        (rows.len() == 7).then_some(rows)
    });
    let rows = recorded.await;
    assert_eq!(
        told(&rows),
        [
            ("signal", "reload", "config", None),
            ("socket", "reload", "config", None),
            ("token", "delete", "key", Some("laptop")),
            ("token", "rotate", "key", Some("laptop")),
            ("token", "create", "key", Some("laptop")),
            ("token", "update", "user", Some("alice")),
            ("token", "create", "user", Some("alice")),
        ],
        "what changes nothing, or was refused, is none"
    );
    let [hup, _, deleted, rotated, created, updated, user] = &rows[..] else { panic!("seven rows") };
    assert_eq!((&hup["before"]["version"], &hup["after"]["version"]), (&json!(4), &json!(5)));
    assert_eq!((&user["before"], &user["after"]["name"]), (&Value::Null, &json!("alice")));
    assert_eq!((&updated["before"]["max_keys"], &updated["after"]["max_keys"]), (&json!(10), &json!(3)));
    assert_eq!((&created["after"]["id"], &created["after"]["user"]), (&key["id"], &json!("alice")));
    assert_eq!(rotated["before"], rotated["after"], "a secret is not seen");
    assert_eq!((&deleted["before"]["name"], &deleted["after"]), (&json!("laptop"), &Value::Null));
}

#[tokio::test]
async fn batches_orders_and_prices_are_recorded_as_what_they_change() {
    let gateway = gateway().start().await;
    for name in ["a", "b", "c"] {
        gateway.api("users").post(&json!({ "name": name })).await.expect(201);
    }
    let rates = json!({ "users": ["c", "a"], "price_rate": "1.5" });
    gateway.api("users/price-rate").post(&rates).await.expect(200);
    gateway.api("users/price-rate").post(&rates).await.expect(200);
    let changed = rows(&gateway, "?kind=user&limit=2").await;
    assert_eq!(told(&changed), [("token", "update", "user", Some("c")), ("token", "update", "user", Some("a"))]);
    assert_eq!((&changed[0]["before"]["price_rate"], &changed[0]["after"]["price_rate"]), (&json!("1"), &json!("1.5")));
    assert_eq!(rows(&gateway, "?kind=user").await.len(), 5, "the same again is no change");

    for name in ["x", "y"] {
        gateway.api("channels").post(&channel(name)).await.expect(201);
    }
    gateway.api("channels/order").put(&json!(["y", "x"])).await.expect(200);
    let ordered = rows(&gateway, "?limit=1").await;
    assert_eq!(told(&ordered), [("token", "reorder", "channel", None)]);
    assert_eq!(
        (&ordered[0]["before"], &ordered[0]["after"]),
        (&json!({"order":["x","y"]}), &json!({"order":["y","x"]}))
    );

    let price = |model: &str, usd: &str| json!({ "model": model, "per_image": usd });
    for models in [json!([price("a", "1"), price("b", "1")]), json!([price("a", "1"), price("b", "2")])] {
        gateway.api("prices").put(&json!({ "models": models })).await.expect(200);
    }
    gateway.api("prices").delete().await.expect(204);
    let priced = rows(&gateway, "?kind=prices").await;
    assert_eq!(
        priced.iter().map(|row| row["action"].as_str()).collect::<Vec<_>>(),
        [Some("delete"), Some("update"), Some("update")]
    );
    assert_eq!(
        (&priced[1]["before"]["models"], &priced[1]["after"]["models"]),
        (&json!([price("b", "1")]), &json!([price("b", "2")])),
        "prices that stay are left out"
    );
    assert_eq!(priced[0]["after"], json!({ "origin": null, "version": null, "models": [] }));
}

#[tokio::test]
async fn the_rates_of_more_than_a_hundred_users_are_one_change() {
    let gateway = gateway().start().await;
    let names: Vec<String> = (0..101).map(|n| format!("u{n:03}")).collect();
    for name in &names {
        let rate = if name == "u050" { "3" } else { "1" };
        gateway.api("users").post(&json!({ "name": name, "price_rate": rate })).await.expect(201);
    }
    let set = async |users: &[String], rate: &str| {
        gateway.api("users/price-rate").post(&json!({ "users": users, "price_rate": rate })).await.expect(200);
        rows(&gateway, "?limit=1000").await
    };
    let changes = set(&names, "2").await;
    assert_eq!((changes.len(), told(&changes)[0]), (102, ("token", "update", "user", None)));
    assert_eq!(
        changes[0]["before"],
        json!({ "price_rates": [{ "price_rate": "1", "users": 100 }, { "price_rate": "3", "users": 1 }] })
    );
    assert_eq!(changes[0]["after"], json!({ "price_rate": "2", "users": 101, "first_names": names[..100] }));
    assert_eq!(set(&names[1..], "1.5").await.len(), 202, "a hundred are recorded one by one");
}

#[tokio::test]
async fn no_secret_is_ever_in_it() {
    let gateway = gateway().start().await;
    gateway.api("channels").post(&channel("c")).await.expect(201);
    let value = "sk-canary-upstream-99ef";
    let patch = json!({ "keys": [{ "name": "main", "value": value }, { "name": "other" }] });
    gateway.api("channels/c").patch(&patch).await.expect(200);
    let changed = rows(&gateway, "?kind=channel&name=c&limit=1").await.remove(0);
    assert_eq!(changed["before"]["keys"], json!([{ "name": "main" }, { "name": "other" }]));
    assert_eq!(changed["after"]["keys"], json!([{ "name": "main", "value_changed": true }, { "name": "other" }]));
    let key = gateway.api("keys").post(&json!({ "name": "k" })).await.expect(201);
    let path = format!("keys/{}/rotate", key["id"].as_str().expect("an id"));
    let rotated = gateway.api(&path).post(&json!({ "overlap": "1h" })).await.expect(200);
    let secrets = [CANARY, SECOND, value, key["key"].as_str().expect("text"), rotated["key"].as_str().expect("text")];
    let digests = secrets.map(|secret| weir_filters::key::KeyDigest::of(secret).to_string());
    let mut text = String::new();
    for entry in std::fs::read_dir(gateway.data_dir().join("changes")).expect("the record") {
        text.push_str(&std::fs::read_to_string(entry.expect("a file").path()).expect("text"));
    }
    assert!(text.lines().count() == 4 && text.contains("\"rotate\""), "{text}");
    for never in secrets.into_iter().chain(digests.iter().map(String::as_str)) {
        assert!(!text.contains(never), "{never} in {text}");
    }
}

#[tokio::test]
async fn pages_of_changes_have_each_once() {
    let gateway = gateway().start().await;
    for i in 0..7 {
        gateway.api("users").post(&json!({ "name": format!("u{i}") })).await.expect(201);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway.api(&format!("changes?limit=3{cursor}")).get().await;
        seen.extend(
            page["rows"].as_array().expect("rows").iter().map(|row| row["name"].as_str().expect("a name").to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["u6", "u5", "u4", "u3", "u2", "u1", "u0"]);
    for reserved in ["token", "socket", "signal"] {
        let refused = gateway.api("users").post(&json!({ "name": reserved })).await.refused(400);
        assert!(refused.1.contains("the record of changes"), "{refused:?}");
    }
}

#[tokio::test]
async fn what_is_not_kept_is_not_recorded_either() {
    let gateway = gateway().start().await;
    gateway.api("users").post(&json!({ "name": "kept" })).await.expect(201);
    let document = gateway.data_dir().join("catalog/users.json");
    std::fs::remove_file(&document).expect("it is removed");
    std::fs::create_dir(&document).expect("a folder in its place");
    std::fs::write(document.join("full"), b"").expect("it is not empty");
    let refused = gateway.api("users").post(&json!({ "name": "lost" })).await.refused(500);
    assert_eq!(refused.0, "not_kept");
    let rows = rows(&gateway, "").await;
    assert_eq!(told(&rows), [("token", "create", "user", Some("kept"))]);
    assert_eq!(gateway.api("users").rows().await.len(), 1);
}

#[tokio::test]
async fn a_process_that_takes_over_goes_on_with_the_same_record() {
    let mut gateway = gateway().start().await;
    let made = gateway.api("users").post(&json!({ "name": "before" })).await.expect(201);
    let upgraded = gateway.upgrade(&[]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    // What still meets the first one is told to ask again.
    eventually("the end of the first process", async || gateway.exit_status()).await;
    gateway.api("users").post(&json!({ "name": "after" })).await.expect(201);
    let rows = rows(&gateway, "?kind=user").await;
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, [Some("after"), Some("before")]);
    let tag = made["etag"].as_str().expect("a tag");
    let stale = gateway.admin("DELETE", "/admin/api/users/before").header("if-match", tag).send().await;
    assert_eq!(stale.status, 412, "another process knows nothing of a tag, and takes it for an old one");
}
