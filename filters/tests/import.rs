//! Whole files of other gateways, and of Weir's own record, line by line: `fixtures/import/<case>.<origin>.jsonl`
//! beside what its lines come to.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use weir_filters::import::{Entry, Line, read};

/// 2026-11-30T00:00:00Z.
const NOW: u64 = 1_796_000_000_000;

fn shown(entry: &Entry) -> Value {
    let usage = &entry.usage;
    json!({
        "time_ms": entry.time_ms, "key": [entry.key_id, entry.key_name], "user": entry.user, "route": entry.route,
        "operation": entry.operation.name(), "channel": entry.channel, "model": entry.model, "status": entry.status,
        "outcome": entry.outcome.name(), "input": usage.input(), "output": usage.output, "cache_read": usage.cache_read,
        "cache_write": usage.cache_write(), "reasoning": usage.reasoning, "source": usage.source.name(),
        "cost_nano_usd": entry.cost.0, "events": entry.events, "duration_us": entry.duration_us,
        "first_token_us": entry.first_token_us, "attempts": entry.attempts,
    })
}

fn comes_to(line: &[u8]) -> Value {
    match read(line, NOW) {
        Ok(None) => Value::Null,
        Ok(Some(Line::Keyless)) => json!("keyless"),
        Ok(Some(Line::Record { entry, node })) => json!({ "record": shown(&entry), "node": node }),
        Ok(Some(Line::Event { entry, statuses, unread_statuses })) => {
            let statuses: Vec<String> =
                statuses.iter().map(|s| format!("{} {} {:?}", s.provider, s.key, s.verdict)).collect();
            json!({ "event": shown(&entry), "statuses": statuses, "unread_statuses": unread_statuses })
        }
        Err(why) => json!({ "unread": why.to_string() }),
    }
}

#[test]
fn every_recorded_line_comes_to_what_is_written_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let mut files = 0;
    for found in fs::read_dir(&folder).unwrap() {
        let path = found.unwrap().path();
        if path.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        let lines: Vec<Value> = bytes.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').map(comes_to).collect();
        let beside = fs::read(path.with_extension("expected.json")).unwrap();
        let expected: Vec<Value> = serde_json::from_slice(&beside).unwrap();
        assert_eq!(lines.len(), expected.len(), "{}", path.display());
        for (n, (line, expected)) in lines.iter().zip(&expected).enumerate() {
            assert_eq!(line, expected, "{}:{}", path.display(), n + 1);
        }
    }
    assert_eq!(files, 4);
}
