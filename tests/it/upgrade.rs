//! One process in the place of another: no connection is refused, no stream is cut, nothing is counted twice.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Authority, Gate, Gateway, Http, Upstream, answer, chunked, eventually, gateway, openai, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const STREAMED: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const SSE: (&str, &str) = ("content-type", "text/event-stream");
const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const REPORT: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
const PLAIN: &str = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}"#;

/// An upstream that holds its first `held` answers, which are streams, until the gate is opened for each.
async fn holding(held: usize, gate: &Gate) -> Upstream {
    let stream = chunked(200, &[SSE]).chunk(FIRST).gate(gate).chunk(REPORT).last_chunk();
    let plain = answer(200, &[("content-type", "application/json")], PLAIN);
    upstream(std::iter::repeat_n(stream, held).chain([plain])).await
}

async fn over(upstream: &Upstream) -> Gateway {
    gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .tls(Authority::new())
        .with("server.grace_period", "60s")
        .start()
        .await
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_and_nobody_is_refused_over_every_version_of_http() {
    let gate = Gate::new();
    let upstream = holding(Http::ALL.len(), &gate).await;
    let mut gateway = over(&upstream).await;
    let first = gateway.pid();
    let mut streams = Vec::new();
    for http in Http::ALL {
        let mut stream = gateway.over(http).post(CHAT).key("alice").body(STREAMED).stream().await;
        assert_eq!(stream.next().await.as_deref(), Some(FIRST.as_bytes()));
        streams.push(stream);
    }
    // A new connection for each request, and one that is used again and again.
    let (asked, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = Http::ALL
        .into_iter()
        .flat_map(|http| [(http, true), (http, false)])
        .map(|(http, anew)| {
            let fresh: Vec<_> = (0..if anew { 400 } else { 1 }).map(|_| gateway.over(http)).collect();
            let (asked, over) = (asked.clone(), over.clone());
            tokio::spawn(async move {
                for client in fresh.iter().cycle() {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    let answer = client.post(CHAT).key("alice").body(BODY).send().await;
                    assert_eq!((answer.status, answer.broken), (200, false), "{http:?}, anew: {anew}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let output = gateway.upgrade(&[]);
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_ne!(gateway.pid(), first);
    let before = asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(asked.load(Ordering::Relaxed) > before, "the new process serves");
    assert_eq!(gateway.exit_status(), None, "the first process has streams");
    for _ in &streams {
        gate.open();
    }
    for stream in &mut streams {
        let mut rest = Vec::new();
        while let Some(piece) = stream.next().await {
            rest.extend_from_slice(&piece);
        }
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), stream.answer.broken), (REPORT, false));
    }
    over.store(true, Ordering::Release);
    for task in load {
        task.await.expect("no request failed");
    }
    eventually("the end of the first process", async || gateway.exit_status()).await;
    let requests = asked.load(Ordering::Relaxed) + Http::ALL.len() as u64;
    let row = gateway.used("key", "alice", requests).await;
    let figures = ["failed", "input_tokens", "output_tokens"].map(|name| row[name].as_u64());
    assert_eq!(figures, [Some(0), Some(9 * requests), Some(7 * requests)]);
    gateway.signal("TERM");
    eventually("an end", async || gateway.is_over().then_some(())).await;
    let rows: Value = serde_json::from_slice(&gateway.command(&["usage", "--by", "key", "--json"]).stdout).unwrap();
    assert_eq!(rows["rows"][0]["requests"], json!(requests), "the ledger was handed over");
}

#[tokio::test]
async fn the_admin_listener_moves_with_what_was_made_over_it() {
    let upstream = holding(0, &Gate::new()).await;
    let mut gateway = over(&upstream).await;
    let made = gateway.admin("POST", "/admin/api/keys").body(r#"{"name":"made"}"#).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let output = gateway.upgrade(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let key = made.json()["key"].as_str().expect("a key").to_owned();
    let answer = gateway.post(CHAT).header("x-api-key", &key).body(BODY).send().await;
    assert_eq!(answer.status, 200);
    eventually("the end of the first process", async || gateway.exit_status()).await;
    let usage = gateway.command(&["usage", "--by", "key", "--json"]);
    let rows: Value = serde_json::from_slice(&usage.stdout).expect("JSON");
    assert_eq!(rows["rows"][0]["requests"], json!(1));
    assert_eq!(gateway.admin_request("GET", "/readyz").send().await.status, 200);
    gateway.rewrite(|config| config["keys"] = json!([]));
    let reload = gateway.command(&["reload"]);
    assert!(reload.status.success(), "{}", said(&reload));
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 401);
    let second = gateway.command(&["run"]);
    assert_eq!(second.status.code(), Some(1), "there is one gateway");
}

#[tokio::test]
async fn sigquit_hands_over_to_the_same_program() {
    let upstream = holding(0, &Gate::new()).await;
    let mut gateway = over(&upstream).await;
    gateway.signal("QUIT");
    let status = eventually("the end of the first process", async || gateway.exit_status()).await;
    assert!(status.success(), "{}", gateway.stderr());
    let log = gateway.stderr();
    let line = log.lines().find(|line| line.ends_with("this one ends with its last stream")).expect("a line");
    let pid = line.split("process ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
    gateway.succeeded_by(pid);
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 200);
    gateway.signal("INT");
    eventually("an end", async || gateway.is_over().then_some(())).await;
}

#[tokio::test]
async fn what_cannot_serve_changes_nothing_and_says_why() {
    let gate = Gate::new();
    let upstream = holding(1, &gate).await;
    let mut gateway = over(&upstream).await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert!(stream.next().await.is_some());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = json!({ "address": taken.local_addr().expect("bound") });
    let good = std::fs::read_to_string(gateway.config_file()).expect("the configuration");

    let missing = gateway.upgrade(&["--binary", "/nowhere/weir"]);
    let no_gateway = gateway.upgrade(&["--binary", "/bin/true"]);
    let hanging = gateway.config_file().with_file_name("hangs");
    std::fs::write(&hanging, "#!/bin/sh\n[ $# = 0 ] || exec sleep 60\n").expect("a file");
    std::fs::set_permissions(&hanging, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    // A process that another test is just starting may still hold it open for writing.
    while std::process::Command::new(&hanging).status().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hangs = gateway.upgrade(&["--binary", hanging.to_str().expect("text"), "--within", "300ms"]);
    gateway.write_text(&good.replace("\"channels\"", "\"chanels\""));
    let wrong = gateway.upgrade(&[]);
    gateway.write_text(&good);
    gateway.rewrite(|config| config["listen"].as_array_mut().expect("a list").push(elsewhere));
    let no_room = gateway.upgrade(&[]);
    gateway.write_text(&good);
    let outcomes = [
        (missing, "no upgrade: /nowhere/weir cannot be started"),
        (no_gateway, "no upgrade: the new process ended before it served: exit status: 0"),
        (hangs, "hangs did not check the configuration in time"),
        (wrong, "unknown field"),
        (no_room, "no upgrade: the new process cannot serve: cannot listen on 127.0.0.1:"),
    ];
    for (output, why) in &outcomes {
        assert_eq!(output.status.code(), Some(1), "{}", said(output));
        assert!(said(output).contains(why), "{why}: {}", said(output));
    }
    assert_eq!(gateway.exit_status(), None);
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 200);
    let made = gateway.admin("POST", "/admin/api/keys").body(r#"{"name":"made"}"#).send().await;
    assert_eq!(made.status, 201, "nothing is frozen: {}", made.text());
    gate.open();
    assert_eq!(stream.next().await.as_deref(), Some(REPORT.as_bytes()));
    let output = gateway.upgrade(&[]);
    assert!(output.status.success(), "it can be tried again: {}", said(&output));
}

#[tokio::test]
async fn an_upgrade_needs_a_gateway_that_runs() {
    let upstream = holding(0, &Gate::new()).await;
    let mut gateway = over(&upstream).await;
    gateway.stop().await;
    for command in [&["upgrade"][..], &["run", "--upgrade"]] {
        let output = gateway.command(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("no upgrade: no gateway runs with "), "{}", said(&output));
    }
}

#[tokio::test]
async fn a_budget_is_not_given_out_twice_by_two_processes() {
    let gate = Gate::new();
    let upstream = holding(1, &gate).await;
    let prices = "models: { 'gpt-*': { input: '1000000', output: '1000000' } }\n";
    let limited = crate::support::key_named("alice").with("limits", json!({ "budget_usd": { "total": "40" } }));
    let mut gateway = gateway()
        .channel(openai(upstream.address()))
        .key(limited)
        .with("prices", "prices.yaml")
        .with("estimates", json!({ "bytes_per_token": 64, "output_tokens": 5 }))
        .with("server.grace_period", "60s")
        .file("prices.yaml", prices)
        .start()
        .await;
    let body = r#"{"model":"gpt-4o","stream":true,"max_tokens":5,"messages":[]}"#;
    let mut stream = gateway.post(CHAT).key("alice").body(body).stream().await;
    assert!(stream.next().await.is_some());
    for _ in 0..2 {
        let output = gateway.upgrade(&[]);
        assert!(output.status.success(), "{}", said(&output));
    }
    // 9 + 7 tokens at a dollar each: it is settled by the process that serves it, and by nobody else.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    gate.open();
    while stream.next().await.is_some() {}
    eventually("the end of the first process", async || gateway.exit_status()).await;
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!((&row["cost_micro_usd"], &row["failed"]), (&json!(16_000_000), &json!(0)));
}
