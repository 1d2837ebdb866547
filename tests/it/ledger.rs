//! The counters: exact after a mix, the same from every side, and across restarts.

use serde_json::{Value, json};

use crate::support::{Gateway, Http, Mock, anthropic, gateway, gemini, key_named, mock, openai};

const FIGURES: [&str; 9] = [
    "requests",
    "failed",
    "events",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_micro_usd",
];

async fn open(durability: &str) -> (Mock, Gateway) {
    let mock = mock();
    let address = mock.address();
    let gateway = gateway()
        .channel(openai(address).models(&["gpt-*", "o3"]))
        .channel(openai(address).named("other").models(&["deepseek-*"]))
        .channel(anthropic(address))
        .channel(gemini(address))
        .key("alice")
        .key(key_named("alice-phone").with("user", "user-of-alice"))
        .key("bob")
        .with("ledger.durability", durability)
        .tls(crate::support::Authority::new())
        .start()
        .await;
    (mock, gateway)
}

/// A request, as it is counted: key, user, model, channel, route.
type Asked = [&'static str; 5];

fn mix() -> Vec<(Asked, Value)> {
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    let words = |n: usize| json!([{"role": "user", "content": "word ".repeat(n)}]);
    let mut mix = Vec::new();
    for n in 1..=4 {
        for (key, user) in [("alice", "user-of-alice"), ("alice-phone", "user-of-alice"), ("bob", "user-of-bob")] {
            let body = json!({"model": "gpt-4o", "messages": words(n)});
            mix.push(([key, user, "gpt-4o", "openai", chat], body));
            let body = json!({"model": "o3", "messages": words(2 * n), "stream": true});
            mix.push(([key, user, "o3", "openai", chat], body));
        }
        let body = json!({"model": "deepseek-chat", "messages": words(n), "stream": n % 2 == 0});
        mix.push((["bob", "user-of-bob", "deepseek-chat", "other", chat], body));
        let body = json!({"model": "claude-opus-4-1", "messages": words(n), "max_tokens": 5, "stream": n % 2 == 1});
        mix.push((["alice", "user-of-alice", "claude-opus-4-1", "anthropic", messages], body));
        let body = json!({"model": "text-of-gemini", "input": "x"});
        mix.push((["bob", "user-of-bob", "text-of-gemini", "", "/v1/embeddings"], body));
    }
    mix
}

/// Sends the mix and gives the rows that it should come to, by each dimension.
async fn send(mix: &[(Asked, Value)], mock: &Mock, gateway: &Gateway) -> [Vec<(String, [u64; 9])>; 5] {
    let mut expected: [Vec<(String, [u64; 9])>; 5] = Default::default();
    for (i, (asked, body)) in mix.iter().enumerate() {
        let before = mock.requests();
        let http = Http::ALL[i % 4];
        let answer = gateway.over(http).post(asked[4]).key(asked[0]).json(body).send().await;
        let served = !asked[3].is_empty();
        assert_eq!((answer.status, mock.requests() - before), if served { (200, 1) } else { (404, 0) }, "{body}");
        let figures = if served {
            let entry = mock.ledger().pop().unwrap();
            let usage = entry.usage;
            let write = usage.cache_write_5m + usage.cache_write_1h;
            [1, 0, 0, usage.input(), usage.output, usage.cache_read, write, usage.reasoning, 0]
        } else {
            [1, 1, 0, 0, 0, 0, 0, 0, 0]
        };
        let events = if served { mock.ledger().pop().unwrap().events } else { 0 };
        for (rows, value) in expected.iter_mut().zip(asked) {
            let known = rows.iter().position(|(name, _)| name == value);
            let at = known.unwrap_or_else(|| {
                rows.push(((*value).to_owned(), [0; 9]));
                rows.len() - 1
            });
            let row = &mut rows[at].1;
            row.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
            row[2] += events;
        }
    }
    expected
}

const DIMENSIONS: [&str; 5] = ["key", "user", "model", "channel", "route"];

fn figures(rows: &[Value], by: &str) -> Vec<(String, [u64; 9])> {
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| (row[by].as_str().unwrap().to_owned(), FIGURES.map(|name| row[name].as_u64().expect(name))))
        .collect();
    rows.sort();
    rows
}

fn sorted(mut rows: Vec<(String, [u64; 9])>) -> Vec<(String, [u64; 9])> {
    rows.sort();
    rows
}

fn command(gateway: &Gateway, by: &str) -> Vec<Value> {
    let output = gateway.command(&["usage", "--by", by, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["rows"].as_array().expect("rows").clone()
}

#[tokio::test]
async fn every_dimension_is_exact_and_the_same_from_the_api_the_command_and_the_ledger() {
    for durability in ["relaxed", "strict"] {
        let (mock, mut gateway) = open(durability).await;
        let mix = mix();
        let expected = send(&mix, &mock, &gateway).await.map(sorted);
        gateway.used("key", "bob", 16).await;
        for (by, rows) in DIMENSIONS.into_iter().zip(&expected) {
            assert_eq!(figures(&gateway.usage(by).await, by), *rows, "{durability}, the API by {by}");
            assert_eq!(figures(&command(&gateway, by), by), *rows, "{durability}, the command by {by}");
        }
        let days = gateway.usage("day").await;
        let requests: u64 = days.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        assert_eq!(requests, mix.len() as u64);

        assert!(gateway.stop().await.success());
        for (by, rows) in DIMENSIONS.into_iter().zip(&expected) {
            assert_eq!(figures(&command(&gateway, by), by), *rows, "{durability}, without a gateway by {by}");
        }
        gateway.start().await;
        for (by, rows) in DIMENSIONS.into_iter().zip(&expected) {
            assert_eq!(figures(&gateway.usage(by).await, by), *rows, "{durability}, after a restart by {by}");
        }
        let again = send(&mix, &mock, &gateway).await.map(sorted);
        gateway.used("key", "bob", 32).await;
        for (by, rows) in DIMENSIONS.into_iter().zip(&again) {
            let doubled: Vec<_> = rows.iter().map(|(name, row)| (name.clone(), row.map(|figure| 2 * figure))).collect();
            assert_eq!(figures(&gateway.usage(by).await, by), doubled, "{durability}, it goes on by {by}");
        }
    }
}

#[tokio::test]
async fn what_was_counted_survives_a_kill_at_once() {
    for durability in ["relaxed", "strict"] {
        let (mock, mut gateway) = open(durability).await;
        let expected = send(&mix(), &mock, &gateway).await.map(sorted);
        gateway.kill();
        for (by, rows) in DIMENSIONS.into_iter().zip(&expected) {
            assert_eq!(figures(&command(&gateway, by), by), *rows, "{durability}, without a gateway by {by}");
        }
        gateway.start().await;
        gateway.used("key", "bob", 16).await;
        for (by, rows) in DIMENSIONS.into_iter().zip(&expected) {
            assert_eq!(figures(&gateway.usage(by).await, by), *rows, "{durability}, after the kill by {by}");
        }
    }
}

#[tokio::test]
async fn the_command_prints_a_table() {
    let (_mock, gateway) = open("relaxed").await;
    let empty = gateway.command(&["usage", "--by", "key"]);
    assert_eq!(String::from_utf8_lossy(&empty.stdout), "nothing was used\n");
    let body = json!({"model": "o3", "messages": [{"role": "user", "content": "one two"}]});
    gateway.post("/v1/chat/completions").key("alice").json(&body).send().await;
    let row = gateway.used("key", "alice", 1).await;
    let table = String::from_utf8(gateway.command(&["usage", "--by", "key"]).stdout).unwrap();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").filter(|c| !c.is_empty()).collect()).collect();
    assert_eq!(lines[0][0], "key");
    let cells: Vec<String> = lines[1].iter().map(|cell| cell.trim().to_owned()).collect();
    assert_eq!(cells[0], "alice");
    assert_eq!(cells[1..], FIGURES.map(|name| row[name].to_string()), "{table}");
}

#[tokio::test]
async fn a_question_about_another_time_finds_nothing() {
    let (_mock, gateway) = open("relaxed").await;
    let body = json!({"model": "o3", "messages": []});
    gateway.post("/v1/chat/completions").key("alice").json(&body).send().await;
    gateway.used("key", "alice", 1).await;
    for (query, rows) in
        [("from=2020-01-01T00:00:00Z", 1), ("to=2020-01-01T00:00:00Z", 0), ("from=2099-01-01T00:00:00Z", 0)]
    {
        let answer = gateway.admin("GET", &format!("/admin/api/usage?by=key&{query}")).send().await;
        assert_eq!(answer.json()["rows"].as_array().map(Vec::len), Some(rows), "{query}");
    }
    for (query, parameter) in [("by=colour", "by"), ("", "by"), ("by=key&from=yesterday", "from")] {
        let answer = gateway.admin("GET", &format!("/admin/api/usage?{query}")).send().await;
        assert_eq!((answer.status, &answer.json()["error"]["parameter"]), (400, &json!(parameter)), "{query}");
    }
}
