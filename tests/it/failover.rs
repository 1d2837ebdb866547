//! Several channels, several keys: who is asked, who stands in for whom, and for how long nobody asks one
//! that fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    Channel, Gateway, GatewayBuilder, Script, Upstream, answer, eventually, gateway, openai, raw_answer, sha256,
    upstream, upstream_at,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;

/// How long a channel cools down here, and a little more.
const COOLDOWN: &str = "2s";
const COOLED: Duration = Duration::from_millis(2_200);

/// An answer with two tokens each way.
fn fine() -> Script {
    let usage = json!({"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4});
    answer(200, &[("content-type", "application/json")], json!({"usage": usage}).to_string())
}

fn failing(status: u16) -> Script {
    answer(status, &[("content-type", "application/json")], format!(r#"{{"error": {status}}}"#))
}

fn channel(name: &str, address: SocketAddr, priority: u32) -> Channel {
    openai(address)
        .named(name)
        .with("priority", priority)
        .with("cooldown", json!({"failures": 3, "for": COOLDOWN}))
        .timeouts("250ms", "2s")
}

fn two(first: SocketAddr, second: SocketAddr) -> GatewayBuilder {
    gateway().channel(channel("first", first, 0)).channel(channel("second", second, 1)).key("alice")
}

async fn ask(gateway: &Gateway) -> crate::support::Answer {
    gateway.post(CHAT).key("alice").body(BODY).send().await
}

/// Asks `n` times, each of which must be answered; gives how often by which channel.
async fn answered(gateway: &Gateway, n: usize) -> BTreeMap<String, usize> {
    let mut by = BTreeMap::new();
    for _ in 0..n {
        let answer = ask(gateway).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        *by.entry(answer.header("x-weir-channel").to_owned()).or_default() += 1;
    }
    by
}

fn metric(metrics: &str, series: &str) -> usize {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a figure"))
}

/// The first of two channels fails, `tries` times before it cools down; then it is asked once in a cooldown,
/// until it heals.
async fn stands_in(failure: Script, tries: usize, outcome: &str, what: &str) {
    let (bad, good) = (upstream([failure]).await, upstream([fine()]).await);
    let gateway = two(bad.address(), good.address()).start().await;
    let begun = Instant::now();
    assert_eq!(answered(&gateway, 20).await, [("second".to_owned(), 20)].into(), "{what}");
    let metrics = gateway.metrics().await;
    // A machine that is too busy to ask all of them in time may see a trial.
    let in_time = begun.elapsed() < Duration::from_secs(2);
    let tries = if in_time { tries } else { bad.heads() };
    assert_eq!(bad.heads(), tries, "{what}");
    let attempts = |channel, outcome| {
        metric(&metrics, &format!("weir_upstream_attempts_total{{channel=\"{channel}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((attempts("first", outcome), attempts("second", "ok")), (tries, 20), "{what}");
    assert!(!in_time || metric(&metrics, "weir_channel_up{channel=\"first\"}") == 0, "{what}");
    assert_eq!(metric(&metrics, "weir_channel_up{channel=\"second\"}"), 1, "{what}");

    tokio::time::sleep(COOLED).await;
    answered(&gateway, 10).await;
    assert_eq!(bad.heads(), tries + 1, "{what}: one trial a cooldown");

    bad.now(fine());
    tokio::time::sleep(COOLED).await;
    assert_eq!(answered(&gateway, 5).await, [("first".to_owned(), 5)].into(), "{what}: it is used again");
    let row = gateway.used("channel", "second", 30).await;
    assert_eq!((&row["failed"], &row["output_tokens"]), (&json!(0), &json!(60)), "{what}");
    let row = gateway.used("channel", "first", 5).await;
    assert_eq!(
        (&row["failed"], &row["output_tokens"]),
        (&json!(0), &json!(10)),
        "{what}: its failures are no requests"
    );
    let metrics = gateway.metrics().await;
    for channel in ["first", "second"] {
        assert_eq!(metric(&metrics, &format!("weir_channel_inflight{{channel=\"{channel}\"}}")), 0, "{what}");
        assert_eq!(metric(&metrics, &format!("weir_channel_up{{channel=\"{channel}\"}}")), 1, "{what}");
    }
}

#[tokio::test]
async fn a_channel_that_answers_500_is_stood_in_for_until_it_heals() {
    stands_in(failing(500), 3, "upstream_error", "500").await;
}

#[tokio::test]
async fn a_channel_that_answers_429_is_stood_in_for_until_it_heals() {
    stands_in(failing(429), 1, "upstream_error", "429").await;
    let soon = answer(429, &[("retry-after", "2")], "{}");
    stands_in(soon, 1, "upstream_error", "429 with Retry-After").await;
}

#[tokio::test]
async fn a_channel_that_says_nothing_is_stood_in_for_until_it_heals() {
    stands_in(Script::default().until_closed(), 3, "timeout", "silence").await;
}

#[tokio::test]
async fn a_channel_that_breaks_the_connection_is_stood_in_for_until_it_heals() {
    for (end, what) in [
        (Script::default().reset(), "reset"),
        (Script::default().close(), "close"),
        (raw_answer("HTTP/1.1 2").reset(), "reset within a head"),
        (raw_answer("no HTTP\r\n\r\n"), "no HTTP"),
    ] {
        stands_in(end, 3, "upstream_error", what).await;
    }
}

#[tokio::test]
async fn a_channel_that_is_not_there_is_stood_in_for_until_it_is() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = upstream([fine()]).await;
    let gateway = two(gone, good.address()).start().await;
    assert_eq!(answered(&gateway, 10).await, [("second".to_owned(), 10)].into());
    let metrics = gateway.metrics().await;
    let failed = "weir_upstream_attempts_total{channel=\"first\",outcome=\"upstream_error\"}";
    assert_eq!(metric(&metrics, failed), 3);
    assert_eq!(metric(&metrics, "weir_channel_cooldowns_total{channel=\"first\",what=\"channel\"}"), 1);
    let back = upstream_at(gone, fine()).await;
    tokio::time::sleep(COOLED).await;
    assert_eq!(answered(&gateway, 3).await, [("first".to_owned(), 3)].into());
    assert_eq!(back.heads(), 3);
}

#[tokio::test]
async fn retry_after_says_when_a_key_is_asked_again() {
    let (bad, good) = (upstream([answer(429, &[("retry-after", "2")], "{}")]).await, upstream([fine()]).await);
    let long = json!({"failures": 3, "for": "1h"});
    let gateway = gateway()
        .channel(channel("first", bad.address(), 0).with("cooldown", long))
        .channel(channel("second", good.address(), 1))
        .key("alice")
        .start()
        .await;
    answered(&gateway, 5).await;
    bad.now(fine());
    assert_eq!(bad.heads(), 1);
    tokio::time::sleep(COOLED).await;
    assert_eq!(answered(&gateway, 5).await, [("first".to_owned(), 5)].into());
}

#[tokio::test]
async fn many_at_once_see_only_answers_when_a_channel_fails_under_them() {
    let (bad, good) = (upstream([failing(503)]).await, upstream([fine().wait(5)]).await);
    let gateway = two(bad.address(), good.address()).start().await;
    let asks = (0..200).map(|_| async { ask(&gateway).await.status });
    let statuses = futures::future::join_all(asks).await;
    assert_eq!(statuses, [200; 200]);
    let seen = bad.heads();
    answered(&gateway, 20).await;
    assert_eq!(bad.heads(), seen, "it cools down for all");
}

#[tokio::test]
async fn if_all_channels_fail_the_last_answer_passes_as_it_is() {
    let last = answer(503, &[("content-type", "text/plain"), ("x-own", "yes")], "no  capacity\n");
    let (first, second) = (upstream([failing(500)]).await, upstream([last]).await);
    let gateway = two(first.address(), second.address()).start().await;
    let got = ask(&gateway).await;
    assert_eq!((got.status, got.text().as_str(), got.header("x-own")), (503, "no  capacity\n", "yes"));
    assert_eq!(got.header("x-weir-channel"), "second");
    assert_eq!((first.heads(), second.heads()), (1, 1));
    for _ in 0..2 {
        assert_eq!(ask(&gateway).await.status, 503);
    }
    // Both cool down now; a request is not refused for that.
    let status = ask(&gateway).await.status;
    assert!(status == 500 || status == 503);
    assert_eq!(first.heads() + second.heads(), 7, "one of them was asked, once");
    let row = gateway.used("key", "alice", 4).await;
    assert_eq!((&row["failed"], &row["output_tokens"]), (&json!(4), &json!(0)));
}

#[tokio::test]
async fn an_error_that_is_the_requests_own_is_not_tried_elsewhere() {
    let (first, second) = (upstream([failing(400)]).await, upstream([fine()]).await);
    let gateway = two(first.address(), second.address()).start().await;
    for status in [400, 404, 413, 422, 501] {
        first.now(failing(status));
        for _ in 0..4 {
            assert_eq!(ask(&gateway).await.status, status);
        }
    }
    assert_eq!((first.heads(), second.heads()), (20, 0));
}

#[tokio::test]
async fn retries_end_with_their_number_and_their_time() {
    let bad = || upstream([Script::default().until_closed()]);
    let (a, b, c, good) = (bad().await, bad().await, bad().await, upstream([fine()]).await);
    let patient = |name: &str, upstream: &Upstream, priority: u32, retry: Value| {
        channel(name, upstream.address(), priority).with("retry", retry)
    };
    let all = |retry: &Value| {
        gateway()
            .channel(patient("a", &a, 0, retry.clone()))
            .channel(patient("b", &b, 1, retry.clone()))
            .channel(patient("c", &c, 2, retry.clone()))
            .channel(patient("good", &good, 3, retry.clone()))
            .key("alice")
    };
    let gateway = all(&json!({"attempts": 3})).start().await;
    assert_eq!(ask(&gateway).await.status, 504);
    assert_eq!((a.heads(), b.heads(), c.heads(), good.heads()), (1, 1, 1, 0));
    let gateway = all(&json!({"attempts": 4})).start().await;
    assert_eq!(ask(&gateway).await.header("x-weir-channel"), "good");

    let gateway = all(&json!({"attempts": 4, "within": "400ms"})).start().await;
    let start = Instant::now();
    assert_eq!(ask(&gateway).await.status, 504);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(380) && took < Duration::from_millis(900), "{took:?}");
    assert_eq!((a.heads(), b.heads(), c.heads(), good.heads()), (3, 3, 2, 1), "the second had 150 ms");
}

#[tokio::test]
async fn a_body_of_two_megabytes_arrives_whole_at_the_second_channel() {
    let text = "é0123456789\\n".repeat(160_000);
    let body = format!(r#"{{ "messages":[{{"role":"user","content":"{text}"}}],  "model": "gpt-4o" }}"#);
    assert!(body.len() > 2_000_000);
    let pieces: Vec<Bytes> = body.as_bytes().chunks(70_001).map(Bytes::copy_from_slice).collect();
    for end in [failing(500), failing(429).before_body().wait(50).close(), Script::default().before_body().reset()] {
        for chunked in [false, true] {
            let (bad, good) = (upstream([end.clone()]).await, upstream([fine()]).await);
            let gateway = two(bad.address(), good.address()).start().await;
            let request = gateway.post(CHAT).key("alice");
            let request = if chunked { request.pieces(pieces.clone()) } else { request.body(body.clone()) };
            let answer = request.send().await;
            assert_eq!((answer.status, answer.header("x-weir-channel")), (200, "second"), "{}", answer.text());
            assert_eq!((bad.heads(), sha256(good.only().body)), (1, sha256(&body)));
        }
    }
}

#[tokio::test]
async fn each_channel_gets_the_request_in_its_own_words() {
    let (first, second) = (upstream([failing(500)]).await, upstream([fine()]).await);
    let gateway = gateway()
        .channel(
            channel("first", first.address(), 0)
                .maps("gpt-4o", "large-1")
                .with("base_url", format!("http://{}/one", first.address())),
        )
        .channel(
            channel("second", second.address(), 1)
                .maps("gpt-4o", "big-2")
                .presents("sk-second")
                .with("inject_usage", false),
        )
        .key("alice")
        .start()
        .await;
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
    let answer = gateway.post("/v1/chat/completions?x=1&key=").key("alice").body(body).send().await;
    assert_eq!((answer.status, answer.header("x-weir-channel")), (200, "second"));
    let (one, two) = (first.only(), second.only());
    assert_eq!(one.line(), "POST /one/v1/chat/completions?x=1");
    assert_eq!(
        (one.json()["model"].as_str(), &one.json()["stream_options"]),
        (Some("large-1"), &json!({"include_usage": true}))
    );
    assert_eq!(two.line(), "POST /v1/chat/completions?x=1");
    assert_eq!(two.body, br#"{"model":"big-2","stream":true,"messages":[]}"#);
    assert_eq!(two.header("authorization"), Some("Bearer sk-second"));
}

fn presented(upstream: &Upstream) -> Vec<String> {
    let key = |header: &str| header.trim_start_matches("Bearer sk-up-").to_owned();
    upstream.received().iter().map(|received| key(received.header("authorization").expect("a key"))).collect()
}

#[tokio::test]
async fn keys_cool_down_one_by_one_and_all_of_them_are_the_channel() {
    for status in [401, 429] {
        let keys = json!([{"name": "a", "value": "sk-up-a"}, {"name": "b", "value": "sk-up-b"}]);
        let (first, second) = (upstream([failing(status), fine()]).await, upstream([fine()]).await);
        let gateway = gateway()
            .channel(channel("first", first.address(), 0).with("keys", keys))
            .channel(channel("second", second.address(), 1))
            .key("alice")
            .start()
            .await;
        assert_eq!(answered(&gateway, 4).await, [("first".to_owned(), 4)].into(), "the client sees nothing of it");
        let seen = presented(&first);
        assert_eq!(seen.len(), 5);
        assert!(seen[1..].iter().all(|key| *key != seen[0]), "{status}: {seen:?}");
        let metrics = gateway.metrics().await;
        assert_eq!(metric(&metrics, "weir_channel_keys_cooling{channel=\"first\"}"), 1);
        assert_eq!(metric(&metrics, "weir_channel_up{channel=\"first\"}"), 1);

        first.now(failing(status));
        assert_eq!(answered(&gateway, 4).await, [("second".to_owned(), 4)].into());
        assert_eq!(first.heads(), 6, "{status}: nobody asks a channel without keys");
        assert_eq!(metric(&gateway.metrics().await, "weir_channel_up{channel=\"first\"}"), 0);

        first.now(fine());
        tokio::time::sleep(COOLED).await;
        assert_eq!(answered(&gateway, 8).await, [("first".to_owned(), 8)].into());
        let seen = presented(&first);
        for key in ["a", "b"] {
            assert!(seen[6..].iter().any(|presented| presented == key), "{status}: both take turns: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_reload_does_not_forget_who_cools_down_unless_it_corrects_that() {
    let (bad, good) = (upstream([failing(401)]).await, upstream([fine()]).await);
    let long = json!({"failures": 1, "for": "1h"});
    let mut gateway = gateway()
        .channel(channel("first", bad.address(), 0).with("cooldown", long))
        .channel(channel("second", good.address(), 1))
        .key("alice")
        .start()
        .await;
    answered(&gateway, 3).await;
    gateway.rewrite(|config| config["channels"][0]["weight"] = json!(3));
    assert_eq!(gateway.admin("POST", "/admin/api/reload").send().await.status, 200);
    answered(&gateway, 3).await;
    assert_eq!(bad.heads(), 1);

    bad.now(fine());
    gateway.rewrite(|config| config["channels"][0]["keys"][0]["value"] = json!("sk-up-corrected"));
    assert_eq!(gateway.admin("POST", "/admin/api/reload").send().await.status, 200);
    assert_eq!(answered(&gateway, 3).await, [("first".to_owned(), 3)].into());
}

#[tokio::test]
async fn channels_of_one_priority_share_by_weight_and_others_wait() {
    let (one, three, spare) = (upstream([fine()]).await, upstream([fine()]).await, upstream([fine()]).await);
    let gateway = gateway()
        .channel(channel("spare", spare.address(), 9))
        .channel(channel("one", one.address(), 5))
        .channel(channel("three", three.address(), 5).with("weight", 3))
        .key("alice")
        .start()
        .await;
    let by = answered(&gateway, 800).await;
    // Five standard deviations of a binomial with 800 tries at a quarter are 61.
    assert!(by["one"].abs_diff(200) < 61 && by["one"] + by["three"] == 800, "{by:?}");
    assert_eq!((one.heads(), three.heads(), spare.heads()), (by["one"], by["three"], 0));
}

#[tokio::test]
async fn a_channel_never_has_more_requests_than_it_takes_and_all_its_places_come_back() {
    let (small, large) = (upstream([fine().wait(0)]).await, upstream([fine()]).await);
    small.now(slow());
    large.now(slow());
    let gateway = gateway()
        .channel(channel("small", small.address(), 0).with("max_concurrency", 3).timeouts("5s", "5s"))
        .channel(channel("large", large.address(), 1).with("max_concurrency", 7).timeouts("5s", "5s"))
        .key("alice")
        .start()
        .await;
    for _ in 0..3 {
        let answers = futures::future::join_all((0..200).map(|_| ask(&gateway))).await;
        let fine = answers.iter().filter(|answer| answer.status == 200).count();
        let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert_eq!(fine + busy.len(), 200);
        assert!(fine >= 10, "{fine}");
        let refusal = busy.first().expect("200 at once are too many");
        assert_eq!(refusal.header("retry-after"), "1");
        let message = refusal.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.starts_with("Every channel that serves this request is at its limit."), "{message}");
        assert_eq!((small.most_at_once(), large.most_at_once()), (3, 7));
    }
    small.now(fine());
    assert_eq!(answered(&gateway, 20).await, [("small".to_owned(), 20)].into());
}

/// An answer that takes so long that two hundred requests are there before the first has one.
fn slow() -> Script {
    Script::default().wait(500).send(fine_bytes())
}

fn fine_bytes() -> Bytes {
    Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
}

fn turn(user: &str, turns: usize) -> Value {
    let mut messages = vec![json!({"role": "system", "content": "be brief"}), json!({"role": "user", "content": user})];
    for turn in 0..turns {
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
        messages.push(json!({"role": "user", "content": format!("question {turn}")}));
    }
    json!({"model": "gpt-4o", "messages": messages})
}

#[tokio::test]
async fn a_conversation_stays_at_its_channel_and_moves_when_that_fails() {
    let (one, two) = (upstream([fine()]).await, upstream([fine()]).await);
    let gateway = gateway()
        .channel(channel("one", one.address(), 0))
        .channel(channel("two", two.address(), 0))
        .with("sticky", json!({"header": "x-conversation-id", "ttl": "1m"}))
        .key("alice")
        .start()
        .await;
    let ask = async |body: &Value, conversation: &str| {
        let request = gateway.post(CHAT).key("alice").json(body);
        let request = if conversation.is_empty() { request } else { request.header("x-conversation-id", conversation) };
        let answer = request.send().await;
        assert_eq!(answer.status, 200);
        answer.header("x-weir-channel").to_owned()
    };
    let mut firsts = Vec::new();
    for n in 0..20 {
        let user = format!("question {n}");
        let first = ask(&turn(&user, 0), "").await;
        for turns in 1..6 {
            assert_eq!(ask(&turn(&user, turns), "").await, first, "turn {turns} of {n}");
        }
        let named = ask(&turn("a", 0), &user).await;
        for other in ["b", "c", "d", "e", "f"] {
            assert_eq!(ask(&turn(other, 0), &user).await, named, "named {n}");
        }
        firsts.push(first);
    }
    assert!(firsts.iter().any(|f| f == "one") && firsts.iter().any(|f| f == "two"), "{firsts:?}");

    let (home, failing_one, other) = match firsts[0].as_str() {
        "one" => ("one", &one, "two"),
        _ => ("two", &two, "one"),
    };
    failing_one.now(failing(500));
    assert_eq!(ask(&turn("question 0", 6), "").await, other, "it moves");
    failing_one.now(fine());
    for turns in 7..12 {
        assert_eq!(ask(&turn("question 0", turns), "").await, other, "and stays where it went, not at {home}");
    }
}

#[tokio::test]
async fn what_has_no_model_goes_to_the_first_channel_and_nowhere_else() {
    let (first, second) = (upstream([failing(500)]).await, upstream([fine()]).await);
    let gateway = gateway()
        .channel(channel("first", first.address(), 0))
        .channel(channel("second", second.address(), 0))
        .key("alice")
        .start()
        .await;
    for n in 0..6 {
        let answer = if n % 2 == 0 {
            gateway.get("/v1/files/file-1").key("alice").send().await
        } else {
            gateway.post("/v1/batches").key("alice").json(&json!({"input_file_id": "file-1"})).send().await
        };
        assert_eq!((answer.status, answer.header("x-weir-channel")), (500, "first"), "{n}");
    }
    assert_eq!((first.heads(), second.heads()), (6, 0));
}

#[tokio::test]
async fn the_failures_of_one_protocols_channel_are_answered_by_another_of_the_same() {
    let (bad, good) = (upstream([failing(529)]).await, upstream([fine()]).await);
    let anthropic = |name: &str, upstream: &Upstream, priority: u32| {
        crate::support::anthropic(upstream.address()).named(name).with("priority", priority)
    };
    let gateway =
        gateway().channel(anthropic("a", &bad, 0)).channel(anthropic("b", &good, 1)).key("alice").start().await;
    let body = r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#;
    let answer = gateway.post("/v1/messages").key("alice").body(body).send().await;
    assert_eq!((answer.status, answer.header("x-weir-channel")), (200, "b"));
    eventually("no request in flight", async || {
        let metrics = gateway.metrics().await;
        (metric(&metrics, "weir_channel_inflight{channel=\"b\"}") == 0).then_some(())
    })
    .await;
}
