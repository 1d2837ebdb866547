//! Requests that two readers could understand in two ways: refused, or made plain; never two out of one.

use std::time::Duration;

use crate::support::{Gateway, Http, Upstream, answer, eventually, gateway, openai, secret_of, upstream};

const BODY: &str = r#"{"model":"gpt-4o"}"#;
/// What an attacker would like to be taken for a request of its own.
const HIDDEN: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: hidden\r\nx-hidden: 1\r\ncontent-length: 0\r\n\r\n";

async fn open() -> (Upstream, Gateway) {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], "{}")]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    (upstream, gateway)
}

fn head(lines: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: w\r\nx-api-key: {}\r\n{lines}\r\n", secret_of("alice"))
}

#[tokio::test]
async fn framing_that_contradicts_itself_hides_no_request() {
    let (length, chunks) = (BODY.len(), format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()));
    let all = BODY.len() + HIDDEN.len();
    for request in [
        format!("{}{chunks}{HIDDEN}", head(&format!("content-length: {all}\r\ntransfer-encoding: chunked\r\n"))),
        format!("{}{chunks}{HIDDEN}", head(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"))),
        format!("{}{chunks}{HIDDEN}", head("transfer-encoding: chunked, chunked\r\n")),
        format!("{}{chunks}{HIDDEN}", head("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n")),
        format!("{}{chunks}{HIDDEN}", head("transfer-encoding: xchunked\r\n")),
        format!("{}{chunks}{HIDDEN}", head("transfer-encoding: gzip, chunked\r\n")),
        format!("{}{chunks}{HIDDEN}", head("transfer-encoding : chunked\r\n")),
        format!("{}{BODY}{HIDDEN}", head(&format!("content-length: {length}\r\ncontent-length: {all}\r\n"))),
        format!("{}{BODY}{HIDDEN}", head(&format!("content-length: {length}, {all}\r\n"))),
        format!("{}{BODY}{HIDDEN}", head(&format!("content-length: +{length}\r\n"))),
        format!("{}{BODY}{HIDDEN}", head(&format!("content-length: 0x{length:x}\r\n"))),
        format!("{}{BODY}{HIDDEN}", head("content-length: 99999999999999999999999999\r\n")),
        format!("{}{BODY}{HIDDEN}", head("content-length: -1\r\n")),
        format!("{}-5\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}", head("transfer-encoding: chunked\r\n")),
        format!("{}{:x}\n{BODY}\n0\n\n{HIDDEN}", head("transfer-encoding: chunked\r\n"), BODY.len()),
        format!("{}{:x}\r\n{BODY}xx0\r\n\r\n{HIDDEN}", head("transfer-encoding: chunked\r\n"), BODY.len()),
        format!("{}fffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}", head("transfer-encoding: chunked\r\n")),
    ] {
        let (upstream, gateway) = open().await;
        let mut client = gateway.connect().await;
        client.offer(&request).await;
        let answers = String::from_utf8_lossy(&client.leave().await).into_owned();
        let received = upstream.received();
        assert!(received.len() <= 1, "{request}\n{answers}");
        for got in received {
            assert_eq!(got.body, BODY.as_bytes(), "{request}");
            assert_eq!(got.headers("content-length"), [length.to_string()], "{request}");
            assert_eq!((got.header("transfer-encoding"), got.header("x-hidden")), (None, None), "{request}");
        }
        // What follows is at most the refusal of a request without a key.
        assert!(answers.matches("HTTP/1.1 200").count() <= 1, "{request}\n{answers}");
    }
}

#[tokio::test]
async fn a_request_with_both_framings_is_refused_and_the_last_of_its_connection() {
    let (upstream, gateway) = open().await;
    let mut client = gateway.connect().await;
    let both = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", BODY.len());
    client.send(format!("{}{:x}\r\n{BODY}\r\n0\r\n\r\n", head(&both), BODY.len())).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "RFC 9112, section 6.1");
    assert!(client.is_closed().await);
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn a_head_that_no_client_means_is_refused() {
    let key = format!("x-api-key: {}", secret_of("alice"));
    let tail = format!("content-length: {}\r\n\r\n{BODY}", BODY.len());
    let line = "POST /v1/chat/completions HTTP/1.1";
    for request in [
        format!("{line}\r\nhost: w\r\n{key}\r\nx-a: 1\r\n folded\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\nx-a\0b: 1\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\nx-a: 1\0\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\nx a: 1\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\n: 1\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\nno colon\r\n{tail}"),
        format!("POST /v1/chat/completions HTTP/3.7\r\nhost: w\r\n{key}\r\n{tail}"),
        format!("POST /v1/chat/ completions HTTP/1.1\r\nhost: w\r\n{key}\r\n{tail}"),
        format!("{line}\r\nhost: w\r\n{key}\r\nx-long: {}\r\n{tail}", "a".repeat(2_000_000)),
        format!("{line}\r\nhost: w\r\n{key}\r\n{}{tail}", "x-many: 1\r\n".repeat(1_000)),
    ] {
        let (upstream, gateway) = open().await;
        let mut client = gateway.connect().await;
        client.offer(&request).await;
        let answers = String::from_utf8_lossy(&client.leave().await).into_owned();
        assert!(!answers.contains(" 200 "), "{request:.200}\n{answers}");
        assert_eq!(upstream.heads(), 0, "{request:.200}");
    }
}

#[tokio::test]
async fn a_body_that_stops_before_its_end_never_reaches_the_upstream() {
    let (upstream, gateway) = open().await;
    for lines in ["content-length: 18\r\n", "transfer-encoding: chunked\r\n"] {
        let mut client = gateway.connect().await;
        client.offer(head(lines)).await;
        client.offer(if lines.starts_with('c') { "{\"model\":" } else { "9\r\n{\"model\":\r\n" }).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(client);
    }
    let line = "\nweir_http_requests_total{code=\"none\",route=\"/v1/chat/completions\"} 2\n";
    eventually("their ends", async || gateway.metrics().await.contains(line).then_some(())).await;
    assert_eq!(upstream.heads(), 0);
    assert!(gateway.usage("key").await.is_empty(), "nothing was used");
}

#[tokio::test]
async fn a_header_of_http_2_brings_no_line_of_its_own_to_the_upstream() {
    let (upstream, gateway) = open().await;
    let request = gateway.over(Http::H2c).post("/v1/chat/completions").key("alice").body(BODY);
    let answer = request.header("x-a", "1\tb").header("te", "trailers").send().await;
    assert_eq!(answer.status, 200);
    let received = upstream.only();
    assert_eq!((received.header("x-a"), received.header("te")), (Some("1\tb"), None));
    assert!(!received.head.contains("\r\n:"), "no pseudo-header is a line");
    assert_eq!(received.headers("host"), [upstream.address().to_string()]);
}
