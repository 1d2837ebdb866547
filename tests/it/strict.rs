//! `ledger.durability: strict`: the end of an answer waits for the disk, and not a byte changes.

use serde_json::json;

use crate::support::{Authority, Http, answer, anthropic, chunked, gateway, gemini, mock, openai, upstream};

#[tokio::test]
async fn answers_are_the_same_bytes_and_counted_over_each_http() {
    let mock = mock();
    let address = mock.address();
    let gateway = gateway()
        .channel(openai(address))
        .channel(anthropic(address))
        .channel(gemini(address))
        .key("alice")
        .with("ledger.durability", "strict")
        .tls(Authority::new())
        .start()
        .await;
    let messages = json!([{"role": "user", "content": "one two three"}]);
    for http in Http::ALL {
        for (path, stream) in [("/v1/chat/completions", false), ("/v1/chat/completions", true), ("/v1/messages", true)]
        {
            for coding in ["x-mock-none", "x-mock-gzip", "x-mock-br", "x-mock-zstd"] {
                let model = if path == "/v1/messages" { "claude-opus-4-1" } else { "gpt-4o" };
                let mut body = json!({"model": model, "messages": messages, "max_tokens": 9, "stream": stream});
                let injected = model == "gpt-4o" && stream && coding == "x-mock-none";
                if stream && model == "gpt-4o" && !injected {
                    body["stream_options"] = json!({"include_usage": true});
                }
                let request = gateway.over(http).post(path).key("alice").json(&body).header(coding, "1");
                let answer = request.header("x-mock-chunk", "29").send().await;
                assert_eq!((answer.status, answer.broken), (200, false), "{http:?} {path} {stream} {coding}");
                let entry = mock.ledger().pop().unwrap();
                let expected =
                    if injected { entry.response_sha256_without_usage.unwrap() } else { entry.response_sha256 };
                assert_eq!(answer.sha256(), expected, "{http:?} {path} {stream} {coding}");
            }
        }
    }
    let ledger = mock.ledger();
    let row = gateway.used("key", "alice", ledger.len() as u64).await;
    assert_eq!(
        (&row["failed"], &row["input_tokens"]),
        (&json!(0), &json!(ledger.iter().map(|entry| entry.usage.input()).sum::<u64>()),)
    );
    assert_eq!(row["output_tokens"], ledger.iter().map(|entry| entry.usage.output).sum::<u64>());
}

#[tokio::test]
async fn every_framing_ends_whole() {
    let sse = [("content-type", "text/event-stream")];
    let body = "data: {\"choices\":[{}]}\n\ndata: [DONE]\n\n";
    let close = crate::support::raw_answer("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let scripts = [
        answer(200, &sse, body),
        answer(200, &sse, ""),
        chunked(200, &sse).chunk(body).last_chunk(),
        chunked(200, &sse).last_chunk(),
        close.send(body).close(),
        crate::support::raw_answer("HTTP/1.1 204 No Content\r\n\r\n"),
        answer(429, &[("content-type", "application/json")], "{}"),
    ];
    let bodies = [body, "", body, "", body, "", "{}"];
    for http in [Http::H1, Http::H2c, Http::TlsH2] {
        let upstream = upstream(scripts.clone()).await;
        let gateway = gateway()
            .channel(openai(upstream.address()).with("inject_usage", false))
            .key("alice")
            .with("ledger.durability", "strict")
            .tls(Authority::new())
            .start()
            .await;
        let client = gateway.over(http);
        for (i, expected) in bodies.into_iter().enumerate() {
            let request = client.post("/v1/chat/completions").key("alice").body(r#"{"model":"gpt-4o","stream":true}"#);
            let answer = request.send().await;
            assert_eq!((answer.text().as_str(), answer.broken), (expected, false), "{http:?} {i}");
        }
        assert_eq!(gateway.used("key", "alice", 7).await["failed"], 1);
    }
}
