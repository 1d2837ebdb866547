//! The OpenAPI document is true: every endpoint is asked, in every way in which it can refuse, and what it answers is what
//! the document says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    Answer, Document, Gateway, Operation, Upstream, answer, eventually, gateway, key_named, openai, secret_of, upstream,
};

/// What the gateway says when it breaks, is too slow, full or on its way out. The tests beside the listener have them.
const INTERNAL: [&str; 5] = ["failed", "unavailable", "full", "upgrading", "busy"];

const PASSWORD: &str = "correct horse";

async fn ok() -> Upstream {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#;
    upstream([answer(200, &[("content-type", "application/json")], body)]).await
}

/// A gateway and its document.
struct Scene {
    gateway: Gateway,
    document: Document,
    /// The id of a key that was made.
    key: String,
    request: String,
}

impl Scene {
    async fn ask(&mut self, method: &str, path: &str, if_match: Option<&str>, body: impl Into<bytes::Bytes>) -> Answer {
        let mut request = self.gateway.admin(method, path).body(body);
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        let answer = request.send().await;
        self.document.check(method, path, &answer);
        answer
    }

    /// Asks for a path of the API, and it must be answered so.
    async fn expect(&mut self, method: &str, path: &str, body: Value, status: u16, code: Option<&str>) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask(method, &format!("/admin/api/{path}"), None, body).await;
        let said = if answer.body.is_empty() { Value::Null } else { answer.json() };
        assert_eq!((answer.status, said["error"]["code"].as_str()), (status, code), "{method} {path}: {said}");
        said
    }

    /// The operation's path, for what was made.
    fn path(&self, operation: &Operation) -> String {
        let path = operation.path.replace("{name}", "made");
        if path.contains("/requests/") { path.replace("{id}", &self.request) } else { path.replace("{id}", &self.key) }
    }

    fn operations(&self, fits: impl Fn(&Operation) -> bool) -> Vec<Operation> {
        self.document.operations().into_iter().filter(fits).collect()
    }
}

fn channel(name: &str) -> Value {
    json!({
        "name": name, "protocol": "openai", "base_url": "https://api.example.com", "models": ["made-*"],
        "keys": [{ "name": "main", "value": "sk-upstream" }],
    })
}

/// It has room for no question, so that nothing is counted that the tests do not ask for.
fn capped_probe() -> Value {
    json!({ "every": "1000h", "models": ["gpt-4o"], "tokens_per_day": 1 })
}

async fn scene() -> (Scene, Upstream) {
    let upstream = ok().await;
    let gateway = gateway()
        .channel(openai(upstream.address()).with("probe", capped_probe()))
        .key(key_named("declared"))
        .with("admin.metrics_token", "metrics-token-it")
        .start()
        .await;
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let served = gateway.post("/v1/chat/completions").key("declared").json(&body).send().await;
    assert_eq!(served.status, 200);
    gateway.used("key", "declared", 1).await;
    let document = Document::of(&gateway).await;
    let request = served.header("x-weir-request-id").to_owned();
    let mut scene = Scene { gateway, document, key: String::new(), request };
    scene
        .expect(
            "POST",
            "users",
            json!({ "name": "made", "password": PASSWORD, "limits": { "budget_usd": { "day": "5" } } }),
            201,
            None,
        )
        .await;
    scene.expect("POST", "channels", channel("made"), 201, None).await;
    let fields = json!({ "name": "made", "user": "made", "channels": ["made"], "limits": { "rpm": 5 } });
    let made = scene.expect("POST", "keys", fields, 201, None).await;
    scene.key = made["id"].as_str().expect("an id").to_owned();
    (scene, upstream)
}

#[tokio::test]
async fn every_answer_is_as_the_document_says_and_every_one_it_lists_is_given() {
    let (mut scene, _upstream) = scene().await;
    works(&mut scene).await;
    is_refused_in_general(&mut scene).await;
    is_refused_in_particular(&mut scene).await;
    nothing_is_kept(&mut scene).await;
    let mut document = scene.document;
    without_a_history(&mut document).await;
    let listed: BTreeSet<_> = document
        .cases(Operation::is_for_no_user)
        .into_iter()
        .filter(|(id, status, code)| {
            !code.as_deref().is_some_and(|code| INTERNAL.contains(&code)) && (id.as_str(), *status) != ("readyz", 503)
        })
        .collect();
    let missing: Vec<_> = listed.difference(&document.seen).collect();
    assert!(missing.is_empty(), "listed and never seen: {missing:#?}");
}

async fn works(scene: &mut Scene) {
    for path in ["/healthz", "/readyz"] {
        scene.ask("GET", path, None, "").await;
    }
    let scraped = scene.gateway.admin_request("GET", "/metrics").header("authorization", "Bearer metrics-token-it");
    let scraped = scraped.send().await;
    assert_eq!(scraped.status, 200);
    scene.document.check("GET", "/metrics", &scraped);
    for by in ["key", "user", "model", "channel", "route", "day"] {
        let usage = scene.expect("GET", &format!("usage?by={by}&step=hour&from=0"), Value::Null, 200, None).await;
        assert_eq!(usage["rows"].as_array().map(Vec::len), Some(1), "{usage}");
    }
    let overview = scene.expect("GET", "overview", Value::Null, 200, None).await;
    assert_eq!(overview["today"]["requests"], 1);
    let config = scene.expect("GET", "config", Value::Null, 200, None).await;
    assert_eq!(config["file"]["state"], "same");
    scene.expect("POST", "config/check", Value::Null, 200, None).await;
    // The upstream of this scene says nothing.
    scene.expect("POST", "channels/openai/run", json!({ "model": "gpt-4o" }), 200, Some("empty")).await;
    let asked = json!({ "key": secret_of("declared"), "operation": "openai.chat", "model": "gpt-4o" });
    scene.expect("POST", "proxy/test", asked, 200, Some("empty")).await;
    // At the start the monitor may not be there yet, or have a run of its own.
    let id = eventually("a run", async || {
        let answer = scene.ask("POST", "/admin/api/monitor/openai/run", None, "").await;
        (answer.status == 202).then(|| answer.json()["id"].clone())
    })
    .await;
    eventually("its end", async || {
        let runs = scene.expect("GET", "channels/openai/runs?limit=1", Value::Null, 200, None).await;
        (runs["rows"][0]["id"] == id && runs["rows"][0]["ended_at"].is_string()).then_some(())
    })
    .await;
    let monitored = scene.expect("GET", "monitor?q=open", Value::Null, 200, None).await;
    assert_eq!((&monitored["total"], &monitored["rows"][0]["channel"]), (&json!(1), &json!("openai")));
    for drain in [true, false] {
        scene.expect("POST", "channels/made/drain", json!({ "drain": drain }), 200, None).await;
    }
    // The history is told of a request after its client: of the first one and of the proxy test's.
    let of_the_key = "requests?key=declared";
    eventually("two records", async || {
        let page = scene.expect("GET", of_the_key, Value::Null, 200, None).await;
        (page["rows"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let page = scene.expect("GET", &format!("{of_the_key}&limit=1"), Value::Null, 200, None).await;
    let next = page["next"].as_str().expect("there is another one");
    let page = scene.expect("GET", &format!("{of_the_key}&limit=1&cursor={next}"), Value::Null, 200, None).await;
    assert_eq!((&page["rows"][0]["id"], &page["next"]), (&json!(scene.request), &Value::Null));
    let path = format!("requests/{}", scene.request);
    scene.expect("GET", &path, Value::Null, 200, None).await;
    for last in ["", "?last_event_id=0000000000000000-1"] {
        let path = format!("/admin/api/events{last}");
        let events = scene.gateway.admin("GET", &path).header("last-event-id", "nobody's").stream().await;
        scene.document.check("GET", &path, &events.answer);
    }
    let follow = scene.operations(|operation| operation.path == "/admin/api/events").remove(0);
    assert!(follow.takes("Last-Event-ID") && follow.takes("last_event_id"), "{:?}", follow.says);
    let event = json!({ "request_id": "r-1", "x": 1 }).to_string();
    scene.ask("POST", "/admin/api/events/import", None, event).await;
    scene.expect("GET", "openapi.json", Value::Null, 200, None).await;

    let key = format!("keys/{}", scene.key);
    for (list, one) in [("keys", key.as_str()), ("users", "users/made"), ("channels", "channels/made")] {
        let all = scene.expect("GET", list, Value::Null, 200, None).await;
        assert_eq!((all["total"].as_u64(), &all["next"]), (Some(2), &Value::Null), "{all}");
        let page = scene.expect("GET", &format!("{list}?limit=1"), Value::Null, 200, None).await;
        let next = page["next"].as_str().expect("there is another one");
        let last = scene.expect("GET", &format!("{list}?limit=1&cursor={next}"), Value::Null, 200, None).await;
        assert_eq!((&last["rows"][0]["name"], &last["next"]), (&json!("made"), &Value::Null));
        scene.expect("GET", one, Value::Null, 200, None).await;
        scene.expect("PATCH", one, json!({}), 200, None).await;
    }
    scene.expect("PATCH", &key, json!({ "expires": "2099-01-01T00:00:00Z", "limits": { "tpm": 9 } }), 200, None).await;
    let rotated = scene.expect("POST", &format!("{key}/rotate"), json!({ "overlap": "1h" }), 200, None).await;
    assert!(rotated["key"].is_string() && rotated["previous_until"].is_string(), "{rotated}");
    scene.expect("POST", "users/price-rate", json!({ "users": ["made"], "price_rate": "1.25" }), 200, None).await;
    scene.expect("GET", "channels/order", Value::Null, 200, None).await;
    scene.expect("PUT", "channels/order", json!(["made"]), 200, None).await;
    scene.expect("GET", "prices", Value::Null, 200, None).await;
    scene.expect("DELETE", "prices", Value::Null, 404, Some("not_found")).await;
    let tier = json!({ "above": 1000, "input": "4" });
    let price = json!({
        "model": "made-*", "input": "2.5", "output": "10", "cache_read": "1", "cache_write_5m": "3",
        "cache_write_1h": "5", "reasoning": "12", "per_request": "0.01", "per_image": "0.04",
        "max_output_tokens": 5, "tiers": [tier],
    });
    scene.expect("PUT", "prices", json!({ "models": [price] }), 200, None).await;
    scene.expect("GET", "prices", Value::Null, 200, None).await;
    scene.expect("DELETE", "prices", Value::Null, 204, None).await;
    scene.expect("POST", "reload", Value::Null, 200, None).await;
    let changes = scene.expect("GET", "changes", Value::Null, 200, None).await;
    let actions: BTreeSet<&str> =
        changes["rows"].as_array().expect("rows").iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(
        actions.into_iter().collect::<Vec<_>>(),
        ["create", "delete", "import", "reload", "reorder", "rotate", "update"]
            .into_iter()
            .filter(|action| *action != "reorder")
            .collect::<Vec<_>>(),
        "an order that stays is no change"
    );

    scene.expect("POST", "keys", json!({ "name": "more" }), 201, None).await;
    let more = scene.expect("GET", "keys?q=MORE", Value::Null, 200, None).await;
    let id = more["rows"][0]["id"].as_str().expect("an id").to_owned();
    scene.expect("DELETE", &format!("keys/{id}"), Value::Null, 204, None).await;
    scene.expect("POST", "users", json!({ "name": "more" }), 201, None).await;
    scene.expect("DELETE", "users/more", Value::Null, 204, None).await;
    scene.expect("POST", "channels", channel("more"), 201, None).await;
    scene.expect("PUT", "channels/order", json!(["more", "made"]), 200, None).await;
    scene.expect("DELETE", "channels/more", Value::Null, 204, None).await;
}

/// What every endpoint of a sort refuses in the same way.
async fn is_refused_in_general(scene: &mut Scene) {
    let stale = Some("\"0000000000000000\"");
    let user = scene.gateway.browser("made", PASSWORD).await;
    for operation in scene.operations(Operation::is_for_no_user) {
        let (method, path) = (operation.method.as_str(), scene.path(&operation));
        for (code, csrf) in [("csrf", ""), ("forbidden", &*user.csrf)] {
            if operation.refuses(code) {
                let request = scene.gateway.admin_request(method, &path).header("cookie", &user.cookie);
                let answer = request.header("x-weir-csrf", csrf).send().await;
                assert_eq!((answer.status, &answer.json()["error"]["code"]), (403, &json!(code)), "{method} {path}");
                scene.document.check(method, &path, &answer);
            }
        }
        if operation.refuses("unauthorized") {
            let answer = scene.gateway.admin_request(method, &path).send().await;
            assert_eq!(answer.status, 401, "{method} {path}");
            scene.document.check(method, &path, &answer);
        }
        if operation.takes("query") {
            let path = format!("{path}?nothing=1");
            assert_eq!(scene.ask(method, &path, None, "").await.status, 400, "{method} {path}");
        }
        if operation.takes("If-Match") {
            let body = match (method, path.as_str()) {
                (_, "/admin/api/channels/order") => json!(["made"]),
                ("PUT", _) => json!({ "models": [{ "model": "a", "per_image": "1" }] }),
                _ => json!({}),
            };
            assert_eq!(scene.ask(method, &path, Some("no tag"), body.to_string()).await.status, 400, "{method} {path}");
            assert_eq!(scene.ask(method, &path, stale, body.to_string()).await.status, 412, "{method} {path}");
        }
        if operation.reads_json() {
            assert_eq!(scene.ask(method, &path, None, "{").await.status, 400, "{method} {path}");
        }
        if operation.refuses("too_large") && !operation.path.ends_with("/import") {
            let size = if operation.path.ends_with("/prices") { 9 << 20 } else { 70_000 };
            assert_eq!(scene.ask(method, &path, None, vec![b' '; size]).await.status, 413, "{method} {path}");
        }
    }
}

/// What is wrong with one of them alone.
async fn is_refused_in_particular(scene: &mut Scene) {
    let too_large = vec![b' '; (64 << 20) + 1];
    assert_eq!(scene.ask("POST", "/admin/api/events/import", None, too_large).await.status, 413);
    scene.expect("GET", "requests/1", Value::Null, 400, Some("bad_request")).await;
    for (path, fields) in [("run", json!({ "models": 1 })), ("drain", json!({ "drain": 1 }))] {
        scene.expect("POST", &format!("channels/made/{path}"), fields, 400, Some("invalid")).await;
    }
    scene.expect("POST", "proxy/test", json!({ "key": "k" }), 400, Some("invalid")).await;
    scene.expect("POST", "channels/nobody/run", json!({}), 404, Some("not_found")).await;
    scene.expect("POST", "monitor/nobody/run", Value::Null, 404, Some("not_found")).await;
    scene.expect("POST", "monitor/made/run", Value::Null, 409, Some("not_probed")).await;
    scene.expect("GET", "channels/nobody/runs", Value::Null, 404, Some("not_found")).await;
    scene.expect("POST", "channels/nobody/drain", json!({ "drain": true }), 404, Some("not_found")).await;
    scene.expect("GET", &format!("requests/{}", "0".repeat(32)), Value::Null, 404, Some("not_found")).await;

    let declared = scene.expect("GET", "keys", Value::Null, 200, None).await["rows"][0].clone();
    let declared = format!("keys/{}", declared["id"].as_str().expect("an id"));
    let own = format!("keys/{}", scene.key);
    for (one, declared) in [
        ("users/none", "users/user-of-declared"),
        ("channels/none", "channels/openai"),
        ("keys/none", declared.as_str()),
    ] {
        scene.expect("GET", one, Value::Null, 404, Some("not_found")).await;
        for method in ["PATCH", "DELETE"] {
            scene.expect(method, one, json!({}), 404, Some("not_found")).await;
            scene.expect(method, declared, json!({}), 409, Some("declared")).await;
        }
    }
    scene.expect("POST", "keys/none/rotate", json!({}), 404, Some("not_found")).await;
    scene.expect("POST", &format!("{declared}/rotate"), json!({}), 409, Some("declared")).await;
    scene.expect("POST", &format!("{own}/rotate"), json!({ "overlap": 1 }), 400, Some("invalid")).await;
    for (path, taken) in
        [("keys", json!({ "name": "made" })), ("users", json!({ "name": "made" })), ("channels", channel("made"))]
    {
        scene.expect("POST", path, taken, 409, Some("name_taken")).await;
        scene.expect("POST", path, json!({ "name": "x", "limits": { "rpm": 0 }, "y": 1 }), 400, Some("invalid")).await;
    }
    for one in [own.as_str(), "users/made", "channels/made"] {
        scene.expect("PATCH", one, json!({ "limits": { "rpm": 0 } }), 400, Some("invalid")).await;
    }
    scene.expect("PATCH", &own, json!({ "name": "declared" }), 409, Some("name_taken")).await;
    scene.expect("POST", "users", json!({ "name": "one", "max_keys": 1 }), 201, None).await;
    scene.expect("POST", "keys", json!({ "name": "one", "user": "one" }), 201, None).await;
    scene.expect("POST", "keys", json!({ "name": "two", "user": "one" }), 409, Some("too_many_keys")).await;
    scene.expect("PATCH", &own, json!({ "user": "one" }), 409, Some("too_many_keys")).await;
    scene.expect("DELETE", "users/made", Value::Null, 409, Some("in_use")).await;
    scene.expect("DELETE", "channels/made", Value::Null, 409, Some("in_use")).await;
    scene.expect("POST", "users/price-rate", json!({ "price_rate": "x" }), 400, Some("invalid")).await;
    let fields = json!({ "users": ["user-of-declared"], "price_rate": "1" });
    scene.expect("POST", "users/price-rate", fields, 409, Some("declared")).await;
    scene.expect("PUT", "channels/order", json!(["none"]), 400, Some("invalid")).await;
    scene.expect("PUT", "channels/order", json!(["openai"]), 409, Some("declared")).await;
    scene.expect("PUT", "prices", json!({ "models": [] }), 400, Some("invalid")).await;

    let good = std::fs::read_to_string(scene.gateway.config_file()).expect("a file");
    scene.gateway.write_text("listen: nowhere\nchannel: []\n");
    let mistakes = scene.expect("POST", "reload", Value::Null, 422, Some("invalid")).await;
    assert!(mistakes["error"]["mistakes"].as_array().is_some_and(|list| list.len() >= 2), "{mistakes}");
    scene.gateway.write_text(&good);
}

/// Where the record of changes cannot be written, nothing is changed.
async fn nothing_is_kept(scene: &mut Scene) {
    let key = format!("keys/{}", scene.key);
    scene.expect("PUT", "prices", json!({ "models": [{ "model": "a", "per_image": "1" }] }), 200, None).await;
    scene.expect("POST", "keys", json!({ "name": "last" }), 201, None).await;
    scene.expect("POST", "users", json!({ "name": "last" }), 201, None).await;
    scene.expect("POST", "channels", channel("last"), 201, None).await;
    let last = scene.expect("GET", "keys?q=last", Value::Null, 200, None).await["rows"][0]["id"].clone();
    let last = format!("keys/{}", last.as_str().expect("an id"));
    let before = scene.gateway.api("keys").rows().await;
    let folder = scene.gateway.data_dir().join("changes");
    std::fs::rename(&folder, scene.gateway.data_dir().join("aside")).expect("it is moved");
    std::fs::write(&folder, b"").expect("a file in its place");
    for (method, path, body) in [
        ("POST", "keys", json!({ "name": "x" })),
        ("PATCH", key.as_str(), json!({ "enabled": false })),
        ("DELETE", last.as_str(), Value::Null),
        ("POST", &format!("{key}/rotate"), json!({})),
        ("POST", "users", json!({ "name": "x" })),
        ("PATCH", "users/made", json!({ "max_keys": 3 })),
        ("DELETE", "users/last", Value::Null),
        ("POST", "users/price-rate", json!({ "price_rate": "3" })),
        ("POST", "channels", channel("x")),
        ("PATCH", "channels/made", json!({ "weight": 3 })),
        ("POST", "channels/made/drain", json!({ "drain": true })),
        ("DELETE", "channels/last", Value::Null),
        ("PUT", "channels/order", json!(["made", "last"])),
        ("PUT", "prices", json!({ "models": [{ "model": "b", "per_image": "1" }] })),
        ("DELETE", "prices", Value::Null),
    ] {
        scene.expect(method, path, body, 500, Some("not_kept")).await;
    }
    scene.expect("GET", "changes", Value::Null, 503, Some("unavailable")).await;
    assert_eq!(scene.gateway.api("keys").rows().await, before, "nothing was changed");
    std::fs::remove_file(&folder).expect("it is removed");
}

async fn without_a_history(document: &mut Document) {
    let gateway = gateway().with("audit.history.enabled", false).start().await;
    for path in ["/admin/api/requests", &format!("/admin/api/requests/{}", "0".repeat(32))] {
        let answer = gateway.admin("GET", path).send().await;
        assert_eq!(answer.status, 409);
        document.check("GET", path, &answer);
    }
}

#[tokio::test]
async fn what_people_are_answered_is_as_the_document_says() {
    let (mut scene, _upstream) = scene().await;
    let user = scene.gateway.browser("made", PASSWORD).await;
    let own = format!("/api/keys/{}", scene.key);
    let mut asked = BTreeSet::new();
    for (method, path, body, status) in [
        ("GET", "/admin/api/session", json!(null), 200),
        ("POST", "/admin/api/password", json!({ "old": "wrong", "new": "horse correct" }), 403),
        ("POST", "/admin/api/password", json!({ "old": PASSWORD, "new": "short" }), 400),
        ("POST", "/admin/api/password", json!({ "old": PASSWORD, "new": "horse correct" }), 204),
        ("GET", "/api/usage/summary", json!(null), 200),
        ("GET", "/api/usage/daily?from=0", json!(null), 200),
        ("GET", "/api/usage/daily?from=x", json!(null), 400),
        ("GET", "/api/usage/monthly", json!(null), 200),
        ("GET", "/api/usage/stats?by=model", json!(null), 200),
        ("GET", "/api/usage/stats?by=key", json!(null), 200),
        ("GET", "/api/usage/stats", json!(null), 400),
        ("GET", "/api/usage/records?limit=5", json!(null), 200),
        ("GET", "/api/usage/models", json!(null), 200),
        ("GET", "/api/keys", json!(null), 200),
        ("POST", "/api/keys", json!({ "name": "mine" }), 409),
        ("POST", "/api/keys", json!({ "name": "mine", "limits": {} }), 400),
        ("PATCH", &own, json!({ "name": "renamed" }), 200),
        ("POST", &format!("{own}/rotate"), json!({}), 200),
        ("PATCH", "/api/keys/nobodys", json!({ "name": "renamed" }), 404),
        ("DELETE", "/api/keys/nobodys", json!(null), 404),
        ("POST", "/admin/api/logout", json!(null), 204),
        ("GET", "/admin/api/session", json!(null), 401),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = user.ask(&scene.gateway, method, path).body(body);
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        scene.document.check(method, path, &answer);
        asked.insert((method, path.split(['?']).next().unwrap_or_default().replace(&scene.key, "{id}")));
    }
    for credential in
        [json!({ "username": "made", "password": "horse correct" }), json!({ "token": "wrong" }), json!({})]
    {
        let answer = scene.gateway.login(&credential).await;
        scene.document.check("POST", "/admin/api/login", &answer);
    }
    for operation in scene.operations(|operation| !operation.is_for_no_user()) {
        let (method, path) = (operation.method.as_str(), scene.path(&operation));
        let is_asked = asked.iter().any(|(m, p)| *m == method && (*p == operation.path || p.ends_with("nobodys")));
        assert!(is_asked || operation.path.ends_with("/login"), "nobody asks {method} {path}");
        let answer = scene.gateway.admin_request(method, &path).header("x-weir-csrf", "wrong").send().await;
        assert!([400, 401].contains(&answer.status), "{method} {path}: {}", answer.status);
        scene.document.check(method, &path, &answer);
    }
}
