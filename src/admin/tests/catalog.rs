//! What is asked of keys, users and channels, and how it is answered.

use super::*;
use crate::config::Wrong;

async fn ask(bench: &Bench, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let url = format!("http://{}/admin/api/{path}", bench.handle.address());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let response = bench.http.request(method, url).bearer_auth(TOKEN).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn every_path_means_one_command() {
    let bench = Bench::new();
    for (method, path, body, command, status) in [
        ("GET", "keys", "", "List(Key)", 200),
        ("GET", "users", "", "List(User)", 200),
        ("GET", "channels", "", "List(Channel)", 200),
        ("POST", "keys", r#"{"name":"a"}"#, r#"Make(Key, {"name": String("a")})"#, 201),
        ("POST", "users", "", "Make(User, {})", 201),
        ("GET", "channels/a", "", r#"Show(Channel, "a")"#, 200),
        ("GET", "users/%C3%84%20b", "", r#"Show(User, "Ä b")"#, 200),
        ("PATCH", "keys/1", r#"{"user":null}"#, r#"Change(Key, "1", {"user": Null})"#, 200),
        ("DELETE", "channels/a", "", r#"Remove(Channel, "a")"#, 204),
        ("POST", "keys/1/rotate", "", r#"Rotate("1", {})"#, 200),
        ("POST", "users/price-rate", r#"{"price_rate":"1"}"#, r#"Rates({"price_rate": String("1")})"#, 200),
        ("GET", "prices", "", "Prices", 200),
        ("PUT", "prices", r#"{"models":[]}"#, r#"SetPrices({"models": Array []})"#, 200),
        ("DELETE", "prices", "", "UnsetPrices", 204),
        ("PUT", "channels/order", r#"["b","a"]"#, r#"Order(["b", "a"])"#, 200),
    ] {
        assert_eq!(ask(&bench, method, path, body).await.0, status, "{method} {path}");
        let asked: Vec<String> = bench.gateway.commands.lock().unwrap().drain(..).map(|c| format!("{c:?}")).collect();
        assert_eq!(asked, [command], "{method} {path}");
    }
    for (method, path) in [("PUT", "keys"), ("DELETE", "keys"), ("POST", "keys/1"), ("GET", "keys/1/rotate")] {
        assert_eq!(ask(&bench, method, path, "").await.0, 405, "{method} {path}");
    }
    for (method, path) in [("GET", "keys/"), ("GET", "key"), ("GET", "keys/%ff"), ("POST", "users/a/rotate")] {
        assert_eq!(ask(&bench, method, path, "").await.0, 404, "{method} {path}");
    }
    for (method, path, body) in [("POST", "keys", "[]"), ("PATCH", "users/a", "1"), ("PUT", "channels/order", "{}")] {
        assert_eq!(ask(&bench, method, path, body).await.0, 400, "{method} {path}");
    }
    assert!(bench.gateway.commands.lock().unwrap().is_empty(), "nobody was asked for those");
}

#[tokio::test]
async fn every_refusal_has_its_status_and_its_code() {
    let bench = Bench::new();
    let wrong = |field: &str| Wrong::new(field, format!("`{field}` is wrong"));
    for (refused, status, body) in [
        (
            Refused::Invalid(vec![wrong("limits.rpm")]),
            400,
            json!({ "code": "invalid", "field": "limits.rpm", "message": "`limits.rpm` is wrong" }),
        ),
        (
            Refused::Invalid(vec![wrong("a"), wrong("b")]),
            400,
            json!({
                "code": "invalid", "field": "a", "message": "`a` is wrong", "mistakes": [
                    { "field": "a", "message": "`a` is wrong" }, { "field": "b", "message": "`b` is wrong" },
                ],
            }),
        ),
        (
            Refused::Invalid(vec![Wrong::new("", "as a whole")]),
            400,
            json!({ "code": "invalid", "message": "as a whole" }),
        ),
        (
            Refused::NotFound(crate::catalog::Kind::User),
            404,
            json!({ "code": "not_found", "message": "there is no such user" }),
        ),
        (
            Refused::Conflict { code: "in_use", message: "why".into() },
            409,
            json!({ "code": "in_use", "message": "why" }),
        ),
        (Refused::NotKept("why".into()), 500, json!({ "code": "not_kept", "message": "why" })),
        (
            Refused::NoRandomness,
            500,
            json!({ "code": "failed", "message": "the gateway failed to answer; see its log" }),
        ),
    ] {
        bench.gateway.answers.lock().unwrap().push(Err(refused));
        assert_eq!(ask(&bench, "POST", "keys", "{}").await, (status, json!({ "error": body }).to_string()));
    }
}
