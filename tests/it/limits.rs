//! Limits by the minute and at a time: exact under any concurrency, given back whatever ends a request, and
//! told in each protocol's own words.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Gateway, Http, Upstream, answer, anthropic, eventually, gateway, gemini, key_named, many, mock, openai, raw_answer,
    secret_of, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","max_tokens":10}"#;
const USAGE: &str = r#"{"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}"#;

/// Statuses of so many requests that are made at once, over HTTP/1.1 and HTTP/2.
async fn at_once(gateway: &Gateway, keys: &[&str], requests: usize) -> Vec<u16> {
    let clients = [gateway.over(Http::H1), gateway.over(Http::H2c)];
    let ask = |n: usize| clients[n % 2].post(CHAT).key(keys[n % keys.len()]).body(BODY).send();
    join_all((0..requests).map(ask)).await.into_iter().map(|answer| answer.status).collect()
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

async fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let text = gateway.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

async fn limited(limits: Value) -> (Upstream, Gateway) {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], USAGE)]).await;
    let channel = openai(upstream.address());
    let gateway = gateway().channel(channel).key(key_named("alice").with("limits", limits)).key("bob").start().await;
    (upstream, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_get_exactly_the_requests_of_a_minute() {
    let rounds = many("WEIR_TRUST_ROUNDS", 1);
    for _ in 0..rounds {
        let (upstream, gateway) = limited(json!({ "rpm": 100 })).await;
        let statuses = at_once(&gateway, &["alice"], 1000).await;
        assert_eq!((count(&statuses, 200), count(&statuses, 429)), (100, 900));
        assert_eq!(upstream.received().len(), 100);
        assert_eq!(
            count(&at_once(&gateway, &["bob"], 50).await, 200),
            50,
            "another key has limits of its own, or none"
        );
        assert_eq!(metric(&gateway, r#"weir_limit_rejections_total{limit="rpm"}"#).await, Some(900.0));
        assert_eq!(metric(&gateway, "weir_limit_permits").await, Some(0.0));
    }
    println!("trust: {rounds} × 1000 at once: exactly 100 served each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_limit_is_shared_by_all_keys_of_the_user_and_a_refusal_takes_nothing_from_the_key() {
    let upstream = upstream([answer(200, &[], USAGE)]).await;
    let key = |name: &str, rpm: u64| key_named(name).with("user", "team").with("limits", json!({ "rpm": rpm }));
    let mut gateway =
        gateway().channel(openai(upstream.address())).key(key("one", 60)).key(key("two", 500)).start().await;
    gateway.rewrite(|config| config["users"] = json!([{ "name": "team", "limits": { "rpm": 100 } }]));
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(0));
    let statuses = at_once(&gateway, &["one", "two"], 600).await;
    assert_eq!((count(&statuses, 200), upstream.received().len()), (100, 100));
    gateway.rewrite(|config| config["users"] = json!([{ "name": "team" }]));
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(0));
    let of_one = upstream.received().len();
    assert_eq!(count(&at_once(&gateway, &["two"], 300).await, 200), 300);
    assert_eq!(upstream.received().len(), of_one + 300, "what the user's limit refused, the key's did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_requests_are_at_the_upstream_than_may_be_at_a_time() {
    let upstream = slow_upstream(20).await;
    let key = key_named("alice").with("limits", json!({ "concurrency": 10 }));
    let gateway = gateway().channel(openai(upstream.address())).key(key).start().await;
    for _ in 0..3 {
        let statuses = at_once(&gateway, &["alice"], 200).await;
        assert_eq!(count(&statuses, 200) + count(&statuses, 429), 200);
        assert!(count(&statuses, 200) >= 10);
    }
    assert_eq!(upstream.most_at_once(), 10);
    assert_eq!(metric(&gateway, "weir_limit_permits").await, Some(0.0));
}

async fn slow_upstream(milliseconds: u64) -> Upstream {
    let bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{USAGE}", USAGE.len());
    upstream([raw_answer("").wait(milliseconds).send(bytes)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_place_is_free_again_after_ten_thousand_clients_have_left_at_any_moment() {
    const CLIENTS: usize = 10_000;
    const AT_A_TIME: usize = 40;
    let upstream = slow_upstream(3).await;
    let key = key_named("alice").with("limits", json!({ "concurrency": 10, "rpm": 1_000_000 }));
    let gateway = gateway().channel(openai(upstream.address())).key(key).start().await;
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: w\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n{BODY}",
        secret_of("alice"),
        BODY.len()
    );
    let leave = async |client: usize| {
        for n in (client..CLIENTS).step_by(AT_A_TIME) {
            // A part of the request, or all of it and then a wait of up to five milliseconds.
            let sent = if n % 5 == 0 { n * 31 % request.len() } else { request.len() };
            let mut client = gateway.connect().await;
            client.offer(&request.as_bytes()[..sent]).await;
            tokio::time::sleep(Duration::from_micros((n * 7919 % 5000) as u64)).await;
        }
    };
    join_all((0..AT_A_TIME).map(leave)).await;
    // The last of them may still be on their way in.
    eventually("ten places at a time", async || {
        let answers = join_all((0..10).map(|_| gateway.post(CHAT).key("alice").body(BODY).send())).await;
        answers.iter().all(|answer| answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(metric(&gateway, "weir_limit_permits").await, Some(0.0));
}

#[tokio::test]
async fn a_minute_is_not_over_because_the_gateway_was_killed() {
    let (_upstream, mut gateway) = limited(json!({ "rpm": 5 })).await;
    for expected in [200, 200, 200, 200, 200, 429] {
        assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, expected);
    }
    gateway.kill();
    gateway.start().await;
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 429);
    assert_eq!(gateway.post(CHAT).key("bob").body(BODY).send().await.status, 200);
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_settled_by_report() {
    let (_upstream, gateway) = limited(json!({ "tpm": 100 })).await;
    // 34 bytes are 12 tokens, and 10 may be answered: 22 of 100 are reserved, 12 are used.
    for n in 1..=7 {
        let answer = gateway.post(CHAT).key("alice").body(BODY).send().await;
        assert_eq!(answer.status, 200, "{n}");
        let remaining = 100 - (n - 1) * 12 - 22;
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), remaining.to_string());
    }
    let refused = gateway.post(CHAT).key("alice").body(BODY).send().await;
    assert_eq!((refused.status, refused.header("x-ratelimit-limit-tokens")), (429, "100"));
    assert_eq!(refused.json()["error"]["type"], "tokens");
    let smaller = gateway.post(CHAT).key("alice").body(r#"{"model":"gpt-4o","max_tokens":1}"#).send().await;
    assert_eq!(smaller.status, 200, "what is left is enough for a smaller one");
    assert_eq!(metric(&gateway, "weir_limit_settled_tokens_total").await, Some(96.0));
}

#[tokio::test]
async fn a_request_larger_than_the_limit_is_refused_for_good() {
    let (upstream, gateway) = limited(json!({ "tpm": 100 })).await;
    let refused = gateway.post(CHAT).key("alice").body(r#"{"model":"gpt-4o","max_tokens":100}"#).send().await;
    assert_eq!((refused.status, refused.header("x-should-retry"), refused.header("retry-after")), (429, "false", ""));
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn each_protocol_is_told_in_its_own_words() {
    let mock = mock();
    let channels = [openai(mock.address()), anthropic(mock.address()), gemini(mock.address())];
    let builder = channels.into_iter().fold(gateway(), crate::support::GatewayBuilder::channel);
    let gateway = builder.key(key_named("alice").with("limits", json!({ "rpm": 3 }))).start().await;
    let bodies = [
        (CHAT, r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#),
        ("/v1/messages", r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#),
        ("/v1beta/models/gemini-x:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#),
    ];
    for (n, (path, body)) in bodies.iter().enumerate() {
        let answer = gateway.post(path).key("alice").body(*body).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let names = if n == 1 { "anthropic-ratelimit-requests-" } else { "x-ratelimit-" };
        let remaining = if n == 1 { format!("{names}remaining") } else { format!("{names}remaining-requests") };
        assert_eq!(answer.header(&remaining), (2 - n).to_string(), "{path}");
    }
    let expected = [
        json!({ "type": "requests", "param": null, "code": "rate_limit_exceeded" }),
        json!({ "type": "rate_limit_error" }),
        json!({ "code": 429, "status": "RESOURCE_EXHAUSTED" }),
    ];
    for ((path, body), expected) in bodies.iter().zip(expected) {
        let refused = gateway.post(path).key("alice").body(*body).send().await;
        assert_eq!(refused.status, 429, "{path}");
        let error = refused.json()["error"].clone();
        let message = error["message"].as_str().expect("a message");
        let begins = "This API key has a limit of 3 requests a minute; all of them are made. Try again in ";
        assert!(message.starts_with(begins), "{message}");
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&error[name], value, "{path}");
        }
        let wait: u64 = refused.header("retry-after").parse().expect("whole seconds");
        assert!((55..=61).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn the_providers_own_limits_are_not_shown_to_a_client_that_has_limits() {
    let lines = [("x-ratelimit-remaining-requests", "9999"), ("X-RateLimit-Reset-Tokens", "1s"), ("x-other", "1")];
    let upstream = upstream([answer(200, &lines, USAGE)]).await;
    let key = key_named("alice").with("limits", json!({ "rpm": 5 }));
    let gateway = gateway().channel(openai(upstream.address())).key(key).key("bob").start().await;
    for http in [Http::H1, Http::H2c] {
        let of_alice = gateway.over(http).post(CHAT).key("alice").body(BODY).send().await;
        assert_eq!(of_alice.headers.get_all("x-ratelimit-remaining-requests").iter().count(), 1);
        assert_ne!(of_alice.header("x-ratelimit-remaining-requests"), "9999");
        assert_eq!((of_alice.header("x-ratelimit-reset-tokens"), of_alice.header("x-other")), ("", "1"));
        let of_bob = gateway.over(http).post(CHAT).key("bob").body(BODY).send().await;
        assert_eq!(of_bob.header("x-ratelimit-remaining-requests"), "9999", "without limits nothing is hidden");
    }
}

#[tokio::test]
async fn a_request_that_reaches_no_channel_takes_nothing() {
    let (_upstream, gateway) = limited(json!({ "rpm": 1 })).await;
    for _ in 0..5 {
        assert_eq!(gateway.post(CHAT).key("alice").body(r#"{"model":"o3"}"#).send().await.status, 404);
        assert_eq!(gateway.post(CHAT).key("alice").body("{").send().await.status, 400);
        assert_eq!(gateway.get("/v1/models").key("alice").send().await.status, 200);
    }
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 200);
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 429);
}
