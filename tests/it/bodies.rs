//! Request bodies: whole, byte for byte, bounded, however they arrive.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    Authority, Gateway, Http, Upstream, answer, anthropic, gateway, gemini, openai, secret_of, sha256, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

async fn upstream_that_answers() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], ANSWER)]).await
}

async fn gateway_to(upstream: &Upstream) -> Gateway {
    gateway().channel(openai(upstream.address())).key("alice").tls(Authority::new()).start().await
}

/// A chat whose `model` comes last, as the official Python SDK writes it.
fn chat_of(bytes: usize) -> Bytes {
    let mut body = String::from(r#"{"messages":[{"role":"user","content":""#);
    while body.len() < bytes {
        body.push_str("A weir is a low dam. \\u00e9\\n ");
    }
    body.push_str(r#""}],"model":"gpt-4o"}"#);
    body.into()
}

/// The body in pieces of sizes that fit nothing.
fn odd_pieces(body: &Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let (mut at, mut size) = (0, 1);
    while at < body.len() {
        let end = (at + size).min(body.len());
        pieces.push(body.slice(at..end));
        at = end;
        size = (size * 3 + 1) % 70_001;
    }
    pieces
}

#[tokio::test]
async fn a_body_of_five_megabytes_with_its_model_last_reaches_the_upstream_byte_for_byte() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway_to(&upstream).await;
    let body = chat_of(5 << 20);
    for http in Http::ALL {
        for with_length in [true, false] {
            let request = gateway.over(http).post(CHAT).key("alice").header("content-type", "application/json");
            let request = if with_length { request.body(body.clone()) } else { request.pieces(odd_pieces(&body)) };
            let answer = request.send().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER), "{http:?}, length: {with_length}");
            let received = upstream.received().pop().unwrap();
            assert_eq!(received.body.len(), body.len(), "{http:?}, length: {with_length}");
            assert_eq!(sha256(&received.body), sha256(&body), "{http:?}, length: {with_length}");
            assert_eq!(received.headers("content-length"), [body.len().to_string()]);
            assert_eq!(received.header("transfer-encoding"), None);
        }
    }
    assert_eq!(upstream.received().len(), 8);
    assert_eq!(gateway.used("key", "alice", 8).await["input_tokens"], 24);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_the_upstream_is_asked() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .channel(anthropic(upstream.address()))
        .channel(gemini(upstream.address()))
        .key("alice")
        .with("server.max_body", 100_000)
        .tls(Authority::new())
        .start()
        .await;
    let message = "The request body is larger than the 100000 bytes that are taken. Send a smaller one. Request id: ";
    let shapes: [(&str, fn(String, &str) -> Value); 3] = [
        (
            CHAT,
            |message, _| json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}}),
        ),
        (
            "/v1/messages",
            |message, id| json!({"type": "error", "error": {"type": "request_too_large", "message": message}, "request_id": id}),
        ),
        (
            "/v1beta/models/gemini-2.5-flash:generateContent",
            |message, _| json!({"error": {"code": 413, "message": message, "status": "INVALID_ARGUMENT"}}),
        ),
    ];
    let body = chat_of(100_001);
    for http in Http::ALL {
        for with_length in [true, false] {
            for (path, shape) in shapes {
                let request = gateway.over(http).post(path).key("alice").header("content-type", "application/json");
                let request = if with_length { request.body(body.clone()) } else { request.pieces(odd_pieces(&body)) };
                let answer = request.send().await;
                assert_eq!(answer.status, 413, "{http:?} {path}, length: {with_length}");
                let id = answer.header("x-weir-request-id");
                assert_eq!(answer.json(), shape(format!("{message}{id}"), id), "{http:?} {path}");
            }
        }
    }
    assert_eq!(upstream.heads(), 0, "the upstream saw nothing");
    let row = gateway.used("key", "alice", 24).await;
    assert_eq!((&row["failed"], &row["input_tokens"]), (&json!(24), &json!(0)));
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken() {
    let upstream = upstream_that_answers().await;
    let body = chat_of(90_000);
    let gateway =
        gateway().channel(openai(upstream.address())).key("alice").with("server.max_body", body.len()).start().await;
    for pieces in [vec![body.clone()], odd_pieces(&body)] {
        assert_eq!(gateway.post(CHAT).key("alice").pieces(pieces).send().await.status, 200);
    }
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway_to(&upstream).await;
    let body = chat_of(2_000);
    let mut client = gateway.connect().await;
    let (key, length) = (secret_of("alice"), body.len());
    let lines = [
        format!("authorization: Bearer {key}"),
        format!("content-length: {length}"),
        "content-type: application/json".into(),
        "expect: 100-continue".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    client.send_head(&format!("POST {CHAT}"), &lines).await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 Continue\r\n"));
    client.send(&body).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
    let received = upstream.only();
    assert_eq!((received.body, received.head.contains("expect")), (body.to_vec(), false));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_refused_without_sending_its_body() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let known = format!("authorization: Bearer {}", secret_of("alice"));
    let too_long = "content-length: 99999999999";
    for (credential, length, status) in
        [("x-api-key: nobody", "content-length: 10", 401), (known.as_str(), too_long, 413)]
    {
        let mut client = gateway.connect().await;
        let lines = [credential, length, "content-type: application/json", "expect: 100-continue"];
        client.send_head(&format!("POST {CHAT}"), &lines).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "no 100 comes before the refusal");
    }
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn a_body_may_be_split_anywhere() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let body = r#"{"messages":[{"role":"user","content":"é \"model\":1"}],"mod\u0065l":"gpt-4o","n":1}"#;
    let key = secret_of("alice");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: w\r\nauthorization: Bearer {key}\r\n");
    let mut client = gateway.connect().await;
    for at in (1..body.len()).step_by(7) {
        let (first, second) = body.as_bytes().split_at(at);
        client.send(format!("{head}content-length: {}\r\n\r\n", body.len())).await;
        client.send(first).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        client.send(second).await;
        assert_eq!(client.answer().await.status, 200, "split at {at}");

        client.send(format!("{head}transfer-encoding: chunked\r\n\r\n{:x};ext=1\r\n", first.len())).await;
        client.send(first).await;
        client.send(format!("\r\n{:X}\r\n", second.len())).await;
        client.send(second).await;
        client.send("\r\n0\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200, "chunks split at {at}");
    }
    let received = upstream.received();
    assert_eq!(received.len(), 2 * (1..body.len()).step_by(7).count());
    assert!(received.iter().all(|request| request.body == body.as_bytes()));
}

#[tokio::test]
async fn a_body_that_says_too_little_or_too_much_is_a_bad_request() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway_to(&upstream).await;
    for (body, what) in [
        ("", "The request body cannot be used: the body ends before its JSON object does. Correct it and resend."),
        ("{", "The request body cannot be used: the body ends before its JSON object does. Correct it and resend."),
        (
            "{x",
            "The request body cannot be used: the body is not JSON: unexpected byte at offset 1. Correct it and resend.",
        ),
        ("not json", "The request body cannot be used: the body is not a JSON object. Correct it and resend."),
        ("[]", "The request body cannot be used: the body is not a JSON object. Correct it and resend."),
        ("{}", "The request names no model. Set 'model'."),
        (r#"{"messages":[{"model":"gpt-4o"}]}"#, "The request names no model. Set 'model'."),
        (
            r#"{"model":"gpt-4o","messages":[],"model":"gpt-4o"}"#,
            "The request body cannot be used: the body has more than one member `model`. Correct it and resend.",
        ),
        (
            r#"{"model":7}"#,
            "The request body cannot be used: the member `model` is not a string. Correct it and resend.",
        ),
        (
            r#"{"model":"gpt-4o","stream":"yes"}"#,
            "The request body cannot be used: the member `stream` is not a boolean. Correct it and resend.",
        ),
    ] {
        for http in [Http::H1, Http::H2c] {
            let answer = gateway.over(http).post(CHAT).key("alice").body(body).send().await;
            assert_eq!(answer.status, 400, "{http:?} {body}");
            let id = answer.header("x-weir-request-id");
            assert_eq!(answer.json()["error"]["message"], format!("{what} Request id: {id}"), "{http:?} {body}");
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    assert_eq!(upstream.heads(), 0);
}

fn form(audio: &[u8]) -> Bytes {
    let mut form = b"--edge\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--edge\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n"
        .to_vec();
    form.extend_from_slice(audio);
    form.extend_from_slice(b"\r\n--edge--\r\n");
    form.into()
}

#[tokio::test]
async fn an_upload_streams_byte_for_byte_with_the_framing_of_its_client() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway_to(&upstream).await;
    let audio: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let form = form(&audio);
    for http in Http::ALL {
        for with_length in [true, false] {
            let request = gateway.over(http).post("/v1/audio/transcriptions").key("alice");
            let request = request.header("content-type", "multipart/form-data; boundary=edge");
            let request = if with_length { request.body(form.clone()) } else { request.pieces(odd_pieces(&form)) };
            assert_eq!(request.send().await.status, 200, "{http:?}, length: {with_length}");
            let received = upstream.received().pop().unwrap();
            assert_eq!(sha256(&received.body), sha256(&form), "{http:?}, length: {with_length}");
            assert_eq!(received.header("content-type"), Some("multipart/form-data; boundary=edge"));
            let expected = if with_length { (Some(form.len().to_string()), None) } else { (None, Some("chunked")) };
            let length = received.header("content-length").map(str::to_owned);
            assert_eq!((length, received.header("transfer-encoding")), expected, "{http:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_begins_at_the_upstream_before_its_client_has_ended_it() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let mut client = gateway.connect().await;
    let key = format!("authorization: Bearer {}", secret_of("alice"));
    let lines = [key.as_str(), "content-type: multipart/form-data; boundary=edge", "transfer-encoding: chunked"];
    client.send_head("POST /v1/files", &lines).await;
    client.send("5\r\nhello\r\n").await;
    crate::support::eventually("a head at the upstream", async || (upstream.heads() == 1).then_some(())).await;
    assert_eq!(upstream.received().len(), 0, "its body is not whole yet");
    client.send("7\r\n, world\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(upstream.only().body, b"hello, world");
}

#[tokio::test]
async fn an_upload_above_the_limit_never_arrives_whole() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .with("server.max_body", 100_000)
        .tls(Authority::new())
        .start()
        .await;
    let form = form(&vec![7; 400_000]);
    for http in Http::ALL {
        for with_length in [true, false] {
            let request = gateway.over(http).post("/v1/files").key("alice");
            let request = request.header("content-type", "multipart/form-data; boundary=edge");
            let request = if with_length { request.body(form.clone()) } else { request.pieces(odd_pieces(&form)) };
            let answer = request.send().await;
            assert_eq!(answer.status, 413, "{http:?}, length: {with_length}");
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    assert!(upstream.received().iter().all(|request| !request.whole && request.body.len() <= 100_000));
    assert_eq!(upstream.heads(), 4, "with a length it is not even asked");
    let row = gateway.used("key", "alice", 8).await;
    assert_eq!((&row["failed"], &row["input_tokens"]), (&json!(8), &json!(0)));
    assert!(
        gateway.metrics().await.contains("\nweir_upstream_attempts_total{channel=\"openai\",outcome=\"refused\"} 4\n")
    );
}

#[tokio::test]
async fn a_request_without_a_body_stays_without_one() {
    let upstream = upstream_that_answers().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    for (method, path) in [("GET", "/v1/files"), ("DELETE", "/v1/files/file-1"), ("POST", "/v1/batches/b/cancel")] {
        let answer = gateway.over(Http::H1).request(method, path).key("alice").send().await;
        assert_eq!(answer.status, 200, "{method}");
        let received = upstream.received().pop().unwrap();
        assert_eq!((received.line(), received.body.len()), (format!("{method} {path}").as_str(), 0));
        assert_eq!(received.header("transfer-encoding"), None);
    }
}
