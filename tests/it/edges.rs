//! Where HTTP is at its oldest or strangest: interim answers, HTTP/1.0, two framings in one head, uploads that take
//! their time, bodies in crumbs.

use std::net::SocketAddr;

use crate::support::{Gateway, answer, chunked, gateway, gemini, openai, raw_answer, secret_of, upstream};

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

async fn gateway_to(upstream: SocketAddr, first_byte: &str, idle: &str) -> Gateway {
    gateway().channel(openai(upstream).timeouts(first_byte, idle)).key("alice").start().await
}

fn bearer() -> String {
    format!("authorization: Bearer {}", secret_of("alice"))
}

#[tokio::test]
async fn a_failure_after_an_interim_answer_is_still_said() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = gateway_to(gone, "2s", "2s").await;
    let mut client = gateway.connect().await;
    let length = format!("content-length: {}", BODY.len());
    client.send_head("POST /v1/chat/completions", &[&bearer(), &length, "expect: 100-continue"]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    client.send(BODY).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn an_interim_answer_does_not_cost_the_connection() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway_to(upstream.address(), "2s", "2s").await;
    let mut client = gateway.connect().await;
    let length = format!("content-length: {}", BODY.len());
    for _ in 0..2 {
        client.send_head("POST /v1/chat/completions", &[&bearer(), &length, "expect: 100-continue"]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "));
        client.send(BODY).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_a_close() {
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n";
    let script = chunked(200, &[("content-type", "text/event-stream")]).chunk(events).last_chunk();
    let upstream = upstream([script]).await;
    let gateway = gateway_to(upstream.address(), "2s", "2s").await;
    let mut client = gateway.connect().await;
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let (bearer, length) = (bearer(), body.len());
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.0\r\nhost: w\r\n{bearer}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("transfer-encoding")), (200, events, None));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_head_with_two_framings_ends_its_connection() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway_to(upstream.address(), "2s", "2s").await;
    let mut client = gateway.connect().await;
    let chunk = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let smuggled = format!("GET /v1/models HTTP/1.1\r\nhost: w\r\n{}\r\n\r\n", bearer());
    let lines = [&bearer(), "content-length: 400", "transfer-encoding: chunked"];
    client.send_head("POST /v1/chat/completions", &lines).await;
    client.offer(format!("{chunk}{smuggled}")).await;
    let answer = client.answer().await;
    assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
    assert!(client.is_closed().await, "the second request is not served");
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_pause_and_its_answer_has_its_own_time() {
    // The upload lasts 1.2 s and the answer comes 1.2 s after it: each is beyond `idle`, neither pauses for as long.
    let upstream = upstream([raw_answer("").wait(1200).send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")]).await;
    let gateway = gateway_to(upstream.address(), "5s", "800ms").await;
    let mut client = gateway.connect().await;
    let lines = [&bearer(), "content-type: multipart/form-data; boundary=b", "transfer-encoding: chunked"];
    client.send_head("POST /v1/audio/transcriptions", &lines).await;
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        client.send("5\r\n--b\r\n\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(upstream.only().body, "--b\r\n".repeat(6).into_bytes());
}

#[tokio::test]
async fn a_body_in_single_bytes_arrives_whole() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway_to(upstream.address(), "5s", "5s").await;
    let mut client = gateway.connect().await;
    let body = format!(r#"{{"messages":"{}","model":"gpt-4o"}}"#, "x".repeat(60_000));
    let crumbs: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    client.send_head("POST /v1/chat/completions", &[&bearer(), "transfer-encoding: chunked"]).await;
    client.send(format!("{crumbs}0\r\n\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.only().body, body.into_bytes());
}

#[tokio::test]
async fn an_upstream_that_refuses_an_upload_early_is_heard_at_once() {
    let early = answer(401, &[("content-type", "application/json")], r#"{"error":{"message":"no"}}"#);
    let upstream = upstream([early.before_body().wait(3000)]).await;
    let gateway = gateway_to(upstream.address(), "20s", "20s").await;
    let mut client = gateway.connect().await;
    let lines = [&bearer(), "content-type: multipart/form-data; boundary=b", "content-length: 20000000"];
    client.send_head("POST /v1/files", &lines).await;
    client.send(vec![b'x'; 20_000]).await;
    let start = std::time::Instant::now();
    assert_eq!(client.answer().await.status, 401);
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn two_models_are_refused_also_where_none_is_needed() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway_to(upstream.address(), "2s", "2s").await;
    let ask = async |body: &'static str| {
        let request = gateway.post("/v1/moderations").key("alice").header("content-type", "application/json");
        request.body(body).send().await.status
    };
    assert_eq!(ask(r#"{"model":"a","input":"x","model":"b"}"#).await, 400);
    assert_eq!(ask("[1, 2]").await, 200, "what is no object passes as it is");
    assert_eq!(upstream.only().body, b"[1, 2]");
}

#[tokio::test]
async fn a_chat_of_gemini_must_name_its_model() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway().channel(gemini(upstream.address())).key("alice").start().await;
    let ask = async |body: &'static str| gateway.post("/gemini/v1/chat").key("alice").body(body).send().await;
    let refused = ask(r#"{"contents":[]}"#).await;
    assert_eq!((refused.status, &refused.json()["error"]["status"]), (400, &"INVALID_ARGUMENT".into()));
    assert_eq!(ask("no object").await.status, 400);
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn a_length_said_twice_reaches_the_client_once() {
    let upstream = upstream([raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n{}")]).await;
    let gateway = gateway_to(upstream.address(), "2s", "2s").await;
    let answer = gateway.post("/v1/chat/completions").key("alice").body(BODY).send().await;
    assert_eq!((answer.status, answer.header("content-length"), answer.text().as_str()), (200, "2", "{}"));
}
