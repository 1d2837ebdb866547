//! Records on their way to Loki: that the stand-in is as strict as the real one, and what a gateway makes of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loki_api::logproto::{EntryAdapter, PushRequest, StreamAdapter};
use loki_api::prost::Message;
use loki_api::prost_types::Timestamp;
use serde_json::{Value, json};

use crate::support::loki::{Loki, Mood};
use crate::support::{Gateway, Schema, eventually, gateway, many, mock, openai};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Pushes and says what the stand-in answered.
async fn pushed(loki: &Loki, kind: &str, coding: Option<&str>, body: impl Into<Vec<u8>>) -> (u16, String) {
    let url = format!("http://{}/loki/api/v1/push", loki.address());
    let mut request = reqwest::Client::new().post(url).header("content-type", kind).body(body.into());
    if let Some(coding) = coding {
        request = request.header("content-encoding", coding);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

async fn json_pushed(loki: &Loki, stream: Value, values: Value) -> (u16, String) {
    pushed(loki, "application/json", None, json!({"streams": [{"stream": stream, "values": values}]}).to_string()).await
}

fn push(labels: &str, time_ns: u64, line: &str) -> Vec<u8> {
    let seconds = i64::try_from(time_ns / 1_000_000_000).unwrap();
    let nanos = i32::try_from(time_ns % 1_000_000_000).unwrap();
    let entry = EntryAdapter { timestamp: Some(Timestamp { seconds, nanos }), line: line.to_owned() };
    let stream = StreamAdapter { labels: labels.to_owned(), entries: vec![entry], hash: 0 };
    PushRequest { streams: vec![stream] }.encode_to_vec()
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

#[tokio::test]
async fn the_stand_in_refuses_what_loki_refuses() {
    let (loki, now) = (Loki::start(), now_ns());
    let (time, ok) = (now.to_string(), json!({"a": "b"}));
    let many_labels: Value = (0..16).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let week = (now - 8 * 86_400 * 1_000_000_000).to_string();
    let soon = (now + 1_200 * 1_000_000_000).to_string();
    for (stream, values, said) in [
        (json!({}), json!([[time, "x"]]), "at least one label pair is required"),
        (many_labels, json!([[time, "x"]]), "has 16 label names; limit 15"),
        (json!({"a-b": "c"}), json!([[time, "x"]]), "'a-b' is no label name"),
        (json!({"a": "x".repeat(2049)}), json!([[time, "x"]]), "empty or too long"),
        (ok.clone(), json!([[time, "x".repeat((256 << 10) + 1)]]), "Max entry size '262144' bytes exceeded"),
        (ok.clone(), json!([[week, "x"]]), "has timestamp too old"),
        (ok.clone(), json!([[soon, "x"]]), "has timestamp too new"),
        (ok.clone(), json!([["2026-11-30", "x"]]), "is no timestamp"),
        (ok.clone(), json!([[now, "x"]]), "invalid type"),
        // Structured metadata, which a Loki may not allow.
        (ok.clone(), json!([[time, "x", {"trace": "1"}]]), "trailing characters"),
    ] {
        let (status, text) = json_pushed(&loki, stream, values).await;
        assert!(status == 400 && text.contains(said), "{said}: {status} {text}");
    }
    for (selector, said) in [
        ("", "Error parsing labels"),
        ("{a=b}", "Error parsing labels"),
        ("{a=\"b\" c=\"d\"}", "Error parsing labels"),
        ("{a=\"b\", a=\"c\"}", "duplicate label names"),
        ("{a=\"b", "Error parsing labels"),
        ("{}", "at least one label pair"),
    ] {
        let (status, text) = pushed(&loki, "application/x-protobuf", None, snappy(&push(selector, now, "x"))).await;
        assert!(status == 400 && text.contains(said), "{selector}: {status} {text}");
    }
    let plain = push("{a=\"b\"}", now, "x");
    let unknown = [&plain[..], b"\x1a\x01x"].concat();
    for (kind, coding, body, said) in [
        ("application/x-protobuf", None, plain.clone(), "snappy"),
        ("application/x-protobuf", None, snappy(b"no protobuf"), "failed to decode"),
        ("application/x-protobuf", None, snappy(&unknown), "fields that are not known"),
        ("application/x-protobuf", Some("br"), snappy(&plain), "is not supported"),
        ("application/json", None, snappy(&plain), "expected value"),
        ("application/json", Some("gzip"), b"{\"streams\":[]}".to_vec(), "invalid gzip header"),
        ("text/plain", None, snappy(&plain), "is not supported"),
    ] {
        let (status, text) = pushed(&loki, kind, coding, body).await;
        assert!(status == 400 && text.to_lowercase().contains(said), "{kind} {coding:?} {said}: {status} {text}");
    }
    assert_eq!(pushed(&loki, "application/json", None, vec![b' '; (4 << 20) + 1]).await.0, 413);
    let large = push("{a=\"b\"}", now, &"x".repeat(5 << 20));
    let (status, text) = pushed(&loki, "application/x-protobuf", None, snappy(&large)).await;
    assert!(status == 500 && text.contains("received message larger than max"), "{status} {text}");
    assert_eq!(loki.stored(), []);
    assert_eq!(loki.complaints().len(), 25, "each is remembered");
}

#[tokio::test]
async fn the_stand_in_knows_a_line_again_and_takes_no_new_one_out_of_order() {
    let (loki, now) = (Loki::start(), now_ns());
    let at = |n: u64| (now + n).to_string();
    let stream = json!({"a": "b"});
    assert_eq!(
        json_pushed(&loki, stream.clone(), json!([[at(1), "one"], [at(2), "two"], [at(2), "zwei"]])).await.0,
        204
    );
    assert_eq!(json_pushed(&loki, stream.clone(), json!([[at(1), "one"], [at(2), "two"]])).await.0, 204);
    assert_eq!(json_pushed(&loki, json!({"a": "c"}), json!([[at(1), "one"]])).await.0, 204, "another stream");
    let (status, text) = json_pushed(&loki, stream.clone(), json!([[at(3), "three"], [at(1), "uno"]])).await;
    assert!(status == 400 && text.contains("out of order"), "{status} {text}");
    let lines: Vec<_> = loki.stored().iter().map(|stored| stored.line.clone()).collect();
    assert_eq!(lines, ["one", "two", "zwei", "one", "three"], "the valid line of a refused push is taken");
    assert_eq!((loki.repeated(), loki.pushes()), (2, 4));
}

fn pushing_to(loki: &Loki) -> Value {
    json!({
        "node": "edge-1",
        "loki": {
            "url": format!("http://{}", loki.address()), "labels": { "env": "it" }, "tenant": "team-a",
            "token": "loki-canary", "batch": "16KiB", "batch_wait": "50ms", "timeout": "1s",
        },
    })
}

/// The ids of the records that it has, each of which is there once.
fn ids(loki: &Loki) -> BTreeSet<String> {
    assert_eq!(loki.complaints(), [""; 0]);
    let stored = loki.stored();
    let id =
        |line: &str| serde_json::from_str::<Value>(line).expect("a record")["id"].as_str().expect("an id").to_owned();
    let ids: BTreeSet<_> = stored.iter().map(|stored| id(&stored.line)).collect();
    assert_eq!(ids.len(), stored.len(), "no record is there twice");
    ids
}

/// Delivered, failed, dropped, waiting.
async fn figures(gateway: &Gateway) -> [u64; 4] {
    let metrics = gateway.metrics().await;
    let figure = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.trim().parse().expect("a number")
    };
    [
        figure("weir_sink_events_total{result=\"delivered\",sink=\"loki\"}"),
        figure("weir_sink_events_total{result=\"failed\",sink=\"loki\"}"),
        figure("weir_sink_dropped_total{sink=\"loki\"}"),
        figure("weir_sink_queue_events{sink=\"loki\"}"),
    ]
}

async fn ask(gateway: &Gateway) -> String {
    let answer = gateway.post(CHAT).key("alice").body(HELLO).send().await;
    assert_eq!(answer.status, 200);
    answer.header("x-weir-request-id").to_owned()
}

#[tokio::test]
async fn a_record_comes_to_loki_as_it_is_published_with_few_labels() {
    let loki = Loki::start().wants("X-Scope-OrgID", "team-a").wants("Authorization", "Bearer loki-canary");
    let mock = mock();
    let gateway = gateway().with("audit", pushing_to(&loki)).channel(openai(mock.address())).key("alice").start().await;
    let id = ask(&gateway).await;
    let nothing = gateway.post("/nothing").key("alice").send().await;
    assert_eq!(nothing.status, 404);
    eventually("two records", async || (loki.stored().len() == 2).then_some(())).await;
    let labels = |stored: &crate::support::loki::Stored| {
        stored.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let stored = loki.stored();
    let of_chat = stored.iter().find(|stored| stored.line.contains(&id)).expect("the record of the request");
    assert_eq!(labels(of_chat), format!("env=it route={CHAT} service=weir status=2xx"));
    let of_nothing = stored.iter().find(|stored| !stored.line.contains(&id)).expect("the other one");
    assert_eq!(labels(of_nothing), "env=it route=unmatched service=weir status=4xx");
    for stored in &stored {
        Schema::published().check(&serde_json::from_str(&stored.line).expect("a record"));
    }
    // Loki has them before the sink has read its answer.
    eventually("both are counted", async || (figures(&gateway).await == [2, 0, 0, 0]).then_some(())).await;
    assert!(!gateway.stderr().contains("canary"));
}

/// The time of the slowest of a hundred, among as many as that.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// `WEIR_LOKI_SECONDS=30` is what is promised; fewer show the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_waits_for_a_loki_that_hangs_refuses_and_lies_and_every_record_is_accounted_for() {
    let time = Duration::from_secs(many("WEIR_LOKI_SECONDS", 2).try_into().unwrap());
    let (well, sick) = (Loki::start(), Loki::start());
    let mock = mock();
    let start =
        |loki: &Loki| gateway().with("audit", pushing_to(loki)).channel(openai(mock.address())).key("alice").start();
    let gateways = [start(&well).await, start(&sick).await];
    let (mut given, mut told) = (BTreeSet::new(), Vec::new());
    for mood in [
        Mood::Hangs,
        Mood::Says { status: 429, headers: vec![("Retry-After", "1".to_owned())], body: "too much" },
        Mood::Says { status: 503, headers: Vec::new(), body: "Service Unavailable" },
        Mood::Garbage(b"\x15\x03\x01\0\x02\x02\x50"),
    ] {
        sick.feels(mood.clone());
        let (begun, mut times) = (Instant::now(), [Vec::new(), Vec::new()]);
        // Turn by turn, so that whatever else this machine does meets both.
        while begun.elapsed() < time || times[0].len() < 300 {
            for (gateway, times) in gateways.iter().zip(&mut times) {
                let begun = Instant::now();
                let id = ask(gateway).await;
                times.push(begun.elapsed());
                if std::ptr::eq(gateway, &raw const gateways[1]) {
                    given.insert(id);
                }
            }
        }
        let [usual, now] = times.map(p99);
        assert!(now <= usual * 2 + Duration::from_millis(5), "{mood:?}: {now:?} instead of {usual:?}");
        told.push(format!("{:.2} ms beside {:.2}", now.as_secs_f64() * 1e3, usual.as_secs_f64() * 1e3));
    }
    let [delivered, _, dropped, waiting] = figures(&gateways[1]).await;
    assert!(waiting > 0 && delivered < given.len() as u64 && dropped == 0, "{delivered} {dropped} {waiting}");
    sick.feels(Mood::Well);
    // The wait before the next try may have grown to half a minute.
    let recovery = Instant::now();
    while figures(&gateways[1]).await[3] > 0 || ids(&sick).len() < given.len() {
        assert!(recovery.elapsed() < Duration::from_secs(60), "{:?} of {}", figures(&gateways[1]).await, given.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = [given.len() as u64, 0, 0, 0];
    eventually("all are counted", async || (figures(&gateways[1]).await == all).then_some(())).await;
    assert_eq!(ids(&sick), given);
    println!(
        "trust: p99 with a log server that hangs, says 429, 503, garbage: {}; {} records, all delivered once",
        told.join(", "),
        given.len()
    );
}

#[tokio::test]
async fn what_waits_outlives_kill_9_and_a_new_start() {
    let loki = Loki::start();
    loki.feels(Mood::Hangs);
    let mock = mock();
    let mut gateway =
        gateway().with("audit", pushing_to(&loki)).channel(openai(mock.address())).key("alice").start().await;
    let mut given = BTreeSet::new();
    for _ in 0..50 {
        given.insert(ask(&gateway).await);
    }
    eventually("all wait", async || (figures(&gateway).await[3] == 50).then_some(())).await;
    // A push that takes long, and its end, bring all to the disk.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    gateway.kill();
    loki.feels(Mood::Well);
    gateway.start().await;
    given.insert(ask(&gateway).await);
    eventually("all are delivered", async || (ids(&loki) == given).then_some(())).await;
    // Loki has the last one a moment before its answer is here.
    eventually("all are counted", async || (figures(&gateway).await == [51, 0, 0, 0]).then_some(())).await;
    gateway.stop().await;
    let left = std::fs::read_dir(gateway.data_dir().join("spool/loki")).unwrap().count();
    assert_eq!(left, 0);
}
