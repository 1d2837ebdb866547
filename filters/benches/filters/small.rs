//! One small call that is not streamed, as `benches/compare` sends it: what each decision about it costs.

use std::hint::black_box;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weir_filters::credential::{present, strip_query};
use weir_filters::decode::Encoding;
use weir_filters::headers::HeaderPolicy;
use weir_filters::key::{KeyDigest, KeyEntry, KeyPolicy, KeyTable};
use weir_filters::meter::{Meter, Shape};
use weir_filters::protocol::Protocol;
use weir_filters::request::BodyScanner;
use weir_filters::route::{Operation, RouteTable};

use crate::runner::{Case, Work};

const KEY: &str = "wk-5f2c1d9a7b3e48600000000000000001";

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(&Call)| {
        Case::new(format!("small/{name}"), Work::Calls(1), move || {
            let call = Call::new();
            move || run(&call)
        })
    };
    vec![
        case("route", Call::route),
        case("present", Call::present),
        case("admit", Call::admit),
        case("headers", Call::headers),
        case("strips", Call::strips),
        case("body", Call::body),
        case("answer", Call::answer),
        case("answer_without_usage", Call::answer_without_usage),
        case("all", |call| {
            call.route();
            call.present();
            call.admit();
            call.headers();
            call.strips();
            call.body();
            call.answer();
        }),
    ]
}

/// The call and its answer, and what is configured.
struct Call {
    routes: RouteTable,
    table: KeyTable,
    policy: HeaderPolicy,
    headers: HeaderMap,
    body: Bytes,
    answer: Bytes,
    answer_without_usage: Bytes,
}

impl Call {
    fn new() -> Call {
        let policy = KeyPolicy { enabled: true, expires_ms: None, protocols: vec![], models: vec![], channels: vec![] };
        let mut keys = vec![KeyEntry::new(KeyDigest::of(KEY), "alice-laptop", "alice", policy.clone())];
        let other = |i: usize| KeyEntry::new(KeyDigest::of(&format!("wk-{i}")), "bob", "bob", policy.clone());
        keys.extend((0..9).map(other));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "127.0.0.1:8080"),
            ("authorization", "Bearer wk-5f2c1d9a7b3e48600000000000000001"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("user-agent", "weir-bench/1"),
            ("cookie", "session=0123456789abcdef"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-bench", "0000000000000001"),
            ("content-length", "305"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let answer = |usage: &str| {
            let text = "A weir is a low dam across a river. ".repeat(7);
            format!(
                "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1764000000,\"model\":\"bench-model\",\
                 \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\"}},\"logprobs\":null,\
                 \"finish_reason\":\"stop\"}}]{usage}}}",
                &text[..250]
            )
        };
        let usage = ",\"usage\":{\"prompt_tokens\":64,\"completion_tokens\":63,\"total_tokens\":127,\
                     \"prompt_tokens_details\":{\"cached_tokens\":32}}";
        let text = "x".repeat(220);
        Call {
            routes: RouteTable::new(vec![]),
            table: KeyTable::new(keys),
            policy: HeaderPolicy {
                strip_request: vec![HeaderName::from_static("cookie"), HeaderName::from_static("x-forwarded-for")],
                strip_response: vec![HeaderName::from_static("set-cookie")],
                set_request: vec![(HeaderName::from_static("x-gateway"), HeaderValue::from_static("weir"))],
            },
            headers,
            body: format!(
                "{{\"model\":\"bench-model\",\"stream\":false,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
            )
            .into(),
            answer: answer(usage).into(),
            answer_without_usage: answer("").into(),
        }
    }

    fn route(&self) {
        let found = self.routes.find(black_box(&Method::POST), black_box("/v1/chat/completions"));
        black_box(found.unwrap());
    }

    fn present(&self) {
        black_box(present(black_box(&self.headers), black_box(None)).unwrap());
        black_box(strip_query(black_box("")));
    }

    fn admit(&self) {
        let credential = present(black_box(&self.headers), None).unwrap();
        black_box(self.table.admit(&credential, Protocol::OpenAi, 1_800_000_000_000).unwrap());
    }

    fn headers(&self) {
        self.policy.request(black_box(&self.headers), |name, value| {
            black_box((name.as_str(), value.as_bytes()));
        });
    }

    fn strips(&self) {
        for name in ["Content-Type", "Content-Length", "Date", "Server", "Set-Cookie", "x-request-id"] {
            black_box(self.policy.strips_response(black_box(name.as_bytes())));
        }
    }

    fn body(&self) {
        let mut scanner = BodyScanner::new();
        scanner.feed(black_box(&self.body));
        black_box(scanner.finish().unwrap());
    }

    fn answer(&self) {
        read(&self.answer);
    }

    fn answer_without_usage(&self) {
        read(&self.answer_without_usage);
    }
}

fn read(answer: &Bytes) {
    let shape = Shape::of(Operation::OpenAiChat, black_box(Some("application/json")));
    let mut meter = Meter::new(Operation::OpenAiChat, shape, Encoding::Identity);
    meter.feed(black_box(answer));
    black_box(meter.has_first_token());
    black_box(meter.finish(true, 200, 305));
}
