//! The mock's answers as a stranger reads them: with nothing but a JSON library.

use std::io::Read;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;
use weir_filters::usage::{Source, Usage};

use super::{Entry, Mock, MockOptions};
use crate::demo::cases::{Case, CaseBody, CredentialForm, cases};
use crate::demo::relay::upstream;
use crate::demo::send::{Received, send};

const KEY: &str = "sk-upstream-canary";

fn mock() -> Mock {
    Mock::start(MockOptions { upstream_key: Secret::new(KEY) }).expect("a free port")
}

async fn ask(mock: &Mock, case: &Case, extra: &[(&'static str, &str)]) -> (Received, Entry) {
    let received = send(mock.address(), KEY, case, extra).await.expect("an answer");
    (received, mock.ledger().pop().expect("an entry"))
}

/// The first case that `wanted` picks, as the mock gets it.
fn case(wanted: impl Fn(&Case) -> bool) -> Case {
    upstream(cases().into_iter().find(wanted).expect("a case"))
}

fn streamed_chat() -> Case {
    case(|case| case.model == "gpt-4o-mini" && case.stream && !case.edits_body)
}

/// The JSON values of an answer, and how many of them are server-sent events.
fn values(received: &Received) -> (Vec<Value>, u64) {
    let kind = received.headers["content-type"].to_str().expect("ASCII");
    let text = std::str::from_utf8(&received.body).expect("UTF-8");
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    if kind.starts_with("text/event-stream") {
        let text = text.replace("\r\n", "\n");
        let data = text.split("\n\n").flat_map(str::lines).filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.filter(|data| *data != "[DONE]").map(parse).collect();
        let number = u64::try_from(events.len()).expect("few");
        return (events, number);
    }
    if kind.starts_with("application/x-ndjson") {
        return (text.lines().map(parse).collect(), 0);
    }
    match parse(text) {
        Value::Array(items) => (items, 0),
        value => (vec![value], 0),
    }
}

/// What USAGE says the answer reports.
fn reported(operation: Operation, values: &[Value]) -> Usage {
    let mut usage = Usage::default();
    let number = |from: &Value, path: &str| from.pointer(path).and_then(Value::as_u64);
    let mut set = |field: fn(&mut Usage) -> &mut u64, value: Option<u64>| {
        if let Some(value) = value {
            *field(&mut usage) = value;
            usage.source = Source::Upstream;
        }
    };
    for value in values {
        match operation {
            Operation::AnthropicMessages => {
                let report = value.pointer("/message/usage").or(value.get("usage")).unwrap_or(&Value::Null);
                set(|u| &mut u.input_uncached, number(report, "/input_tokens"));
                set(|u| &mut u.output, number(report, "/output_tokens"));
                set(|u| &mut u.cache_read, number(report, "/cache_read_input_tokens"));
                set(|u| &mut u.cache_write_5m, number(report, "/cache_creation/ephemeral_5m_input_tokens"));
                set(|u| &mut u.cache_write_1h, number(report, "/cache_creation/ephemeral_1h_input_tokens"));
            }
            Operation::OllamaChat => {
                set(|u| &mut u.input_uncached, number(value, "/prompt_eval_count"));
                set(|u| &mut u.output, number(value, "/eval_count"));
            }
            _ if operation.protocol() == Protocol::Gemini => {
                let Some(report) = value.get("usageMetadata") else { continue };
                let of = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
                let prompt = of("promptTokenCount") + of("toolUsePromptTokenCount");
                set(|u| &mut u.input_uncached, Some(prompt - of("cachedContentTokenCount")));
                set(|u| &mut u.cache_read, Some(of("cachedContentTokenCount")));
                set(|u| &mut u.output, Some(of("candidatesTokenCount") + of("thoughtsTokenCount")));
                set(|u| &mut u.reasoning, Some(of("thoughtsTokenCount")));
            }
            _ => {
                let places = ["/usage", "/choices/0/usage", "/response/usage"];
                let report = places.iter().filter_map(|place| value.pointer(place)).find(|report| report.is_object());
                let Some(report) = report else { continue };
                let any = |names: &[&str]| names.iter().find_map(|name| number(report, name));
                let Some(input) = any(&["/prompt_tokens", "/input_tokens"]) else { continue };
                let output = any(&["/completion_tokens", "/output_tokens"]).unwrap_or(0);
                let cached = any(&[
                    "/prompt_tokens_details/cached_tokens",
                    "/input_tokens_details/cached_tokens",
                    "/prompt_cache_hit_tokens",
                ]);
                let cached = cached.or(number(value, "/timings/cache_n")).unwrap_or(0);
                let reasoning =
                    any(&["/completion_tokens_details/reasoning_tokens", "/output_tokens_details/reasoning_tokens"])
                        .unwrap_or(0);
                let total = any(&["/total_tokens"]).expect("a total");
                let is_outside = reasoning > 0 && total == input + output + reasoning;
                set(|u| &mut u.input_uncached, Some(input - cached));
                set(|u| &mut u.cache_read, Some(cached));
                set(|u| &mut u.output, Some(if is_outside { output + reasoning } else { output }));
                set(|u| &mut u.reasoning, Some(reasoning));
            }
        }
    }
    usage
}

#[tokio::test]
async fn the_ledger_holds_what_a_stranger_reads_in_each_answer() {
    let mock = mock();
    let extra_models = ["llamacpp-qwen", "deepseek-reasoner"].map(|model| {
        let body = json!({ "model": model, "stream": true, "stream_options": { "include_usage": true },
            "messages": [{ "role": "user", "content": "how deep is it" }] });
        Case { model, body: CaseBody::Json(body.to_string()), ..streamed_chat() }
    });
    for case in cases().into_iter().map(upstream).chain(extra_models) {
        let (received, entry) = ask(&mock, &case, &[]).await;
        let place = format!("{} {} {}", case.path, case.model, case.stream);
        assert_eq!(received.status, 200, "{place}");
        let (values, events) = values(&received);
        let is_billed = case.operation.is_billed() && !case.path.starts_with("/v1/responses/");
        let expected = if is_billed { reported(case.operation, &values) } else { Usage::default() };
        assert_eq!(entry.usage, expected, "{place}");
        assert_eq!(entry.events, events, "{place}");
        assert_eq!((entry.operation, entry.model.as_str(), entry.stream), (case.operation, case.model, case.stream));
        assert!(entry.finished, "{place}");
        assert_eq!(entry.response_sha256, <[u8; 32]>::from(Sha256::digest(&received.body)), "{place}");
        assert_eq!(entry.request_sha256, <[u8; 32]>::from(Sha256::digest(case.bytes())), "{place}");
    }
}

#[tokio::test]
async fn everything_billed_reports_usage() {
    let mock = mock();
    for case in cases().into_iter().map(upstream) {
        let (_, entry) = ask(&mock, &case, &[]).await;
        let silent = !case.operation.is_billed() || case.operation == Operation::OpenAiOther;
        if !silent {
            assert_eq!(entry.usage.source, Source::Upstream, "{} {}", case.path, case.model);
            assert!(entry.usage.input() > 0);
        }
    }
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let mock = mock();
    for case in cases().into_iter().map(upstream) {
        let (first, _) = ask(&mock, &case, &[]).await;
        let (second, _) = ask(&mock, &case, &[]).await;
        assert_eq!(first.body, second.body, "{}", case.path);
    }
}

#[tokio::test]
async fn quirks_are_as_the_providers_have_them() {
    let mock = mock();
    let of = |model: &str, stream: bool| case(|case| case.model == model && case.stream == stream);
    let grok = values(&ask(&mock, &of("grok-4", false), &[]).await.0).0.remove(0);
    let figure = |path: &str| grok.pointer(path).and_then(Value::as_u64).expect("a figure");
    let outside = figure("/usage/completion_tokens_details/reasoning_tokens");
    assert_eq!(
        figure("/usage/total_tokens"),
        figure("/usage/prompt_tokens") + figure("/usage/completion_tokens") + outside
    );
    let (kimi, _) = values(&ask(&mock, &of("kimi-k2", true), &[]).await.0);
    assert_eq!(kimi.iter().filter(|v| v.pointer("/choices/0/usage").is_some_and(Value::is_object)).count(), 1);
    assert_eq!(kimi.iter().filter(|v| v.get("usage").is_some_and(Value::is_object)).count(), 0);
    let (azure, _) = values(&ask(&mock, &of("azure-gpt-4o", true), &[]).await.0);
    assert_eq!(azure[0]["choices"], json!([]));
    assert!(azure[0].get("prompt_filter_results").is_some());
    let (vllm, _) = values(&ask(&mock, &of("vllm-qwen", true), &[]).await.0);
    assert!(vllm.iter().all(|v| v["usage"].is_object()));
    let router = ask(&mock, &of("openrouter/auto", true), &[]).await.0;
    assert!(router.body.starts_with(b": OPENROUTER PROCESSING\n\n"));
    let mut refused = of("mistral-large", true);
    refused.body = CaseBody::Json(
        json!({ "model": "mistral-large", "messages": [], "stream": true,
        "stream_options": { "include_usage": true } })
        .to_string(),
    );
    assert_eq!(ask(&mock, &refused, &[]).await.0.status, 422);
}

#[tokio::test]
async fn a_stream_that_was_not_asked_to_report_reports_nothing() {
    let mock = mock();
    let asked = streamed_chat();
    let mut silent = asked.clone();
    silent.body = CaseBody::Json(
        json!({ "model": "gpt-4o-mini", "stream": true,
        "messages": [{ "role": "user", "content": "hi" }] })
        .to_string(),
    );
    let (_, entry) = ask(&mock, &silent, &[]).await;
    assert_eq!((entry.usage, entry.response_sha256_without_usage), (Usage::default(), None));
    let (received, entry) = ask(&mock, &asked, &[]).await;
    let text = String::from_utf8(received.body.to_vec()).expect("UTF-8");
    let chunk = text.split_inclusive("\n\n").find(|event| event.contains("\"choices\":[]")).expect("a usage chunk");
    let without: [u8; 32] = Sha256::digest(text.replace(chunk, "")).into();
    assert_eq!(entry.response_sha256_without_usage, Some(without));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_recorded_by_the_name_of_its_form() {
    let mock = mock();
    let mut chat = streamed_chat();
    let stray = send(mock.address(), "sk-weir-client", &chat, &[("x-api-key", KEY), ("cookie", "a=b")]).await;
    assert_eq!(stray.expect("an answer").status, 401);
    assert_eq!(mock.ledger()[0].strays, ["authorization", "cookie"]);
    chat.credential = CredentialForm::Query;
    assert_eq!(ask(&mock, &chat, &[("authorization", "Bearer sk-upstream-canary")]).await.0.status, 200);
    assert_eq!(mock.ledger()[1].strays, ["?key="]);
    let book = serde_json::to_string(&read_ledger(&mock, "GET").await).expect("JSON");
    assert!(!book.contains("sk-weir-client") && !book.contains(KEY), "{book}");
}

async fn read_ledger(mock: &Mock, method: &str) -> Value {
    let case = Case {
        method: method.parse().expect("a method"),
        path: "/mock/ledger".into(),
        body: CaseBody::Empty,
        ..streamed_chat()
    };
    let received = send(mock.address(), KEY, &case, &[]).await.expect("an answer");
    serde_json::from_slice(&received.body).expect("JSON")
}

#[tokio::test]
async fn another_process_can_read_and_empty_the_ledger() {
    let mock = mock();
    let (_, entry) = ask(&mock, &streamed_chat(), &[("x-weir-request-id", "abc")]).await;
    assert_eq!(mock.count(Operation::OpenAiChat, "gpt-4o-mini"), 1);
    let shown = read_ledger(&mock, "GET").await;
    let shown = &shown["entries"][0];
    assert_eq!(shown["operation"], "openai.chat");
    assert_eq!(shown["usage"]["output"], entry.usage.output);
    assert_eq!(shown["usage"]["source"], "upstream");
    assert_eq!((&shown["finished"], &shown["request_id"]), (&json!(true), &json!("abc")));
    assert_eq!(read_ledger(&mock, "DELETE").await, json!({}));
    assert_eq!(mock.requests(), 0);
}

#[tokio::test]
async fn trouble_comes_when_asked_for() {
    let mock = mock();
    let chat = streamed_chat();
    let (whole, entry) = ask(&mock, &chat, &[]).await;
    assert!(entry.events > 4);

    let (refused, entry) = ask(&mock, &chat, &[("x-mock-status", "429")]).await;
    assert_eq!((refused.status, entry.status, entry.usage), (429, 429, Usage::default()));
    assert_eq!(refused.headers["retry-after"], "1");

    let cut = send(mock.address(), KEY, &chat, &[("x-mock-cut-after", "3")]).await;
    assert!(cut.is_err(), "a broken answer is not whole");
    let entry = mock.ledger().pop().expect("an entry");
    assert_eq!((entry.finished, entry.events, entry.usage.source), (false, 3, Source::None));

    let anthropic = case(|case| case.operation == Operation::AnthropicMessages && case.stream);
    assert!(send(mock.address(), KEY, &anthropic, &[("x-mock-cut-after", "2")]).await.is_err());
    let entry = mock.ledger().pop().expect("an entry");
    assert_eq!((entry.usage.source, entry.usage.output), (Source::Partial, 1));

    let plain = case(|case| case.operation == Operation::OpenAiEmbeddings);
    assert!(send(mock.address(), KEY, &plain, &[("x-mock-cut-after", "0")]).await.is_err());
    assert_eq!(mock.ledger().pop().expect("an entry").usage, Usage::default());

    let (split, entry) = ask(&mock, &chat, &[("x-mock-chunk", "1")]).await;
    assert_eq!(split.body, whole.body);
    assert!(entry.finished);

    let (zipped, entry) = ask(&mock, &chat, &[("x-mock-gzip", "1"), ("x-mock-chunk", "7")]).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).expect("whole gzip");
    assert_eq!(unzipped, whole.body);
    assert_eq!((entry.finished, entry.usage.source), (true, Source::Upstream));

    let (long, entry) = ask(&mock, &chat, &[("x-mock-words", "200")]).await;
    assert_eq!(entry.usage.output, 200);
    assert_eq!(values(&long).1, 200 + 3, "role, words, end and usage");

    let begun = std::time::Instant::now();
    ask(&mock, &plain, &[("x-mock-delay-ms", "50")]).await;
    assert!(begun.elapsed() >= std::time::Duration::from_millis(50));
}

#[tokio::test]
async fn gemini_is_served_under_both_versions() {
    let mock = mock();
    let beta = case(|case| case.operation == Operation::GeminiGenerate);
    let stable = Case { path: beta.path.replace("v1beta", "v1"), ..beta.clone() };
    let (one, _) = ask(&mock, &beta, &[]).await;
    let (other, entry) = ask(&mock, &stable, &[]).await;
    assert_eq!((one.body, entry.operation), (other.body, Operation::GeminiGenerate));
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let mock = mock();
    let bad = Case { body: CaseBody::Json("{".into()), ..streamed_chat() };
    assert_eq!(ask(&mock, &bad, &[]).await.0.status, 400);
    let unknown = Case { path: "/nowhere".into(), ..streamed_chat() };
    assert_eq!(ask(&mock, &unknown, &[]).await.0.status, 404);
}

#[tokio::test]
async fn a_dropped_mock_no_longer_answers() {
    let mock = mock();
    let address = mock.address();
    drop(mock);
    assert!(send(address, KEY, &streamed_chat(), &[]).await.is_err());
}
