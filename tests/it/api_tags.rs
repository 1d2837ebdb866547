//! Changes that are made only to what somebody has seen.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, gateway};

const ROUNDS: usize = 20;

async fn send(gateway: &Gateway, method: &str, path: &str, tag: &str, body: &Value) -> Answer {
    gateway.admin(method, &format!("/admin/api/{path}")).header("if-match", tag).json(body).send().await
}

fn channel(name: &str) -> Value {
    json!({
        "name": name, "protocol": "openai", "base_url": "https://api.example.com", "models": ["*"],
        "keys": [{ "name": "main", "value": "sk-upstream-1" }],
    })
}

#[tokio::test]
async fn a_tag_is_the_same_until_something_is_changed() {
    let gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    let made = gateway.admin("POST", "/admin/api/users").json(&json!({ "name": "a" })).send().await;
    let tag = made.header("etag").to_owned();
    assert_eq!((made.status, tag.len()), (201, 18), "{tag}");
    assert_eq!(made.json()["etag"], tag.as_str());
    let rows = gateway.api("users").rows().await;
    assert_eq!(rows[1]["etag"], tag.as_str());
    assert_ne!(rows[0]["etag"], tag.as_str());
    let shown = gateway.admin("GET", "/admin/api/users/a").send().await;
    assert_eq!(shown.header("etag"), tag);

    let unchanged = send(&gateway, "PATCH", "users/a", &tag, &json!({ "max_keys": null })).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (200, tag.as_str()), "nothing is changed by that");
    let changed = send(&gateway, "PATCH", "users/a", &format!("\"x\", {tag}"), &json!({ "max_keys": 3 })).await;
    assert_eq!(changed.status, 200);
    let newer = changed.header("etag").to_owned();
    assert_ne!(newer, tag);
    let message = "it was changed meanwhile; look at it again before you change it";
    let error = json!({ "error": { "code": "changed", "message": message } });
    for (method, tag) in [("PATCH", tag.clone()), ("DELETE", tag.clone()), ("PATCH", format!("W/{newer}"))] {
        let refused = send(&gateway, method, "users/a", &tag, &json!({ "max_keys": 4 })).await;
        assert_eq!((refused.status, refused.json()), (412, error.clone()), "{method} {tag}");
    }
    assert_eq!(gateway.api("users/a").get().await["max_keys"], 3);
    assert_eq!(send(&gateway, "PATCH", "users/none", "*", &json!({})).await.status, 404);
    assert_eq!(send(&gateway, "DELETE", "users/a", "*", &json!({})).await.status, 204);
}

#[tokio::test]
async fn a_secret_that_is_replaced_is_a_change_that_tags_show() {
    let gateway = gateway().start().await;
    let key = gateway.api("keys").post(&json!({ "name": "k" })).await.expect(201);
    let path = format!("keys/{}", key["id"].as_str().expect("an id"));
    let rotated = gateway.api(&format!("{path}/rotate")).post(&json!({})).await.expect(200);
    assert_ne!(key["etag"], rotated["etag"]);
    let stale = key["etag"].as_str().expect("a tag");
    assert_eq!(send(&gateway, "POST", &format!("{path}/rotate"), stale, &json!({})).await.status, 412);

    let made = gateway.api("channels").post(&channel("c")).await.expect(201);
    let patch = json!({ "keys": [{ "name": "main", "value": "sk-upstream-2" }] });
    let changed = gateway.api("channels/c").patch(&patch).await.expect(200);
    assert_eq!(made["keys"], changed["keys"], "it is seen nowhere else");
    assert_ne!(made["etag"], changed["etag"]);
}

#[tokio::test]
async fn prices_and_the_order_have_tags_of_their_own() {
    let gateway = gateway().start().await;
    let table = |price: &str| json!({ "models": [{ "model": "a", "per_image": price }] });
    let none = gateway.api("prices").get().await["etag"].as_str().expect("a tag").to_owned();
    assert_eq!(send(&gateway, "PUT", "prices", &none, &table("1")).await.status, 200);
    assert_eq!(send(&gateway, "PUT", "prices", &none, &table("2")).await.status, 412);
    assert_eq!(send(&gateway, "DELETE", "prices", &none, &json!({})).await.status, 412);
    let one = gateway.admin("GET", "/admin/api/prices").send().await;
    assert_eq!(one.json()["models"][0]["per_image"], "1");
    assert_eq!(send(&gateway, "DELETE", "prices", one.header("etag"), &json!({})).await.status, 204);

    for name in ["a", "b"] {
        gateway.api("channels").post(&channel(name)).await.expect(201);
    }
    let order = gateway.admin("GET", "/admin/api/channels/order").send().await;
    let tag = order.header("etag").to_owned();
    assert_eq!(order.json(), json!({ "names": ["a", "b"], "etag": tag }));
    gateway.api("channels/a").patch(&json!({ "weight": 2 })).await.expect(200);
    let put = send(&gateway, "PUT", "channels/order", &tag, &json!(["b", "a"])).await;
    assert_eq!(put.status, 200, "another field is none of the order's business");
    assert_eq!(send(&gateway, "PUT", "channels/order", &tag, &json!(["a", "b"])).await.status, 412);
    let order = gateway.admin("GET", "/admin/api/channels/order").send().await;
    assert_eq!((order.json()["names"].clone(), order.header("etag")), (json!(["b", "a"]), put.header("etag")));
}

/// Everybody reads, adds one and writes: whoever was too late reads again. Every addition must be there at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_that_race_none_loses_the_other_ones_change() {
    const WRITERS: usize = 4;
    let gateway = gateway().start().await;
    gateway.api("users").post(&json!({ "name": "a", "max_keys": 1 })).await.expect(201);
    let writers = (0..WRITERS).map(|_| async {
        let mut refused = 0;
        for _ in 0..ROUNDS {
            loop {
                let seen = gateway.api("users/a").get().await;
                let more = seen["max_keys"].as_u64().expect("a number") + 1;
                let tag = seen["etag"].as_str().expect("a tag");
                match send(&gateway, "PATCH", "users/a", tag, &json!({ "max_keys": more })).await.status {
                    200 => break,
                    412 => refused += 1,
                    status => panic!("{status}"),
                }
            }
        }
        refused
    });
    let refused: usize = join_all(writers).await.into_iter().sum();
    assert!(refused > 0, "nobody was ever too late: this tests nothing");
    assert_eq!(gateway.api("users/a").get().await["max_keys"], 1 + WRITERS * ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_the_same_tag_one_is_made() {
    let gateway = gateway().start().await;
    for round in 0..ROUNDS {
        let name = format!("user-{round}");
        let made = gateway.api("users").post(&json!({ "name": name })).await.expect(201);
        let tag = made["etag"].as_str().expect("a tag");
        let (path, one, two) = (format!("users/{name}"), json!({ "max_keys": 1 }), json!({ "max_keys": 2 }));
        let (one, two) =
            tokio::join!(send(&gateway, "PATCH", &path, tag, &one), send(&gateway, "PATCH", &path, tag, &two));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412]);
        let won = if one.status == 200 { 1 } else { 2 };
        assert_eq!(gateway.api(&path).get().await["max_keys"], won);
    }
}
