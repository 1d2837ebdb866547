//! What users and client keys see of themselves: their own, all of it, and nothing else.

use serde_json::{Value, json};

use crate::support::people::Browser;
use crate::support::{Gateway, Mock, eventually, gateway, key_named, mock, openai, secret_of};

const PASSWORD: &str = "correct horse";
const CHAT: &str = "/v1/chat/completions";
/// What must be in no answer to a user: the rate, the upstream's key and name, what others have.
const RATE: &str = "7.654321";
const HIDDEN: [&str; 13] = [
    RATE,
    "7654321",
    "price_rate",
    "canary-channel",
    "canary-upstream-key",
    "canary-mapped",
    "sha256",
    "bob",
    "127.0.0.1:",
    "argon2",
    "base_url",
    "\"channel\":",
    "\"channels\":",
];

/// alice has two keys and a rate, bob has one of each; the prices are 3 and 6 dollars a million, and 2 a request.
async fn with_people(mock: &Mock) -> Gateway {
    let budget = json!({ "budget_usd": { "total": "1000" } });
    let channel = openai(mock.address()).named("canary-channel").models(&["gpt-4o", "gpt-*"]);
    let gateway = gateway()
        .channel(channel.maps("gpt-4o", "canary-mapped").maps("gpt-5", "gpt-5"))
        .key(key_named("alice-1").with("user", "alice"))
        .key(key_named("alice-2").with("user", "alice").with("models", json!(["gpt-5"])))
        .key(key_named("bobs").with("user", "bob"))
        .key(key_named("alone").with("user", Value::Null))
        .key(key_named("disabled").with("user", "alice").with("enabled", false))
        .with("users", json!([{ "name": "alice", "price_rate": RATE, "limits": budget }, { "name": "bob" }]))
        .file("prices.yaml", "models: { '*': { input: 3, output: 6, per_request: 2 } }")
        .with("prices", "prices.yaml")
        .start()
        .await;
    for name in ["alice", "bob"] {
        gateway.api(&format!("users/{name}")).patch(&json!({ "password": PASSWORD })).await.expect(200);
    }
    gateway
}

async fn ask(gateway: &Gateway, key: &str, model: &str) {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] });
    assert_eq!(gateway.post(CHAT).key(key).json(&body).send().await.status, 200, "{key} {model}");
}

async fn by_key(gateway: &Gateway, key: &str, path: &str) -> Value {
    let answer = gateway.admin_request("GET", path).key(key).send().await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// All records, once there are so many.
async fn records(gateway: &Gateway, alice: &Browser, count: usize) -> Vec<Value> {
    eventually("the records", async || {
        let page = alice.get(gateway, "/api/usage/records").await;
        let rows = page["rows"].as_array().expect("rows").clone();
        (rows.len() >= count).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn a_user_sees_what_the_ledger_has_booked_for_them_and_a_key_sees_itself() {
    let mock = mock();
    let gateway = with_people(&mock).await;
    for (key, model) in
        [("alice-1", "gpt-4o"), ("alice-1", "gpt-5"), ("alice-2", "gpt-5"), ("bobs", "gpt-4o"), ("alone", "gpt-4o")]
    {
        ask(&gateway, key, model).await;
    }
    let row = gateway.used("user", "alice", 3).await;
    assert!(row["cost_nano_usd"].as_u64() > Some(3 * 15_000_000_000), "the rate is in it: {row}");
    let mut figures = row.clone();
    figures.as_object_mut().expect("fields").retain(|field, _| field != "user" && field != "time");
    let alice = gateway.browser("alice", PASSWORD).await;

    let summary = alice.get(&gateway, "/api/usage/summary").await;
    for period in ["today", "month", "total"] {
        assert_eq!(summary[period], figures, "{period}");
    }
    assert_eq!((&summary["user"], &summary["key"]), (&json!("alice"), &Value::Null));
    let limits = &summary["limits"];
    assert_eq!((&limits["budget_usd"]["total"], &limits["rpm"]), (&json!("1000"), &Value::Null));
    let spent: f64 =
        limits["used"]["budget_usd"]["total"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let nano = row["cost_nano_usd"].as_f64().expect("a number");
    assert!((spent * 1e9 - nano).abs() < 1.0, "{spent} and {nano}");

    for (path, fields) in [("daily", 1), ("monthly", 1)] {
        let rows = alice.get(&gateway, &format!("/api/usage/{path}")).await["rows"].clone();
        assert_eq!(rows.as_array().map(Vec::len), Some(fields));
        let mut row = rows[0].clone();
        let time = row.as_object_mut().and_then(|row| row.remove("time")).expect("a time");
        assert!(time.as_str().is_some_and(|time| time.ends_with("T00:00:00.000Z")), "{time}");
        assert_eq!(row, figures, "{path}");
    }
    let stats = async |by: &str, name: &str| -> Vec<(String, u64)> {
        let rows = alice.get(&gateway, &format!("/api/usage/stats?by={by}")).await["rows"].clone();
        let named =
            |row: &Value| (row[name].as_str().expect("a name").to_owned(), row["requests"].as_u64().expect("a count"));
        rows.as_array().expect("rows").iter().map(named).collect()
    };
    assert_eq!(stats("model", "model").await, [("gpt-4o".to_owned(), 1), ("gpt-5".to_owned(), 2)]);
    assert_eq!(stats("key", "key").await, [("alice-1".to_owned(), 2), ("alice-2".to_owned(), 1)]);

    let own = by_key(&gateway, "alice-2", "/api/usage/summary").await;
    assert_eq!((&own["user"], &own["key"], &own["total"]["requests"]), (&json!("alice"), &json!("alice-2"), &json!(1)));
    assert_eq!(own["limits"]["used"], Value::Null, "the key has no limits of its own");
    let alone = by_key(&gateway, "alone", "/api/usage/summary").await;
    assert_eq!((&alone["user"], &alone["total"]["requests"]), (&Value::Null, &json!(1)));
    let none = by_key(&gateway, "alone", "/api/usage/daily?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z").await;
    assert_eq!(none, json!({ "rows": [] }));
    let keys = by_key(&gateway, "alice-2", "/api/keys").await["rows"].clone();
    assert_eq!((keys.as_array().map(Vec::len), &keys[0]["name"]), (Some(1), &json!("alice-2")));

    let models = alice.get(&gateway, "/api/usage/models").await["rows"].clone();
    let names: Vec<&str> = models.as_array().expect("rows").iter().filter_map(|row| row["model"].as_str()).collect();
    assert_eq!(names, ["gpt-4o", "gpt-5"]);
    assert_eq!(models[0]["prices"], json!({ "input": "22.962963", "output": "45.925926", "per_request": "15.308642" }));
    let of_key = by_key(&gateway, "alice-2", "/api/usage/models").await["rows"].clone();
    assert_eq!((of_key.as_array().map(Vec::len), &of_key[0]["model"]), (Some(1), &json!("gpt-5")));
    let of_bob = by_key(&gateway, "bobs", "/api/usage/models").await["rows"].clone();
    assert_eq!(of_bob[0]["prices"]["input"], "3", "who pays one times the price");
}

#[tokio::test]
async fn records_are_ones_own_and_say_nothing_of_where_they_went() {
    let mock = mock();
    let gateway = with_people(&mock).await;
    for (key, model) in [("alice-1", "gpt-4o"), ("alice-2", "gpt-5"), ("bobs", "gpt-4o"), ("bobs", "gpt-4o")] {
        ask(&gateway, key, model).await;
    }
    eventually("all records", async || {
        let rows = gateway.api("requests").rows().await;
        (rows.len() == 4).then_some(())
    })
    .await;
    let alice = gateway.browser("alice", PASSWORD).await;
    let rows = records(&gateway, &alice, 2).await;
    assert_eq!(rows.len(), 2);
    let whole = gateway.api("requests?user=alice").rows().await;
    for row in &rows {
        let record = whole.iter().find(|record| record["id"] == row["id"]).expect("the whole record");
        for (field, value) in row.as_object().expect("fields") {
            assert_eq!(value, &record[field], "{field}");
        }
        for hidden in
            ["channel", "channel_key", "attempts", "model_upstream", "model_reported", "usage_raw", "node", "route"]
        {
            assert_eq!(row.get(hidden), None, "{hidden}");
        }
    }
    let count = async |query: &str| {
        alice.get(&gateway, &format!("/api/usage/records?{query}")).await["rows"].as_array().map(Vec::len)
    };
    assert_eq!(count("key=alice-2").await, Some(1));
    assert_eq!(count("key=bobs").await, Some(0));
    assert_eq!(count("model=gpt-4o&status=2xx").await, Some(1));
    let first = alice.get(&gateway, "/api/usage/records?limit=1").await;
    let next = first["next"].as_str().expect("a cursor");
    let second = alice.get(&gateway, &format!("/api/usage/records?limit=1&cursor={next}")).await;
    assert_ne!(first["rows"][0]["id"], second["rows"][0]["id"]);
    let own = by_key(&gateway, "alice-2", "/api/usage/records").await["rows"].clone();
    assert_eq!((own.as_array().map(Vec::len), &own[0]["key_name"]), (Some(1), &json!("alice-2")));
    assert_eq!(by_key(&gateway, "alice-2", "/api/usage/records?key=bobs").await["rows"], json!([]));
}

#[tokio::test]
async fn a_name_that_another_key_had_brings_nothing_of_it() {
    let mock = mock();
    let gateway = with_people(&mock).await;
    let made = gateway.api("keys").post(&json!({ "name": "reused", "user": "bob" })).await.expect(201);
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let bobs = gateway.post(CHAT).header("x-api-key", made["key"].as_str().expect("a key")).json(&body).send().await;
    assert_eq!(bobs.status, 200);
    eventually("its record", async || (gateway.api("requests").rows().await.len() == 1).then_some(())).await;
    gateway.api(&format!("keys/{}", made["id"].as_str().expect("an id"))).delete().await.expect(204);
    let made = gateway.api("keys").post(&json!({ "name": "reused", "user": "alice" })).await.expect(201);
    let secret = made["key"].as_str().expect("a key").to_owned();
    let get = async |path: &str| gateway.admin_request("GET", path).header("x-api-key", &secret).send().await.json();
    assert_eq!(get("/api/usage/records").await, json!({ "rows": [], "next": null }));
    assert_eq!(get("/api/usage/summary").await["total"]["requests"], 0);
}

#[tokio::test]
async fn no_answer_to_a_user_holds_a_rate_a_channel_or_anything_of_others() {
    let mock = mock();
    let gateway = with_people(&mock).await;
    for (key, model) in [("alice-1", "gpt-4o"), ("alice-2", "gpt-5"), ("bobs", "gpt-4o")] {
        ask(&gateway, key, model).await;
    }
    eventually("all records", async || (gateway.api("requests").rows().await.len() == 3).then_some(())).await;
    let alice = gateway.browser("alice", PASSWORD).await;
    let mut seen = Vec::new();
    let bobs = gateway.api("keys").rows().await.into_iter().find(|row| row["name"] == "bobs").expect("a key");
    let bobs = format!("/api/keys/{}", bobs["id"].as_str().expect("an id"));
    let paths = [
        "/admin/api/session",
        "/admin/api/users",
        "/admin/api/channels",
        "/admin/api/requests",
        "/admin/api/usage?by=user",
        "/admin/api/prices",
        "/api/usage/summary",
        "/api/usage/daily",
        "/api/usage/monthly",
        "/api/usage/stats?by=model",
        "/api/usage/stats?by=key",
        "/api/usage/stats?by=user",
        "/api/usage/records",
        "/api/usage/records?user=x",
        "/api/usage/models",
        "/api/keys",
        "/api/nothing",
    ];
    for path in paths {
        seen.push((path.to_owned(), alice.ask(&gateway, "GET", path).send().await));
        seen.push((path.to_owned(), gateway.admin_request("GET", path).key("alice-1").send().await));
        seen.push((path.to_owned(), gateway.admin_request("GET", path).key("disabled").send().await));
    }
    for (method, path, body) in [
        ("POST", "/api/keys", json!({ "name": "mine" })),
        ("POST", "/api/keys", json!({ "name": "x", "channels": ["*"], "price": 1 })),
        ("PATCH", &*bobs, json!({ "enabled": false })),
        ("DELETE", &*bobs, json!({})),
        ("POST", &*format!("{bobs}/rotate"), json!({})),
        ("PATCH", "/admin/api/users/alice", json!({ "price_rate": "1" })),
        ("POST", "/admin/api/password", json!({ "old": "x", "new": "y" })),
    ] {
        seen.push((format!("{method} {path}"), alice.ask(&gateway, method, path).json(&body).send().await));
    }
    let refused = seen.iter().filter(|(_, answer)| answer.status >= 400).count();
    assert!(refused > 20 && seen.len() - refused > 15, "{refused} of {} were refused", seen.len());
    for (path, answer) in &seen {
        assert!(answer.status < 500, "{path}: {}", answer.text());
        let text = format!("{:?} {}", answer.headers, answer.text());
        for hidden in HIDDEN {
            assert!(!text.contains(hidden), "{hidden} in {path}: {text}");
        }
    }
    let own = seen.iter().any(|(path, answer)| path == "/api/usage/records" && answer.text().contains("alice-1"));
    assert!(own, "there was something to look through");
}

#[tokio::test]
async fn a_key_that_is_disabled_or_unknown_sees_nothing() {
    let mock = mock();
    let gateway = with_people(&mock).await;
    for path in ["/api/usage/summary", "/api/usage/records", "/api/usage/models", "/api/keys"] {
        for (key, status, code) in [("disabled", 403, "forbidden"), ("nobody", 401, "unauthorized")] {
            let answer = gateway.admin_request("GET", path).key(key).send().await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{path} {key}");
        }
        let in_query = gateway.admin_request("GET", &format!("{path}?key={}", secret_of("alice-1"))).send().await;
        assert_eq!(in_query.status, 200, "{path}: {}", in_query.text());
        assert_eq!(gateway.admin("GET", path).send().await.status, 401, "the admin token is no client key");
    }
}

#[tokio::test]
async fn a_user_keeps_keys_of_their_own_within_what_was_granted() {
    let mock = mock();
    let mut gateway = with_people(&mock).await;
    let alice = gateway.browser("alice", PASSWORD).await;
    let (status, made) = alice.change(&gateway, "POST", "/api/keys", &json!({ "name": "mine" })).await;
    assert_eq!((status, &made["user"], &made["origin"]), (201, &json!("alice"), &json!("api")), "{made}");
    let secret = made["key"].as_str().expect("it is shown once").to_owned();
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let status_of = async |gateway: &Gateway, secret: &str| {
        gateway.post(CHAT).header("x-api-key", secret).json(&body).send().await.status
    };
    assert_eq!(status_of(&gateway, &secret).await, 200);
    let listed = alice.get(&gateway, "/api/keys").await["rows"].clone();
    let listed: Vec<&Value> = listed.as_array().expect("rows").iter().filter(|row| row["name"] == "mine").collect();
    assert!(listed.len() == 1 && listed[0].get("key").is_none() && listed[0].get("channels").is_none(), "{listed:?}");

    let (status, _) = alice.change(&gateway, "PATCH", &path, &json!({ "enabled": false, "name": "renamed" })).await;
    assert_eq!((status, status_of(&gateway, &secret).await), (200, 403));
    alice.change(&gateway, "PATCH", &path, &json!({ "enabled": true })).await;
    let (status, rotated) = alice.change(&gateway, "POST", &format!("{path}/rotate"), &json!({})).await;
    let second = rotated["key"].as_str().expect("a secret").to_owned();
    assert_eq!((status, status_of(&gateway, &secret).await, status_of(&gateway, &second).await), (200, 401, 200));
    gateway
        .api(&format!("keys/{}", made["id"].as_str().expect("an id")))
        .patch(&json!({ "enabled": false }))
        .await
        .expect(200);
    let (status, said) = alice.change(&gateway, "PATCH", &path, &json!({ "enabled": true })).await;
    assert_eq!((status, &said["error"]["code"]), (409, &json!("not_granted")));
    gateway.kill();
    gateway.start().await;
    let (status, _) = alice.change(&gateway, "PATCH", &path, &json!({ "enabled": true })).await;
    assert_eq!((status, status_of(&gateway, &second).await), (409, 403), "that is kept too");

    let declared = gateway.api("keys").rows().await.into_iter().find(|row| row["name"] == "alice-1").expect("a key");
    let declared = format!("/api/keys/{}", declared["id"].as_str().expect("an id"));
    assert_eq!(alice.change(&gateway, "PATCH", &declared, &json!({ "enabled": false })).await.0, 409);
    assert_eq!(alice.change(&gateway, "DELETE", &path, &json!({})).await.0, 204);
    assert_eq!(status_of(&gateway, &second).await, 401);
    for n in 0..7 {
        let (status, _) = alice.change(&gateway, "POST", "/api/keys", &json!({ "name": format!("more-{n}") })).await;
        assert_eq!(status, 201, "{n}");
    }
    let (status, said) = alice.change(&gateway, "POST", "/api/keys", &json!({ "name": "eleventh" })).await;
    assert_eq!((status, &said["error"]["code"]), (409, &json!("too_many_keys")));
    let forged = alice.ask(&gateway, "POST", "/api/keys").header("origin", "https://evil.example");
    assert_eq!(
        forged.json(&json!({ "name": "x" })).send().await.json()["error"]["code"],
        "too_many_keys",
        "the browser vouches for it"
    );
    let forged = gateway.admin_request("POST", "/api/keys").header("cookie", &alice.cookie);
    assert_eq!(forged.json(&json!({ "name": "x" })).send().await.json()["error"]["code"], "csrf");
}
