//! Answers pass byte for byte and at once, and what they cost is known however they end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Authority, Gate, Gateway, Http, Mock, Script, Upstream, answer, anthropic, chunked, gateway, gemini, many, mock,
    openai, raw_answer, secret_of, sha256, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const STREAMED: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const SSE: (&str, &str) = ("content-type", "text/event-stream");

fn event(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}], "usage": null}))
}

fn report(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    format!("data: {}\n\n", json!({"choices": [], "usage": usage}))
}

async fn gateway_to(upstream: &Upstream) -> Gateway {
    gateway().channel(openai(upstream.address())).key("alice").tls(Authority::new()).start().await
}

/// One that does not read on when a client leaves.
async fn gateway_letting_go(upstream: &Upstream) -> Gateway {
    gateway().channel(openai(upstream.address()).with("on_disconnect", "abort")).key("alice").start().await
}

async fn providers() -> (Mock, Gateway) {
    let mock = mock();
    let address = mock.address();
    let gateway = gateway()
        .channel(openai(address))
        .channel(openai(address).named("ollama").models(&["llama*"]))
        .channel(anthropic(address))
        .channel(gemini(address))
        .route(json!({"path": "/ollama/api/chat", "operation": "ollama.chat", "channels": ["ollama"], "upstream_path": "/api/chat"}))
        .key("alice")
        .tls(Authority::new())
        .start()
        .await;
    (mock, gateway)
}

fn cases() -> [(&'static str, Value); 8] {
    let messages = json!([{"role": "user", "content": "one two three four"}]);
    let contents = json!([{"parts": [{"text": "one two three"}]}]);
    [
        (CHAT, json!({"model": "gpt-4o", "messages": messages})),
        (
            CHAT,
            json!({"model": "gpt-4o", "messages": messages, "stream": true, "stream_options": {"include_usage": true}}),
        ),
        ("/v1/responses", json!({"model": "gpt-4o", "input": "one two", "stream": true})),
        ("/v1/messages", json!({"model": "claude-sonnet-4-5", "messages": messages, "stream": true})),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", json!({"contents": contents})),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", json!({"contents": contents})),
        ("/ollama/api/chat", json!({"model": "llama3", "messages": messages})),
        ("/v1/embeddings", json!({"model": "gpt-4o", "input": ["a", "b"]})),
    ]
}

#[tokio::test]
async fn answers_pass_byte_for_byte_compressed_or_not_over_each_http() {
    let (mock, gateway) = providers().await;
    let (each, wanted) = (Http::ALL.len() * cases().len() * 4, many("WEIR_TRUST_STREAMS", 1));
    let rounds = wanted.div_ceil(each);
    let (mut entries, mut events, mut input, mut output, mut cache_read) = (0, 0, 0, 0, 0);
    for round in 0..rounds {
        // Another size of pieces in each round, from one octet on.
        let chunk = (37 + round * 7919 % 300).to_string();
        for http in Http::ALL {
            let client = gateway.over(http);
            for (path, body) in cases() {
                for coding in ["", "x-mock-gzip", "x-mock-br", "x-mock-zstd"] {
                    let request = client.post(path).key("alice").json(&body).header("x-mock-chunk", &chunk);
                    let request = if coding.is_empty() { request } else { request.header(coding, "1") };
                    let answer = request.send().await;
                    let entry = mock.ledger().pop().unwrap();
                    assert_eq!((answer.status, answer.broken), (200, false), "{http:?} {path} {coding}");
                    assert_eq!(answer.sha256(), entry.response_sha256, "{http:?} {path} {coding}");
                    let name = coding.strip_prefix("x-mock-").unwrap_or("");
                    let name = if name == "gzip" || name == "br" || name == "zstd" { name } else { "" };
                    assert_eq!(answer.header("content-encoding"), name, "{http:?} {path}");
                }
            }
        }
        for entry in mock.ledger() {
            entries += 1;
            events += entry.events;
            input += entry.usage.input();
            output += entry.usage.output;
            cache_read += entry.usage.cache_read;
        }
        mock.forget();
    }
    let row = gateway.used("key", "alice", entries).await;
    assert_eq!(row["input_tokens"], input);
    assert_eq!(row["output_tokens"], output);
    assert_eq!(row["cache_read_tokens"], cache_read);
    assert_eq!(row["events"], events);
    assert_eq!(row["failed"], 0);
    println!("trust: {entries} answers over four kinds of HTTP, plain and in three codings: all SHA-256 equal");
}

#[tokio::test]
async fn an_answer_is_whole_however_its_end_is_marked() {
    let body = [event("a"), event("b"), report(5, 2), "data: [DONE]\n\n".to_owned()].concat();
    let split = |script: Script| body.as_bytes().chunks(11).fold(script, Script::chunk).last_chunk();
    let close_delimited =
        raw_answer("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").send(body.clone()).close();
    let http_1_0 = raw_answer("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").send(body.clone()).close();
    let with_trailers =
        body.as_bytes().chunks(11).fold(chunked(200, &[SSE]), Script::chunk).send("0\r\nx-t: 1\r\n\r\n");
    let scripts = [split(chunked(200, &[SSE])), answer(200, &[SSE], &body), close_delimited, http_1_0, with_trailers];
    let rounds = scripts.len();
    let all: Vec<Script> = Http::ALL.iter().flat_map(|_| scripts.clone()).collect();
    let upstream = upstream(all).await;
    let gateway = gateway_to(&upstream).await;
    for http in Http::ALL {
        for round in 0..rounds {
            let answer = gateway.over(http).post(CHAT).key("alice").body(STREAMED).send().await;
            assert_eq!((answer.text(), answer.broken), (body.clone(), false), "{http:?} {round}");
        }
    }
    let row = gateway.used("key", "alice", 4 * rounds as u64).await;
    let expected = [5 * 20, 2 * 20, 3 * 20, 0].map(Value::from);
    assert_eq!(["input_tokens", "output_tokens", "events", "failed"].map(|name| row[name].clone()), expected);
}

#[tokio::test]
async fn each_event_reaches_the_client_before_the_next_is_sent() {
    for http in Http::ALL {
        let gates = [Gate::new(), Gate::new()];
        let script = chunked(200, &[SSE]).chunk(event("one")).gate(&gates[0]).chunk(event("two"));
        let script = script.gate(&gates[1]).chunk("data: [DONE]\n\n").last_chunk();
        let upstream = upstream([script]).await;
        let gateway = gateway_to(&upstream).await;
        let body = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
        let mut stream = gateway.over(http).post(CHAT).key("alice").body(body).stream().await;
        assert_eq!(stream.answer.status, 200);
        for (gate, text) in gates.iter().zip([event("one"), event("two")]) {
            let mut got = Vec::new();
            while got.len() < text.len() {
                got.extend_from_slice(&stream.next().await.expect("an event"));
            }
            assert_eq!(String::from_utf8(got).unwrap(), text, "{http:?}");
            gate.open();
        }
        assert_eq!(stream.next().await.as_deref(), Some(&b"data: [DONE]\n\n"[..]), "{http:?}");
        assert_eq!((stream.next().await, stream.answer.broken), (None, false));
    }
}

#[tokio::test]
async fn the_head_of_an_answer_is_not_held_back_for_its_body() {
    let gate = Gate::new();
    let upstream = upstream([chunked(200, &[SSE]).gate(&gate).chunk(event("x")).last_chunk()]).await;
    let gateway = gateway_to(&upstream).await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert_eq!((stream.answer.status, stream.answer.header("content-type")), (200, "text/event-stream"));
    gate.open();
    assert_eq!(stream.next().await.unwrap(), event("x"));
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_is_counted_by_what_it_got() {
    for http in [Http::H1, Http::H2c] {
        let script = chunked(200, &[SSE]).chunk(event("one two three four five six seven")).until_closed();
        let upstream = upstream([script]).await;
        let gateway = gateway_letting_go(&upstream).await;
        let body = r#"{"model":"gpt-4o","stream":true,"messages":["a body of some length, to be estimated"]}"#;
        let mut stream = gateway.over(http).post(CHAT).key("alice").body(body).stream().await;
        assert!(stream.next().await.is_some());
        let left = std::time::Instant::now();
        drop(stream);
        upstream.closed().await;
        assert!(left.elapsed() < Duration::from_secs(2), "the upstream is let go promptly");
        let row = gateway.used("key", "alice", 1).await;
        let expected = [1, body.len().div_ceil(4) as u64, 9, 1].map(Value::from);
        assert_eq!(
            ["failed", "input_tokens", "output_tokens", "events"].map(|name| row[name].clone()),
            expected,
            "{http:?}"
        );
        let metrics = gateway.metrics().await;
        assert!(metrics.contains("\nweir_usage_source_total{source=\"estimated\"} 1\n"), "{http:?}");
        assert!(metrics.contains("\nweir_streams_aborted_total{side=\"client\"} 1\n"), "{http:?}");
        assert!(metrics.contains("\nweir_streams_active 0\n"), "{http:?}");
        assert!(metrics.contains("\nweir_channel_inflight{channel=\"openai\"} 0\n"), "{http:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_any_answer_frees_the_upstream() {
    let upstream = upstream([Script::default().until_closed()]).await;
    let gateway = gateway_letting_go(&upstream).await;
    let mut client = gateway.connect().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", PLAIN.len())]).await;
    client.send(PLAIN).await;
    crate::support::eventually("the request", async || (upstream.heads() == 1).then_some(())).await;
    drop(client);
    upstream.closed().await;
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!((&row["failed"], &row["output_tokens"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn a_stream_that_the_upstream_cuts_is_told_so_and_counted_by_what_came() {
    let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}});
    let delta = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "eight letters"}});
    let anthropic_events =
        format!("event: message_start\ndata: {start}\n\nevent: content_block_delta\ndata: {delta}\n\n");
    for http in Http::ALL {
        let cut = |end: fn(Script) -> Script| end(chunked(200, &[SSE]).chunk(event("one two")).wait(20));
        let long = raw_answer("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n");
        let scripts = [
            cut(Script::close),
            cut(Script::reset),
            cut(|script| script.send("10\r\ndata: half").close()),
            long.send(event("one two")).close(),
            chunked(200, &[SSE]).chunk(&anthropic_events).close(),
        ];
        let upstream = upstream(scripts).await;
        let gateway = gateway()
            .channel(openai(upstream.address()))
            .channel(anthropic(upstream.address()))
            .key("alice")
            .tls(Authority::new())
            .start()
            .await;
        for round in 0..4 {
            let answer = gateway.over(http).post(CHAT).key("alice").body(STREAMED).send().await;
            // Nothing can follow half an event, or what was announced as a length.
            assert_eq!((answer.status, answer.broken), (200, round > 1), "{http:?} {round}");
            let text = answer.text();
            assert!(event("one two").starts_with(&text) || text.starts_with(&event("one two")), "{http:?} {round}");
            assert_eq!(text.contains("\n\ndata: {\"error\":"), round < 2, "{http:?} {round}: {text}");
        }
        let row = gateway.used("model", "gpt-4o", 4).await;
        let input = STREAMED.len().div_ceil(4) as u64;
        let expected = [4, 4 * input, 8, 4].map(Value::from);
        assert_eq!(
            ["failed", "input_tokens", "output_tokens", "events"].map(|name| row[name].clone()),
            expected,
            "{http:?}"
        );

        let body = r#"{"model":"claude-x","stream":true,"messages":[]}"#;
        let answer = gateway.over(http).post("/v1/messages").key("alice").body(body).send().await;
        assert!(!answer.broken && answer.text().contains("\n\nevent: error\ndata: {"), "{http:?}");
        let row = gateway.used("model", "claude-x", 1).await;
        assert_eq!((&row["input_tokens"], &row["failed"]), (&json!(11), &json!(1)), "what was reported counts");
        let metrics = gateway.metrics().await;
        assert!(metrics.contains("\nweir_usage_source_total{source=\"estimated\"} 4\n"));
        assert!(metrics.contains("\nweir_usage_source_total{source=\"partial\"} 1\n"));
        assert!(metrics.contains("\nweir_streams_aborted_total{side=\"upstream\"} 5\n"));
    }
}

/// Servers such as vLLM report what they have used so far with every piece: the last word before a cut is no final one.
#[tokio::test]
async fn a_report_that_went_on_is_final_only_if_the_stream_ended() {
    let piece = |so_far: u64| {
        let usage = json!({"prompt_tokens": 20, "completion_tokens": so_far, "total_tokens": 20 + so_far});
        let choices = json!([{"index": 0, "delta": {"content": "w"}, "finish_reason": null}]);
        format!("data: {}\n\n", json!({"choices": choices, "usage": usage}))
    };
    let pieces = format!("{}{}", piece(1), piece(2));
    let scripts = [
        chunked(200, &[SSE]).chunk(&pieces).close(),
        chunked(200, &[SSE]).chunk(&pieces).chunk("data: [DONE]\n\n").last_chunk(),
    ];
    let upstream = upstream(scripts).await;
    let gateway = gateway_to(&upstream).await;
    for cut in [true, false] {
        let answer = gateway.post(CHAT).key("alice").body(STREAMED).send().await;
        assert_eq!((answer.status, answer.text().contains("data: {\"error\":")), (200, cut));
    }
    let row = gateway.used("key", "alice", 2).await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(40), &json!(4)));
    let metrics = gateway.metrics().await;
    for source in ["partial", "upstream"] {
        assert!(
            metrics.contains(&format!("\nweir_usage_source_total{{source=\"{source}\"}} 1\n")),
            "{source}: {metrics}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_and_its_client_told_so() {
    let upstream = upstream([chunked(200, &[SSE]).chunk(event("one")).until_closed()]).await;
    let channel = openai(upstream.address()).timeouts("5s", "300ms");
    let gateway = gateway().channel(channel).key("alice").start().await;
    let answer = gateway.post(CHAT).key("alice").body(STREAMED).send().await;
    let text = answer.text();
    let error = text.strip_prefix(&event("one")).expect("what came first");
    assert!(error.starts_with(r#"data: {"error":{"message":"The upstream provider did not answer in time."#), "{text}");
    assert!(!answer.broken);
    upstream.closed().await;
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!((&row["failed"], &row["output_tokens"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_large_answer_passes_byte_for_byte_and_its_usage_at_the_end_counts() {
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}"#;
    let plain = format!(r#"{{"data":"{}",{usage}}}"#, "0123456789".repeat(2_000_000));
    let giant = [event(&"word ".repeat(500_000)), event("x"), report(9, 7), "data: [DONE]\n\n".to_owned()].concat();
    for http in Http::ALL {
        let upstream = upstream([
            answer(200, &[("content-type", "application/json")], &plain),
            giant.as_bytes().chunks(100_003).fold(chunked(200, &[SSE]), Script::chunk).last_chunk(),
        ])
        .await;
        let gateway = gateway_to(&upstream).await;
        for (body, expected) in [(PLAIN, &plain), (STREAMED, &giant)] {
            let answer = gateway.over(http).post(CHAT).key("alice").body(body).send().await;
            assert_eq!((answer.status, answer.broken, answer.body.len()), (200, false, expected.len()), "{http:?}");
            assert_eq!(answer.sha256(), sha256(expected), "{http:?}");
        }
        let row = gateway.used("key", "alice", 2).await;
        let expected = [0, 18, 14, 3].map(Value::from);
        assert_eq!(["failed", "input_tokens", "output_tokens", "events"].map(|name| row[name].clone()), expected);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back_and_not_the_answer_in_memory() {
    let piece = "0123456789".repeat(100_000);
    let sent = Gate::new();
    let many = (0..200).fold(chunked(200, &[SSE]), |script, _| script.chunk(&piece));
    let upstream = upstream([many.last_chunk().opens(&sent)]).await;
    let gateway = gateway_to(&upstream).await;
    let mut client = gateway.connect().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", STREAMED.len())]).await;
    client.send(STREAMED).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!sent.is_open(), "200 MB are not taken from the upstream");
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).expect("a process");
    let resident: f64 = line.split(' ').nth(1).and_then(|figure| figure.parse().ok()).expect("a figure");
    assert!(resident < 120e6, "{line}");
}

#[tokio::test]
async fn what_is_only_read_again_is_not_counted_again() {
    let body = r#"{"id":"resp_1","object":"response","usage":{"input_tokens":5,"output_tokens":6,"total_tokens":11}}"#;
    let upstream = upstream([answer(200, &[("content-type", "application/json")], body)]).await;
    let gateway = gateway_to(&upstream).await;
    let made = gateway.post("/v1/responses").key("alice").body(r#"{"model":"gpt-4o","input":"x"}"#).send().await;
    let read = gateway.get("/v1/responses/resp_1").key("alice").send().await;
    assert_eq!((made.text().as_str(), read.text().as_str()), (body, body));
    let row = gateway.used("key", "alice", 2).await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(5), &json!(6)));
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_as_they_are() {
    let content: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    let upstream = upstream([answer(200, &[("content-type", "audio/mpeg")], &content)]).await;
    let gateway = gateway_to(&upstream).await;
    for http in Http::ALL {
        let answer = gateway.over(http).get("/v1/files/file-1/content").key("alice").send().await;
        assert_eq!((answer.header("content-type"), answer.sha256()), ("audio/mpeg", sha256(&content)), "{http:?}");
    }
    assert_eq!(gateway.used("route", "/v1/files", 4).await["output_tokens"], 0);
}

#[tokio::test]
async fn errors_of_the_upstream_pass_byte_for_byte() {
    let bodies = [
        (500, "application/json", r#"{"error" : {"message":"é boom",  "type":"server_error"}}"#),
        (429, "application/json; charset=utf-8", r#"{"error":{"message":"slow down"}}"#),
        (503, "text/html", "<html>busy</html>"),
        (529, "application/json", r#"{"type":"error","error":{"type":"overloaded_error"}}"#),
        (404, "application/json", ""),
    ];
    let scripts = bodies.map(|(status, kind, body)| {
        answer(status, &[("content-type", kind), ("retry-after", "7"), ("x-should-retry", "true")], body)
    });
    let upstream = upstream(scripts).await;
    let gateway = gateway_to(&upstream).await;
    for (status, kind, body) in bodies {
        let answer = gateway.post(CHAT).key("alice").body(PLAIN).send().await;
        assert_eq!((answer.status, answer.header("content-type"), answer.text().as_str()), (status, kind, body));
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("7", "true"));
    }
    assert_eq!(upstream.heads(), 5, "nothing is tried twice");
    let row = gateway.used("key", "alice", 5).await;
    let expected = [5, 0, 0].map(Value::from);
    assert_eq!(["failed", "input_tokens", "output_tokens"].map(|name| row[name].clone()), expected);
}
