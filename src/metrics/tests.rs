//! The whole text for a small scenario, and the closed label sets.

use std::time::Duration;

use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use super::*;
use crate::ledger::Outcome;

/// A stream of `miniai`'s first model that ended whole.
fn stream() -> Observation {
    Observation {
        route: Some(0),
        status: 200,
        duration: Duration::from_millis(1500),
        overhead: Some(Duration::from_micros(75)),
        channel: Some(0),
        model: Some(0),
        operation: Some(Operation::OpenAiChat),
        upstream_duration: Some(Duration::from_millis(1500)),
        first_token: Some(Duration::from_millis(500)),
        events: 12,
        usage: Usage {
            input_uncached: 70,
            cache_read: 20,
            cache_write_5m: 6,
            cache_write_1h: 4,
            output: 11,
            reasoning: 3,
            source: Source::Upstream,
        },
        invalid: 0,
        outcome: Outcome::Ok,
        stream: true,
        cost: NanoUsd(1_250_000_000),
        unpriced: false,
    }
}

/// A path without a route.
fn stranger() -> Observation {
    Observation {
        route: None,
        status: 404,
        duration: Duration::from_millis(1),
        overhead: None,
        channel: None,
        model: None,
        operation: None,
        upstream_duration: None,
        first_token: None,
        events: 0,
        usage: Usage::default(),
        invalid: 0,
        outcome: Outcome::Refused,
        stream: false,
        cost: NanoUsd::default(),
        unpriced: false,
    }
}

/// The text without the process's own figures, which differ from run to run.
fn text(metrics: &Metrics) -> String {
    let lines = metrics.encode();
    let ours = lines.lines().filter(|line| !line.contains("process_"));
    ours.flat_map(|line| [line, "\n"]).collect()
}

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn a_small_scenario_reads_as_recorded() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&["/v1/chat/completions"], &[("miniai", &["gpt-4o"])]);
    metrics.observe(&handles, &stream());
    metrics.observe(&handles, &Observation { outcome: Outcome::ClientAbort, invalid: 1, ..stream() });
    metrics.observe(&handles, &stranger());
    metrics.auth_failure(AuthFailure::Unknown);
    metrics.set_config_version(3);
    metrics.set_last_reload_success(true);
    metrics.set_store_up(true);
    metrics.set_journal_bytes(4096);
    metrics.set_fold_lag_records(2);
    metrics.set_ledger_append_errors(1);
    let (_stream, _serving) = (metrics.stream(), handles.channel(0).enter());

    let expected = include_str!("scenario.prom").replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    for (line, (got, want)) in text(&metrics).lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, want, "line {}", line + 1);
    }
    assert_eq!(text(&metrics).lines().count(), expected.lines().count());
}

#[test]
fn every_family_can_be_made() {
    let metrics = Metrics::new();
    let routes = ["/v1/chat/completions"];
    let handles = metrics.resolve(&routes, &[("miniai", &["gpt-4o"])]);
    metrics.observe(&handles, &stream());
    let text = metrics.encode();
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE weir_")?.split(' ').next()).collect();
    assert_eq!(
        families,
        [
            "auth_failures_total",
            "budgets_tight",
            "build_info",
            "channel_inflight",
            "channel_keys_cooling",
            "channel_up",
            "clients_turned_away_total",
            "config_last_reload_success",
            "config_version",
            "connections",
            "cost_usd_total",
            "drains_active",
            "drains_total",
            "gateway_overhead_seconds",
            "http_request_duration_seconds",
            "http_requests_total",
            "ledger_append_errors_total",
            "ledger_backlog_records",
            "ledger_corrupt_total",
            "ledger_dropped_total",
            "ledger_fold_lag_records",
            "ledger_history_lost",
            "ledger_journal_bytes",
            "ledger_refused_total",
            "ledger_store_set_aside",
            "limit_estimate_exceeded_total",
            "limit_permits",
            "limit_rejections_total",
            "limit_reserved_tokens_total",
            "limit_settled_tokens_total",
            "metric_series_dropped_total",
            "requests_in_flight",
            "sse_events_total",
            "store_up",
            "streams_aborted_total",
            "streams_active",
            "time_per_output_token_seconds",
            "time_to_first_token_seconds",
            "tokens_cache_read_total",
            "tokens_cache_write_total",
            "tokens_reasoning_total",
            "tokens_total",
            "unpriced_requests_total",
            "upstream_attempts_total",
            "upstream_duration_seconds",
            "usage_source_total",
        ]
    );
    assert!(text.contains("# TYPE process_open_fds gauge"), "process metrics are there");
}

#[test]
fn names_follow_the_conventions() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&["/v1/chat/completions"], &[("miniai", &["gpt-4o"])]);
    metrics.observe(&handles, &stream());
    let text = metrics.encode();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} is in seconds");
        assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name} is explained once");
    }
}

#[test]
fn a_model_outside_the_list_is_other() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&["/v1/messages"], &[("claude", &["claude-opus"])]);
    metrics.observe(&handles, &Observation { model: None, ..stream() });
    metrics.observe(&handles, &Observation { model: Some(7), ..stream() });
    assert_eq!(value(&metrics, r#"weir_tokens_total{channel="claude",model="other",type="input"}"#), Some(200.0));
    assert_eq!(metrics.encode().matches(r#"model="claude-opus""#).count(), 0);
}

#[test]
fn positions_beyond_the_lists_are_unmatched_and_other() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&[], &[]);
    metrics.observe(&handles, &Observation { route: Some(9), channel: Some(9), ..stream() });
    assert_eq!(value(&metrics, r#"weir_http_requests_total{code="200",route="unmatched"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"weir_upstream_attempts_total{channel="other",outcome="ok"}"#), Some(1.0));
}

#[test]
fn counters_go_on_in_the_next_snapshot() {
    let metrics = Metrics::new();
    for _ in 0..2 {
        let handles = metrics.resolve(&["/v1/chat/completions"], &[("miniai", &["gpt-4o"])]);
        metrics.observe(&handles, &stream());
    }
    let series = r#"weir_http_requests_total{code="200",route="/v1/chat/completions"}"#;
    assert_eq!(value(&metrics, series), Some(2.0));
    assert_eq!(value(&metrics, r#"weir_tokens_total{channel="miniai",model="gpt-4o",type="output"}"#), Some(22.0));
}

#[test]
fn series_beyond_the_cap_are_counted_under_other() {
    let metrics = Metrics::new();
    let names: Vec<String> = (0..MAX_SERIES + 30).map(|i| format!("/route/{i}")).collect();
    let routes: Vec<&str> = names.iter().map(String::as_str).collect();
    let handles = metrics.resolve(&routes, &[]);
    for route in 0..routes.len() {
        for _ in 0..2 {
            metrics.observe(&handles, &Observation { route: Some(route), ..stranger() });
        }
    }
    assert_eq!(value(&metrics, r#"weir_http_requests_total{code="404",route="/route/0"}"#), Some(2.0));
    assert_eq!(value(&metrics, r#"weir_http_requests_total{code="404",route="other"}"#), Some(60.0));
    let dropped = r#"weir_metric_series_dropped_total{family="weir_http_requests_total"}"#;
    assert_eq!(value(&metrics, dropped), Some(30.0));
    let series = metrics.encode().matches("\nweir_http_requests_total{").count();
    assert_eq!(series, MAX_SERIES + 1);
}

#[test]
fn gauges_go_down_when_their_guard_is_dropped() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&[], &[("miniai", &[])]);
    let guards = (metrics.stream(), handles.channel(0).enter(), handles.channel(0).enter());
    assert_eq!(value(&metrics, "weir_streams_active"), Some(1.0));
    assert_eq!(value(&metrics, r#"weir_channel_inflight{channel="miniai"}"#), Some(2.0));
    drop(guards);
    assert_eq!(value(&metrics, "weir_streams_active"), Some(0.0));
    assert_eq!(value(&metrics, r#"weir_channel_inflight{channel="miniai"}"#), Some(0.0));
}

#[test]
fn an_earlier_attempt_is_counted_beside_the_last() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&[], &[("a", &[]), ("b", &[])]);
    handles.channel(0).failed_attempt(&metrics, Outcome::Timeout);
    metrics.observe(&handles, &Observation { channel: Some(1), ..stream() });
    assert_eq!(value(&metrics, r#"weir_upstream_attempts_total{channel="a",outcome="timeout"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"weir_upstream_attempts_total{channel="b",outcome="ok"}"#), Some(1.0));
}

#[test]
fn time_per_output_token_needs_a_whole_stream_and_two_tokens() {
    let one = Usage { output: 1, ..stream().usage };
    let estimated = Usage { source: Source::Estimated, ..stream().usage };
    for (name, seen, count) in [
        ("whole", stream(), Some(1.0)),
        ("aborted", Observation { outcome: Outcome::ClientAbort, ..stream() }, None),
        ("plain", Observation { stream: false, ..stream() }, None),
        ("one token", Observation { usage: one, ..stream() }, None),
        ("estimated", Observation { usage: estimated, ..stream() }, None),
        ("first token after the end", Observation { first_token: Some(Duration::from_secs(9)), ..stream() }, None),
    ] {
        let metrics = Metrics::new();
        let handles = metrics.resolve(&[], &[("a", &["m"])]);
        metrics.observe(&handles, &seen);
        let series = r#"weir_time_per_output_token_seconds_count{channel="a",model="m"}"#;
        assert_eq!(value(&metrics, series), count, "{name}");
    }
}

#[test]
fn costs_add_up_and_what_has_no_price_is_counted() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&[], &[("a", &["m"])]);
    assert_eq!(value(&metrics, "weir_unpriced_requests_total"), Some(0.0));
    metrics.observe(&handles, &stream());
    metrics.observe(&handles, &stream());
    metrics.observe(&handles, &Observation { cost: NanoUsd(0), unpriced: true, ..stream() });
    assert_eq!(value(&metrics, r#"weir_cost_usd_total{channel="a",model="m"}"#), Some(2.5));
    assert_eq!(value(&metrics, "weir_unpriced_requests_total"), Some(1.0));
}

#[test]
fn names_out_of_the_configuration_cannot_break_the_format() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&["/a\"b\\c\nd"], &[]);
    metrics.observe(&handles, &Observation { route: Some(0), ..stranger() });
    let series = r#"weir_http_requests_total{code="404",route="/a\"b\\c\nd"}"#;
    assert_eq!(value(&metrics, series), Some(1.0));
}

#[test]
fn health_is_shown_and_each_cooldown_counted() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&[], &[("a", &[])]);
    handles.channel(0).show_health(true, 2);
    handles.channel(0).cooled_down(&metrics, Cooled::Key);
    handles.channel(0).cooled_down(&metrics, Cooled::Key);
    handles.channel(0).cooled_down(&metrics, Cooled::Channel);
    handles.channel(0).address_refused(&metrics);
    for (series, expected) in [
        (r#"weir_channel_up{channel="a"}"#, 1.0),
        (r#"weir_channel_keys_cooling{channel="a"}"#, 2.0),
        (r#"weir_channel_cooldowns_total{channel="a",what="key"}"#, 2.0),
        (r#"weir_channel_cooldowns_total{channel="a",what="channel"}"#, 1.0),
        (r#"weir_channel_addresses_refused_total{channel="a"}"#, 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn a_channel_that_is_removed_is_neither_up_nor_down() {
    let metrics = Metrics::new();
    let before = metrics.resolve(&[], &[("a", &[]), ("b", &[])]);
    before.channel(0).show_health(false, 1);
    before.channel(1).show_health(false, 3);
    let serving = before.channel(0).enter();
    let after = metrics.resolve(&[], &[("b", &[])]);
    for (series, expected) in [
        (r#"weir_channel_up{channel="a"}"#, None),
        (r#"weir_channel_keys_cooling{channel="a"}"#, None),
        (r#"weir_channel_inflight{channel="a"}"#, Some(1.0)),
        (r#"weir_channel_up{channel="b"}"#, Some(0.0)),
        (r#"weir_channel_keys_cooling{channel="b"}"#, Some(3.0)),
    ] {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
    after.channel(0).show_health(true, 0);
    drop(serving);
    assert_eq!(value(&metrics, r#"weir_channel_up{channel="b"}"#), Some(1.0));
}

#[test]
fn what_is_read_for_nobody_is_counted_by_its_end() {
    let metrics = Metrics::new();
    let running = metrics.drain();
    assert_eq!(value(&metrics, "weir_drains_active"), Some(1.0));
    drop(running);
    Drained::ALL.into_iter().enumerate().for_each(|(n, result)| (0..=n).for_each(|_| metrics.drained(result)));
    assert_eq!(value(&metrics, "weir_drains_active"), Some(0.0));
    for (result, count) in [("complete", 1.0), ("cut", 2.0), ("refused", 3.0)] {
        assert_eq!(value(&metrics, &format!("weir_drains_total{{result=\"{result}\"}}")), Some(count));
    }
}
