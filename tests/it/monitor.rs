//! Channels are probed: what is said of their models, what that may cost, and that nothing is asked twice.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_filters::monitor::Schedule;

use crate::support::{
    ByModel, Channel, Gateway, Reply, answer, anthropic, eventually, gateway, gemini, openai, upstream,
};

/// So seldom that a run which is not due is not due in this test.
const EVERY: &str = "1000h";
const EVERY_MS: u64 = 3_600_000_000;
const MODELS: [&str; 5] = ["good", "failing", "slow", "erring", "empty"];

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("small")
}

/// A name like `prefix` of a channel whose run is due now, or not for an hour at least.
fn named(prefix: &str, is_due: bool) -> String {
    let fits = |name: &String| {
        let (schedule, now) = (Schedule::new(name, EVERY_MS), now_ms());
        let due = schedule.due(schedule.slot(now));
        if is_due { due < now } else { due > now + 3_600_000 }
    };
    (0..1000).map(|n| format!("{prefix}-{n}")).find(fits).expect("one of them")
}

fn probed(channel: Channel, models: &[&str], more: Value) -> Channel {
    let mut probe = json!({ "every": EVERY });
    for (name, value) in more.as_object().expect("fields") {
        probe[name] = value.clone();
    }
    channel.models(models).with("probe", probe)
}

fn events(pieces: &[&str]) -> String {
    pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect()
}

fn said(body: String) -> Reply {
    Reply { wait: Duration::ZERO, status: 200, content_type: "text/event-stream", body }
}

fn pong(protocol: &str, input: u64, output: u64) -> String {
    match protocol {
        "openai" => events(&[
            r#"{"choices":[{"index":0,"delta":{"content":"pong"}}]}"#,
            &json!({ "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output } }).to_string(),
            "[DONE]",
        ]),
        "anthropic" => [
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": input, "output_tokens": 1 } } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "pong" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": output } }),
            json!({ "type": "message_stop" }),
        ]
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")))
        .concat(),
        _ => events(&[&json!({
            "candidates": [{ "content": { "parts": [{ "text": "pong" }] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output },
        })
        .to_string()]),
    }
}

fn five(protocol: &'static str) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    move |model| {
        match model {
        "failing" => Reply {
            wait: Duration::ZERO,
            status: 500,
            content_type: "application/json",
            body: r#"{"error":{"message":"it broke"}}"#.to_owned(),
        },
        "slow" => Reply { wait: Duration::from_millis(400), ..said(pong(protocol, 9, 2)) },
        "erring" => said(match protocol {
            "anthropic" => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n".to_owned(),
            _ => events(&[r#"{"error":{"message":"busy","code":503}}"#]),
        }),
        "empty" => said(match protocol {
            "openai" => events(&["[DONE]"]),
            "anthropic" => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
            _ => events(&[r#"{"candidates":[{"finishReason":"STOP"}]}"#]),
        }),
        _ => said(pong(protocol, 9, 2)),
    }
    }
}

/// Begins a run as soon as the monitor is there.
async fn begin(gateway: &Gateway, channel: &str) -> String {
    eventually("a run that begins", async || {
        let said = gateway.api(&format!("monitor/{channel}/run")).post(&json!({})).await;
        (said.answer.status == 202).then(|| said.expect(202)["id"].as_str().expect("an id").to_owned())
    })
    .await
}

/// The newest run, once it has ended.
async fn ended(gateway: &Gateway, channel: &str) -> Value {
    eventually("the end of a run", async || {
        let run = gateway.api(&format!("channels/{channel}/runs")).rows().await.into_iter().next()?;
        run["ended_at"].is_string().then_some(run)
    })
    .await
}

fn by_model(run: &Value) -> BTreeMap<String, Value> {
    let results = run["results"].as_array().expect("results").iter();
    results.map(|result| (result["model"].as_str().expect("a model").to_owned(), result.clone())).collect()
}

async fn monitored(gateway: &Gateway, channel: &str) -> Value {
    gateway.api(&format!("monitor?q={channel}")).rows().await.remove(0)
}

#[tokio::test]
async fn five_models_get_the_verdicts_that_they_deserve_in_every_protocol() {
    let mut upstreams = Vec::new();
    for protocol in ["openai", "anthropic", "gemini"] {
        upstreams.push(ByModel::start(five(protocol)).await);
    }
    let names = ["openai", "anthropic", "gemini"].map(|name| named(name, false));
    let channels = [openai, anthropic, gemini];
    let mut building = gateway();
    for ((channel, upstream), name) in channels.into_iter().zip(&upstreams).zip(&names) {
        building = building.channel(probed(channel(upstream.address()).named(name), &MODELS, json!({})));
    }
    let gateway = building.start().await;
    for (name, upstream) in names.iter().zip(&upstreams) {
        let id = begin(&gateway, name).await;
        let run = ended(&gateway, name).await;
        assert_eq!(
            (&run["id"], &run["reason"], &run["state"]),
            (&json!(id), &json!("manual"), &json!("degraded")),
            "{run}"
        );
        let results = by_model(&run);
        let told = |model: &str| (results[model]["ok"].clone(), results[model]["error"]["code"].clone());
        assert_eq!(told("good"), (json!(true), Value::Null), "{name}: {run}");
        assert_eq!(told("failing"), (json!(false), json!("server_error")), "{name}");
        assert_eq!(told("slow"), (json!(true), Value::Null), "{name}");
        assert_eq!(told("erring"), (json!(false), json!("error_inside")), "{name}");
        assert_eq!(told("empty"), (json!(false), json!("empty")), "{name}: {run}");
        assert_eq!(results["good"]["tokens"], json!({ "input": 9, "output": 2 }));
        assert!(results["slow"]["first_token_ms"].as_f64() >= Some(395.0), "{run}");
        let twice = ["failing", "erring", "empty"];
        for (model, count) in upstream.asked() {
            assert_eq!(count, if twice.contains(&&*model) { 2 } else { 1 }, "{name}: {model}");
        }

        let row = monitored(&gateway, name).await;
        assert_eq!((&row["state"], &row["every"]), (&json!("degraded"), &json!("1000h")), "{row}");
        for model in row["models"].as_array().expect("models") {
            let is_good = ["good", "slow"].contains(&model["model"].as_str().expect("a name"));
            let (state, share) = if is_good { ("passing", 1.0) } else { ("failing", 0.0) };
            assert_eq!((&model["state"], model["success_share"].as_f64()), (&json!(state), Some(share)), "{model}");
            assert_eq!(model["results"].as_array().map(Vec::len), Some(if is_good { 1 } else { 2 }), "{model}");
        }
        let scraped = gateway.admin("GET", "/metrics").send().await.text();
        for (model, value) in [("good", 1), ("failing", 0), ("slow", 1), ("erring", 0), ("empty", 0)] {
            let line = format!("weir_probe_success{{channel=\"{name}\",model=\"{model}\"}} {value}");
            assert!(scraped.lines().any(|other| other == line), "{line}\n{scraped}");
        }
        let since = format!("weir_probe_last_success_timestamp_seconds{{channel=\"{name}\",model=\"failing\"}}");
        assert!(!scraped.contains(&since), "it never was");
        let state = gateway.api(&format!("channels/{name}")).get().await["state"].clone();
        assert_eq!(state, "healthy", "a model's failure is no channel's");
    }
    let keys: Vec<Value> = gateway.usage("key").await.iter().map(|row| row["key"].clone()).collect();
    assert_eq!(keys, [json!("(probe)")]);
}

#[tokio::test]
async fn the_days_tokens_are_reached_and_never_passed() {
    // What is asked has 25 bytes, and 32 more are set aside; 16 may be answered.
    let most = 25 + 32 + 16;
    let upstream = ByModel::start(move |_| said(pong("openai", most - 16, 16))).await;
    let models: Vec<String> = (0..10).map(|n| format!("gpt-{n}")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let (all, short) = (named("all", false), named("short", false));
    let gateway = gateway()
        .channel(probed(openai(upstream.address()).named(&all), &models, json!({ "tokens_per_day": 3 * most })))
        .channel(probed(openai(upstream.address()).named(&short), &models, json!({ "tokens_per_day": 3 * most - 1 })))
        .start()
        .await;
    for (name, asked) in [(&all, 3), (&short, 2)] {
        let before = upstream.total();
        begin(&gateway, name).await;
        let results = by_model(&ended(&gateway, name).await);
        assert_eq!(upstream.total() - before, asked);
        let skipped = results.values().filter(|result| result["skipped"] == "cap").count();
        assert_eq!((results.len(), skipped), (10, 10 - asked));
        let row = monitored(&gateway, name).await;
        assert_eq!(row["spent_today"]["tokens"], most * asked as u64, "{row}");
        assert!(row["models"].as_array().expect("models").iter().all(|model| model["state"] != "failing"), "{row}");
        begin(&gateway, name).await;
        eventually("a second run", async || {
            let runs = gateway.api(&format!("channels/{name}/runs")).rows().await;
            (runs.len() == 2 && runs[0]["ended_at"].is_string()).then_some(())
        })
        .await;
        assert_eq!(upstream.total() - before, asked, "nothing is left of the day");
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_run_has_no_model_asked_twice() {
    let upstream = ByModel::start(|_| Reply { wait: Duration::from_millis(150), ..said(pong("openai", 9, 2)) }).await;
    let models: Vec<String> = (0..16).map(|n| format!("gpt-{n:02}")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let name = named("due", true);
    let mut gateway =
        gateway().channel(probed(openai(upstream.address()).named(&name), &models, json!({}))).start().await;
    for count in [4, 8] {
        eventually("some probes", async || (upstream.total() >= count).then_some(())).await;
        gateway.kill();
        gateway.start().await;
    }
    let run = ended(&gateway, &name).await;
    let results = by_model(&run);
    assert_eq!((results.len(), &run["reason"], &run["state"]), (16, &json!("schedule"), &json!("healthy")), "{run}");
    let interrupted = results.values().filter(|result| result["skipped"] == "interrupted").count();
    assert!((1..=4).contains(&interrupted), "two at a time, and two kills: {run}");
    assert!(upstream.asked().values().all(|count| *count == 1), "{:?}", upstream.asked());
    let spent = monitored(&gateway, &name).await["spent_today"]["tokens"].clone();
    assert_eq!(spent, 73 * interrupted + 11 * (16 - interrupted), "of what is not known all counts that it may be");

    gateway.kill();
    gateway.start().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(gateway.api(&format!("channels/{name}/runs")).rows().await, [run], "its slot has had its run");
    assert_eq!(monitored(&gateway, &name).await["spent_today"]["tokens"], spent);
}

#[tokio::test]
async fn models_are_those_that_the_upstream_lists_and_what_clients_prove_is_not_asked() {
    let upstream = ByModel::start(|model| match model {
        "" => Reply {
            wait: Duration::ZERO,
            status: 200,
            content_type: "application/json",
            body: r#"{"data":[{"id":"gpt-a"},{"id":"whisper"},{"id":"gpt-b"}]}"#.to_owned(),
        },
        _ => said(pong("openai", 9, 2)),
    })
    .await;
    let name = named("listed", false);
    let gateway = gateway()
        .channel(probed(openai(upstream.address()).named(&name), &["gpt-*"], json!({})))
        .key("alice")
        .start()
        .await;
    let body = json!({ "model": "gpt-b", "stream": true, "stream_options": { "include_usage": true }, "messages": [] });
    assert_eq!(gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status, 200);
    gateway.used("key", "alice", 1).await;
    begin(&gateway, &name).await;
    let results = by_model(&ended(&gateway, &name).await);
    assert_eq!(results.keys().collect::<Vec<_>>(), ["gpt-a", "gpt-b"]);
    assert_eq!((&results["gpt-a"]["by"], &results["gpt-b"]["by"]), (&json!("probe"), &json!("traffic")), "{results:?}");
    assert_eq!(upstream.asked()["gpt-b"], 1, "a client asked, and nobody else");
    let refused = gateway.api("monitor/none/run").post(&json!({})).await.refused(404);
    assert_eq!(refused.0, "not_found");
}

/// What `/v1/models` lists for alice.
async fn listed(gateway: &Gateway) -> Vec<String> {
    let list = gateway.get("/v1/models").key("alice").send().await.json();
    list["data"].as_array().expect("models").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

async fn run_to_its_end(gateway: &Gateway, channel: &str) -> Value {
    let id = begin(gateway, channel).await;
    eventually("the end of that run", async || {
        let run = gateway.api(&format!("channels/{channel}/runs")).rows().await.into_iter().next()?;
        (run["id"] == *id && run["ended_at"].is_string()).then_some(run)
    })
    .await
}

#[tokio::test]
async fn a_failing_model_is_asked_elsewhere_and_not_listed_until_it_has_answered_again() {
    let is_ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let ill = is_ill.clone();
    let first = ByModel::start(move |model| match model {
        "both" | "alone" if ill.load(std::sync::atomic::Ordering::Relaxed) => five("openai")("failing"),
        _ => said(pong("openai", 9, 2)),
    })
    .await;
    let second = ByModel::start(|_| said(pong("openai", 9, 2))).await;
    let name = named("first", false);
    let gateway = gateway()
        .channel(probed(openai(first.address()).named(&name), &["both", "alone", "sound"], json!({})))
        .channel(openai(second.address()).named("second").models(&["both"]).with("priority", 1))
        .key("alice")
        .start()
        .await;
    assert_eq!(listed(&gateway).await, ["alone", "both", "sound"], "nothing is known yet");

    let run = run_to_its_end(&gateway, &name).await;
    assert_eq!(run["state"], "degraded", "{run}");
    assert_eq!(listed(&gateway).await, ["both", "sound"], "the second channel has it, and nobody has the other");
    let asked = first.asked();
    assert_eq!((asked["both"], asked["alone"], asked["sound"]), (2, 2, 1), "what fails is asked once more");
    let ask = async |model: &str| {
        let body = json!({ "model": model, "stream": true, "messages": [] });
        gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status
    };
    assert_eq!((ask("both").await, second.asked()["both"], first.asked()["both"]), (200, 1, 2));
    assert_eq!((ask("alone").await, first.asked()["alone"]), (500, 3), "its last channel is not taken away");

    is_ill.store(false, std::sync::atomic::Ordering::Relaxed);
    let run = run_to_its_end(&gateway, &name).await;
    assert_eq!(run["state"], "healthy", "{run}");
    assert_eq!(listed(&gateway).await, ["alone", "both", "sound"]);
    assert_eq!((ask("both").await, second.asked()["both"]), (200, 1), "it is the first again");
}

#[tokio::test]
async fn an_upgrade_goes_on_with_a_run_and_asks_no_model_twice() {
    let upstream = ByModel::start(|_| Reply { wait: Duration::from_millis(200), ..said(pong("openai", 9, 2)) }).await;
    let models: Vec<String> = (0..16).map(|n| format!("gpt-{n:02}")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let name = named("upgraded", false);
    let mut gateway =
        gateway().channel(probed(openai(upstream.address()).named(&name), &models, json!({}))).start().await;
    let id = begin(&gateway, &name).await;
    eventually("some probes", async || (upstream.total() >= 4).then_some(())).await;
    let output = gateway.upgrade(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = ended(&gateway, &name).await;
    assert_eq!((&run["id"], &run["state"]), (&json!(id), &json!("healthy")), "{run}");
    assert_eq!(by_model(&run).len(), 16);
    assert!(run["results"].as_array().expect("results").iter().all(|result| result["ok"] == true), "{run}");
    assert!(upstream.asked().values().all(|count| *count == 1), "{:?}", upstream.asked());
}

#[tokio::test]
async fn a_channel_is_probed_from_the_reload_that_says_so_to_the_one_that_does_not_and_never_while_it_is_drained() {
    let upstream = ByModel::start(|_| said(pong("openai", 9, 2))).await;
    let (name, drained) = (named("reloaded", true), named("drained", true));
    let channel = |name: &str| openai(upstream.address()).named(name).models(&["gpt-4o"]);
    let mut gateway = gateway().channel(channel(&name)).channel(channel(&drained)).start().await;
    gateway.api(&format!("channels/{drained}/drain")).post(&json!({ "drain": true })).await.expect(200);
    let probe = |config: &mut Value, probe: Value| {
        for channel in config["channels"].as_array_mut().expect("channels") {
            channel["probe"] = probe.clone();
        }
    };
    assert_eq!(monitored(&gateway, &name).await["every"], Value::Null);
    gateway.rewrite(|config| probe(config, json!({ "every": EVERY })));
    gateway.api("reload").post(&json!({})).await.expect(200);
    let run = ended(&gateway, &name).await;
    assert_eq!((&run["reason"], &run["state"]), (&json!("schedule"), &json!("healthy")));
    let is_shown = async || gateway.admin("GET", "/metrics").send().await.text().contains("weir_probe_success{");
    assert!(is_shown().await);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(upstream.total(), 1, "the drained one is not asked");
    let row = monitored(&gateway, &drained).await;
    assert_eq!((&row["last_run_at"], &row["next_run_at"], &row["every"]), (&Value::Null, &Value::Null, &json!(EVERY)));

    gateway.rewrite(|config| probe(config, Value::Null));
    gateway.api("reload").post(&json!({})).await.expect(200);
    let text = async || gateway.admin("GET", "/metrics").send().await.text();
    eventually("no series", async || (!text().await.contains("weir_probe_success{")).then_some(())).await;
    let row = monitored(&gateway, &name).await;
    assert_eq!((&row["every"], &row["models"]), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn a_key_that_is_refused_cools_down_and_the_doubt_is_settled_with_the_next_one() {
    let refused = answer(401, &[("content-type", "application/json")], r#"{"error":{"message":"bad key"}}"#);
    let good = answer(200, &[("content-type", "text/event-stream")], pong("openai", 9, 2));
    let upstream = upstream([refused, good]).await;
    let name = named("keys", false);
    let keys = json!([{ "name": "main", "value": "sk-first-key" }, { "name": "spare", "value": "sk-second-key" }]);
    let channel = openai(upstream.address()).named(&name).with("keys", keys);
    let gateway = gateway().channel(probed(channel, &["gpt-4o"], json!({}))).start().await;
    begin(&gateway, &name).await;
    let run = ended(&gateway, &name).await;
    assert_eq!((&run["state"], &run["results"][0]["ok"]), (&json!("healthy"), &json!(true)), "{run}");
    let presented: Vec<_> =
        upstream.received().iter().map(|one| one.header("authorization").map(str::to_owned)).collect();
    assert_eq!(presented, ["Bearer sk-first-key", "Bearer sk-second-key"].map(|key| Some(key.to_owned())));
    let model = monitored(&gateway, &name).await["models"][0].clone();
    let codes: Vec<_> = model["results"].as_array().expect("results").iter().map(|one| one["code"].clone()).collect();
    assert_eq!((&model["state"], codes), (&json!("passing"), vec![json!("key_refused"), Value::Null]));
}
