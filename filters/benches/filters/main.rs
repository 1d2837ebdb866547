//! What the decisions of Weir cost: see `benches/micro.md`.

mod answers;
mod body;
mod import;
mod json;
mod limits;
#[path = "../../../benches/micro/runner.rs"]
mod runner;
mod small;

use std::hint::black_box;

use answers::{Answer, answers};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use runner::{Case, Work};
use weir_filters::cut::UsageCut;
use weir_filters::decode::Encoding;
use weir_filters::headers::HeaderPolicy;
use weir_filters::key::{KeyDigest, KeyEntry, KeyPolicy, KeyTable};
use weir_filters::meter::{Meter, Shape};
use weir_filters::protocol::Protocol;
use weir_filters::request::BodyScanner;
use weir_filters::route::Operation;
use weir_filters::sse::Scanner;

/// How a stream arrives: an event at a time, or as a read buffer takes it, which splits events.
#[derive(Clone, Copy)]
enum Arrival {
    Event,
    Bytes(usize),
}

const ARRIVALS: [(&str, Arrival); 3] =
    [("event", Arrival::Event), ("4k", Arrival::Bytes(4 << 10)), ("16k", Arrival::Bytes(16 << 10))];

impl Arrival {
    fn pieces(self, answer: &Answer) -> Vec<Bytes> {
        let body = Bytes::copy_from_slice(&answer.body);
        let end = if answer.shape == Shape::Sse { "\n\n" } else { "\n" };
        let sizes: Vec<usize> = match self {
            Arrival::Event => std::str::from_utf8(&body).unwrap().split_inclusive(end).map(str::len).collect(),
            Arrival::Bytes(size) => body.chunks(size).map(<[u8]>::len).collect(),
        };
        let mut rest = body;
        sizes.into_iter().map(|size| rest.split_to(size)).collect()
    }
}

fn main() {
    let mut cases = Vec::new();
    for (how, arrival) in ARRIVALS {
        for answer in answers() {
            let Answer { name, operation, shape, events, .. } = answer;
            let pieces = arrival.pieces(&answer);
            let bytes = answer.body.len();
            if shape == Shape::Sse {
                let pieces = pieces.clone();
                cases.push(Case::new(format!("scanner/{name}/{how}"), Work::Bytes(bytes), move || {
                    let pieces = pieces.clone();
                    move || scan(&pieces)
                }));
            }
            cases.push(Case::new(format!("meter/{name}/{how}"), Work::Events(events), {
                let pieces = pieces.clone();
                move || {
                    let pieces = pieces.clone();
                    move || meter(operation, shape, &pieces)
                }
            }));
            if name.starts_with("openai") {
                cases.push(Case::new(format!("cut/{name}/{how}"), Work::Events(events), move || {
                    let pieces = pieces.clone();
                    move || cut(&pieces)
                }));
            }
        }
    }
    cases.extend(documents());
    cases.extend(requests());
    cases.extend(body::cases());
    cases.extend(json::cases());
    cases.extend(import::cases());
    cases.extend(limits::cases());
    cases.extend(small::cases());
    runner::main(cases);
}

fn scan(pieces: &[Bytes]) {
    let mut scanner = Scanner::new();
    let mut events = 0_usize;
    for piece in pieces {
        scanner.feed(black_box(piece), |event| events += black_box(event.data).len());
    }
    black_box(events);
}

fn meter(operation: Operation, shape: Shape, pieces: &[Bytes]) {
    let mut meter = Meter::new(operation, shape, Encoding::Identity);
    for piece in pieces {
        meter.feed(black_box(piece));
        black_box(meter.has_first_token());
    }
    black_box(meter.finish(true, 200, 100));
}

fn cut(pieces: &[Bytes]) {
    let mut cut = UsageCut::new();
    for piece in pieces {
        black_box(cut.feed(black_box(piece.clone())));
    }
    black_box(cut.finish());
}

/// Answers in one piece.
fn documents() -> Vec<Case> {
    let chat = "{\"id\":\"chatcmpl-Bq2kXw0mS7dF3hVtY9aLcN4e\",\"object\":\"chat.completion\",\"created\":1764000000,\
        \"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\
        \"A weir is a low dam across a river.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\
        \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\
        \"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":\
        {\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},\
        \"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\"}";
    let message = "{\"model\":\"claude-sonnet-4-5-20250929\",\"id\":\"msg_01XFDUDYJgAACzvnptvVoYEL\",\"type\":\"message\",\
        \"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"A weir is a low dam across a river.\"}],\
        \"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\
        \"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"cache_creation\":{\
        \"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":12}}";
    let vectors = format!("[{}0.5]", "-0.012345678,".repeat(1536 * 8 - 1));
    let embeddings = format!(
        "{{\"object\":\"list\",\"data\":[{{\"object\":\"embedding\",\"index\":0,\"embedding\":{vectors}}}],\
         \"model\":\"text-embedding-3-small\",\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}"
    );
    let document = |name: &str, operation, work: Work, body: String| {
        Case::new(format!("meter/json/{name}"), work, move || {
            let pieces = [Bytes::from(body.clone())];
            move || meter(operation, Shape::Json, &pieces)
        })
    };
    vec![
        document("openai", Operation::OpenAiChat, Work::Calls(1), chat.to_owned()),
        document("anthropic", Operation::AnthropicMessages, Work::Calls(1), message.to_owned()),
        document("embeddings", Operation::OpenAiEmbeddings, Work::Bytes(embeddings.len()), embeddings),
    ]
}

/// What happens to each request, whatever its answer.
fn requests() -> Vec<Case> {
    let mut cases = Vec::new();
    for keys in [1, 1_000, 100_000] {
        cases.push(Case::new(format!("key/of_{keys}"), Work::Calls(1), move || {
            let policy =
                KeyPolicy { enabled: true, expires_ms: None, protocols: vec![], models: vec![], channels: vec![] };
            let key = |i: usize| format!("wk-5f2c1d9a7b3e4860{i:016x}");
            let entry = |i| KeyEntry::new(KeyDigest::of(&key(i)), "alice-laptop", "alice", policy.clone());
            let table = KeyTable::new((0..keys).map(entry).collect());
            let mut headers = HeaderMap::new();
            let bearer = format!("Bearer {}", key(keys / 2));
            headers.insert("authorization", HeaderValue::from_str(&bearer).unwrap());
            move || {
                let credential = weir_filters::credential::present(black_box(&headers), None).unwrap();
                black_box(table.admit(&credential, Protocol::OpenAi, 1_800_000_000_000).unwrap());
            }
        }));
    }
    cases.push(Case::new("headers/request", Work::Calls(1), || {
        let policy = HeaderPolicy {
            strip_request: vec![HeaderName::from_static("cookie"), HeaderName::from_static("x-forwarded-for")],
            strip_response: vec![],
            set_request: vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("edge"))],
        };
        let headers = sdk_headers();
        move || {
            policy.request(black_box(&headers), |name, value| {
                black_box((name, value));
            });
        }
    }));
    cases.push(Case::new("headers/response", Work::Calls(1), || {
        let policy = HeaderPolicy::default();
        let names = [
            "date",
            "content-type",
            "transfer-encoding",
            "connection",
            "openai-organization",
            "openai-processing-ms",
            "openai-version",
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
            "x-request-id",
            "server",
        ];
        move || {
            for name in names {
                black_box(policy.strips_response(black_box(name.as_bytes())));
            }
        }
    }));
    // Prose with an escape every 30 bytes, and an image, which has none.
    let prose = "Explain, in two sentences, what a weir is and \\\"why\\\" rivers have them. ".repeat(7);
    for (name, messages, text) in
        [("small", 1, prose.as_str()), ("100k", 200, &prose), ("100k_image", 1, &"iVBO".repeat(25_000))]
    {
        let message = format!("{{\"role\":\"user\",\"content\":\"{text}\"}}");
        let body = format!(
            "{{\"messages\":[{}],\"model\":\"gpt-4o-mini\",\"temperature\":0.7,\"max_tokens\":256,\"stream\":true}}",
            vec![message; messages].join(",")
        );
        cases.push(Case::new(format!("body/{name}"), Work::Bytes(body.len()), move || {
            let body = body.clone().into_bytes();
            move || {
                let mut scanner = BodyScanner::new();
                scanner.feed(black_box(&body));
                black_box(scanner.finish().unwrap());
            }
        }));
    }
    cases
}

/// What the OpenAI SDK for Python sends.
fn sdk_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "weir.example"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 1.99.1"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "1.99.1"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.12.3"),
        ("authorization", "Bearer wk-5f2c1d9a7b3e48600000000000000001"),
        ("x-stainless-async", "false"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "600"),
        ("content-length", "731"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}
