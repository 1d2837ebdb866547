//! Paths: what is served where, what is refused, and what a browser may do.

use serde_json::json;
use weir_filters::route::Operation;

use crate::support::{Gateway, Mock, answer, anthropic, gateway, gemini, mock, openai, secret_of, upstream};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello there"}]}"#;

async fn providers() -> (Mock, Gateway) {
    let mock = mock();
    let address = mock.address();
    let gateway = gateway()
        .channel(openai(address))
        .channel(openai(address).named("miniai").models(&["miniai-*"]))
        .channel(anthropic(address))
        .channel(gemini(address))
        .key("alice")
        .route(json!({
            "path": "/proxy/miniai/v2/chat/completions",
            "operation": "openai.chat",
            "channels": ["miniai"],
            "upstream_path": "/miniai/v2/chat/completions",
            "cors": { "origins": ["https://app.example"] },
        }))
        .start()
        .await;
    (mock, gateway)
}

#[tokio::test]
async fn a_configured_route_asks_its_channel_at_another_path() {
    let (mock, gateway) = providers().await;
    let route = "/proxy/miniai/v2/chat/completions";
    for stream in [false, true] {
        let body = json!({"model": "miniai-large", "messages": [], "stream": stream});
        let answer = gateway.post(route).key("alice").json(&body).send().await;
        assert_eq!((answer.status, answer.header("x-weir-channel")), (200, "miniai"));
    }
    let answer = gateway.post(route).key("alice").body(CHAT).send().await;
    assert_eq!(answer.status, 404, "the route's channel does not serve gpt-4o");
    let paths: Vec<String> = mock.ledger().into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, ["/miniai/v2/chat/completions"; 2]);
    let row = gateway.used("route", route, 3).await;
    assert_eq!(row["failed"], 1);
}

#[tokio::test]
async fn the_prefixed_paths_of_anthropic_ask_for_the_provider_s_own() {
    let (mock, gateway) = providers().await;
    for path in ["/v1/messages", "/claude/v1/messages", "/api/v1/messages"] {
        for stream in [false, true] {
            let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [
                {"role": "user", "content": "hello"},
            ], "stream": stream});
            let answer = gateway.post(path).header("x-api-key", secret_of("alice")).json(&body).send().await;
            let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
            assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
            let entry = mock.ledger().pop().unwrap();
            assert_eq!((entry.path.as_str(), entry.stream), ("/v1/messages", stream));
            assert_eq!(entry.response_sha256, answer.sha256(), "{path}");
        }
        gateway.used("route", path, 2).await;
    }
    for path in ["/claude/v1/messages/count_tokens", "/api/v1/messages/count_tokens", "/v1/messages/count_tokens"] {
        let body = json!({"model": "claude-sonnet-4-5", "messages": []});
        assert_eq!(gateway.post(path).key("alice").json(&body).send().await.status, 200);
        assert_eq!(mock.ledger().pop().unwrap().path, "/v1/messages/count_tokens");
        assert_eq!(gateway.used("route", path, 1).await["input_tokens"], 0, "a count is never billed");
    }
}

#[tokio::test]
async fn a_gemini_chat_names_its_model_in_the_body_and_goes_on_without_it() {
    let answers = [answer(200, &[("content-type", "application/json")], "{}")];
    let upstream = upstream(answers).await;
    let gateway = gateway().channel(gemini(upstream.address())).key("alice").start().await;
    let contents = r#""contents":[{"parts":[{"text":"x"}]}]"#;
    for (query, stream, target) in [
        ("", r#","stream":false"#, "POST /v1beta/models/gemini-2.5-flash:generateContent"),
        ("", "", "POST /v1beta/models/gemini-2.5-flash:generateContent"),
        ("", r#", "stream": true"#, "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        ("?a=1", r#","stream":true"#, "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?a=1&alt=sse"),
        ("?alt=json", r#","stream":true"#, "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=json"),
    ] {
        let body = format!(r#"{{"model":"gemini-2.5-flash",{contents}{stream}}}"#);
        let path = format!("/gemini/v1/chat{query}");
        let answer = gateway.post(&path).header("x-goog-api-key", secret_of("alice")).body(body).send().await;
        assert_eq!(answer.status, 200, "{query} {stream}");
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.line(), target);
        assert_eq!(received.json(), json!({"contents": [{"parts": [{"text": "x"}]}]}), "{query} {stream}");
    }
}

#[tokio::test]
async fn a_gemini_chat_is_answered_and_metered_plain_and_streamed() {
    let (mock, gateway) = providers().await;
    for stream in [false, true] {
        let body =
            json!({"model": "gemini-2.5-flash", "stream": stream, "contents": [{"parts": [{"text": "one two"}]}]});
        let answer = gateway.post("/gemini/v1/chat").key("alice").json(&body).send().await;
        let entry = mock.ledger().pop().unwrap();
        assert_eq!((answer.status, answer.sha256()), (200, entry.response_sha256));
        let expected = if stream { Operation::GeminiStream } else { Operation::GeminiGenerate };
        assert_eq!((entry.operation, entry.model.as_str()), (expected, "gemini-2.5-flash"));
    }
    let row = gateway.used("model", "gemini-2.5-flash", 2).await;
    let usage: Vec<_> = mock.ledger().into_iter().map(|entry| entry.usage).collect();
    assert_eq!(row["input_tokens"], usage[0].input() + usage[1].input());
    assert_eq!(row["output_tokens"], usage[0].output + usage[1].output);
    assert_eq!(row["events"], mock.ledger()[1].events);
}

#[tokio::test]
async fn a_path_in_another_spelling_is_refused() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway().channel(openai(upstream.address())).channel(gemini(upstream.address())).key("alice");
    let gateway = gateway.start().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    let length = format!("content-length: {}", CHAT.len());
    for path in [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/./chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/files/../chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/files/%2E%2E/chat/completions",
        "/v1%2fchat/completions",
        "/v1/ch%61t/completions",
        "/v1/chat\\completions",
        "/v1/files/a%5cb",
        "/v1/files/%252e",
        "/v1/files/%00",
        "/v1beta/models/gemini%2d2.5:generateContent",
        "/v1beta/models/gemini-2.5%20:generateContent",
    ] {
        let mut client = gateway.connect().await;
        client.send_head(&format!("POST {path}"), &[&key, &length]).await;
        client.offer(CHAT).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{path}");
        if !answer.body.is_empty() {
            let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.starts_with("The path is not in its canonical spelling."), "{path}: {message}");
        }
    }
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn what_is_not_served_is_404_and_a_wrong_method_405() {
    let (mock, gateway) = providers().await;
    for (method, path, status, allow) in [
        ("GET", "/", 404, ""),
        ("GET", "/v2/models", 404, ""),
        ("POST", "/v1/chat", 404, ""),
        ("POST", "/proxy/miniai/v2/chat", 404, ""),
        ("GET", "/metrics", 404, ""),
        ("GET", "/admin/api/usage", 404, ""),
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("DELETE", "/v1/models", 405, "GET"),
        ("PUT", "/v1/files", 405, "GET, POST, DELETE"),
        ("TRACE", "/v1/files", 405, "GET, POST, DELETE"),
    ] {
        let mut client = gateway.connect().await;
        client.send_head(&format!("{method} {path}"), &[&format!("x-api-key: {}", secret_of("alice"))]).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("allow").unwrap_or("")), (status, allow), "{method} {path}");
    }
    let answer = gateway.post("/v1beta/nothing").key("alice").send().await;
    assert_eq!(answer.json()["error"]["status"], "NOT_FOUND", "in the shape of the path's protocol");
    assert_eq!(mock.requests(), 0);
}

#[tokio::test]
async fn head_of_the_root_tells_that_someone_is_there() {
    let (_mock, gateway) = providers().await;
    let mut client = gateway.connect().await;
    client.send_head("HEAD /", &[]).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(client.is_silent().await, "it has no body");
}

#[tokio::test]
async fn a_preflight_is_answered_for_the_origins_of_its_route() {
    let (mock, gateway) = providers().await;
    let route = "/proxy/miniai/v2/chat/completions";
    let preflight = |path: &str, origin: &str| {
        let request = gateway.over(crate::support::Http::H1).request("OPTIONS", path).header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, content-type")
            .send()
    };
    let allowed = preflight(route, "https://app.example").await;
    assert_eq!((allowed.status, allowed.body.len()), (204, 0));
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
        ("access-control-allow-headers", "authorization, content-type"),
        ("access-control-max-age", "86400"),
        ("vary", "origin, access-control-request-headers"),
    ] {
        assert_eq!(allowed.header(name), value, "{name}");
    }
    for (path, origin) in [(route, "https://evil.example"), ("/v1/chat/completions", "https://app.example")] {
        let answer = preflight(path, origin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, ""), "{path} {origin}");
        assert_eq!(answer.header("allow"), "GET, POST, DELETE, OPTIONS");
    }
    assert_eq!(preflight("/nothing", "https://app.example").await.status, 404);
    assert_eq!(mock.requests(), 0, "no key is needed and nobody is asked");
}

#[tokio::test]
async fn an_answer_and_a_refusal_on_a_route_with_cors_can_be_read_by_its_origins() {
    let (_mock, gateway) = providers().await;
    let route = "/proxy/miniai/v2/chat/completions";
    let body = r#"{"model":"miniai-large","messages":[]}"#;
    for (key, status) in [("alice", 200), ("nobody", 401)] {
        for (path, origin, allowed) in [
            (route, "https://app.example", "https://app.example"),
            (route, "https://evil.example", ""),
            ("/v1/chat/completions", "https://app.example", ""),
        ] {
            let answer = gateway.post(path).key(key).header("origin", origin).body(body).send().await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, allowed), "{path}");
        }
    }
}
