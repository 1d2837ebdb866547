//! Clients with habits of their own: old, frugal, eager to upgrade.

use crate::support::{Gateway, Raw, Upstream, answer, chunked, eventually, gateway, openai, secret_of, upstream};

const BODY: &str = r#"{"model":"gpt-4o","stream":true}"#;
const EVENTS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n";

async fn open() -> (Upstream, Gateway) {
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let (first, last) = EVENTS.split_at(EVENTS.find("data: [DONE]").unwrap());
    let script = chunked(200, &[("content-type", "text/event-stream")]);
    let script = script.chunk(first).chunk(format!("{usage}\n\n")).wait(30).chunk(last).last_chunk();
    let upstream = upstream([script]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    (upstream, gateway)
}

fn request(line: &str, lines: &str) -> String {
    let (key, length) = (secret_of("alice"), BODY.len());
    format!("{line}\r\nhost: w\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n{lines}\r\n{BODY}")
}

async fn sent(gateway: &Gateway, request: &str) -> (Raw, crate::support::RawAnswer) {
    let mut client = gateway.connect().await;
    client.send(request).await;
    let answer = client.answer().await;
    (client, answer)
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_whole_stream_and_a_close() {
    let (upstream, gateway) = open().await;
    let (mut client, answer) = sent(&gateway, &request("POST /v1/chat/completions HTTP/1.0", "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    assert!(upstream.only().head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_eq!(gateway.used("key", "alice", 1).await["failed"], 0);
}

#[tokio::test]
async fn a_client_that_asks_for_a_close_gets_the_answer_and_the_close() {
    let (upstream, gateway) = open().await;
    for _ in 0..2 {
        let request = request("POST /v1/chat/completions HTTP/1.1", "connection: close\r\n");
        let (mut client, answer) = sent(&gateway, &request).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(upstream.connections(), 1, "the upstream's connection is kept all the same");
}

#[tokio::test]
async fn an_offer_to_upgrade_is_overlooked() {
    let (upstream, gateway) = open().await;
    for lines in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
    ] {
        let (mut client, answer) = sent(&gateway, &request("POST /v1/chat/completions HTTP/1.1", lines)).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS), "{lines}");
        let received = upstream.received().pop().unwrap();
        assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
        client.send(request("POST /v1/chat/completions HTTP/1.1", "")).await;
        assert_eq!(client.answer().await.status, 200, "the connection goes on, after {lines}");

        let key = format!("x-api-key: {}", secret_of("alice"));
        let mut client = gateway.connect().await;
        let lines: Vec<&str> = lines.trim_end().split("\r\n").chain([key.as_str()]).collect();
        client.send_head("GET /v1/models", &lines).await;
        assert_eq!(client.answer().await.status, 200, "{lines:?}");
    }
}

#[tokio::test]
async fn an_absolute_target_is_served_as_its_path_and_nowhere_else() {
    let (upstream, gateway) = open().await;
    let elsewhere = crate::support::upstream([answer(200, &[], "elsewhere")]).await;
    let line = format!("POST http://{}/v1/chat/completions?a=1 HTTP/1.1", elsewhere.address());
    let (_, answer) = sent(&gateway, &request(&line, "")).await;
    assert_eq!(answer.status, 400, "it contradicts the Host header");
    let (_, answer) = sent(&gateway, &request("POST http://w/v1/chat/completions?a=1 HTTP/1.1", "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS));
    let received = upstream.only();
    assert_eq!(received.line(), "POST /v1/chat/completions?a=1");
    assert_eq!(received.headers("host"), [upstream.address().to_string()]);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_upload_that_waits_for_100_continue_is_told_to_go_on() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    for lines in ["content-length: 5", "transfer-encoding: chunked"] {
        let mut client = gateway.connect().await;
        let key = format!("x-api-key: {}", secret_of("alice"));
        let kind = "content-type: multipart/form-data; boundary=x";
        client.send_head("POST /v1/files", &[&key, kind, lines, "expect: 100-continue"]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 Continue\r\n"), "{lines}");
        client.send(if lines.ends_with('5') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" }).await;
        assert_eq!(client.answer().await.text(), "{}", "{lines}");
        assert_eq!(upstream.received().pop().unwrap().body, b"hello", "{lines}");
    }
}

#[tokio::test]
async fn an_upload_whose_client_leaves_ends_at_the_upstream_too() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    for (number, lines) in ["content-length: 50", "transfer-encoding: chunked"].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        let key = format!("x-api-key: {}", secret_of("alice"));
        client.send_head("POST /v1/files", &[&key, "content-type: multipart/form-data; boundary=x", lines]).await;
        client.send(if lines.ends_with('0') { "hello" } else { "5\r\nhello\r\n" }).await;
        eventually("a head at the upstream", async || (upstream.heads() > number).then_some(())).await;
        drop(client);
        let received = eventually("its end", async || upstream.received().get(number).cloned()).await;
        assert!(!received.whole, "{lines}");
    }
    let row = gateway.used("key", "alice", 2).await;
    assert_eq!((&row["failed"], &row["output_tokens"]), (&2.into(), &0.into()));
}

#[tokio::test]
async fn a_stray_line_end_behind_a_body_cuts_no_answer() {
    let (upstream, gateway) = open().await;
    for lines in ["", "connection: close\r\n"] {
        let request = request("POST /v1/chat/completions HTTP/1.1", lines);
        let (_, answer) = sent(&gateway, &format!("{request}\r\n")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS), "at once, {lines}");
        let mut client = gateway.connect().await;
        let heads = upstream.heads();
        client.send(&request).await;
        eventually("the request", async || (upstream.heads() > heads).then_some(())).await;
        client.send("\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS), "later, {lines}");
    }
    assert_eq!(gateway.used("key", "alice", 4).await["failed"], 0);
}
