//! The admin listener, the signals, and the configuration while it is in force.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    ADMIN_TOKEN, Gate, Gateway, Upstream, answer, chunked, eventually, gateway, key_named, openai, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

async fn ok() -> Upstream {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#;
    upstream([answer(200, &[("content-type", "application/json")], body)]).await
}

async fn status_of(gateway: &Gateway, key: &str) -> u16 {
    gateway.post(CHAT).key(key).body(BODY).send().await.status
}

fn digest_of(name: &str) -> Value {
    weir_filters::key::KeyDigest::of(&crate::support::secret_of(name)).to_string().into()
}

#[tokio::test]
async fn health_and_readiness_need_no_token_and_the_api_does() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).start().await;
    let health = gateway.admin_request("GET", "/healthz").send().await;
    assert_eq!((health.status, health.text().as_str()), (200, "ok"));
    let ready = gateway.admin_request("GET", "/readyz").send().await;
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true, "reasons": []})));
    for (method, path) in [("GET", "/admin/api/usage?by=key"), ("POST", "/admin/api/reload")] {
        let none = gateway.admin_request(method, path).send().await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, r#"Bearer realm="weir""#));
        let wrong = gateway.admin_request(method, path).header("authorization", "Bearer wrong").send().await;
        assert_eq!(wrong.status, 401, "{path}");
        assert_eq!(gateway.admin(method, path).send().await.status, 200, "{path}");
    }
    assert_eq!(gateway.admin("GET", "/admin/api/nothing").send().await.status, 404);
    assert_eq!(gateway.admin("GET", "/admin/api/reload").send().await.status, 405);
    assert_eq!(gateway.admin_request("POST", CHAT).send().await.status, 404, "no traffic here");
}

#[tokio::test]
async fn metrics_say_what_happened() {
    let upstream = ok().await;
    let channel = openai(upstream.address()).models(&["gpt-4o", "gpt-*"]);
    let gateway = gateway().channel(channel).key("alice").start().await;
    assert_eq!(status_of(&gateway, "alice").await, 200);
    assert_eq!(status_of(&gateway, "nobody").await, 401);
    gateway.post(CHAT).key("alice").body(r#"{"model":"gpt-unlisted"}"#).send().await;
    gateway.get("/nothing").send().await;
    gateway.used("key", "alice", 2).await;
    let lines = [
        "weir_http_requests_total{code=\"200\",route=\"/v1/chat/completions\"} 2",
        "weir_http_requests_total{code=\"401\",route=\"/v1/chat/completions\"} 1",
        "weir_http_requests_total{code=\"404\",route=\"unmatched\"} 1",
        "weir_http_request_duration_seconds_count{code_class=\"2xx\",route=\"/v1/chat/completions\"} 2",
        "weir_gateway_overhead_seconds_count{route=\"/v1/chat/completions\"} 2",
        "weir_tokens_total{channel=\"openai\",model=\"gpt-4o\",type=\"input\"} 10",
        "weir_tokens_total{channel=\"openai\",model=\"gpt-4o\",type=\"output\"} 4",
        "weir_tokens_total{channel=\"openai\",model=\"other\",type=\"input\"} 10",
        "weir_upstream_attempts_total{channel=\"openai\",outcome=\"ok\"} 2",
        "weir_usage_source_total{source=\"upstream\"} 2",
        "weir_auth_failures_total{reason=\"unknown\"} 1",
        "weir_channel_inflight{channel=\"openai\"} 0",
        "weir_streams_active 0",
        "weir_store_up 1",
        "weir_ledger_append_errors_total 0",
        "weir_config_version 1",
        "weir_config_last_reload_success 1",
        "weir_build_info{version=\"0.1.0\"} 1",
    ];
    // An answer is with its client a moment before its request is over.
    let metrics = eventually("every line", async || {
        let metrics = gateway.metrics().await;
        lines.iter().all(|line| metrics.contains(&format!("\n{line}\n"))).then_some(metrics)
    })
    .await;
    for never in ["alice", "nobody", "gpt-unlisted", "127.0.0.1"] {
        assert!(!metrics.contains(never), "{never}");
    }
}

#[tokio::test]
async fn a_metrics_token_closes_the_metrics() {
    let gateway = gateway().with("admin.metrics_token", "metrics-token-it").start().await;
    assert_eq!(gateway.admin_request("GET", "/metrics").send().await.status, 401);
    assert_eq!(gateway.admin("GET", "/metrics").send().await.status, 401);
    let scrape = gateway.admin_request("GET", "/metrics").header("authorization", "Bearer metrics-token-it");
    assert_eq!(scrape.send().await.status, 200);
    let api =
        gateway.admin_request("GET", "/admin/api/usage?by=key").header("authorization", "Bearer metrics-token-it");
    assert_eq!(api.send().await.status, 401);
}

#[tokio::test]
async fn an_admin_token_is_made_and_printed_at_the_first_start_only() {
    let mut gateway = gateway().with("admin", json!({})).start().await;
    let printed = gateway.stdout();
    let token = printed.lines().find_map(|line| line.strip_prefix("admin token, shown this once: ")).expect("a token");
    assert!(token.starts_with("weir-admin-") && token.len() == 75, "{token}");
    assert_eq!(printed.matches("weir-admin-").count(), 1);
    let token = token.to_owned();
    let ask = async |gateway: &Gateway, token: &str| {
        let request = gateway.admin_request("GET", "/admin/api/usage?by=key");
        request.header("authorization", format!("Bearer {token}")).send().await.status
    };
    assert_eq!((ask(&gateway, &token).await, ask(&gateway, ADMIN_TOKEN).await), (200, 401));
    gateway.stop().await;
    gateway.start().await;
    assert!(!gateway.stdout().contains("admin token"), "{}", gateway.stdout());
    assert_eq!(ask(&gateway, &token).await, 200, "it is still the same");
}

#[tokio::test]
async fn a_reload_puts_the_new_keys_in_force_by_api_by_signal_and_by_command() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").key("bob").start().await;
    gateway.rewrite(|config| config["keys"][0]["enabled"] = json!(false));
    assert_eq!(status_of(&gateway, "alice").await, 200, "a file that nobody read changes nothing");
    let reload = gateway.admin("POST", "/admin/api/reload").send().await;
    assert_eq!((reload.status, reload.json()), (200, json!({"version": 2})));
    assert_eq!((status_of(&gateway, "alice").await, status_of(&gateway, "bob").await), (403, 200));

    gateway.rewrite(|config| config["keys"][1]["sha256"] = digest_of("carol"));
    gateway.signal("HUP");
    eventually("a reload by SIGHUP", async || (status_of(&gateway, "bob").await == 401).then_some(())).await;
    assert_eq!(status_of(&gateway, "carol").await, 200);

    gateway.rewrite(|config| config["keys"][1]["models"] = json!(["o3"]));
    let command = gateway.command(&["reload"]);
    assert_eq!(String::from_utf8_lossy(&command.stdout), "configuration 4 is in force\n");
    assert_eq!(status_of(&gateway, "carol").await, 403);
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("\nweir_config_version 4\n") && metrics.contains("\nweir_config_last_reload_success 1\n"));
}

#[tokio::test]
async fn a_broken_file_is_refused_and_the_last_good_one_stays() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    gateway.write_text("channels: []\nkeyz: []\nserver: { threads: many }\n");
    let reload = gateway.admin("POST", "/admin/api/reload").send().await;
    assert_eq!(reload.status, 422);
    let error = &reload.json()["error"];
    assert_eq!(error["message"], "the configuration was not taken; the one before it is still served");
    let mistakes: Vec<&str> = error["mistakes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let file = gateway.config_file();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with(&format!("{}:2:1: ", file.display())), "{mistakes:?}");
    assert!(mistakes[1].starts_with(&format!("{}:3:", file.display())), "{mistakes:?}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("\nweir_config_last_reload_success 0\n") && metrics.contains("\nweir_config_version 1\n"));
    assert_eq!(status_of(&gateway, "alice").await, 200);

    gateway.signal("HUP");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(status_of(&gateway, "alice").await, 200);
    assert!(!gateway.command(&["reload"]).status.success());

    gateway.rewrite(|_| ());
    assert_eq!(gateway.admin("POST", "/admin/api/reload").send().await.json(), json!({"version": 2}));
    assert!(gateway.metrics().await.contains("\nweir_config_last_reload_success 1\n"));
}

#[tokio::test]
async fn a_stream_in_flight_survives_a_reload_that_removes_all_it_uses() {
    let gate = Gate::new();
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    let script = chunked(200, &[("content-type", "text/event-stream")]).chunk("data: {\"choices\":[{}]}\n\n");
    let script = script.gate(&gate).chunk(format!("{usage}\n\ndata: [DONE]\n\n")).last_chunk();
    let upstream = upstream([script]).await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let mut stream = gateway.post(CHAT).key("alice").body(body).stream().await;
    assert!(stream.next().await.is_some());
    gateway.rewrite(|config| {
        config["keys"] = json!([]);
        config["channels"] = json!([]);
    });
    assert_eq!(gateway.admin("POST", "/admin/api/reload").send().await.status, 200);
    assert_eq!(status_of(&gateway, "alice").await, 401);
    gate.open();
    let mut rest = Vec::new();
    while let Some(piece) = stream.next().await {
        rest.extend_from_slice(&piece);
    }
    assert!(!stream.answer.broken);
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
    let row = gateway.used("key", "alice", 1).await;
    let figures = ["failed", "events", "input_tokens", "output_tokens"].map(|name| row[name].as_u64().unwrap());
    assert_eq!(figures, [0, 2, 3, 2]);
}

#[tokio::test]
async fn reloads_under_load_disturb_nobody() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    let client = gateway.over(crate::support::Http::H1);
    let requests = async {
        for _ in 0..40 {
            let batch = (0..16).map(|_| client.post(CHAT).key("alice").body(BODY).send());
            for answer in futures::future::join_all(batch).await {
                assert_eq!((answer.status, answer.broken), (200, false));
            }
        }
    };
    let reloads = async {
        for version in 2..42 {
            let reload = gateway.admin("POST", "/admin/api/reload").send().await;
            assert_eq!(reload.json(), json!({"version": version}));
        }
    };
    tokio::join!(requests, reloads);
    let row = gateway.used("key", "alice", 640).await;
    assert_eq!((&row["failed"], &row["input_tokens"]), (&json!(0), &json!(6_400)));
}

#[tokio::test]
async fn check_says_by_its_exit_code_what_a_file_is_worth() {
    let gateway = gateway().key(key_named("alice")).start().await;
    let good = gateway.command(&["check"]);
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    gateway.write_text("channels: []\nlisten: [{ address: nowhere }]\nusers: [{}]\n");
    let bad = gateway.command(&["check"]);
    let text = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(
        (bad.status.code(), text.contains("weir.yaml:2:"), text.contains("weir.yaml:3:")),
        (Some(1), true, true)
    );
    std::fs::remove_file(gateway.config_file()).unwrap();
    assert_eq!(gateway.command(&["check"]).status.code(), Some(2));
    assert_eq!(gateway.command(&["check", "--colour"]).status.code(), Some(2));
}

#[tokio::test]
async fn a_second_gateway_on_the_same_directory_does_not_start() {
    let gateway = gateway().start().await;
    let second = gateway.command(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains(&gateway.data_dir().display().to_string()), "{text}");
    assert_eq!(gateway.admin_request("GET", "/healthz").send().await.status, 200, "the first one is unharmed");
}

#[tokio::test]
async fn sigterm_lets_an_open_stream_end() {
    let gate = Gate::new();
    let script = chunked(200, &[("content-type", "text/event-stream")]).chunk("data: {}\n\n");
    let upstream = upstream([script.gate(&gate).chunk("data: [DONE]\n\n").last_chunk()]).await;
    let mut gateway =
        gateway().channel(openai(upstream.address())).key("alice").with("server.grace_period", "5s").start().await;
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
    let mut stream = gateway.post(CHAT).key("alice").body(body).stream().await;
    assert!(stream.next().await.is_some());
    gateway.signal("TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    gate.open();
    assert_eq!(stream.next().await.as_deref(), Some(&b"data: [DONE]\n\n"[..]));
    assert_eq!((stream.next().await, stream.answer.broken), (None, false));
    let start = Instant::now();
    let status = eventually("an end after SIGTERM", async || gateway.exit_status()).await;
    assert!(status.success() && start.elapsed() < Duration::from_secs(10));
    let rows: Value = serde_json::from_slice(&gateway.command(&["usage", "--by", "key", "--json"]).stdout).unwrap();
    assert_eq!((&rows["rows"][0]["requests"], &rows["rows"][0]["failed"]), (&json!(1), &json!(0)));
}

/// The niceness of each thread of the gateway whose name begins so, by its name.
fn niceness(gateway: &Gateway, name: &str) -> Vec<(String, i32)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("a process");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (start, fields) = stat.rsplit_once(") ")?;
            let (_, comm) = start.split_once('(')?;
            // The nineteenth field of proc(5), and the seventeenth behind the name.
            let nice = fields.split(' ').nth(16)?.parse().ok()?;
            comm.starts_with(name).then(|| (comm.to_owned(), nice))
        })
        .collect()
}

#[tokio::test]
async fn whoever_looks_at_the_gateway_stands_back_behind_its_clients() {
    let gateway = gateway().start().await;
    // It is asked of the ledger, which is work for a thread of its own.
    gateway.api("usage?by=key").get().await;
    let mut found = niceness(&gateway, "weir-admin");
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [("weir-admin".to_owned(), 10), ("weir-admin-work".to_owned(), 10)]);
    assert!(niceness(&gateway, "weir").contains(&("weir".to_owned(), 0)));
}

#[tokio::test]
async fn usage_of_one_key_or_one_user_is_that_of_nobody_else() {
    let upstream = ok().await;
    let gateway = gateway().channel(openai(upstream.address())).key("alice").key("bob").start().await;
    for (key, times) in [("alice", 2), ("bob", 1)] {
        for _ in 0..times {
            assert_eq!(gateway.post(CHAT).key(key).body(BODY).send().await.status, 200);
        }
        gateway.used("key", key, times).await;
    }
    let keys = gateway.api("keys").rows().await;
    let id = |name: &str| keys.iter().find(|key| key["name"] == name).expect("a key")["id"].as_str().expect("an id");
    for (only, requests) in [
        (format!("key_id={}", id("alice")), json!(2)),
        (format!("key_id={}", id("bob")), json!(1)),
        ("user=user-of-alice".to_owned(), json!(2)),
        (format!("user=user-of-bob&key_id={}", id("alice")), Value::Null),
        ("user=nobody".to_owned(), Value::Null),
    ] {
        let rows = gateway.api(&format!("usage?by=day&{only}")).rows().await;
        assert_eq!(rows.first().map_or(Value::Null, |row| row["requests"].clone()), requests, "{only}");
    }
}
