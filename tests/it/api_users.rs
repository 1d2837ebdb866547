//! Users that are made, changed and removed over the admin API.

use serde_json::{Value, json};

use crate::support::{Gateway, gateway};

#[tokio::test]
async fn a_user_is_made_changed_and_removed_and_survives_a_kill() {
    let mut gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    let made = gateway.api("users").post(&json!({ "name": "Älice B" })).await.expect(201);
    assert_eq!((&made["name"], &made["max_keys"], &made["origin"]), (&json!("Älice B"), &json!(10), &json!("api")));
    gateway.kill();
    gateway.start().await;
    let path = "users/%C3%84lice%20B";
    let patch = json!({ "max_keys": 1, "limits": { "rpm": 5, "budget_usd": { "day": "2.50" } } });
    let changed = gateway.api(path).patch(&patch).await.expect(200);
    assert_eq!((&changed["max_keys"], &changed["limits"]["budget_usd"]["day"]), (&json!(1), &json!("2.5")));
    let patch = json!({ "limits": { "budget_usd": null } });
    gateway.api(path).patch(&patch).await.expect(200);
    gateway.kill();
    gateway.start().await;
    let shown = gateway.api(path).get().await;
    assert_eq!((&shown["limits"]["rpm"], &shown["limits"]["budget_usd"]["day"]), (&json!(5), &Value::Null));

    let key = gateway.api("keys").post(&json!({ "name": "laptop", "user": "Älice B" })).await.expect(201);
    let in_use = ("in_use".to_owned(), "the user `Älice B` is named by the key `laptop`".to_owned());
    assert_eq!(gateway.api(path).delete().await.refused(409), in_use);
    gateway.api(&format!("keys/{}", key["id"].as_str().expect("an id"))).delete().await.expect(204);
    gateway.api(path).delete().await.expect(204);
    assert_eq!(gateway.api(path).delete().await.refused(404), ("not_found".into(), "there is no such user".into()));
    let names: Vec<Value> = gateway.api("users").rows().await.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [json!("declared")]);
}

#[tokio::test]
async fn a_declared_user_and_a_name_cannot_be_changed() {
    let gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    gateway.api("users").post(&json!({ "name": "made" })).await.expect(201);
    let message = "the user `declared` is declared in the configuration file; change it there";
    let declared = ("declared".to_owned(), message.to_owned());
    assert_eq!(gateway.api("users/declared").patch(&json!({ "max_keys": 1 })).await.refused(409), declared);
    assert_eq!(gateway.api("users/declared").delete().await.refused(409), declared);
    for (fields, status, code) in [
        (json!({ "name": "declared" }), 409, "name_taken"),
        (json!({ "name": "made" }), 409, "name_taken"),
        (json!({ "name": "price-rate" }), 400, "invalid"),
        (json!({ "name": "x", "max_keys": 0 }), 400, "invalid"),
        (json!({ "name": "x", "max_key": 1 }), 400, "invalid"),
    ] {
        assert_eq!(gateway.api("users").post(&fields).await.refused(status).0, code, "{fields}");
    }
    let renamed = gateway.api("users/made").patch(&json!({ "name": "other" })).await.expect(400);
    let message = "`name` cannot be changed; make another one instead";
    assert_eq!(renamed, json!({ "error": { "code": "invalid", "field": "name", "message": message } }));
    gateway.api("users/made").patch(&json!({ "name": "made", "max_keys": 3 })).await.expect(200);
}

#[tokio::test]
async fn price_rates_are_set_for_all_or_for_none() {
    let gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    for name in ["a", "b"] {
        gateway.api("users").post(&json!({ "name": name })).await.expect(201);
    }
    let rates = async |gateway: &Gateway| -> Vec<Value> {
        gateway.api("users").rows().await.iter().map(|row| row["price_rate"].clone()).collect()
    };
    let set = async |fields: Value| gateway.api("users/price-rate").post(&fields).await;
    let rows = set(json!({ "users": ["b"], "price_rate": "1.25" })).await.expect(200);
    assert_eq!((&rows["rows"][0]["name"], &rows["rows"][0]["price_rate"]), (&json!("b"), &json!("1.25")));
    assert_eq!(rates(&gateway).await, ["1", "1", "1.25"]);
    set(json!({ "price_rate": "0.5" })).await.expect(200);
    assert_eq!(rates(&gateway).await, ["1", "0.5", "0.5"], "all that were made here");
    assert_eq!(set(json!({ "price_rate": "cheap" })).await.refused(400).0, "invalid");
    for (fields, status, message) in [
        (json!({}), 400, "`price_rate` is missing"),
        (json!({ "users": [], "price_rate": "1" }), 400, "`users` must be a list of names; leave it out for all"),
        (json!({ "users": [1], "price_rate": "1" }), 400, "`users` must be a list of names"),
        (json!({ "users": ["a", "c"], "price_rate": "1" }), 400, "unknown user `c`"),
        (
            json!({ "users": ["a", "declared"], "price_rate": "1" }),
            409,
            "the user `declared` is declared in the configuration file; change it there",
        ),
        (json!({ "user": ["a"], "price_rate": "1" }), 400, "unknown field `user`; did you mean \"users\"?"),
    ] {
        assert_eq!(gateway.api("users/price-rate").post(&fields).await.refused(status).1, message, "{fields}");
    }
}
