//! Prices: which one is a request's, what becomes of those without, what is reserved, and whose rate is whose.

use serde_json::{Value, json};

use crate::support::{anthropic, gateway, gemini, key_named, mock, openai};

#[tokio::test]
async fn the_upstreams_model_is_priced_before_the_clients() {
    let mock = mock();
    let prices = r#"models: { "gpt-4o": { per_request: "3" }, "real-1": { per_request: "2" } }"#;
    let gateway = gateway()
        .channel(openai(mock.address()).models(&["gpt-*"]).maps("gpt-alias", "real-1"))
        .channel(openai(mock.address()).named("other").models(&["gpt-4o", "o*"]).maps("o-alias", "real-2"))
        .key("alice")
        .file("prices.yaml", prices)
        .with("prices", "prices.yaml")
        .start()
        .await;
    for (model, nano) in [("gpt-alias", 2_000_000_000_u64), ("gpt-4o", 3_000_000_000), ("o-alias", 0)] {
        let body = json!({ "model": model, "messages": [] });
        assert_eq!(gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status, 200);
        let row = gateway.used("model", model, 1).await;
        assert_eq!((&row["cost_nano_usd"], &row["unpriced"]), (&json!(nano), &json!(u64::from(nano == 0))), "{model}");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("\nweir_unpriced_requests_total 1\n"), "{metrics}");
    assert!(metrics.contains("\nweir_cost_usd_total{channel=\"openai\",model=\"gpt-alias\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn what_has_no_price_is_refused_only_if_that_is_wanted() {
    let mock = mock();
    let builder = || {
        let address = mock.address();
        gateway()
            .channel(openai(address))
            .channel(anthropic(address))
            .channel(gemini(address))
            .key("alice")
            .file("prices.yaml", "models: { gpt-priced: { input: 1, output: 1 } }")
            .with("prices", "prices.yaml")
    };
    let chat =
        |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 5 });
    let contents = json!({ "contents": [{ "parts": [{ "text": "hello" }] }] });
    let generate = "/v1beta/models/gemini-x:generateContent";
    let asked =
        [("/v1/chat/completions", chat("gpt-x")), ("/v1/messages", chat("claude-x")), (generate, contents.clone())];

    let allowing = builder().start().await;
    for (path, body) in &asked {
        assert_eq!(allowing.post(path).key("alice").json(body).send().await.status, 200, "{path}");
    }
    let row = allowing.used("key", "alice", 3).await;
    assert_eq!((&row["unpriced"], &row["cost_nano_usd"]), (&json!(3), &json!(0)));
    assert!(allowing.metrics().await.contains("\nweir_unpriced_requests_total 3\n"));

    let before = mock.requests();
    let refusing = builder().with("unpriced", "refuse").start().await;
    let mut errors = Vec::new();
    for (path, body) in &asked {
        let answer = refusing.post(path).key("alice").json(body).send().await;
        assert_eq!(answer.status, 400, "{path}");
        errors.push(answer.json()["error"].clone());
    }
    assert_eq!(mock.requests(), before, "the upstream was not asked");
    assert_eq!(
        (&errors[0]["type"], &errors[0]["param"], &errors[0]["code"]),
        (&json!("invalid_request_error"), &json!("model"), &json!("model_not_priced"))
    );
    let said = "The model 'gpt-x' has no price here, and what has none is refused. Use another model, or ask whoever \
                runs this gateway to add its price.";
    let message = errors[0]["message"].as_str().expect("a message");
    assert!(message.starts_with(said), "{message}");
    assert_eq!(errors[1]["type"], "invalid_request_error");
    assert_eq!((&errors[2]["code"], &errors[2]["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
    for (path, body) in [
        ("/v1/chat/completions", chat("gpt-priced")),
        ("/v1/messages/count_tokens", chat("claude-x")),
        ("/v1beta/models/gemini-x:countTokens", contents),
    ] {
        assert_eq!(refusing.post(path).key("alice").json(&body).send().await.status, 200, "{path}");
    }
    let row = refusing.used("key", "alice", 6).await;
    assert_eq!((&row["failed"], &row["unpriced"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn changed_prices_are_in_force_after_a_reload_and_broken_ones_are_not() {
    let mock = mock();
    let gateway = gateway()
        .channel(openai(mock.address()))
        .key("alice")
        .file("prices.yaml", "models: { 'gpt-*': { per_request: 1 } }")
        .with("prices", "prices.yaml")
        .start()
        .await;
    let ask = async |model: &str| {
        let body = json!({ "model": model, "messages": [] });
        assert_eq!(gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status, 200);
        gateway.used("model", model, 1).await["cost_nano_usd"].as_u64().expect("a cost")
    };
    let file = gateway.config_file().with_file_name("prices.yaml");
    let reload = async || gateway.admin("POST", "/admin/api/reload").send().await;
    assert_eq!(ask("gpt-a").await, 1_000_000_000);
    std::fs::write(&file, "models: { 'gpt-*': { per_request: 2 } }").expect("prices");
    assert_eq!(ask("gpt-b").await, 1_000_000_000, "nobody has reloaded");
    assert_eq!(reload().await.status, 200);
    assert_eq!(ask("gpt-c").await, 2_000_000_000);
    std::fs::write(&file, "models: { 'gpt-*': { per_requst: 2 } }").expect("prices");
    let answer = reload().await;
    assert_eq!(answer.status, 422);
    let mistakes = answer.json()["error"]["mistakes"].to_string();
    assert!(mistakes.contains("prices.yaml:1:22: unknown field `per_requst`; did you mean"), "{mistakes}");
    assert_eq!(ask("gpt-d").await, 2_000_000_000);
}

#[tokio::test]
async fn a_budget_is_reserved_by_price_and_rate() {
    let mock = mock();
    let budget = json!({ "budget_usd": { "total": "1" } });
    // A request costs 0.4 dollars, times 1.25: two of them are the whole budget.
    let gateway = gateway()
        .channel(openai(mock.address()))
        .key(key_named("alice").with("limits", budget.clone()))
        .key(key_named("bob").with("limits", budget))
        .with("users", json!([{ "name": "user-of-alice", "price_rate": "1.25" }, { "name": "user-of-bob" }]))
        .file(
            "prices.yaml",
            "models: { gpt-4o: { per_request: 0.4 }, 'gpt-*': { input: 0, output: 250, max_output_tokens: 2000 } }",
        )
        .with("prices", "prices.yaml")
        .start()
        .await;
    let ask = |key: &str, body: Value| gateway.post("/v1/chat/completions").key(key).json(&body).send();
    let chat = json!({ "model": "gpt-4o", "messages": [] });
    let answers = futures::future::join_all((0..20).map(|_| ask("alice", chat.clone()))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 18);
    assert_eq!(gateway.used("key", "alice", 20).await["cost_nano_usd"], 1_000_000_000);

    // 4,096 tokens are estimated where nothing is said, but this model gives no more than 2,000: half the budget.
    let longest = json!({ "model": "gpt-x", "messages": [], "max_tokens": 100_000 });
    for n in 1..=3 {
        assert_eq!(ask("bob", longest.clone()).await.status, 200, "{n}: what the others did not use is given back");
    }
    assert_eq!(mock.requests(), 5);
}

#[tokio::test]
async fn a_users_rate_is_found_in_nothing_that_a_client_can_read() {
    let mock = mock();
    let rate = "7.654321";
    let gateway = gateway()
        .channel(openai(mock.address()).models(&["gpt-4o"]))
        .channel(anthropic(mock.address()))
        .channel(gemini(mock.address()))
        .key("alice")
        .key(key_named("alice-off").with("user", "user-of-alice").with("enabled", false))
        .with("users", json!([{ "name": "user-of-alice", "price_rate": rate }]))
        .file("prices.yaml", "models: { '*': { input: 1000, output: 1000 } }")
        .with("prices", "prices.yaml")
        .environment("WEIR_LOG", "debug")
        .start()
        .await;
    let mut seen = String::new();
    let chat = |model: &str| json!({ "model": model, "max_tokens": 5, "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    for (key, path, body) in [
        ("alice", "/v1/chat/completions", chat("gpt-4o")),
        ("alice", "/v1/chat/completions", chat("gpt-none")),
        ("alice-off", "/v1/chat/completions", chat("gpt-4o")),
        ("alice", "/v1/messages", chat("claude-x")),
        ("alice", "/v1beta/models/gemini-x:generateContent", json!({ "contents": [] })),
        ("alice", "/nothing", json!({})),
    ] {
        let answer = gateway.post(path).key(key).json(&body).send().await;
        seen.push_str(&format!("{:?}\n{}\n", answer.headers, answer.text()));
    }
    for path in ["/v1/models", "/v1/models/gpt-4o", "/v1beta/models"] {
        let answer = gateway.get(path).key("alice").send().await;
        seen.push_str(&format!("{:?}\n{}\n", answer.headers, answer.text()));
    }
    let row = gateway.used("key", "alice", 4).await;
    assert!(row["cost_nano_usd"].as_u64() > Some(1_000_000), "the rate was applied: {row}");
    for path in ["/metrics", "/healthz", "/readyz"] {
        seen.push_str(&gateway.admin_request("GET", path).send().await.text());
    }
    seen.push_str(&gateway.stdout());
    seen.push_str(&gateway.stderr());
    assert!(seen.contains("weir_cost_usd_total") && seen.contains("DEBUG"), "there was something to look through");
    for hidden in [rate, "7654321", "price_rate"] {
        assert!(!seen.contains(hidden), "{hidden}");
    }
}
