//! `weir events import` and `POST /admin/api/events/import`: what other gateways served, counted once.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{Gateway, GatewayBuilder, anthropic, gateway, key_named, mock, openai};

/// Nobody is asked: no request is made here.
fn channel() -> crate::support::Channel {
    openai("127.0.0.1:9".parse().expect("an address"))
        .with("keys", json!([{"name": "main", "value": "sk-a"}, {"name": "spare", "value": "sk-b"}]))
        .with("cooldown", json!({"failures": 3, "for": "5m"}))
}

fn some_gateway() -> GatewayBuilder {
    gateway().channel(channel()).key("alice")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filters/tests/fixtures/import").join(name)
}

fn import(gateway: &Gateway, file: &Path) -> Said {
    Said::of(gateway.command(&["events", "import", file.to_str().expect("text")]))
}

/// What the command said, and its exit code.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    /// Without the ledger's own lines.
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let err = text(output.stderr);
        let err = err.lines().filter(|line| !line.starts_with('[')).map(|line| format!("{line}\n")).collect();
        Self { code: output.status.code(), out: text(output.stdout), err }
    }
}

/// The same import without a gateway, of what is given on standard input.
fn import_stdin(gateway: &Gateway, bytes: &[u8], arguments: &[&str]) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["events", "import", "-", "-c"])
        .arg(gateway.config_file())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("it is read");
    Said::of(child.wait_with_output().expect("it ends"))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(since.as_millis()).expect("a time before the end of days")
}

fn event(id: &str, time: &Value, key: &str, status: &str) -> Value {
    json!({
        "ai": {
            "ai_model": "gpt-4o", "ai_model_input_token": 3, "ai_model_output_token": 4, "ai_provider": "openai",
            "ai_provider_statuses": [{"provider": "openai", "model": "gpt-4o", "key": key, "status": status}],
        },
        "request_id": id, "time_iso8601": time,
    })
}

/// All figures, by everything that they are counted under.
async fn figures(gateway: &Gateway) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for by in ["key", "user", "model", "channel", "route", "day"] {
        all.push(gateway.usage(by).await);
    }
    all
}

#[tokio::test]
async fn the_event_that_apipark_drops_is_counted_and_once_however_often_it_comes() {
    let mut gateway = some_gateway().start().await;
    let file = fixture("broken.apipark.jsonl");
    let name = file.display();
    let said = import(&gateway, &file);
    let expected =
        Said { code: Some(0), out: format!("{name}: 6 lines: 6 imported, 0 known before\n"), err: String::new() };
    assert_eq!(said, expected);
    let row = gateway.used("key", "apipark", 6).await;
    assert_eq!((&row["failed"], &row["input_tokens"], &row["output_tokens"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(gateway.usage("day").await[0]["day"], "2025-10-15");
    let before = figures(&gateway).await;
    for _ in 0..2 {
        let again = import(&gateway, &file);
        assert_eq!((again.code, &*again.out), (Some(0), &*format!("{name}: 6 lines: 0 imported, 6 known before\n")));
        assert_eq!(figures(&gateway).await, before);
        // The same once more after a kill, with everything from the journal.
        gateway.kill();
        gateway.start().await;
        assert_eq!(figures(&gateway).await, before);
    }
}

#[tokio::test]
async fn what_was_served_elsewhere_is_counted_as_it_was_and_each_bad_line_is_named() {
    let gateway = some_gateway().start().await;
    let file = fixture("served.apipark.jsonl");
    let said = import(&gateway, &file);
    let name = file.display();
    let out = format!(
        "{name}: 6 lines: 6 imported, 0 known before\n8 statuses of upstream keys, none of a configured key, new and recent\n"
    );
    assert_eq!(said, Said { code: Some(0), out, err: String::new() });
    let row = gateway.used("channel", "openai", 5).await;
    assert_eq!((&row["failed"], &row["input_tokens"], &row["output_tokens"]), (&json!(3), &json!(47), &json!(36)));
    let row = gateway.used("model", "claude-3-5-sonnet", 1).await;
    assert_eq!((&row["failed"], &row["input_tokens"], &row["output_tokens"]), (&json!(0), &json!(1200), &json!(80)));
    let minutes = gateway.admin("GET", "/admin/api/usage?by=channel&step=minute").send().await.json();
    assert_eq!(minutes["rows"], json!([]), "minutes of last year are not kept");

    let file = fixture("quirks.apipark.jsonl");
    let said = import(&gateway, &file);
    let name = file.display().to_string();
    let lines: Vec<&str> = said.err.lines().filter_map(|line| line.strip_prefix(&*name)?.strip_prefix(':')).collect();
    let expected = [
        "10: ai_model_input_token: is negative",
        "11: ai_model_output_token: must be a number",
        "12: ai_model_total_token: is too large to be true",
        "13: ai_model_cost: must be a number",
        "14: ai: must be an object",
        "15: time_iso8601: is missing",
        "16: time_iso8601: must be a time: RFC 3339, `2006-01-02 15:04:05`, or seconds or milliseconds since 1970",
        "17: time_iso8601: lies in the future",
        "18: request_id: is missing",
        "19: request_id: must be text",
        "20: not JSON: EOF while parsing a string at column 18",
        "21: not a JSON object",
        "22: not a JSON object",
        "23: neither an ai_event message nor a record of Weir's: it has no request_id and no schema_version",
        "24: not JSON: expected value at column 1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(said.code, Some(1));
    let out = format!("{name}: 24 lines: 9 imported, 0 known before, 15 that could not be read\n");
    assert!(said.out.starts_with(&out), "{}", said.out);
    assert!(said.out.ends_with("; 3 that could not be read\n"), "{}", said.out);
    gateway.used("key", "shop", 1).await;
}

#[tokio::test]
async fn a_file_of_many_parts_has_the_right_numbers_with_and_without_a_gateway() {
    let mut gateway = some_gateway().start().await;
    let bad = [1, 10_000, 10_001, 20_000, 25_000];
    let mut lines = String::new();
    for n in 1..=25_000 {
        let line =
            if bad.contains(&n) { "{".to_owned() } else { event(&n.to_string(), &json!(n), "k", "normal").to_string() };
        // Empty lines have numbers, too.
        lines += if n == 12_345 { "" } else { &line };
        lines += if n == 25_000 { "" } else { "\n" };
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines.as_bytes()).expect("memory");
    let packed = packed.finish().expect("memory");
    assert!(lines.len() > 4 << 20, "it is more than one part of a megabyte");
    let mistakes = bad.map(|line| format!("-:{line}: not JSON: EOF while parsing an object at column 1\n")).concat();
    let sums = |imported, known| {
        format!("-: 24999 lines: {imported} imported, {known} known before, 5 that could not be read\n")
    };
    let said = import_stdin(&gateway, &packed, &[]);
    assert_eq!((said.code, &*said.err), (Some(1), &*mistakes));
    assert!(said.out.starts_with(&sums(24_994, 0)), "{}", said.out);
    let row = gateway.used("model", "gpt-4o", 24_994).await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(3 * 24_994), &json!(4 * 24_994)));
    let before = figures(&gateway).await;

    assert!(gateway.stop().await.success());
    let said = import_stdin(&gateway, lines.as_bytes(), &[]);
    assert_eq!((said.code, &*said.err), (Some(1), &*mistakes));
    let statuses = "24994 statuses of upstream keys, none applied: no gateway runs\n";
    assert_eq!(said.out, sums(0, 24_994) + statuses);
    let one = event("one more", &json!(1), "k", "normal").to_string();
    let said = import_stdin(&gateway, one.as_bytes(), &["--json"]);
    let report = json!({
        "lines": 1, "imported": 1, "known": 0, "skipped": 0, "statuses": {"seen": 1, "applied": 0, "unread": 0},
        "unread": 0, "errors": [],
    });
    assert_eq!((said.code, serde_json::from_str(&said.out).ok()), (Some(0), Some(report)));
    gateway.start().await;
    gateway.used("model", "gpt-4o", 24_995).await;
    assert_ne!(figures(&gateway).await, before);
    let said = import_stdin(&gateway, one.as_bytes(), &[]);
    assert!(said.out.starts_with("-: 1 lines: 0 imported, 1 known before\n"), "{}", said.out);
}

#[tokio::test]
async fn a_ledger_that_does_not_exist_yet_is_made_for_an_import() {
    let mut gateway = some_gateway().start().await;
    gateway.kill();
    fs::remove_dir_all(gateway.data_dir()).expect("it is there");
    let said = import(&gateway, &fixture("records.weir.jsonl"));
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains(": 16 lines: 6 imported, 0 known before, 1 without a key, 9 that could"), "{}", said.out);
    gateway.start().await;
    let row = gateway.used("key", "alice-laptop", 6).await;
    let figure = |name: &str| row[name].as_u64().expect("a number");
    assert_eq!(["failed", "events", "cost_nano_usd"].map(figure), [3, 5 * 41, 4 * 2_520_000]);
    assert_eq!(["input_tokens", "cache_read_tokens", "output_tokens"].map(figure), [4800, 4096, 320]);
}

#[tokio::test]
async fn records_of_this_ledger_are_known_and_those_of_a_lost_one_are_not() {
    let gateway = some_gateway().start().await;
    let id = fs::read_to_string(gateway.data_dir().join("ledger.id")).expect("an id");
    let record = |n: u32, ledger: &str| {
        json!({
            "schema_version": 1, "id": format!("{n:032x}"), "time": "2026-01-02T03:04:05.678Z",
            "node": format!("fra/{ledger}"), "key_id": "k", "key_name": "alice", "outcome": "ok",
        })
    };
    let lines = [record(1, id.trim_end()), record(2, "0123456789abcdef")].map(|line| line.to_string()).join("\n");
    let answer = gateway.admin("POST", "/admin/api/events/import").body(lines).send().await;
    let report = json!({
        "lines": 2, "imported": 1, "known": 1, "skipped": 0, "statuses": {"seen": 0, "applied": 0, "unread": 0},
        "unread": 0, "errors": [],
    });
    assert_eq!((answer.status, answer.json()), (200, report));
    gateway.used("key", "alice", 1).await;
}

#[tokio::test]
async fn counters_that_were_lost_are_rebuilt_from_the_records_and_equal_to_the_last_figure() {
    let mock = mock();
    let mut gateway = gateway()
        .channel(openai(mock.address()).models(&["gpt-*"]))
        .channel(anthropic(mock.address()))
        .key("alice")
        .key(key_named("bob").with("models", json!(["gpt-4o"])))
        .with("audit", json!({"jsonl": {"directory": "audit", "rotate_every": "1d"}}))
        .start()
        .await;
    let words = json!([{"role": "user", "content": "a few words"}]);
    for n in 0..12 {
        let stream = n % 2 == 0;
        for (key, path, body, status) in [
            ("alice", "/v1/chat/completions", json!({"model": "gpt-4o", "messages": words, "stream": stream}), 200),
            ("alice", "/v1/messages", json!({"model": "claude-opus-4-1", "messages": words, "max_tokens": 9}), 200),
            ("bob", "/v1/chat/completions", json!({"model": "gpt-4o", "messages": words}), 200),
            ("bob", "/v1/chat/completions", json!({"model": "gpt-5", "messages": words}), 403),
            ("nobody", "/v1/chat/completions", json!({"model": "gpt-4o", "messages": words}), 401),
        ] {
            assert_eq!(gateway.post(path).key(key).json(&body).send().await.status, status, "{key} {body}");
        }
    }
    gateway.used("key", "bob", 24).await;
    let before = figures(&gateway).await;
    assert!(gateway.stop().await.success());
    let records =
        fs::read_dir(gateway.data_dir().join("audit")).expect("records").map(|file| file.expect("a file").path());
    let records: Vec<PathBuf> = records.filter(|path| path.to_string_lossy().contains("jsonl")).collect();
    let import_all = |gateway: &Gateway| {
        let said = records.iter().map(|file| {
            let said = import(gateway, file);
            assert_eq!((said.code, &*said.err), (Some(0), ""), "{}", said.out);
            said.out.split_once(": ").expect("a name").1.to_owned()
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(import_all(&gateway), ["60 lines: 0 imported, 48 known before, 12 without a key\n"]);
    gateway.start().await;
    assert_eq!(figures(&gateway).await, before, "its own records were counted when they were made");

    assert!(gateway.stop().await.success());
    for lost in ["journal", "store"] {
        fs::remove_dir_all(gateway.data_dir().join(lost)).expect("it is there");
    }
    fs::remove_file(gateway.data_dir().join("totals.snapshot")).expect("it is there");
    gateway.start().await;
    assert_eq!(gateway.usage("key").await, [] as [Value; 0], "all is lost");
    for expected in ["60 lines: 48 imported, 0 known before", "60 lines: 0 imported, 48 known before"] {
        assert_eq!(import_all(&gateway), [format!("{expected}, 12 without a key\n")]);
        assert_eq!(figures(&gateway).await, before);
    }
}

#[tokio::test]
async fn an_import_that_a_kill_cuts_off_is_finished_by_the_next() {
    let mut gateway = some_gateway().start().await;
    let lines: String = (0..20_000).map(|n| format!("{}\n", event(&n.to_string(), &json!(n), "k", "normal"))).collect();
    let file = gateway.data_dir().with_file_name("events.jsonl");
    fs::write(&file, &lines).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["events", "import"])
        .arg(&file)
        .arg("-c")
        .arg(gateway.config_file())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    crate::support::eventually("something is imported", async || {
        (!gateway.usage("model").await.is_empty()).then_some(())
    })
    .await;
    gateway.kill();
    let code = child.wait().expect("it ends").code();
    assert!(matches!(code, Some(0 | 2)), "{code:?}");
    gateway.start().await;
    let counted = gateway.usage("model").await[0]["requests"].as_u64().expect("a number");
    let said = import(&gateway, &file);
    let expected = format!("{}: 20000 lines: {} imported, {counted} known before\n", file.display(), 20_000 - counted);
    assert!(said.out.starts_with(&expected), "{expected}{}", said.out);
    gateway.used("model", "gpt-4o", 20_000).await;
}

fn cooling(metrics: &str) -> &str {
    let series = "weir_channel_keys_cooling{channel=\"openai\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(series)).expect("the series")
}

#[tokio::test]
async fn what_is_said_of_a_key_holds_for_it_until_something_newer_is_said() {
    let gateway = some_gateway().start().await;
    let now = now_ms();
    let refused = event("1", &json!(now - 2_000), "openai-main@ai-key", "quota exhausted");
    let serves = event("2", &json!(now - 1_000), "openai-main@ai-key", "normal");
    let old = event("3", &json!(now - 400_000), "openai-main@ai-key", "expired");
    let stranger = event("4", &json!(now), "openai-other@ai-key", "expired");
    for (line, applied, expected) in [
        (&refused, 1, "1"),
        (&refused, 0, "1"),
        (&serves, 1, "0"),
        (&refused, 0, "0"),
        (&old, 0, "0"),
        (&stranger, 0, "0"),
    ] {
        let answer = gateway.admin("POST", "/admin/api/events/import").json(line).send().await;
        let statuses = json!({"seen": 1, "applied": applied, "unread": 0});
        assert_eq!((answer.status, &answer.json()["statuses"]), (200, &statuses), "{line}");
        assert_eq!(cooling(&gateway.metrics().await), expected, "{line}");
    }
    let both = [
        event("5", &json!(now_ms()), "openai-main@ai-key", "invalid"),
        event("6", &json!(now_ms()), "spare", "expired"),
    ];
    let file = gateway.data_dir().with_file_name("both.jsonl");
    fs::write(&file, both.map(|line| line.to_string()).join("\n")).expect("a file");
    let said = import(&gateway, &file);
    assert!(said.out.ends_with("2 statuses of upstream keys, applied to 2 keys\n"), "{}", said.out);
    assert_eq!(cooling(&gateway.metrics().await), "2");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_is_exit_code_2() {
    let mut gateway = some_gateway().start().await;
    let file = fixture("broken.apipark.jsonl");
    // The ledger is somebody's who cannot be asked.
    fs::remove_file(gateway.data_dir().join("admin.sock")).expect("it is there");
    let said = import(&gateway, &file);
    assert_eq!(said.code, Some(2));
    assert!(said.err.ends_with("another process has the ledger open\n"), "{}", said.err);
    assert_eq!(gateway.usage("key").await, [] as [Value; 0]);
    assert!(gateway.stop().await.success());
    let missing = import(&gateway, Path::new("/nonexistent/events.jsonl"));
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("/nonexistent/events.jsonl: No such file"), "{}", missing.err);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&fs::read(&file).expect("a file")).expect("memory");
    let packed = packed.finish().expect("memory");
    let cut = import_stdin(&gateway, &packed[..packed.len() - 9], &[]);
    assert_eq!(cut.code, Some(2));
    assert!(cut.err.starts_with("weir: -: "), "{}", cut.err);
    assert_eq!(Said::of(gateway.command(&["events", "import"])).code, Some(2));
    gateway.write_text("channels: [");
    assert_eq!(import(&gateway, &file).code, Some(2));
}

#[tokio::test]
async fn an_empty_file_is_no_mistake() {
    let gateway = some_gateway().start().await;
    for bytes in [&b""[..], b"\n\n  \n"] {
        let said = import_stdin(&gateway, bytes, &[]);
        let out = "-: 0 lines: 0 imported, 0 known before\n".to_owned();
        assert_eq!(said, Said { code: Some(0), out, err: String::new() });
    }
    assert_eq!(gateway.usage("key").await, [] as [Value; 0]);
}
