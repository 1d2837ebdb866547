//! `kill -9` in the middle of load, again and again: every answer that a client has whole is counted once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, Http, anthropic, gateway, key_named, mock, openai};

/// How often it is killed; `WEIR_TRUST_KILLS` says otherwise.
const KILLS: usize = 20;
const CLIENTS: usize = 6;
/// Only its requests leave a trace before they end: their money is reserved.
const BUDGETED: &str = "client-0";
const PRICES: &str = r#"models: { "*": { input: "1", output: "10" } }"#;

/// What clients have received whole, by the model that only that request named.
type Whole = Arc<Mutex<BTreeMap<String, [u8; 32]>>>;

/// The key of a request. A key has at most 4096 series, one for each model: so many keys share them.
fn key_of(request: u64, keys: u64) -> String {
    format!("client-{}", request % keys)
}

fn load(
    gateway: &Gateway,
    number: usize,
    keys: u64,
    whole: &Whole,
    next: &Arc<AtomicU64>,
) -> tokio::task::JoinHandle<()> {
    let client = gateway.over(if number.is_multiple_of(2) { Http::H1 } else { Http::H2c });
    let (whole, next) = (Arc::clone(whole), Arc::clone(next));
    tokio::spawn(async move {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let (path, provider) =
                if i.is_multiple_of(3) { ("/v1/messages", "claude") } else { ("/v1/chat/completions", "gpt") };
            let model = format!("{provider}-{i:06}");
            let mut body = json!({
                "model": model,
                "max_tokens": 100,
                "stream": i % 2 == 0,
                "messages": [{"role": "user", "content": "word ".repeat(usize::try_from(1 + i % 9).expect("small"))}],
            });
            if provider == "gpt" && i % 2 == 0 {
                body["stream_options"] = json!({"include_usage": true});
            }
            let request =
                client.post(path).key(&key_of(i, keys)).json(&body).header("x-mock-delay-ms", (i % 5).to_string());
            match request.try_send().await {
                Some(answer) if answer.status == 200 => {
                    whole.lock().expect("no panic").insert(model, answer.sha256());
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_arrived_whole_is_counted_exactly_once_across_kills() {
    let kills = std::env::var("WEIR_TRUST_KILLS").map_or(KILLS, |n| n.parse().expect("a number"));
    let keys = u64::try_from(kills).expect("few") / 5 + 4;
    let mock = mock();
    let mut builder = gateway().channel(openai(mock.address())).channel(anthropic(mock.address()));
    builder = builder.file("prices.yaml", PRICES).with("prices", "prices.yaml");
    builder = builder.key(key_named(BUDGETED).with("limits", json!({ "budget_usd": { "total": "1000000" } })));
    for i in 1..keys {
        builder = builder.key(format!("client-{i}").as_str());
    }
    let mut gateway = builder.start().await;
    let (whole, next) = (Whole::default(), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS).map(|number| load(&gateway, number, keys, &whole, &next)).collect();
    let mut random = u64::from(std::process::id()) | 1;
    for _ in 0..kills {
        // A step of xorshift64: the moments differ from run to run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_millis(40 + random % 260)).await;
        gateway.kill();
        gateway.start().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(100)).await;
    gateway.stop().await;

    let output = gateway.command(&["usage", "--by", "model", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let counted: BTreeMap<&str, &Value> = json["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["model"].as_str().expect("a name"), row))
        .collect();
    let twice: Vec<_> = counted.iter().filter(|(_, row)| row["requests"].as_u64() > Some(1)).collect();
    assert_eq!(twice, Vec::<(&&str, &&Value)>::new(), "counted more than once");

    let whole = whole.lock().expect("no panic").clone();
    let ledger = mock.ledger();
    let answered: BTreeMap<&str, _> = ledger.iter().map(|entry| (entry.model.as_str(), entry)).collect();
    assert!(whole.len() > 10 * kills, "only {} answers were had", whole.len());
    for (model, sha256) in &whole {
        let entry = answered[model.as_str()];
        assert_eq!(entry.response_sha256, *sha256, "{model}");
        let row =
            counted.get(model.as_str()).unwrap_or_else(|| panic!("{model} was received whole and is not counted"));
        let figures = ["requests", "failed", "events", "input_tokens", "output_tokens", "cache_read_tokens"];
        let expected = [1, 0, entry.events, entry.usage.input(), entry.usage.output, entry.usage.cache_read];
        assert_eq!(figures.map(|name| row[name].as_u64().unwrap()), expected, "{model}");
    }
    // A budget's money is never given out twice: what the provider was asked for counts, whatever became of it.
    let number = |model: &str| model.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
    let of_budget = |model: &str| key_of(number(model), keys) == BUDGETED;
    let cut: Vec<&str> = answered.keys().copied().filter(|model| !whole.contains_key(*model)).collect();
    let untold: Vec<_> = cut.iter().filter(|model| of_budget(model) && !counted.contains_key(**model)).collect();
    assert!(untold.is_empty(), "asked for on a budget and not counted: {untold:?}");
    let settled = cut.iter().filter(|model| counted.contains_key(**model)).count();
    let reserved = cut.iter().filter(|model| of_budget(model)).count();
    let strangers: Vec<_> = counted.keys().filter(|model| !answered.contains_key(*model)).collect();
    let failed = strangers.iter().all(|model| counted[**model]["failed"] == 1);
    assert!(failed, "what the upstream never saw is counted as an answer: {strangers:?}");
    println!(
        "trust: {kills} kills, {} answers had whole: 0 lost, 0 counted twice; {} cut by a kill: all {reserved} of a key \
         with a budget are settled, {settled} in all",
        whole.len(),
        cut.len(),
    );
}
