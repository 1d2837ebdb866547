//! Budgets: never exceeded, at no moment and by no kill, and usable to the last request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Gateway, Http, Upstream, gateway, key_named, many, openai, raw_answer, upstream};

const CHAT: &str = "/v1/chat/completions";
/// What each answer reports: five tokens at a tenth of a cent each.
const USAGE: &str = r#"{"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}"#;
const COST_MICRO_USD: u64 = 5_000;
/// A budget for a hundred of them.
const BUDGET: &str = "0.5";
const PRICES: &str = r#"models: { "gpt-*": { input: "0", output: "1000" } }"#;

fn body(max_tokens: u64) -> String {
    json!({ "model": "gpt-4o", "max_tokens": max_tokens }).to_string()
}

async fn slow_upstream() -> Upstream {
    let bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{USAGE}", USAGE.len());
    upstream([raw_answer("").wait(10).send(bytes)]).await
}

async fn with_budget(upstream: &Upstream, budget: Value) -> Gateway {
    let key = key_named("alice").with("limits", json!({ "budget_usd": budget }));
    gateway()
        .channel(openai(upstream.address()))
        .key(key)
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await
}

async fn spent(gateway: &Gateway) -> u64 {
    gateway.usage("key").await.iter().map(|row| row["cost_micro_usd"].as_u64().expect("a cost")).sum()
}

async fn ask(gateway: &Gateway, max_tokens: u64) -> u16 {
    gateway.post(CHAT).key("alice").body(body(max_tokens)).send().await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_spend_a_budget_for_a_hundred_and_no_more() {
    let rounds = many("WEIR_TRUST_ROUNDS", 1);
    for _ in 0..rounds {
        let upstream = slow_upstream().await;
        let gateway = with_budget(&upstream, json!({ "total": BUDGET })).await;
        let clients = [gateway.over(Http::H1), gateway.over(Http::H2c)];
        let requests = (0..1000).map(|n| clients[n % 2].post(CHAT).key("alice").body(body(5)).send());
        let answers = join_all(requests).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert_eq!((answers.len() - refused.len(), upstream.received().len()), (100, 100));
        assert_eq!(spent(&gateway).await, 100 * COST_MICRO_USD);
        let told = gateway.post(CHAT).key("alice").body(body(5)).send().await;
        assert_eq!((told.status, told.header("x-should-retry"), told.header("retry-after")), (429, "false", ""));
        let error = told.json()["error"].clone();
        assert_eq!((&error["type"], &error["code"]), (&json!("insufficient_quota"), &json!("insufficient_quota")));
        let begins = "This API key has a budget of $0.50 in all; $0.50 are spent or reserved and this request may cost \
                      $0.005. Ask whoever gave you the key for a higher limit.";
        assert!(error["message"].as_str().is_some_and(|message| message.starts_with(begins)), "{error}");
    }
    println!("trust: {rounds} × 1000 at once: exactly 100 served each time, 0 over the budget");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_reserved_and_not_used_can_be_spent_to_the_last_full_request() {
    let upstream = slow_upstream().await;
    let gateway = with_budget(&upstream, json!({ "total": BUDGET })).await;
    let clients = [gateway.over(Http::H1), gateway.over(Http::H2c)];
    // Twice what they use is reserved: at first half of the hundred are let in.
    let requests = (0..1000).map(|n| clients[n % 2].post(CHAT).key("alice").body(body(10)).send());
    let all = async {
        join_all(requests).await;
    };
    let watched = async {
        for _ in 0..20 {
            assert!(spent(&gateway).await <= 100 * COST_MICRO_USD);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(all, watched);
    while ask(&gateway, 10).await == 200 {}
    assert_eq!(upstream.received().len(), 99, "the hundredth might cost twice what is left");
    assert_eq!((ask(&gateway, 5).await, ask(&gateway, 5).await), (200, 429));
    assert_eq!((spent(&gateway).await, upstream.received().len()), (100 * COST_MICRO_USD, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_gives_no_money_out_twice() {
    let upstream = slow_upstream().await;
    let mut gateway = with_budget(&upstream, json!({ "total": BUDGET })).await;
    let whole = Arc::new(AtomicUsize::new(0));
    for kill_after in [10, 15, 15] {
        let client = gateway.over(Http::H1);
        let before = upstream.received().len();
        let load: Vec<_> = (0..12)
            .map(|_| {
                let (client, whole) = (client.clone(), whole.clone());
                tokio::spawn(async move {
                    while let Some(answer) = client.post(CHAT).key("alice").body(body(5)).try_send().await {
                        whole.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while upstream.received().len() < before + kill_after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gateway.kill();
        join_all(load).await;
        gateway.start().await;
        let asked = upstream.received().len();
        let counted = spent(&gateway).await;
        assert!(counted >= asked as u64 * COST_MICRO_USD, "{asked} were asked for, {counted} µUSD are counted");
        assert!(counted <= 100 * COST_MICRO_USD, "{counted}");
    }
    while ask(&gateway, 5).await == 200 {
        whole.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(spent(&gateway).await, 100 * COST_MICRO_USD);
    let asked = upstream.received().len();
    assert!(asked <= 100 && whole.load(Ordering::Relaxed) <= asked, "{asked}");
    assert!(asked >= 100 - 3 * 12, "at most those under way at a kill are counted without an answer: {asked}");
}

#[tokio::test]
async fn a_budget_of_a_user_and_of_a_day_survive_a_restart() {
    let upstream = slow_upstream().await;
    let mut gateway = with_budget(&upstream, json!({ "day": "0.02" })).await;
    gateway.rewrite(|config| {
        config["users"] = json!([{ "name": "user-of-alice", "limits": { "budget_usd": { "month": "0.03" } } }]);
    });
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(0));
    for expected in [200, 200, 200, 200, 429] {
        assert_eq!(ask(&gateway, 5).await, expected);
    }
    gateway.stop().await;
    gateway.rewrite(|config| config["keys"][0]["limits"]["budget_usd"]["day"] = json!("10"));
    gateway.start().await;
    for expected in [200, 200, 429] {
        assert_eq!(ask(&gateway, 5).await, expected);
    }
    let told = gateway.post(CHAT).key("alice").body(body(5)).send().await.json();
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("The user of this API key has a budget of $0.03 a month; $0.03 are spent"),
        "{message}"
    );
}

#[tokio::test]
async fn a_budget_that_is_set_while_the_gateway_runs_counts_what_was_spent_before() {
    let upstream = slow_upstream().await;
    let key = key_named("alice");
    let mut gateway = gateway()
        .channel(openai(upstream.address()))
        .key(key)
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, 5).await, 200);
    }
    gateway.rewrite(|config| config["keys"][0]["limits"] = json!({ "budget_usd": { "total": "0.02" } }));
    assert_eq!(gateway.command(&["reload"]).status.code(), Some(0));
    assert_eq!([ask(&gateway, 5).await, ask(&gateway, 5).await], [200, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_without_room_is_passed_over_and_none_without_one_is_refused() {
    let (first, second) = (slow_upstream().await, slow_upstream().await);
    let limits = |limits: Value| json!({ "budget_usd": limits });
    let mut gateway = gateway()
        .channel(openai(first.address()).with("limits", limits(json!({ "total": "0.05" }))))
        .channel(openai(second.address()).named("second").with("priority", 1).with("limits", json!({ "rpm": 20 })))
        .key("alice")
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await;
    let clients = [gateway.over(Http::H1), gateway.over(Http::H2c)];
    let requests = (0..100).map(|n| clients[n % 2].post(CHAT).key("alice").body(body(5)).send());
    let answers = join_all(requests).await;
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((first.received().len(), second.received().len(), served.len()), (10, 20, 30));
    let told = refused[0].json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(told.starts_with("Every channel that serves this request is at its limit."), "{told}");
    assert_eq!(refused[0].header("retry-after"), "1");
    gateway.kill();
    gateway.start().await;
    assert_eq!(ask(&gateway, 5).await, 429, "the first one's money is spent, and the second one's minute goes on");
    assert_eq!((first.received().len(), second.received().len()), (10, 20));
}

#[tokio::test]
async fn an_attempt_that_fails_counts_as_a_request_of_its_channel() {
    let failing = upstream([raw_answer("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")]).await;
    let second = slow_upstream().await;
    let cooldown = json!({ "failures": 100, "for": "1s" });
    let gateway = gateway()
        .channel(openai(failing.address()).with("limits", json!({ "rpm": 3 })).with("cooldown", cooldown))
        .channel(openai(second.address()).named("second").with("priority", 1))
        .key("alice")
        .start()
        .await;
    for _ in 0..6 {
        assert_eq!(ask(&gateway, 5).await, 200);
    }
    assert_eq!((failing.received().len(), second.received().len()), (3, 6));
}
