//! The overview: what needs somebody, what happens now, and figures that are those of the usage.

use serde_json::{Value, json};

use crate::support::{Gate, Gateway, Script, answer, chunked, eventually, gateway, key_named, openai, upstream};

const CHAT: &str = "/v1/chat/completions";
const PRICES: &str = r#"models: { "gpt-*": { input: "0", output: "1000" } }"#;
/// Each answer costs half a cent.
const COST_NANO_USD: u64 = 5_000_000;

fn fine() -> Script {
    let usage = json!({ "usage": { "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12 } });
    answer(200, &[("content-type", "application/json")], usage.to_string())
}

async fn ask_as(gateway: &Gateway, key: &str) -> u16 {
    let body = json!({ "model": "gpt-4o", "max_tokens": 5 });
    gateway.post(CHAT).key(key).json(&body).send().await.status
}

async fn overview(gateway: &Gateway) -> Value {
    gateway.api("overview").get().await
}

/// What calls for attention, once `look` is content with it: each as kind, level and subject.
async fn attention(gateway: &Gateway, what: &str, look: impl Fn(&[(String, String, Value)]) -> bool) -> Vec<Value> {
    eventually(what, async || {
        let all = overview(gateway).await["attention"].as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let named: Vec<_> =
            all.iter().map(|one| (text(&one["kind"]), text(&one["level"]), one["subject"].clone())).collect();
        look(&named).then_some(all)
    })
    .await
}

fn is(named: &[(String, String, Value)], expected: &[(&str, &str, Value)]) -> bool {
    named.len() == expected.len()
        && expected
            .iter()
            .all(|(kind, level, subject)| named.iter().any(|(k, l, s)| k == kind && l == level && s == subject))
}

#[tokio::test]
async fn a_new_gateway_is_well_and_has_a_day_without_holes() {
    let upstream = upstream([fine()]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let page = overview(&gateway).await;
    assert_eq!((&page["attention"], &page["attention_omitted"], &page["ready"]), (&json!([]), &json!(0), &json!(true)));
    assert_eq!(page["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(page["now"], json!({ "requests_per_s": 0.0, "streams": 0, "in_flight": 0 }));
    assert_eq!(page["first_token_ms"], json!({ "p50": null, "p95": null }));
    assert_eq!((&page["today"]["requests"], &page["yesterday"]["whole"]["requests"]), (&json!(0), &json!(0)));
    let series = page["series"].as_array().expect("a list");
    assert_eq!((series.len(), &page["series_step_s"]), (288, &json!(300)));
    assert!(page["uptime_s"].as_u64() < Some(20), "{}", page["uptime_s"]);
}

#[tokio::test]
async fn its_figures_are_those_of_the_usage_for_the_same_time() {
    let upstream = upstream([fine(), fine(), answer(400, &[("content-type", "application/json")], "{}"), fine()]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .key("bob")
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await;
    for (key, status) in [("alice", 200), ("bob", 200), ("bob", 400), ("alice", 200)] {
        assert_eq!(ask_as(&gateway, key).await, status);
    }
    let page = eventually("all requests of today", async || {
        let page = overview(&gateway).await;
        (page["today"]["requests"] == 4).then_some(page)
    })
    .await;
    let today = &page["today"];
    let midnight = format!("{}T00:00:00Z", &page["time"].as_str().expect("a time")[..10]);
    let rows = gateway.api(&format!("usage?by=day&from={midnight}")).rows().await;
    let fields = [
        "requests",
        "failed",
        "events",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "cost_micro_usd",
        "cost_nano_usd",
        "unpriced",
    ];
    for field in fields {
        assert_eq!(today[field], rows[0][field], "{field}");
    }
    assert_eq!((&today["failed"], &today["spend_nano_usd"]), (&json!(1), &json!(3 * COST_NANO_USD)));
    let series = page["series"].as_array().expect("a list");
    let from = series[0]["time"].as_str().expect("a time");
    let steps = gateway.api(&format!("usage?by=channel&step=minute&from={from}")).rows().await;
    for field in ["requests", "failed", "cost_micro_usd", "input_tokens", "output_tokens"] {
        let sum = |rows: &[Value]| rows.iter().map(|row| row[field].as_u64().expect("a number")).sum::<u64>();
        assert_eq!(sum(series), sum(&steps), "{field}");
    }
    let times: Vec<&str> = series.iter().map(|piece| piece["time"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn what_happens_now_is_seen_while_it_happens() {
    let gate = Gate::new();
    let stream = chunked(200, &[("content-type", "text/event-stream")])
        .wait(120)
        .chunk("data: {\"choices\":[{\"delta\":{\"content\":\"he\"}}]}\n\n")
        .gate(&gate)
        .chunk("data: [DONE]\n\n")
        .last_chunk();
    let upstream = upstream([stream]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let body = json!({ "model": "gpt-4o", "messages": [], "stream": true });
    let asked = gateway.post(CHAT).key("alice").json(&body);
    let reads = tokio::spawn(asked.send());
    eventually("a stream under way", async || {
        let now = overview(&gateway).await["now"].clone();
        ((&now["streams"], &now["in_flight"]) == (&json!(1), &json!(1))).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(reads.await.expect("no panic").status, 200);
    let page = eventually("a rate and a first token", async || {
        let page = overview(&gateway).await;
        (page["now"]["requests_per_s"].as_f64() > Some(0.0)).then_some(page)
    })
    .await;
    let p95 = page["first_token_ms"]["p95"].as_f64().expect("a figure");
    assert!((100.0..1000.0).contains(&p95), "{p95}");
    assert_eq!((&page["now"]["streams"], &page["now"]["in_flight"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_channel_that_fails_is_told_of_by_whether_another_stands_in() {
    let failing = || answer(500, &[("content-type", "application/json")], "{}");
    let (first, second) = (upstream([failing()]).await, upstream([fine()]).await);
    let cooldown = json!({ "failures": 1, "for": "1m" });
    let broken = |name: &str, models: &[&str]| {
        openai(first.address()).named(name).models(models).with("cooldown", cooldown.clone())
    };
    let gateway = gateway()
        .channel(broken("first", &["gpt-*"]))
        .channel(openai(second.address()).named("second").with("priority", 1))
        .channel(broken("alone", &["o3", "o4-*"]))
        .key("alice")
        .start()
        .await;
    assert_eq!(ask_as(&gateway, "alice").await, 200);
    let cooling = [("channel_cooling", "warning", json!("first"))];
    let told = attention(&gateway, "a channel that cools down", |all| is(all, &cooling)).await;
    assert_eq!((&told[0]["values"]["state"], &told[0]["values"]["models"]), (&json!("cooling"), &json!([])));
    let row = gateway.api("channels/first").get().await;
    assert_eq!((&row["state"], &row["keys"][0]["state"]), (&json!("cooling"), &json!("healthy")));
    assert!(row["cooling_until"].as_str().is_some_and(|time| time.ends_with('Z')), "{row}");

    let body = json!({ "model": "o3", "messages": [] });
    assert_eq!(gateway.post(CHAT).key("alice").json(&body).send().await.status, 500);
    let down = [("channel_down", "critical", json!("alone")), cooling[0].clone()];
    let told = attention(&gateway, "a channel that is down", |all| is(all, &down)).await;
    assert_eq!(told[0]["values"]["models"], json!(["o3", "o4-*"]), "the worst comes first");

    gateway.api("channels/alone/drain").post(&json!({ "drain": true })).await.expect(200);
    attention(&gateway, "a drained channel is no news", |all| is(all, &cooling)).await;
}

#[tokio::test]
async fn a_key_that_is_refused_upstream_cools_down_alone_and_is_told_of() {
    let refusing = || answer(401, &[("content-type", "application/json")], "{}");
    let upstream = upstream([refusing(), fine()]).await;
    let keys = json!([{ "name": "main", "value": "sk-a" }, { "name": "spare", "value": "sk-b" }]);
    let gateway = gateway().channel(openai(upstream.address()).with("keys", keys)).key("alice").start().await;
    assert_eq!(ask_as(&gateway, "alice").await, 200);
    let told = attention(&gateway, "a key", |all| is(all, &[("channel_cooling", "warning", json!("openai"))])).await;
    assert_eq!((&told[0]["values"]["keys"], &told[0]["values"]["state"]), (&json!(["main"]), &json!("healthy")));
    let row = gateway.api("channels/openai").get().await;
    let states: Vec<&Value> = row["keys"].as_array().expect("keys").iter().map(|key| &key["state"]).collect();
    assert_eq!((states, &row["state"]), (vec![&json!("cooling"), &json!("healthy")], &json!("healthy")));
}

#[tokio::test]
async fn budgets_are_told_of_when_they_are_near_and_when_they_are_spent() {
    let upstream = upstream([fine()]).await;
    let key = |name: &str, budget: &str| {
        key_named(name).with("limits", json!({ "rpm": 100, "budget_usd": { "month": budget } }))
    };
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key(key("near", "0.0125"))
        .key(key("spent", "0.01"))
        .key(key("far", "1"))
        .key(key("off", "0.01"))
        .file("prices.yaml", PRICES)
        .with("prices", "prices.yaml")
        .start()
        .await;
    for name in ["near", "near", "spent", "spent", "far", "off", "off"] {
        assert_eq!(ask_as(&gateway, name).await, 200, "{name}");
    }
    let mut gateway = gateway;
    gateway.rewrite(|config| config["keys"][3]["enabled"] = json!(false));
    gateway.api("reload").post(&json!({})).await.expect(200);
    let expected = [("budget_spent", "critical", json!("spent")), ("budget_near", "warning", json!("near"))];
    let told = attention(&gateway, "two budgets", |all| is(all, &expected)).await;
    let values = &told[1]["values"];
    assert_eq!((&values["of"], &values["period"], &values["percent"]), (&json!("key"), &json!("month"), &json!(80)));
    assert_eq!((&values["spent_usd"], &values["budget_usd"]), (&json!("0.01"), &json!("0.0125")));

    let metrics = gateway.metrics().await;
    for (subject, state, count) in
        [("key", "near", 1), ("key", "spent", 1), ("user", "near", 0), ("user", "spent", 0), ("channel", "near", 0)]
    {
        let line = format!("\nweir_budgets_tight{{state=\"{state}\",subject=\"{subject}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }

    let rows = gateway.api("keys").rows().await;
    let near = rows.iter().find(|row| row["name"] == "near").expect("the key");
    assert_eq!(near["id"], values["id"]);
    assert_eq!(near["used"]["rpm"], 2);
    assert_eq!(near["used"]["budget_usd"], json!({ "day": "0.01", "month": "0.01", "total": "0.01" }));
    let users = gateway.api("users").rows().await;
    let user = users.iter().find(|row| row["name"] == "user-of-near").expect("the user");
    assert_eq!((&user["last_used"], user["last_used"].is_string()), (&near["last_used"], true));
}

#[tokio::test]
async fn a_refused_reload_is_told_of_until_one_is_taken() {
    let upstream = upstream([fine()]).await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    gateway.write_text("listen: []\nchanels: []\n");
    assert_eq!(gateway.api("reload").post(&json!({})).await.refused(422).0, "invalid");
    let refused = [("config_refused", "warning", Value::Null)];
    let told = attention(&gateway, "a refused reload", |all| is(all, &refused)).await;
    assert!(told[0]["values"]["mistakes"].as_u64() >= Some(2), "{}", told[0]);
    gateway.rewrite(|_| {});
    gateway.api("reload").post(&json!({})).await.expect(200);
    attention(&gateway, "all is well", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_receiver_that_refuses_records_is_told_of() {
    let (upstream, loki) = (upstream([fine()]).await, upstream([answer(400, &[], "no")]).await);
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .with("audit", json!({ "loki": { "url": format!("http://{}", loki.address()), "batch_wait": "10ms" } }))
        .start()
        .await;
    assert_eq!(ask_as(&gateway, "alice").await, 200);
    let told =
        attention(&gateway, "a failing sink", |all| is(all, &[("sink_failing", "warning", json!("loki"))])).await;
    assert_eq!((&told[0]["values"]["failed"], &told[0]["values"]["stuck_s"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn many_who_look_at_once_cost_one_look() {
    let upstream = upstream([fine()]).await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let pages = futures::future::join_all((0..50).map(|_| overview(&gateway))).await;
    assert!(pages.iter().all(|page| page["ready"] == true && page["series"] == pages[0]["series"]));
    assert_eq!(gateway.admin_request("GET", "/admin/api/overview").send().await.status, 401);
}
