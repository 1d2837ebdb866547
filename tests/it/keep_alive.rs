//! Connections outlive refusals: a client that made a mistake can go on with the same one.

use serde_json::json;

use crate::support::{Gateway, Raw, Upstream, answer, gateway, key_named, openai, secret_of, upstream};

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

async fn open() -> (Upstream, Gateway) {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], "{}")]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .key(key_named("disabled").with("enabled", false))
        .start()
        .await;
    (upstream, gateway)
}

fn post(path: &str, lines: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: w\r\n{lines}content-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(path: &str, lines: &str, body: &str) -> String {
    let (first, second) = body.split_at(body.len() / 2);
    let pieces = [first, second].into_iter().filter(|piece| !piece.is_empty());
    let chunks: String = pieces.map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    format!("POST {path} HTTP/1.1\r\nhost: w\r\n{lines}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

fn bearer(name: &str) -> String {
    format!("authorization: Bearer {}\r\n", secret_of(name))
}

async fn still_serves(client: &mut Raw, after: &str) {
    client.send(post("/v1/chat/completions", &bearer("alice"), BODY)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "after {after}");
}

#[tokio::test]
async fn every_refusal_leaves_the_connection_open() {
    let (upstream, gateway) = open().await;
    let chat = "/v1/chat/completions";
    let (alice, disabled) = (bearer("alice"), bearer("disabled"));
    let two = format!("{alice}x-api-key: another\r\n");
    let mut client = gateway.connect().await;
    let big = format!("{}{}", BODY, " ".repeat(200_000));
    for (status, path, lines, body) in [
        (401, chat, "", BODY),
        (401, chat, "x-api-key: nobody\r\n", BODY),
        (401, chat, "x-api-key: nobody\r\n", ""),
        (401, chat, "x-api-key: nobody\r\n", &big),
        (403, chat, disabled.as_str(), BODY),
        (400, chat, two.as_str(), BODY),
        (400, chat, alice.as_str(), "{}"),
        (400, chat, alice.as_str(), "not json at all"),
        (404, chat, alice.as_str(), r#"{"model":"nobody-serves-this"}"#),
        (404, "/v1/nothing", alice.as_str(), BODY),
        (400, "/v1//chat/completions", alice.as_str(), BODY),
        (405, "/v1/models", alice.as_str(), BODY),
    ] {
        for request in [post(path, lines, body), chunked(path, lines, body)] {
            client.send(&request).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{path} {body:.40}");
            assert_ne!(answer.header("connection"), Some("close"), "{status} {path}");
            still_serves(&mut client, &format!("{status} {path} {body:.40}")).await;
        }
    }
    assert_eq!(upstream.received().len(), 24, "only the good ones were sent on");
    assert_eq!(upstream.connections(), 1, "and over one connection");
}

#[tokio::test]
async fn a_refused_get_leaves_the_connection_open() {
    let (_upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    for (request, status) in [("GET /v1/models", 401), ("GET /nothing", 404), ("HEAD /", 200), ("GET /v1/files", 401)] {
        client.send_head(request, &[]).await;
        if request.starts_with("HEAD") {
            assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        } else {
            assert_eq!(client.answer().await.status, status, "{request}");
        }
    }
    still_serves(&mut client, "refusals of GET").await;
}

#[tokio::test]
async fn a_refusal_is_said_once_and_nothing_follows_it() {
    let (upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    client.send(post("/v1/chat/completions", "", BODY)).await;
    assert_eq!(client.answer().await.status, 401);
    assert!(client.is_silent().await);
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn requests_sent_before_their_answers_are_answered_in_order() {
    let (upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    let good = post("/v1/chat/completions", &bearer("alice"), BODY);
    let refused = post("/v1/chat/completions", "", BODY);
    client.send([good.as_str(), &refused, &good, &good].concat()).await;
    for status in [200, 401, 200, 200] {
        assert_eq!(client.answer().await.status, status);
    }
    assert_eq!(upstream.received().len(), 3);
    assert!(upstream.received().iter().all(|request| request.json() == json!({"model": "gpt-4o", "messages": []})));
    gateway.used("key", "alice", 3).await;
}

#[tokio::test]
async fn the_next_request_may_follow_at_once_a_thousand_times() {
    let (upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    for i in 0..1_000 {
        client.send(post("/v1/chat/completions", &bearer("alice"), BODY)).await;
        assert_eq!(client.answer().await.status, 200, "request {i}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_body_that_is_too_large_closes_the_connection_after_the_refusal() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway =
        gateway().channel(openai(upstream.address())).key("alice").with("server.max_body", 1_000).start().await;
    let mut client = gateway.connect().await;
    client.send(post("/v1/chat/completions", &bearer("alice"), &"x".repeat(5_000))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(client.is_closed().await);
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_ends_the_connection_and_the_answer_says_so() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = gateway().channel(openai(gone)).key("alice").start().await;
    let mut client = gateway.connect().await;
    client.send(post("/v1/chat/completions", &bearer("alice"), BODY)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (502, Some("close")));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_waits_for_100_and_is_refused_gets_a_close() {
    let (_upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    client.send_head("POST /v1/chat/completions", &["expect: 100-continue", "content-length: 10"]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert!(client.is_closed().await, "its next request would be taken for the body");
}
