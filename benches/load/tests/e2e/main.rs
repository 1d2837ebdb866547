//! The two programs as processes: against each other in every mode, and through a relay that breaks answers.

mod programs;
mod relay;

use programs::{Mock, exit_of, free_address, load, run_load};
use relay::{Mischief, Relay};
use serde_json::{Value, json};

/// A file of keys that are not the upstream's.
const CLIENT_KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/client-keys.txt");

fn no_errors() -> Value {
    json!({"connect": 0, "status": 0, "framing": 0, "body": 0, "timeout": 0, "closed": 0})
}

/// Runs a load of one second directly on a mock; it must see no error, in the warm-up neither.
fn clean_run(arguments: &str) -> Value {
    let mock = Mock::start();
    let report = load(mock.address, &format!("--direct --warmup 0.3 --seconds 1 --cpu {} {arguments}", mock.pid()));
    assert_eq!(report["errors"], no_errors(), "{arguments}");
    assert_eq!(report["warmup_errors"], 0, "{arguments}");
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((0.8..2.0).contains(&seconds), "{seconds}");
    assert!(report["cpu_ns"].as_u64().unwrap() > 0 && report["own_cpu_ns"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["busy"], Value::Null, "who sleeps does not say how busy it is");
    assert!(report["pss_kib"][mock.pid().to_string()].as_u64().unwrap() > 50, "{report}");
    report
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap()
}

#[test]
fn a_closed_loop_of_json_runs_clean() {
    let report = clean_run("--bench json --connections 8");
    let requests = count(&report, "requests");
    assert!(requests > 500, "{report}");
    assert_eq!(report["latency_us"]["count"], requests);
    // Every body that was finished in the window, and at most one begun before it for each connection.
    let bodies = count(&report, "bytes") / 596;
    assert!((requests - 8..=requests + 8).contains(&bodies), "{report}");
    assert_eq!((count(&report, "events"), count(&report, "reads"), count(&report, "open_streams")), (0, 0, 0));
    assert_eq!(report["gap_us"]["p50"], Value::Null);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let report = clean_run("--bench json --connections 32 --mode open --rate 500");
    let rate = count(&report, "requests") as f64 / report["seconds"].as_f64().unwrap();
    assert!((450.0..550.0).contains(&rate), "{report}");
}

#[test]
fn each_request_may_have_its_connection() {
    let report = clean_run("--bench json --connections 4 --reconnect");
    assert!(count(&report, "requests") > 100, "{report}");
}

#[test]
fn large_bodies_are_sent_whole() {
    let report = clean_run("--bench json --connections 4 --body-bytes 3000000");
    assert!(count(&report, "requests") > 20, "{report}");
}

#[test]
fn fast_streams_are_read_whole() {
    for batch in [1, 7] {
        let report = clean_run(&format!("--bench sse;events=100;every=0;batch={batch} --connections 4"));
        let (requests, events) = (count(&report, "requests"), count(&report, "events"));
        assert!(requests > 20, "{report}");
        assert!((requests * 100 - 400..=requests * 100 + 400).contains(&events), "{report}");
        assert!(count(&report, "reads") <= events && count(&report, "reads") > 0, "{report}");
    }
}

#[test]
fn paced_streams_keep_their_time_and_outlast_the_window() {
    let report = clean_run("--bench sse;events=100000;every=10000 --connections 50");
    assert_eq!((count(&report, "requests"), count(&report, "open_streams")), (0, 50));
    let rate = count(&report, "events") as f64 / report["seconds"].as_f64().unwrap();
    assert!((4500.0..5500.0).contains(&rate), "50 streams of 100 a second: {report}");
    let mean_gap = report["gap_us"]["mean"].as_f64().unwrap();
    assert!((9_500.0..10_500.0).contains(&mean_gap), "{report}");
    let delay = report["event_delay_us"]["p50"].as_f64().unwrap();
    assert!(delay > 0.0 && delay < 50_000.0, "{report}");
}

#[test]
fn paced_streams_end_on_schedule() {
    let report = clean_run("--bench sse;events=11;every=10000 --connections 5");
    assert!(count(&report, "requests") > 10, "{report}");
    let fastest_possible = 100_000.0;
    assert!(report["latency_us"]["p50"].as_f64().unwrap() >= fastest_possible, "{report}");
    assert!(report["latency_us"]["p50"].as_f64().unwrap() < 150_000.0, "{report}");
}

#[test]
fn a_mock_in_the_load_answers_it_in_every_mode() {
    for arguments in [
        "--bench json --connections 8",
        "--bench json --connections 8 --mode open --rate 500",
        "--bench json --connections 4 --reconnect",
        "--bench json --connections 4 --body-bytes 3000000",
        "--bench sse;events=100;every=0 --connections 8",
        "--bench sse;events=100;every=0 --connections 8 --include-usage",
        "--bench sse;events=11;every=1000 --connections 8 --tick 100",
    ] {
        let line = format!("--mock 127.0.0.1:0 --direct --warmup 0.1 --seconds 0.4 {arguments}");
        let report = run_load(&line);
        assert_eq!(report["errors"], no_errors(), "{arguments}");
        assert_eq!(report["warmup_errors"], 0, "{arguments}");
        assert!(count(&report, "requests") > 5, "{arguments}: {report}");
        let busy = report["busy"].as_f64().unwrap();
        assert!(busy > 0.0 && busy <= 1.0, "{arguments}: {report}");
    }
}

#[test]
fn a_mock_in_the_load_keeps_the_time_of_paced_streams() {
    let report = run_load(
        "--mock 127.0.0.1:0 --direct --bench sse;events=100000;every=20000 --connections 50 --warmup 0.3 --seconds 1",
    );
    assert_eq!(report["errors"], no_errors());
    assert_eq!((count(&report, "requests"), count(&report, "open_streams")), (0, 50));
    let rate = count(&report, "events") as f64 / report["seconds"].as_f64().unwrap();
    assert!((2250.0..2750.0).contains(&rate), "50 streams of 50 a second: {report}");
}

#[test]
fn a_mock_in_the_load_is_reached_through_a_proxy_that_was_there_first() {
    let mock = free_address();
    let relay = Relay::before(mock, Mischief::None);
    // One after another: the second load's mock takes the port of the first's.
    for bench in ["json", "sse;events=50", "sse;events=50;every=1000"] {
        let report = load(
            relay.address(),
            &format!("--mock {mock} --delay 0.1 --direct --bench {bench} --connections 4 --warmup 0 --seconds 0.5"),
        );
        assert_eq!(report["errors"], no_errors(), "{bench}");
        assert!(count(&report, "requests") > 0, "{report}");
    }
}

#[test]
fn a_relay_that_only_relays_causes_no_error() {
    let relay = Relay::start(Mischief::None);
    for bench in ["json", "sse;events=50", "sse;events=50;every=1000"] {
        let report =
            load(relay.address(), &format!("--direct --bench {bench} --connections 4 --warmup 0 --seconds 0.5"));
        assert_eq!(report["errors"], no_errors(), "{bench}");
        assert!(count(&report, "requests") > 0, "{report}");
    }
}

#[test]
fn each_broken_answer_is_counted_by_its_name() {
    let replace = |from: &'static str, to: &'static str| Mischief::Replace(from.as_bytes(), to.as_bytes());
    let cases = [
        ("json", replace("HTTP/1.1 200", "HTTP/1.1 503"), "status"),
        ("json", replace("HTTP/1.1 200", "HTTP/2.0 200"), "framing"),
        ("json", replace("content-length: 5", "content-length: x"), "framing"),
        ("json", replace("weir", "Weir"), "body"),
        ("json", Mischief::Append(b"x"), "framing"),
        ("json", Mischief::CutAfter(0), "closed"),
        ("json", Mischief::CutAfter(400), "closed"),
        ("json", Mischief::Stall, "timeout"),
        ("sse;events=30", replace("be\r\ndata", "bg\r\ndata"), "framing"),
        ("sse;events=30", replace("be\r\ndata", "bf\r\ndata"), "framing"),
        ("sse;events=30", replace(r#""n":"0000000007""#, r#""n":"0000000008""#), "body"),
        ("sse;events=30", replace("[DONE]", "[done]"), "body"),
        ("sse;events=30 --include-usage", replace(r#""choices":[]"#, r#""choices":{}"#), "body"),
        ("sse;events=30", replace("e\r\ndata: [DONE]\n\n\r\n0\r\n", "0\r\n"), "body"),
        ("sse;events=30", Mischief::CutAfter(3000), "closed"),
        ("sse;events=90;every=1000", Mischief::CutAfter(3000), "closed"),
        ("sse;events=90;every=1000", Mischief::Stall, "timeout"),
    ];
    for (bench, mischief, name) in cases {
        let relay = Relay::start(mischief);
        let arguments = format!("--direct --bench {bench} --connections 3 --warmup 0 --seconds 0.5 --timeout 0.15");
        let report = load(relay.address(), &arguments);
        let mut others = report["errors"].clone();
        others[name] = 0.into();
        assert!(report["errors"][name].as_u64().unwrap() > 0, "{bench} {mischief:?}: {report}");
        assert_eq!(others, no_errors(), "{bench} {mischief:?}");
        assert_eq!(report["requests"], 0, "{bench} {mischief:?}");
    }
}

#[test]
fn a_listener_that_goes_away_is_a_connect_error() {
    let relay = Relay::start(Mischief::LeaveAfterFirst);
    let report = load(relay.address(), "--direct --bench json --connections 2 --warmup 0.3 --seconds 0.3");
    assert!(report["errors"]["connect"].as_u64().unwrap() > 5, "{report}");
    assert_eq!(report["requests"], 0);
}

#[test]
fn a_proxy_that_leaves_the_headers_alone_is_seen() {
    let mock = Mock::start();
    let arguments = format!("--keys-file {CLIENT_KEYS} --bench json --connections 2 --warmup 0 --seconds 0.3");
    let report = load(mock.address, &arguments);
    assert!(report["errors"]["status"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["requests"], 0);
    let report = load(mock.address, &format!("{arguments} --expect-status 403"));
    assert_eq!(report["errors"], no_errors());
    assert!(count(&report, "requests") > 0, "{report}");
}

#[test]
fn a_load_that_cannot_run_says_why() {
    let least = "load --direct --bench json --connections 1 --seconds 1";
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = [
        (format!("{least} --target {closed}"), 1, format!("weir-load: {closed}: Connection refused (os error 111)\n")),
        (
            format!("{least} --mock {} --target {closed}", occupied.local_addr().unwrap()),
            1,
            format!("weir-load: {}: Address already in use (os error 98)\n", occupied.local_addr().unwrap()),
        ),
        (least.to_owned(), 2, "weir-load: --target is missing\nTry --help.\n".to_owned()),
        (
            format!("{least} --target {closed} --body-bytes 9"),
            2,
            "weir-load: --body-bytes 9: at least 81\nTry --help.\n".to_owned(),
        ),
        (
            format!("{least} --target {closed} --cpu 4194304"),
            2,
            "weir-load: --cpu: there is no process 4194304\nTry --help.\n".to_owned(),
        ),
    ];
    for (line, code, stderr) in cases {
        assert_eq!(exit_of(&line), (Some(code), String::new(), stderr), "{line}");
    }
}
