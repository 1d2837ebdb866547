//! The record of each kind of request: what it says, and that it fits the published schema.

use serde_json::{Value, json};

use crate::support::{
    Gateway, GatewayBuilder, Http, Schema, answer, anthropic, chunked, gateway, key_named, mock, openai, raw_answer,
    secret_of, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;

fn recording() -> GatewayBuilder {
    gateway().with("audit", json!({ "node": "edge-1", "jsonl": { "directory": "audit" } }))
}

/// The fields of a record, as an object of only these.
fn of(record: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), record[*field].clone())).collect::<serde_json::Map<_, _>>().into()
}

async fn checked(gateway: &Gateway, id: &str) -> Value {
    let record = gateway.record(id).await;
    Schema::published().check(&record);
    record
}

#[tokio::test]
async fn an_answer_leaves_a_record_of_all_that_was_measured() {
    let mock = mock();
    let gateway = recording().channel(openai(mock.address()).maps("gpt-4o", "gpt-large")).key("alice").start().await;
    let answer = gateway
        .post(&format!("{CHAT}?user=x"))
        .key("alice")
        .header("user-agent", "it/1.0")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("x-private", "canary")
        .header("content-type", "application/json")
        .body(HELLO)
        .send()
        .await;
    assert_eq!(answer.status, 200);
    let record = checked(&gateway, answer.header("x-weir-request-id")).await;
    let seen = &mock.ledger()[0];
    let expected = json!({
        "schema_version": 1, "key_name": "alice", "user": "user-of-alice", "route": CHAT, "operation": "openai.chat",
        "protocol": "openai", "channel": "openai", "channel_key": "main", "model_requested": "gpt-4o",
        "model_upstream": "gpt-large", "stream": false, "status": 200, "outcome": "ok", "error": null, "events": 0,
        "request_bytes": HELLO.len(), "response_bytes": answer.body.len(), "input_tokens": seen.usage.input(),
        "output_tokens": seen.usage.output, "usage_source": "upstream", "cost_nano_usd": 0, "client_ip": "127.0.0.1",
        "user_agent": "it/1.0", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "request_body": null, "response_body": null,
    });
    let fields: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(of(&record, &fields), expected);
    let headers = &record["request_headers"];
    assert_eq!(
        of(headers, &["authorization", "x-private", "content-type", "user-agent"]),
        json!({ "authorization": "[redacted]", "x-private": "[redacted]", "content-type": "application/json", "user-agent": "it/1.0" })
    );
    assert_eq!(record["response_headers"]["content-type"], "application/json");
    let attempts = record["attempts"].as_array().unwrap();
    assert_eq!(
        of(&attempts[0], &["channel", "outcome", "status"]),
        json!({ "channel": "openai", "outcome": "ok", "status": 200 })
    );
    assert_eq!(attempts.len(), 1);
    assert!(record["node"].as_str().unwrap().starts_with("edge-1/"), "{}", record["node"]);
    assert!(record["usage_raw"].as_str().unwrap().contains("prompt_tokens"));
    let (total, added) = (record["duration_ms"].as_f64().unwrap(), record["overhead_us"].as_f64().unwrap());
    assert!(total > 0.0 && added / 1000.0 <= total, "{added} µs of {total} ms");
}

#[tokio::test]
async fn a_stream_leaves_its_events_and_the_time_of_its_first_token_in_every_version_of_http() {
    let mock = mock();
    let gateway =
        recording().channel(anthropic(mock.address())).key("alice").tls(crate::support::Authority::new()).start().await;
    for http in Http::ALL {
        let body = json!({"model": "claude-x", "max_tokens": 9, "stream": true, "messages": []});
        let answer = gateway.over(http).post("/v1/messages").header("x-api-key", secret_of("alice")).json(&body).send();
        let answer = answer.await;
        assert_eq!(answer.status, 200);
        let record = checked(&gateway, answer.header("x-weir-request-id")).await;
        let seen = mock.ledger();
        let seen = seen.last().unwrap();
        assert_eq!(
            of(&record, &["protocol", "stream", "events", "output_tokens", "client_ip", "usage_source", "outcome"]),
            json!({
                "protocol": "anthropic", "stream": true, "events": seen.events, "output_tokens": seen.usage.output,
                "client_ip": "127.0.0.1", "usage_source": "upstream", "outcome": "ok",
            }),
            "{http:?}"
        );
        assert!(record["ttft_ms"].as_f64().unwrap() <= record["duration_ms"].as_f64().unwrap(), "{http:?}");
        assert_eq!(record["request_headers"]["x-api-key"], "[redacted]", "{http:?}");
    }
    assert_eq!(gateway.written_records().len(), Http::ALL.len());
}

#[tokio::test]
async fn whoever_is_refused_leaves_a_record_that_says_why() {
    let gateway = recording()
        .channel(openai("127.0.0.1:9".parse().unwrap()))
        .key("alice")
        .key(key_named("bob").with("enabled", false))
        .key(key_named("carol").with("limits", json!({ "rpm": 1 })))
        .with("server.max_body", 1000)
        .start()
        .await;
    let body = |model: &str| json!({"model": model, "messages": []});
    let too_large = "x".repeat(2000);
    let carol = gateway.post(CHAT).key("carol").json(&body("nobody")).send().await;
    let cases = [
        (gateway.post(CHAT).json(&body("gpt-4o")), 401, "missing_key", Value::Null, json!(CHAT)),
        (gateway.post(CHAT).key("mallory").json(&body("gpt-4o")), 401, "unknown_key", Value::Null, json!(CHAT)),
        (gateway.post(CHAT).key("bob").json(&body("gpt-4o")), 403, "key_disabled", json!("bob"), json!(CHAT)),
        (gateway.post("/nothing").key("alice"), 404, "not_found", Value::Null, Value::Null),
        (gateway.post(CHAT).key("alice").json(&body("o1")), 404, "model_not_found", json!("alice"), json!(CHAT)),
        (gateway.post(CHAT).key("alice").body("{"), 400, "bad_body", json!("alice"), json!(CHAT)),
        (gateway.post(CHAT).key("alice").body(too_large), 413, "body_too_large", json!("alice"), json!(CHAT)),
    ];
    let mut count = 1;
    for (request, status, error, key, route) in cases {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{error}");
        let record = checked(&gateway, answer.header("x-weir-request-id")).await;
        let expected = json!({
            "status": status, "outcome": "refused", "error": error, "key_name": key, "route": route, "attempts": [],
            "channel": null, "overhead_us": null, "ttft_ms": null, "response_headers": null,
            "response_bytes": answer.body.len(), "stream": false, "usage_source": "none",
        });
        let fields: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(of(&record, &fields), expected, "{error}");
        count += 1;
    }
    assert_eq!(carol.status, 404);
    // Nobody is refused who only looks whether anyone is there.
    for (method, path, status) in [("HEAD", "/", 200), ("OPTIONS", CHAT, 204)] {
        let answer = gateway.over(Http::H1).request(method, path).send().await;
        assert_eq!(answer.status, status);
        let record = checked(&gateway, answer.header("x-weir-request-id")).await;
        assert_eq!(
            of(&record, &["outcome", "error", "status"]),
            json!({ "outcome": "ok", "error": null, "status": status })
        );
        count += 1;
    }
    gateway.records(count).await;
}

#[tokio::test]
async fn a_request_that_was_served_elsewhere_says_where_it_had_been() {
    let limited = upstream([answer(429, &[("retry-after", "1")], "{}")]).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = mock();
    let retry = json!({ "attempts": 3 });
    let gateway = recording()
        .channel(openai(limited.address()).named("limited").with("retry", retry.clone()))
        .channel(openai(gone).named("gone").with("priority", 1).with("retry", retry.clone()))
        .channel(openai(good.address()).named("good").with("priority", 2).with("retry", retry))
        .key("alice")
        .start()
        .await;
    let answer = gateway.post(CHAT).key("alice").body(HELLO).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = checked(&gateway, answer.header("x-weir-request-id")).await;
    let attempts: Vec<_> = record["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| of(attempt, &["channel", "channel_key", "outcome", "status"]))
        .collect();
    assert_eq!(
        attempts,
        [
            json!({ "channel": "limited", "channel_key": "main", "outcome": "upstream_error", "status": 429 }),
            json!({ "channel": "gone", "channel_key": "main", "outcome": "upstream_error", "status": null }),
            json!({ "channel": "good", "channel_key": "main", "outcome": "ok", "status": 200 }),
        ]
    );
    assert_eq!(
        of(&record, &["channel", "error", "outcome"]),
        json!({ "channel": "good", "error": null, "outcome": "ok" })
    );
}

#[tokio::test]
async fn the_time_of_an_attempt_includes_the_making_of_its_connection() {
    // It takes connections and never says hello.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let good = mock();
    let timeouts = json!({ "connect": "300ms" });
    let gateway = recording()
        .channel(openai(good.address()).named("silent").with("base_url", url).with("timeouts", timeouts))
        .channel(openai(good.address()).named("good").with("priority", 1))
        .key("alice")
        .start()
        .await;
    let answer = gateway.post(CHAT).key("alice").body(HELLO).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = checked(&gateway, answer.header("x-weir-request-id")).await;
    let taken = |place: usize| record["attempts"][place]["duration_ms"].as_f64().unwrap();
    let total = record["duration_ms"].as_f64().unwrap();
    assert!(taken(0) >= 300.0 && taken(1) > 0.0 && taken(0) + taken(1) <= total, "{record}");
}

#[tokio::test]
async fn what_went_wrong_at_the_upstream_is_said_in_a_word() {
    let busy = upstream([answer(503, &[], "busy")]).await;
    let broken = upstream([chunked(200, &[("content-type", "text/event-stream")]).chunk("data: {}\n\n").close()]).await;
    let slow = upstream([raw_answer("").wait(3_000)]).await;
    let once = json!({ "attempts": 1 });
    let gateway = recording()
        .channel(openai(busy.address()).named("busy").models(&["busy"]).with("retry", once.clone()))
        .channel(openai(broken.address()).named("broken").models(&["broken"]).with("retry", once.clone()))
        .channel(openai(slow.address()).named("slow").models(&["slow"]).timeouts("200ms", "1s").with("retry", once))
        .key("alice")
        .start()
        .await;
    for (model, outcome, error, status, asked) in [
        ("busy", "upstream_error", "status_503", 503, json!(503)),
        ("broken", "upstream_abort", "upstream_broken", 200, json!(200)),
        ("slow", "timeout", "upstream_timeout", 504, Value::Null),
    ] {
        let answer = gateway.post(CHAT).key("alice").json(&json!({"model": model, "stream": true})).send().await;
        let record = checked(&gateway, answer.header("x-weir-request-id")).await;
        assert_eq!(
            of(&record, &["outcome", "error", "status", "channel"]),
            json!({ "outcome": outcome, "error": error, "status": status, "channel": model })
        );
        assert_eq!((&record["attempts"][0]["status"], &record["attempts"][0]["outcome"]), (&asked, &json!(outcome)));
    }
}

#[tokio::test]
async fn a_client_that_leaves_leaves_a_record_too() {
    let script = chunked(200, &[("content-type", "text/event-stream")]).chunk("data: {\"choices\":[]}\n\n");
    let upstream = upstream([script.until_closed()]).await;
    let gateway =
        recording().channel(openai(upstream.address()).with("on_disconnect", "abort")).key("alice").start().await;
    let mut client = gateway.connect().await;
    let body = r#"{"model":"gpt-4o","stream":true}"#;
    let key = format!("x-api-key: {}", secret_of("alice"));
    client.send_head(&format!("POST {CHAT}"), &[&key, &format!("content-length: {}", body.len())]).await;
    client.send(body).await;
    client.head().await;
    drop(client);
    let record = gateway.records(1).await.remove(0);
    Schema::published().check(&record);
    assert_eq!(
        of(&record, &["outcome", "error", "status", "key_name"]),
        json!({ "outcome": "client_abort", "error": "client_left", "status": 200, "key_name": "alice" })
    );
}

#[tokio::test]
async fn nothing_is_recorded_of_headers_unless_it_is_wanted() {
    let mock = mock();
    let gateway = recording().with("audit.headers", false).channel(openai(mock.address())).key("alice").start().await;
    let answer = gateway.post(CHAT).key("alice").body(HELLO).send().await;
    let record = checked(&gateway, answer.header("x-weir-request-id")).await;
    assert_eq!(
        of(&record, &["request_headers", "response_headers"]),
        json!({ "request_headers": null, "response_headers": null })
    );
    assert_eq!(record["client_ip"], "127.0.0.1");
}

#[tokio::test]
async fn an_access_log_has_a_combined_line_for_each_request() {
    let mock = mock();
    let mut gateway = gateway()
        .with("audit", json!({ "access_log": { "directory": "access" }, "history": { "enabled": false } }))
        .channel(openai(mock.address()))
        .key("alice")
        .start()
        .await;
    let secret = secret_of("alice");
    let answer = gateway
        .post(&format!("{CHAT}?key={secret}"))
        .header("user-agent", "it \"quoted\"")
        .header("referer", format!("https://app.example/x?key={secret}"))
        .body(HELLO)
        .send()
        .await;
    gateway.get("/nothing").send().await;
    gateway.stop().await;
    let text = std::fs::read_to_string(gateway.data_dir().join("access/access.log")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let (head, tail) = (lines[0].split(" [").next().unwrap(), lines[0].split("] ").nth(1).unwrap());
    assert_eq!(head, "127.0.0.1 - alice");
    let expected =
        format!("\"POST {CHAT} HTTP/1.1\" 200 {} \"https://app.example/x\" \"it \\x22quoted\\x22\"", answer.body.len());
    assert_eq!(tail, expected);
    assert!(
        lines[1].starts_with("127.0.0.1 - - [") && lines[1].contains("\"GET /nothing HTTP/1.1\" 404 "),
        "{}",
        lines[1]
    );
    assert!(!text.contains(&secret));
}

#[tokio::test]
async fn sinks_follow_a_reload_and_files_are_opened_anew() {
    let mock = mock();
    let mut gateway = gateway()
        .with("audit", json!({ "history": { "enabled": false } }))
        .channel(openai(mock.address()))
        .key("alice")
        .start()
        .await;
    let ask = async |gateway: &Gateway| gateway.post(CHAT).key("alice").body(HELLO).send().await;
    ask(&gateway).await;
    gateway.rewrite(|config| config["audit"]["jsonl"] = json!({ "directory": "audit" }));
    assert!(gateway.command(&["reload"]).status.success());
    ask(&gateway).await;
    gateway.records(1).await;
    // As logrotate does.
    let path = gateway.data_dir().join("audit/records.jsonl");
    std::fs::rename(&path, path.with_file_name("records.jsonl.1")).unwrap();
    assert!(gateway.command(&["reload"]).status.success());
    ask(&gateway).await;
    gateway.records(2).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    let metrics = gateway.metrics().await;
    for line in
        ["weir_sink_events_total{result=\"delivered\",sink=\"jsonl\"} 2", "weir_sink_dropped_total{sink=\"jsonl\"} 0"]
    {
        assert!(metrics.lines().any(|other| other == line), "{line}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_is_found_however_it_was_sent_and_what_looks_like_one_costs_what_it_costs() {
    let mock = mock();
    let gateway = recording()
        .file("prices.yaml", "models: { \"gpt-*\": { input: \"1000\", output: \"1000\" } }\n")
        .with("prices", "prices.yaml")
        .channel(openai(mock.address()))
        .key("alice")
        .start()
        .await;
    let secret = secret_of("alice");
    let spelled = secret.replace('-', "%2D");
    let body = json!({"model": secret, "messages": []});
    let request = gateway.post(&format!("{CHAT}?key={spelled}")).header("user-agent", &secret).header(&secret, "1");
    let answer = request.json(&body).send().await;
    assert_eq!(answer.status, 404);
    let record = checked(&gateway, answer.header("x-weir-request-id")).await;
    assert!(!record.to_string().contains(&secret), "{record}");
    assert_eq!(
        of(&record, &["model_requested", "user_agent"]),
        json!({ "model_requested": "[redacted]", "user_agent": "[redacted]" })
    );

    // A client that sends the model's name as another credential does not hide what it uses.
    let model = "gpt-4o-of-a-name-that-is-longer-than-the-key";
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    let plain = gateway.post(CHAT).key("alice").json(&body).send().await;
    let hidden = gateway.post(CHAT).key("alice").header("api-key", model).json(&body).send().await;
    let plain = checked(&gateway, plain.header("x-weir-request-id")).await;
    let hidden = checked(&gateway, hidden.header("x-weir-request-id")).await;
    assert_eq!((&plain["model_requested"], &hidden["model_requested"]), (&json!(model), &json!("[redacted]")));
    assert!(plain["cost_nano_usd"].as_u64() > Some(0), "{plain}");
    assert_eq!(plain["cost_nano_usd"], hidden["cost_nano_usd"]);
}
