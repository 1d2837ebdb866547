//! Many at once: every figure is still exact.

use futures::StreamExt;
use serde_json::json;

use crate::support::{Authority, Http, anthropic, gateway, mock, openai};

const REQUESTS: usize = 1_200;
const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_of_all_kinds_at_once_come_to_exactly_what_the_upstream_reported() {
    let mock = mock();
    let mut builder = gateway().channel(openai(mock.address())).channel(anthropic(mock.address()));
    for i in 0..3 {
        builder = builder.key(format!("client-{i}").as_str());
    }
    let gateway = builder.tls(Authority::new()).start().await;
    let clients = Http::ALL.map(|http| gateway.over(http));
    let answers = futures::stream::iter(0..REQUESTS).map(|i| {
        let (path, model) = if i % 3 == 0 { ("/v1/messages", "claude-x") } else { ("/v1/chat/completions", "gpt-4o") };
        let messages = json!([{"role": "user", "content": "word ".repeat(i % 40 + 1)}]);
        let body = json!({"model": model, "max_tokens": 50, "stream": i % 2 == 0, "messages": messages});
        let request = clients[i % 4].post(path).key(&format!("client-{}", i % 3)).json(&body);
        request.header("x-mock-chunk", (i % 90 + 10).to_string()).send()
    });
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && !answer.broken));

    let ledger = mock.ledger();
    assert_eq!(ledger.len(), REQUESTS);
    for (model, requests) in [("claude-x", REQUESTS / 3), ("gpt-4o", REQUESTS - REQUESTS / 3)] {
        let row = gateway.used("model", model, requests as u64).await;
        let entries: Vec<_> = ledger.iter().filter(|entry| entry.model == model).collect();
        let sum = |of: fn(&weir::demo::mock::Entry) -> u64| entries.iter().map(|entry| of(entry)).sum::<u64>();
        let figures = ["failed", "events", "input_tokens", "output_tokens"].map(|name| row[name].as_u64().unwrap());
        let expected = [0, sum(|e| e.events), sum(|e| e.usage.input()), sum(|e| e.usage.output)];
        assert_eq!(figures, expected, "{model}");
    }
    let metrics = gateway.metrics().await;
    for line in [
        "weir_channel_inflight{channel=\"openai\"} 0",
        "weir_channel_inflight{channel=\"anthropic\"} 0",
        "weir_streams_active 0",
        "weir_ledger_append_errors_total 0",
        "weir_http_requests_total{code=\"200\",route=\"/v1/chat/completions\"} 800",
        "weir_http_requests_total{code=\"200\",route=\"/v1/messages\"} 400",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}");
    }
}
