//! Who may ask, and what of a client's head the upstream gets to see.

use serde_json::{Value, json};

use crate::support::{
    Gateway, Http, Received, UPSTREAM_KEY, Upstream, answer, anthropic, gateway, gemini, key_named, openai, secret_of,
    upstream,
};

/// An operation of each protocol, with its body.
const OPERATIONS: [(&str, &str); 4] = [
    ("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
    ("/v1/embeddings", r#"{"model":"gpt-4o","input":"x"}"#),
    ("/v1/messages", r#"{"model":"claude-sonnet-4-5","messages":[]}"#),
    ("/v1beta/models/gemini-2.5-flash:generateContent", r#"{"contents":[]}"#),
];

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], "{}")]).await
}

fn serving(upstream: &Upstream) -> crate::support::GatewayBuilder {
    let address = upstream.address();
    gateway().channel(openai(address)).channel(anthropic(address)).channel(gemini(address)).key("alice")
}

/// The four forms as header lines and a query.
fn forms(secret: &str) -> [(String, String); 4] {
    [
        (format!("authorization: Bearer {secret}"), String::new()),
        (format!("x-api-key: {secret}"), String::new()),
        (format!("x-goog-api-key: {secret}"), String::new()),
        ("accept: */*".into(), format!("?key={secret}")),
    ]
}

async fn raw_post(gateway: &Gateway, target: &str, lines: &[&str], body: &str) -> crate::support::RawAnswer {
    let length = format!("content-length: {}", body.len());
    let lines: Vec<&str> = lines.iter().copied().chain([length.as_str()]).collect();
    let mut client = gateway.connect().await;
    client.send_head(&format!("POST {target}"), &lines).await;
    client.send(body).await;
    client.answer().await
}

fn assert_only_own_credential(received: &Received, path: &str, secret: &str) {
    assert!(!received.head.contains(secret), "{path}: {}", received.head);
    let own = [
        ("authorization", format!("Bearer {UPSTREAM_KEY}")),
        ("x-api-key", UPSTREAM_KEY.to_owned()),
        ("x-goog-api-key", UPSTREAM_KEY.to_owned()),
    ];
    let place = match path {
        _ if path.starts_with("/v1beta") => 2,
        "/v1/messages" => 1,
        _ => 0,
    };
    for (i, (name, value)) in own.iter().enumerate() {
        let expected: Vec<&str> = if i == place { vec![value.as_str()] } else { Vec::new() };
        assert_eq!(received.headers(name), expected, "{path} {name}");
    }
    assert_eq!(received.head.matches(UPSTREAM_KEY).count(), 1, "{path}");
}

#[tokio::test]
async fn each_form_of_a_key_works_on_each_protocol_and_none_of_it_goes_on() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let secret = secret_of("alice");
    for (path, body) in OPERATIONS {
        for (line, query) in forms(&secret) {
            let answer = raw_post(&gateway, &format!("{path}{query}"), &[&line], body).await;
            assert_eq!(answer.status, 200, "{path} {line}{query}: {}", answer.text());
            let received = upstream.received().pop().unwrap();
            assert_eq!(received.line(), format!("POST {path}"));
            assert_only_own_credential(&received, path, &secret);
        }
    }
    gateway.used("key", "alice", 16).await;
}

#[tokio::test]
async fn the_same_key_in_every_form_at_once_is_one_key() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let secret = secret_of("alice");
    let lines = forms(&secret).map(|(line, _)| line);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for (path, body) in OPERATIONS {
        let answer = raw_post(&gateway, &format!("{path}?key={secret}"), &lines, body).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_only_own_credential(&upstream.received().pop().unwrap(), path, &secret);
    }
}

#[tokio::test]
async fn without_a_key_or_with_one_that_nobody_has_it_is_401_in_each_protocols_shape() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let missing =
        "No API key was sent. Send yours as 'Authorization: Bearer', 'x-api-key', 'x-goog-api-key' or '?key='.";
    let unknown = "This API key is not known here. Check that it is whole, and that it was made here.";
    for (line, message) in [("accept: */*", missing), ("x-api-key: sk-weir-nobody", unknown)] {
        for (path, body) in OPERATIONS {
            let answer = raw_post(&gateway, path, &[line], body).await;
            let id = answer.header("x-weir-request-id").expect("an id").to_owned();
            let message = format!("{message} Request id: {id}");
            let expected = match path {
                "/v1/messages" => json!({
                    "type": "error",
                    "error": { "type": "authentication_error", "message": message },
                    "request_id": id,
                }),
                _ if path.starts_with("/v1beta") => {
                    json!({ "error": { "code": 401, "message": message, "status": "UNAUTHENTICATED" } })
                }
                _ => json!({ "error": {
                    "message": message, "type": "invalid_request_error", "param": null, "code": "invalid_api_key",
                } }),
            };
            assert_eq!((answer.status, answer.json()), (401, expected), "{path}");
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="weir""#));
        }
    }
    assert_eq!(upstream.heads(), 0);
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("\nweir_auth_failures_total{reason=\"missing\"} 4\n"));
    assert!(metrics.contains("\nweir_auth_failures_total{reason=\"unknown\"} 4\n"));
    assert_eq!(gateway.usage("key").await, Vec::<Value>::new(), "strangers fill no ledger");
}

#[tokio::test]
async fn two_keys_that_differ_are_400() {
    let upstream = ok().await;
    let gateway = serving(&upstream).key("bob").start().await;
    let (alice, bob) = (secret_of("alice"), secret_of("bob"));
    let body = OPERATIONS[0].1;
    for (target, lines) in [
        (
            "/v1/chat/completions".to_owned(),
            vec![format!("authorization: Bearer {alice}"), format!("x-api-key: {bob}")],
        ),
        (
            "/v1/chat/completions".to_owned(),
            vec![format!("authorization: Bearer {alice}"), format!("authorization: Bearer {bob}")],
        ),
        (format!("/v1/chat/completions?key={bob}"), vec![format!("authorization: Bearer {alice}")]),
        (format!("/v1/chat/completions?key={alice}&k%65y={bob}"), vec!["accept: */*".to_owned()]),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = raw_post(&gateway, &target, &lines, body).await;
        assert_eq!(answer.status, 400, "{target} {lines:?}");
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.starts_with("Two API keys were sent that differ. Send only one. Request id: "), "{message}");
    }
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn a_key_that_may_not_is_403_and_says_why() {
    let upstream = ok().await;
    let other = openai(upstream.address()).named("other").models(&["other-*"]);
    let gateway = serving(&upstream)
        .channel(other)
        .key(key_named("disabled").with("enabled", false))
        .key(key_named("expired").with("expires", "2020-01-01T00:00:00Z"))
        .key(key_named("later").with("expires", "2099-01-01T00:00:00Z"))
        .key(key_named("anthropic-only").with("protocols", json!(["anthropic"])))
        .key(key_named("mini-only").with("models", json!(["gpt-*-mini", "claude-*"])))
        .key(key_named("other-only").with("channels", json!(["oth*"])))
        .start()
        .await;
    let chat = "/v1/chat/completions";
    let gpt = r#"{"model":"gpt-4o"}"#;
    for (key, path, body, status, message) in [
        ("disabled", chat, gpt, 403, "This API key is disabled. Ask whoever gave it to you to enable it."),
        ("expired", chat, gpt, 403, "This API key has expired. Ask whoever gave it to you for another one."),
        ("later", chat, gpt, 200, ""),
        (
            "anthropic-only",
            chat,
            gpt,
            403,
            "This API key may not use this provider's API. Use another one, or ask whoever gave you the key.",
        ),
        ("anthropic-only", "/v1/messages", r#"{"model":"claude-1"}"#, 200, ""),
        (
            "mini-only",
            chat,
            gpt,
            403,
            "This API key may not use the model 'gpt-4o'. GET /v1/models lists those that it may.",
        ),
        ("mini-only", chat, r#"{"model":"gpt-4o-mini"}"#, 200, ""),
        (
            "mini-only",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "{}",
            403,
            "This API key may not use the model 'gemini-2.5-flash'. GET /v1/models lists those that it may.",
        ),
        (
            "other-only",
            chat,
            gpt,
            403,
            "This API key may not reach any channel that serves this request. Ask whoever gave it to you.",
        ),
        ("other-only", chat, r#"{"model":"other-1"}"#, 200, ""),
    ] {
        let answer = gateway.post(path).key(key).body(body).send().await;
        assert_eq!(answer.status, status, "{key} {path} {body}");
        if status != 200 {
            let id = answer.header("x-weir-request-id");
            assert_eq!(answer.json()["error"]["message"], format!("{message} Request id: {id}"), "{key} {path}");
        }
    }
    assert_eq!(upstream.received().len(), 4);
}

#[tokio::test]
async fn a_query_goes_on_verbatim_but_for_the_key() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let secret = secret_of("alice");
    let body = OPERATIONS[0].1;
    for (query, expected) in [
        (format!("?a=%2f&key={secret}&b=+&c"), "?a=%2f&b=+&c"),
        (format!("?key={secret}"), ""),
        (format!("?k%65y={secret}&api-version=2024-10-21"), "?api-version=2024-10-21"),
        (format!("?monkey=1&key={secret}&keys=2"), "?monkey=1&keys=2"),
    ] {
        let answer = raw_post(&gateway, &format!("/v1/chat/completions{query}"), &[], body).await;
        assert_eq!(answer.status, 200, "{query}");
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.line(), format!("POST /v1/chat/completions{expected}"));
    }
}

#[tokio::test]
async fn what_connection_names_does_not_go_on_but_the_upstreams_credential_always_does() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    let lines = [
        key.as_str(),
        "connection: authorization, x-hop",
        "connection: keep-alive, host, content-length",
        "x-hop: 1",
        "x-kept: 2",
        "te: trailers",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "proxy-authorization: Basic dTpw",
    ];
    let answer = raw_post(&gateway, "/v1/chat/completions", &lines, OPERATIONS[0].1).await;
    assert_eq!(answer.status, 200);
    let received = upstream.only();
    assert_only_own_credential(&received, "/v1/chat/completions", &secret_of("alice"));
    for name in ["connection", "x-hop", "te", "keep-alive", "proxy-connection", "proxy-authorization", "x-api-key"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!(received.header("x-kept"), Some("2"));
    assert_eq!(received.headers("host"), [upstream.address().to_string()]);
    assert_eq!(received.headers("content-length"), [OPERATIONS[0].1.len().to_string()]);
}

#[tokio::test]
async fn the_upstream_sees_who_calls_only_as_far_as_the_client_says_it_to_the_provider() {
    let upstream = ok().await;
    let gateway = serving(&upstream).start().await;
    let request = gateway
        .over(Http::H1)
        .post("/v1/messages")
        .header("x-api-key", secret_of("alice"))
        .header("cookie", "session=1")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-real-ip", "192.0.2.1")
        .header("x-weir-anything", "forged")
        .header("accept-encoding", "gzip, br")
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "a, b")
        .header("openai-organization", "org-1")
        .header("x-stainless-lang", "python")
        .header("user-agent", "Anthropic/Python 1.0")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("content-type", "application/json")
        .body(OPERATIONS[2].1);
    assert_eq!(request.send().await.status, 200);
    let received = upstream.only();
    let mut names: Vec<String> = received
        .head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    let expected = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-length",
        "content-type",
        "host",
        "openai-organization",
        "traceparent",
        "user-agent",
        "x-api-key",
        "x-stainless-lang",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a, b"),
        ("openai-organization", "org-1"),
        ("x-stainless-lang", "python"),
        ("user-agent", "Anthropic/Python 1.0"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn headers_are_set_and_stripped_as_configured() {
    let headers = [
        ("content-type", "application/json"),
        ("server", "secret-server"),
        ("set-cookie", "a=b"),
        ("x-powered-by", "php"),
        ("x-internal", "1"),
        ("x-ratelimit-remaining-requests", "7"),
        ("connection", "x-nominated"),
        ("x-nominated", "1"),
        ("keep-alive", "timeout=5"),
        ("x-weir-channel", "forged"),
    ];
    let upstream = upstream([answer(200, &headers, "{}")]).await;
    let gateway = serving(&upstream)
        .with("headers.set_request", json!({ "x-tenant": "edge", "user-agent": "weir" }))
        .with("headers.strip_response", json!(["server", "set-cookie", "x-internal"]))
        .with("headers.strip_request", json!(["x-private"]))
        .start()
        .await;
    let request = gateway.post("/v1/chat/completions").key("alice").header("x-tenant", "forged");
    let request = request.header("x-private", "1").header("cookie", "kept=1").header("user-agent", "curl");
    let answer = request.body(OPERATIONS[0].1).send().await;
    let received = upstream.only();
    assert_eq!((received.headers("x-tenant"), received.headers("user-agent")), (vec!["edge"], vec!["weir"]));
    assert_eq!((received.header("x-private"), received.header("cookie")), (None, Some("kept=1")));
    for name in ["server", "set-cookie", "x-internal", "x-nominated", "keep-alive"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("x-powered-by"), "php", "the list replaces the default one");
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "7");
    assert_eq!(answer.headers.get_all("x-weir-channel").iter().count(), 1);
    assert_eq!(answer.header("x-weir-channel"), "openai");
    assert_eq!(answer.header("x-weir-request-id").len(), 32);
}

#[tokio::test]
async fn an_upstream_key_echoed_in_a_header_does_not_reach_the_client() {
    let echo = format!("Bearer {UPSTREAM_KEY}");
    let headers = [("content-type", "application/json"), ("x-debug-auth", echo.as_str()), ("x-fine", "1")];
    let upstream = upstream([answer(200, &headers, "{}")]).await;
    let gateway = serving(&upstream).start().await;
    let answer = gateway.post("/v1/chat/completions").key("alice").body(OPERATIONS[0].1).send().await;
    assert_eq!((answer.header("x-debug-auth"), answer.header("x-fine")), ("", "1"));
}
