//! What becomes of lines, against a ledger.

use std::time::{Duration, Instant};

use weir_filters::protocol::Protocol;

use super::*;
use crate::channels::{Channels, Registry};
use crate::config::Durability;
use crate::ledger::{By, Counters, LedgerOptions, UsageQuery, WhenLocked};

const NOW: u64 = 1_796_000_000_000;

const EMPTY: &str = r#"{"ai":{"ai_model":"","ai_model_cost":"","ai_model_input_token":"","ai_model_output_token":"","ai_model_total_token":"","ai_provider":"","ai_provider_statuses":""},"api":"a","provider":"p","request_id":"r-1","time_iso8601":"2025-10-15T10:11:32.421+08:00"}"#;

fn event(id: &str, ago_ms: u64, key: &str, status: &str) -> String {
    format!(
        r#"{{"ai":{{"ai_model":"m","ai_model_input_token":3,"ai_model_output_token":4,"ai_provider":"openai","ai_provider_statuses":[{{"provider":"openai","key":"{key}","status":"{status}"}}]}},"request_id":"{id}","time_iso8601":{}}}"#,
        NOW - ago_ms
    )
}

fn record(id: u32, node: &str, key: &str) -> String {
    format!(
        r#"{{"schema_version":1,"id":"{id:032x}","time":{NOW},"node":"{node}","key_id":{key},"outcome":"ok","input_tokens":3,"output_tokens":4}}"#
    )
}

fn ledger(directory: &std::path::Path) -> Ledger {
    let options = LedgerOptions {
        directory: directory.to_owned(),
        shards: 1,
        durability: Durability::Relaxed,
        keep_minutes: Duration::from_secs(3600),
        keep_hours: Duration::from_secs(3600),
        when_locked: WhenLocked::Refuse,
    };
    Ledger::open(options).expect("a new ledger")
}

fn counters(ledger: &Ledger) -> Counters {
    ledger.usage(&UsageQuery { by: By::Day, ..UsageQuery::default() }).iter().fold(
        Counters::default(),
        |mut sum, row| {
            sum.add(&row.counters);
            sum
        },
    )
}

fn count_lines(ledger: &Ledger, lines: &[&str], first: u64) -> Report {
    count(ledger, lines.join("\n").as_bytes(), first, NOW).unwrap().0
}

#[test]
fn every_line_is_counted_known_skipped_or_named() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let own = format!("fra/{}", ledger.id());
    let lines = [
        EMPTY,
        "",
        "{broken",
        &event("r-2", 0, "openai-main@ai-key", "normal"),
        &event("r-2", 0, "openai-main@ai-key", "normal"),
        "   ",
        r#"{"request_id":"","time_iso8601":1}"#,
        &record(1, "fra/0123456789abcdef", "\"k1\""),
        &record(2, &own, "\"k1\""),
        &record(3, "", "null"),
        "null",
    ];
    let report = count_lines(&ledger, &lines, 100);
    let mistakes = [
        (102, "not JSON: key must be a string at column 2"),
        (106, "request_id: is missing"),
        (110, "not a JSON object"),
    ];
    let expected = Report {
        lines: 9,
        imported: 3,
        known: 2,
        skipped: 1,
        statuses: Statuses { seen: 2, applied: 0, unread: 0 },
        unread: 3,
        errors: mistakes.map(|(line, reason)| Mistake { line, reason: reason.into() }).into(),
    };
    assert_eq!(report, expected);
    assert_eq!(report.lines, report.imported + report.known + report.skipped + report.unread);
    let before = counters(&ledger);
    assert_eq!((before.requests, before.failed, before.input_uncached, before.output), (3, 0, 6, 8));
    let again = count_lines(&ledger, &lines, 100);
    assert_eq!((again.imported, again.known), (0, 5));
    assert_eq!(counters(&ledger), before, "the same lines again change nothing");
    drop(ledger);
    let ledger = self::ledger(home.path());
    assert_eq!(count_lines(&ledger, &lines, 1).known, 5, "its own id is the same after a restart");
    assert_eq!(counters(&ledger), before);
}

#[test]
fn the_records_of_a_lost_ledger_are_counted_by_the_next() {
    let home = tempfile::tempdir().unwrap();
    let lost = ledger(home.path());
    let lines = [record(1, &format!("a/{}", lost.id()), "\"k1\""), record(2, &format!("a/{}", lost.id()), "\"k1\"")];
    let lines = [&*lines[0], &*lines[1]];
    assert_eq!((count_lines(&lost, &lines, 1).known, counters(&lost).requests), (2, 0));
    drop(lost);
    for gone in ["store", "journal"] {
        std::fs::remove_dir_all(home.path().join(gone)).unwrap();
    }
    let _ = std::fs::remove_file(home.path().join("totals.snapshot"));
    let next = ledger(home.path());
    assert_eq!((count_lines(&next, &lines, 1).imported, counters(&next).requests), (2, 2));
    assert_eq!((count_lines(&next, &lines, 1).imported, counters(&next).requests), (0, 2));
}

#[test]
fn a_report_lists_so_many_mistakes_and_counts_all() {
    let home = tempfile::tempdir().unwrap();
    let mut report = count(&ledger(home.path()), "x\n".repeat(MAX_LISTED + 5).as_bytes(), 1, NOW).unwrap().0;
    assert_eq!((report.unread, report.errors.len()), (10_005, MAX_LISTED));
    report.add(Report { unread: 1, errors: vec![Mistake { line: 7, reason: "x".into() }], ..Report::default() });
    assert_eq!((report.unread, report.errors.len()), (10_006, MAX_LISTED));
}

fn channels() -> Channels {
    let text = "channels: [{ name: openai, protocol: openai, base_url: 'http://127.0.0.1:9', models: ['*'], \
                keys: [{ name: main, value: a }, { name: spare, value: b }] }]";
    let config = crate::config::parse(text, std::path::Path::new("weir.yaml"), &|_| None).unwrap();
    assert_eq!(config.channels[0].protocol, Protocol::OpenAi);
    Channels::new(&config.channels, &Registry::default())
}

fn word(ago_ms: u64, key: &str, verdict: weir_filters::import::Verdict) -> Word {
    let status = KeyStatus { provider: "openai".into(), key: key.into(), verdict };
    Word { time_ms: NOW - ago_ms, status }
}

#[test]
fn the_newest_word_of_each_key_counts_in_whatever_order_words_come() {
    use weir_filters::import::Verdict::{Good, Refused, Silent, Slow};
    let (now, minute) = (Instant::now(), 60_000);
    for (parts, told, cooling) in [
        (vec![vec![word(0, "openai-main@ai-key", Refused)]], vec![1], 1),
        (vec![vec![word(minute, "main", Refused), word(0, "main", Good)]], vec![1], 0),
        (vec![vec![word(0, "main", Good), word(minute, "main", Refused)]], vec![1], 0),
        (vec![vec![word(0, "main", Good)], vec![word(minute, "main", Refused)]], vec![1, 0], 0),
        (vec![vec![word(minute, "main", Refused)], vec![word(0, "main", Good)]], vec![1, 1], 0),
        (vec![vec![word(0, "main", Refused), word(0, "main", Good)]], vec![1], 0),
        (vec![vec![word(0, "main", Refused), word(0, "openai-spare", Refused)]], vec![2], 2),
        (vec![vec![word(0, "main", Refused), word(0, "main", Silent)]], vec![1], 1),
        (vec![vec![word(0, "main", Slow)]], vec![1], 0),
        (vec![vec![word(5 * minute, "main", Refused)]], vec![1], 1),
        (vec![vec![word(5 * minute + 1, "main", Refused)]], vec![0], 0),
        (vec![vec![word(0, "nobody", Refused)]], vec![0], 0),
    ] {
        let (words, channels) = (Words::default(), channels());
        let answers: Vec<u64> = parts.iter().map(|part| words.tell(&channels, part, NOW, now)).collect();
        let channel = channels.iter().next().unwrap();
        assert_eq!((answers, channel.keys_cooling(now)), (told, cooling), "{parts:?}");
    }
}

#[test]
fn what_was_known_says_nothing_more_of_keys() {
    let home = tempfile::tempdir().unwrap();
    let ledger = ledger(home.path());
    let lines = event("r-1", 0, "openai-main@ai-key", "expired");
    let said = |lines: &str| count(&ledger, lines.as_bytes(), 1, NOW).unwrap().1;
    assert_eq!(said(&lines), [word(0, "openai-main@ai-key", weir_filters::import::Verdict::Refused)]);
    assert_eq!(said(&lines), []);
}

#[test]
fn a_word_from_the_future_does_not_outlive_what_is_said_now() {
    use weir_filters::import::Verdict::{Good, Refused};
    let (words, channels, now) = (Words::default(), channels(), Instant::now());
    let mut ahead = word(0, "main", Refused);
    ahead.time_ms += 3_600_000;
    assert_eq!(words.tell(&channels, &[ahead], NOW, now), 1);
    assert_eq!(words.tell(&channels, &[word(0, "main", Good)], NOW, now), 1);
    assert_eq!(channels.iter().next().unwrap().keys_cooling(now), 0);
}
