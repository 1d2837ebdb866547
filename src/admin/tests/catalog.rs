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
        ("GET", "keys", "", "List(Key, Wanted { limit: None, cursor: None, q: None })", 200),
        ("GET", "users", "", "List(User, Wanted { limit: None, cursor: None, q: None })", 200),
        ("GET", "channels", "", "List(Channel, Wanted { limit: None, cursor: None, q: None })", 200),
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
        (
            "GET",
            "keys?q=a%20B&limit=2&cursor=1-f-61",
            "",
            r#"List(Key, Wanted { limit: Some(2), cursor: Some(Cursor { place: 1, is_declared: true, handle: "a" }), q: Some("a B") })"#,
            200,
        ),
        ("GET", "channels/order", "", "ShowOrder", 200),
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
            Refused::Changed,
            412,
            json!({ "code": "changed", "message": "it was changed meanwhile; look at it again before you change it" }),
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

#[tokio::test]
async fn who_asks_and_what_they_expect_is_passed_on() {
    let bench = Bench::new();
    let url = |path: &str| format!("http://{}/admin/api/{path}", bench.handle.address());
    let tags = |tags: &[&str]| Some(IfMatch::OneOf(tags.iter().map(|tag| (*tag).to_owned()).collect()));
    for (method, path) in [
        (Method::PATCH, "keys/1"),
        (Method::DELETE, "channels/a"),
        (Method::POST, "keys/1/rotate"),
        (Method::PUT, "channels/order"),
        (Method::PUT, "prices"),
        (Method::DELETE, "prices"),
    ] {
        let body = if path == "channels/order" { "[]" } else { "{}" };
        for (given, expected) in
            [(None, None), (Some("*"), Some(IfMatch::Any)), (Some(r#""a", "b""#), tags(&[r#""a""#, r#""b""#]))]
        {
            let request = bench.http.request(method.clone(), url(path)).bearer_auth(TOKEN).body(body);
            let request = if let Some(given) = given { request.header("if-match", given) } else { request };
            assert!(request.send().await.unwrap().status().is_success(), "{method} {path}");
            assert_eq!(bench.gateway.askers.lock().unwrap().pop(), Some((Actor::Token, expected)), "{method} {path}");
        }
        let request =
            bench.http.request(method.clone(), url(path)).bearer_auth(TOKEN).header("if-match", "a").body(body);
        let response = request.send().await.unwrap();
        let message = "if-match: must be the etag of an answer, with its quotes, or *";
        let error = json!({ "code": "bad_request", "message": message, "parameter": "if-match" });
        assert_eq!(
            (response.status().as_u16(), response.text().await.unwrap()),
            (400, json!({ "error": error }).to_string())
        );
    }
    bench.client().post("/admin/api/keys/1/rotate").await.unwrap();
    assert_eq!(bench.gateway.askers.lock().unwrap().pop(), Some((Actor::Socket, None)));
    bench.client().post("/admin/api/reload").await.unwrap();
    assert_eq!(bench.gateway.askers.lock().unwrap().pop(), Some((Actor::Socket, None)));
    bench.ask(Method::POST, "/admin/api/reload", Some(TOKEN)).await;
    assert_eq!(bench.gateway.askers.lock().unwrap().pop(), Some((Actor::Token, None)));
}

#[tokio::test]
async fn the_tag_of_an_answer_is_in_its_head_too() {
    let bench = Bench::new();
    let etag = "\"0123456789abcdef\"";
    for (method, path, status) in
        [(Method::GET, "keys/1", 200), (Method::POST, "users", 201), (Method::GET, "prices", 200)]
    {
        bench.gateway.answers.lock().unwrap().push(Ok(json!({ "etag": etag })));
        let response = bench.ask(method, &format!("/admin/api/{path}"), Some(TOKEN)).await;
        assert_eq!((response.status().as_u16(), header(&response, "etag")), (status, Some(etag)), "{path}");
    }
}
