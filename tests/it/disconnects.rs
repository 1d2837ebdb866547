//! Sides that leave in the middle: a client, whose answer is read on for the sake of its report, and an
//! upstream, whose end is told in the client's own protocol.

use std::time::Duration;

use serde_json::{Value, json};
use weir_filters::sse::Scanner;

use crate::support::{
    Channel, Gate, Gateway, Http, Raw, Script, Upstream, answer, anthropic, chunked, eventually, gateway, gemini, many,
    openai, secret_of, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const STREAMED: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const SSE: (&str, &str) = ("content-type", "text/event-stream");

fn event(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}], "usage": null}))
}

fn report(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}))
}

async fn gateway_to(upstream: &Upstream) -> Gateway {
    gateway().channel(openai(upstream.address())).key("alice").start().await
}

fn has(metrics: &str, line: &str) -> bool {
    metrics.lines().any(|other| other == line)
}

/// Waits until nothing is in flight any more.
async fn at_rest(gateway: &Gateway) -> String {
    eventually("rest", async || {
        let metrics = gateway.metrics().await;
        let idle = ["weir_drains_active 0", "weir_streams_active 0", "weir_channel_inflight{channel=\"openai\"} 0"];
        idle.iter().all(|line| has(&metrics, line)).then_some(metrics)
    })
    .await
}

/// A request on a connection of its own, as far as it is sent.
async fn sent(gateway: &Gateway, body: &str) -> Raw {
    let mut client = gateway.connect().await;
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", body.len())]).await;
    client.offer(body).await;
    client
}

#[tokio::test]
async fn what_the_upstream_reports_after_a_client_has_left_is_counted() {
    for http in [Http::H1, Http::H2c] {
        let gate = Gate::new();
        let script = chunked(200, &[SSE]).chunk(event("one two")).gate(&gate);
        let upstream = upstream([script.chunk(event("three")).chunk(report(900, 700)).last_chunk()]).await;
        let gateway = gateway_to(&upstream).await;
        let mut stream = gateway.over(http).post(CHAT).key("alice").body(STREAMED).stream().await;
        assert!(stream.next().await.is_some());
        drop(stream);
        eventually("a drain", async || has(&gateway.metrics().await, "weir_drains_active 1").then_some(())).await;
        gate.open();
        let row = gateway.used("key", "alice", 1).await;
        let names = ["failed", "input_tokens", "output_tokens", "events"];
        assert_eq!(names.map(|name| row[name].clone()), [1, 900, 700, 3].map(Value::from), "{http:?}");
        let metrics = at_rest(&gateway).await;
        for line in [
            "weir_drains_total{result=\"complete\"} 1",
            "weir_usage_source_total{source=\"upstream\"} 1",
            "weir_streams_aborted_total{side=\"client\"} 1",
            "weir_upstream_attempts_total{channel=\"openai\",outcome=\"client_abort\"} 1",
        ] {
            assert!(has(&metrics, line), "{http:?}: {line}\n{metrics}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_begins_after_its_client_has_left_is_counted_too() {
    let gate = Gate::new();
    let usage = json!({"usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}}).to_string();
    let late = answer(200, &[("content-type", "application/json")], &usage);
    let upstream = upstream([Script::default().gate(&gate).followed_by(late)]).await;
    let gateway = gateway_to(&upstream).await;
    let client = sent(&gateway, r#"{"model":"gpt-4o","messages":[]}"#).await;
    eventually("the request", async || (upstream.heads() == 1).then_some(())).await;
    drop(client);
    eventually("a drain", async || has(&gateway.metrics().await, "weir_drains_active 1").then_some(())).await;
    gate.open();
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!(["failed", "input_tokens", "output_tokens"].map(|name| row[name].clone()), [1, 30, 20].map(Value::from));
    let metrics = at_rest(&gateway).await;
    assert!(has(&metrics, "weir_http_requests_total{code=\"none\",route=\"/v1/chat/completions\"} 1"), "{metrics}");

    // Its connection is as good as any.
    assert_eq!(upstream.connections(), 1);
    gate.open();
    assert_eq!(gateway.post(CHAT).key("alice").body(r#"{"model":"gpt-4o"}"#).send().await.status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_for_nobody_is_settled_by_what_came() {
    let gate = Gate::new();
    let script = chunked(200, &[SSE]).chunk(event("one two")).gate(&gate).chunk(event("three four")).reset();
    let upstream = upstream([script]).await;
    let gateway = gateway_to(&upstream).await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert!(stream.next().await.is_some());
    drop(stream);
    eventually("a drain", async || has(&gateway.metrics().await, "weir_drains_active 1").then_some(())).await;
    gate.open();
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!((&row["failed"], &row["events"], &row["output_tokens"]), (&json!(1), &json!(2), &json!(5)));
    assert!(has(&at_rest(&gateway).await, "weir_drains_total{result=\"cut\"} 1"));
}

#[tokio::test]
async fn a_client_that_left_does_not_hold_its_connections_task() {
    // With one thread, a drain that held it would let nobody else in.
    let gate = Gate::new();
    let upstream = upstream([
        chunked(200, &[SSE]).chunk(event("one")).gate(&gate).chunk(report(5, 5)).last_chunk(),
        chunked(200, &[SSE]).chunk(report(1, 1)).last_chunk(),
    ])
    .await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").with("server.threads", 1).start().await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert!(stream.next().await.is_some());
    drop(stream);
    for _ in 0..5 {
        assert_eq!(gateway.post(CHAT).key("alice").body(STREAMED).send().await.status, 200);
    }
    gate.open();
    assert_eq!(gateway.used("key", "alice", 6).await["output_tokens"], 10);
}

#[tokio::test]
async fn no_more_answers_are_read_for_nobody_than_there_is_room_for() {
    let gate = Gate::new();
    let script = chunked(200, &[SSE]).chunk(event("one two")).gate(&gate).chunk(report(7, 70)).last_chunk();
    let upstream = upstream([script]).await;
    let gateway = gateway_to(&upstream).await;
    let clients: Vec<_> = futures::future::join_all((0..270).map(|_| async {
        let mut client = sent(&gateway, STREAMED).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        client
    }))
    .await;
    drop(clients);
    eventually("14 refused", async || {
        let metrics = gateway.metrics().await;
        let full = has(&metrics, "weir_drains_total{result=\"refused\"} 14") && has(&metrics, "weir_drains_active 256");
        full.then_some(())
    })
    .await;
    (0..270).for_each(|_| gate.open());
    let row = gateway.used("key", "alice", 270).await;
    assert_eq!(row["output_tokens"], 256 * 70 + 14 * 2, "{row}");
    assert!(has(&at_rest(&gateway).await, "weir_drains_total{result=\"complete\"} 256"));
}

#[tokio::test]
async fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let places = 40;
    for policy in ["drain", "abort"] {
        let script = Script::default().wait(3).followed_by(chunked(200, &[SSE]).chunk(event("one")).wait(3));
        let upstream = upstream([script.chunk(event("two")).wait(3).chunk(report(7, 7)).last_chunk()]).await;
        let channel: Channel = openai(upstream.address()).with("max_concurrency", places);
        let gateway = gateway().channel(channel.with("on_disconnect", policy)).key("alice").start().await;
        let count = many("WEIR_TRUST_LEAVERS", 600) as u64;
        for batch in 0..count / 30 {
            let leaving = (0..30).map(|n| {
                let gateway = &gateway;
                async move {
                    let client = sent(gateway, STREAMED).await;
                    tokio::time::sleep(Duration::from_micros((batch * 30 + n) * 7919 % 14_000)).await;
                    drop(client);
                }
            });
            futures::future::join_all(leaving).await;
        }
        let metrics = at_rest(&gateway).await;
        // An upstream that is let go does not notice in the middle of its script.
        assert!(policy == "abort" || upstream.most_at_once() <= places, "{}", upstream.most_at_once());
        assert!(has(&metrics, "weir_channel_up{channel=\"openai\"} 1"), "who leaves says nothing of the channel");
        let all = futures::future::join_all(
            (0..places).map(|_| async { gateway.post(CHAT).key("alice").body(STREAMED).send().await.status }),
        );
        assert_eq!(all.await, vec![200; places], "{policy}: every place came back");
        // The last of them may still be on their way in.
        let made = eventually("each attempt in the totals once", async || {
            let made = attempts(&at_rest(&gateway).await);
            // Those that found no place were refused without a channel.
            let rows = gateway.usage("channel").await;
            let served = rows.iter().filter(|row| row["channel"] == "openai");
            let settled = served.filter_map(|row| row["requests"].as_u64()).sum::<u64>();
            (settled == made && made >= places as u64).then_some(made)
        })
        .await;
        println!(
            "trust: {policy}: {count} clients left, {made} attempts, all settled once, {places} of {places} places back"
        );
    }
}

/// Attempts of all ends, as the metrics count them.
fn attempts(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("weir_upstream_attempts_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The events of a stream, and whether it ended whole.
async fn told(gateway: &Gateway, http: Http, path: &str, body: &str) -> (Vec<(String, String)>, bool) {
    let answer = gateway.over(http).post(path).key("alice").body(body.to_owned()).send().await;
    assert_eq!(answer.status, 200);
    let mut events = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Scanner::new().feed(&answer.body, |event| events.push((text(event.name), text(event.data))));
    (events, !answer.broken)
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_the_error_of_its_protocol() {
    let openai_event = event("one two");
    let anthropic_event = "event: ping\ndata: {\"type\":\"ping\"}\n\n".to_owned();
    let gemini_event = "data: {\"candidates\":[]}\r\n\r\n".to_owned();
    let cases = [
        ("openai", CHAT, STREAMED, &openai_event, "", "data: "),
        ("openai", "/v1/responses", r#"{"model":"gpt-4o","stream":true}"#, &openai_event, "", "data: "),
        ("anthropic", "/v1/messages", r#"{"model":"claude-x","stream":true}"#, &anthropic_event, "error", "event: x\n"),
        ("gemini", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", "{}", &gemini_event, "", ": comment"),
    ];
    for (channel, path, body, first, name, torn) in cases {
        // Whole events, then a part that no client takes for an event, then one that it would.
        let scripts = [
            chunked(200, &[SSE]).chunk(first).reset(),
            chunked(200, &[SSE]).chunk(first).chunk(if torn == "data: " { "event" } else { torn }).close(),
            chunked(200, &[SSE]).chunk(first).chunk("data: {\"half").close(),
        ];
        for (round, script) in scripts.into_iter().enumerate() {
            let upstream = upstream([script.clone()]).await;
            let gateway = gateway()
                .channel(openai(upstream.address()))
                .channel(anthropic(upstream.address()))
                .channel(gemini(upstream.address()))
                .key("alice")
                .start()
                .await;
            for http in [Http::H1, Http::H2c] {
                let (events, whole) = told(&gateway, http, path, body).await;
                let what = format!("{path} {round} {http:?} {events:?}");
                assert_eq!(whole, round < 2, "{what}");
                // What HTTP/2 resets may take with it what had come before.
                assert!(if round < 2 { events.len() == 2 } else { events.len() < 2 }, "{what}");
                let Some((event, data)) = events.get(1) else { continue };
                let error: Value = serde_json::from_str(data).expect("JSON");
                let message = error["error"]["message"].as_str().unwrap_or_default();
                assert!(message.starts_with("The upstream provider's answer was broken."), "{what}");
                assert_eq!(event, name, "{what}");
                assert_eq!(error["type"] == "error", channel == "anthropic", "{what}");
            }
            let row = gateway.used("channel", channel, 2).await;
            assert_eq!((&row["failed"], &row["events"]), (&json!(2), &json!(2)), "{path}: it is not counted");
            let metrics = gateway.metrics().await;
            assert!(has(&metrics, "weir_streams_aborted_total{side=\"upstream\"} 2"), "{path}: {metrics}");
        }
    }
}

#[tokio::test]
async fn a_part_of_an_event_that_the_client_has_not_got_is_in_nobodys_way() {
    // Where Weir asks for the usage itself, an event is held back until it is known to be another one.
    let upstream = upstream([chunked(200, &[SSE]).chunk(event("one two")).chunk("data: {\"half").close()]).await;
    let gateway = gateway_to(&upstream).await;
    let (events, whole) = told(&gateway, Http::H1, CHAT, r#"{"model":"gpt-4o","stream":true}"#).await;
    assert_eq!((events.len(), whole), (2, true));
    assert!(events[1].1.starts_with("{\"error\":"), "{events:?}");
}

#[tokio::test]
async fn a_connection_goes_on_after_a_stream_that_broke_off() {
    let upstream = upstream([
        chunked(200, &[SSE]).chunk(event("one")).close(),
        chunked(200, &[SSE]).chunk(report(1, 1)).last_chunk(),
    ])
    .await;
    let gateway = gateway_to(&upstream).await;
    let mut client = sent(&gateway, STREAMED).await;
    assert!(client.answer().await.text().contains("data: {\"error\":"));
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", STREAMED.len())]).await;
    client.send(STREAMED).await;
    assert_eq!(client.answer().await.text(), report(1, 1));
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_cut_as_it_was() {
    let upstream = upstream([
        chunked(200, &[("content-type", "application/json")]).chunk("{\"choices\":").close(),
        chunked(200, &[SSE, ("content-encoding", "gzip")]).chunk("data: 1\n\n").close(),
        chunked(500, &[SSE]).chunk("data: 1\n\n").close(),
    ])
    .await;
    let gateway = gateway_to(&upstream).await;
    for text in ["{\"choices\":", "data: 1\n\n", "data: 1\n\n"] {
        let answer = gateway.post(CHAT).key("alice").body(STREAMED).send().await;
        assert_eq!((answer.text().as_str(), answer.broken), (text, true));
    }
}

#[tokio::test]
async fn streams_that_break_off_again_and_again_are_a_failing_channel() {
    let bad = upstream([chunked(200, &[SSE]).chunk(event("one")).close()]).await;
    let good = upstream([chunked(200, &[SSE]).chunk(report(1, 1)).last_chunk()]).await;
    let gateway = gateway()
        .channel(openai(bad.address()))
        .channel(openai(good.address()).named("second").with("priority", 1))
        .key("alice")
        .start()
        .await;
    let mut channels = Vec::new();
    for _ in 0..6 {
        let answer = gateway.post(CHAT).key("alice").body(STREAMED).send().await;
        channels.push(answer.header("x-weir-channel").to_owned());
    }
    assert_eq!(channels, ["openai", "openai", "openai", "second", "second", "second"]);
}

#[tokio::test]
async fn under_strict_durability_the_error_waits_for_its_record_too() {
    let upstream = upstream([chunked(200, &[SSE]).chunk(event("one two")).close()]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .with("ledger", json!({"durability": "strict"}))
        .start()
        .await;
    let (events, whole) = told(&gateway, Http::H1, CHAT, STREAMED).await;
    assert_eq!((events.len(), whole), (2, true));
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!((&row["failed"], &row["events"], &row["output_tokens"]), (&json!(1), &json!(1), &json!(2)));
}
