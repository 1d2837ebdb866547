//! Many requests of every kind at once: one record for each, no more and no less, all of one form, and no secret in any.

use std::collections::BTreeMap;
use std::path::Path;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::{
    Gateway, Http, Schema, answer, anthropic, chunked, gateway, key_named, many, mock, openai, secret_of, upstream,
};

const AT_ONCE: usize = 48;
const KINDS: usize = 10;
/// Failures until a channel cools down: as many as there can be.
const TIRELESS: usize = 1000;
const CHAT: &str = "/v1/chat/completions";
const COOKIE: &str = "canary-cookie-51fe09";
const STRANGER: &str = "sk-canary-stranger-9b2d";

/// Sends one request of the kind; says what its record is to say of its end.
async fn send(gateway: &Gateway, kind: usize, n: usize, huge: &str) -> &'static str {
    let http = [Http::H1, Http::H2c][n / KINDS % 2];
    let client = gateway.over(http);
    let chat = |model: &str, stream: bool| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    let post = || client.post(CHAT).key("alice").header("cookie", COOKIE);
    match kind {
        0 => assert_eq!(post().json(&chat("gpt-4o", false)).send().await.status, 200),
        1 => assert!(!post().json(&chat("gpt-4o", true)).send().await.broken),
        2 => {
            let secret = secret_of("alice");
            let body = json!({"model": "claude-x", "max_tokens": 9, "stream": true, "messages": []});
            let answer = client.post("/v1/messages").header("x-api-key", &secret).json(&body).send().await;
            assert_eq!(answer.status, 200);
        }
        3 => {
            // In every place where a program may put it by mistake.
            let request = client.post(&format!("{CHAT}?key={STRANGER}")).header("user-agent", STRANGER);
            assert_eq!(request.json(&chat(STRANGER, false)).send().await.status, 401);
            return "refused";
        }
        4 => {
            assert_eq!(post().json(&chat("nobody", false)).send().await.status, 404);
            return "refused";
        }
        5 => assert_eq!(post().json(&chat("moved", false)).send().await.status, 200),
        6 => assert_eq!(post().body(huge.to_owned()).send().await.status, 200),
        7 => {
            let body = [&br#"{"model":"gpt-4o","messages":[],"x":""#[..], &[0xff, 0xfe, 0x80], b"\"}"].concat();
            let request = post().header("content-type", "application/json").header("x-stainless-os", "\u{fffd}é");
            // It passes as it is; what the upstream thinks of it is the upstream's.
            assert_eq!(request.body(body).send().await.status, 400);
        }
        8 => {
            let mut leaving = gateway.connect().await;
            let body = chat("endless", true).to_string();
            let key = format!("authorization: Bearer {}", secret_of("alice"));
            leaving.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", body.len())]).await;
            leaving.send(body).await;
            leaving.head().await;
            return "client_abort";
        }
        _ => {
            // The request's own key as a model's name, and in its text.
            let secret = secret_of("alice");
            let answer = post().json(&json!({"model": secret, "messages": [{"content": secret}]})).send().await;
            assert_eq!(answer.status, 404);
            return "refused";
        }
    }
    "ok"
}

fn canaries() -> Vec<String> {
    vec![secret_of("alice"), crate::support::UPSTREAM_KEY.to_owned(), COOKIE.to_owned(), STRANGER.to_owned()]
}

/// The files in which one of the secrets stands.
fn leaks(directory: &Path, secrets: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leaks(&path, secrets));
            continue;
        }
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        if path.extension().is_some_and(|ending| ending == "gz") {
            let mut plain = Vec::new();
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut plain).expect("a whole file");
            bytes = plain;
        }
        for secret in secrets {
            if let Some(at) = memchr::memmem::find(&bytes, secret.as_bytes()) {
                let near = &bytes[at.saturating_sub(120)..(at + secret.len()).min(bytes.len())];
                found.push(format!("{}: …{}", path.display(), near.escape_ascii()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_every_kind_leaves_exactly_one_record_of_one_form_without_a_secret() {
    let requests = many("WEIR_RECORDS", 3_000);
    let mock = mock();
    let moved = upstream([answer(503, &[], "elsewhere")]).await;
    let script = chunked(200, &[("content-type", "text/event-stream")]).chunk("data: {\"choices\":[]}\n\n");
    let endless = upstream([script.until_closed()]).await;
    let tireless = json!({ "failures": TIRELESS, "for": "1s" });
    let mut gateway = gateway()
        .with(
            "audit",
            json!({
                "bodies": "full", "max_body": "16KiB",
                "jsonl": { "directory": "audit", "rotate": "2MiB", "max_total": "4GiB" },
                "access_log": { "directory": "access", "rotate": "1MiB", "max_total": "1GiB" },
            }),
        )
        .channel(openai(mock.address()).models(&["gpt-*", "moved"]).with("priority", 1))
        .channel(openai(moved.address()).named("moved").models(&["moved"]).with("cooldown", tireless))
        .channel(openai(endless.address()).named("endless").models(&["endless"]).with("on_disconnect", "abort"))
        .channel(anthropic(mock.address()))
        .key(key_named("alice"))
        .start()
        .await;
    let huge =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(60_000)}]}).to_string();
    let outcomes = futures::stream::iter(0..requests).map(|n| send(&gateway, n % KINDS, n, &huge));
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().for_each(|outcome| *expected.entry(outcome).or_default() += 1);
    // A stop waits for what is under way, and hands on every record.
    gateway.stop().await;

    let records = gateway.written_records();
    assert_eq!(records.len(), requests, "one record for each request");
    let ids: std::collections::HashSet<_> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), requests, "each of another request");
    let schema = Schema::published();
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        schema.check(record);
        *counted.entry(record["outcome"].as_str().unwrap()).or_default() += 1;
        let is_sent = record["outcome"] == "ok" && record["operation"] == "openai.chat";
        assert_eq!(
            record["request_body"].is_object(),
            is_sent || record["request_bytes"].as_u64() > Some(0),
            "{record}"
        );
    }
    assert_eq!(counted, expected);
    let moved: Vec<&Value> = records.iter().filter(|record| record["model_requested"] == "moved").collect();
    let twice = moved.iter().filter(|record| record["attempts"].as_array().unwrap().len() == 2).count();
    assert!(
        twice >= moved.len().min(TIRELESS),
        "each was tried twice until the channel that fails cooled down: {twice}"
    );
    let streamed = records.iter().find(|r| r["stream"] == true && r["outcome"] == "ok").expect("a stream");
    assert_eq!(streamed["response_body"]["reassembled"], true);
    let access = ["access", "audit"].map(|folder| std::fs::read_dir(gateway.data_dir().join(folder)).unwrap().count());
    let found = leaks(&gateway.data_dir(), &canaries());
    assert!(found.is_empty(), "{} leaks, the first:\n{}", found.len(), found[0]);
    println!("trust: {requests} requests left {} records in {} files, {} leaks", records.len(), access[1], found.len());
}
