//! What a request costs outside its bytes: see `benches/micro.md`.

mod runner;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::Method;
use runner::{Case, Work};
use weir::accounts::Accounts;
use weir::channels::{Channels, Registry, Wish};
use weir::config::{self, Config, Durability};
use weir::ledger::{Ledger, LedgerOptions, Outcome, Settlement, WhenLocked};
use weir::metrics::{Metrics, Observation};
use weir::proxy::Snapshot;
use weir_filters::price::NanoUsd;
use weir_filters::protocol::Protocol;
use weir_filters::route::{Operation, RouteTable};
use weir_filters::usage::{Source, Usage};

/// Records a run appends: enough that the fold's work for them is seen in an instruction count.
const APPENDS: usize = 1_000;

/// What every channel serves and what the client asks for; `#` is the channel's number, in the question the last one's.
const CHOICES: [(&str, &str, &str); 5] = [
    ("last", "model-#", "model-#"),
    ("unserved", "model-#", "model-x"),
    ("first_star", "*", "model-#"),
    ("last_prefix", "provider-#/*", "provider-#/model"),
    ("last_suffix", "*-#", "model-#"),
];

fn main() {
    let mut cases = vec![
        Case::new("journal/append", Work::Calls(APPENDS), append),
        Case::new("metrics/observe", Work::Calls(1), observe),
        Case::new("snapshot/route", Work::Calls(1), route),
    ];
    for channels in [1, 10, 1_000] {
        cases.push(Case::new(format!("snapshot/pin/of_{channels}_channels"), Work::Calls(1), move || pin(channels)));
        for (case, pattern, asked) in CHOICES {
            let name = format!("snapshot/channel/{case}_of_{channels}");
            cases.push(Case::new(name, Work::Calls(1), move || choose(channels, pattern, asked)));
        }
    }
    runner::main(cases);
}

/// A directory of its own, removed with the ledger in it.
fn append() -> impl FnMut() {
    let directory = tempfile::tempdir().expect("a place for the ledger");
    let ledger = Ledger::open(LedgerOptions {
        directory: directory.path().to_owned(),
        shards: 1,
        durability: Durability::Relaxed,
        keep_minutes: Duration::from_secs(3_600),
        keep_hours: Duration::from_secs(86_400),
        when_locked: WhenLocked::Refuse,
    })
    .expect("a ledger");
    let mut settlement = settlement();
    move || {
        // The directory goes after the ledger in it.
        let _ = &directory;
        for _ in 0..APPENDS {
            settlement.id += 1;
            black_box(ledger.append(black_box(&settlement)));
        }
    }
}

fn settlement() -> Settlement {
    Settlement {
        id: 0x5f2c_1d9a_7b3e_4860_0000_0000_0000_0000,
        time_ms: 1_764_000_000_000,
        duration_us: 812_345,
        first_token_us: Some(231_009),
        key_id: "dfe7a23fefeea519".into(),
        key_name: "alice-laptop".into(),
        user: "alice".into(),
        route: "/v1/chat/completions".into(),
        operation: Operation::OpenAiChat,
        channel: "openai".into(),
        model: "gpt-4o-mini".into(),
        status: 200,
        outcome: Outcome::Ok,
        stream: true,
        events: 402,
        request_bytes: 731,
        response_bytes: 118_000,
        usage: usage(),
        cost: NanoUsd(243_000),
        price_version: 0x1d9a_7b3e_4860_5f2c,
        unpriced: false,
        attempts: 1,
    }
}

fn usage() -> Usage {
    Usage { input_uncached: 19, output: 400, source: Source::Upstream, ..Usage::default() }
}

fn observe() -> impl FnMut() {
    let metrics = Metrics::new();
    let handles = metrics.resolve(&["/v1/chat/completions"], &[("openai", &["gpt-4o", "gpt-4o-mini"])]);
    let seen = Observation {
        route: Some(0),
        status: 200,
        duration: Duration::from_micros(812_345),
        overhead: Some(Duration::from_micros(31)),
        channel: Some(0),
        model: Some(1),
        operation: Some(Operation::OpenAiChat),
        upstream_duration: Some(Duration::from_millis(812)),
        first_token: Some(Duration::from_micros(231_009)),
        events: 402,
        usage: usage(),
        invalid: 0,
        outcome: Outcome::Ok,
        stream: true,
        cost: NanoUsd(243_000),
        unpriced: false,
    };
    move || metrics.observe(&handles, black_box(&seen))
}

fn route() -> impl FnMut() {
    let routes = RouteTable::new(vec![]);
    move || {
        black_box(routes.find(black_box(&Method::POST), black_box("/v1/chat/completions")).expect("a built-in route"));
    }
}

fn pin(channels: usize) -> impl FnMut() {
    let live = ArcSwap::from_pointee(Snapshot::new(
        1,
        &configuration(channels, "model-#"),
        &Metrics::new(),
        &Accounts::new(),
        &Registry::default(),
        None,
    ));
    move || {
        let pinned: Arc<Snapshot> = live.load_full();
        black_box(pinned.version());
    }
}

fn choose(count: usize, pattern: &str, asked: &str) -> impl FnMut() + use<> {
    let channels = Channels::new(&configuration(count, pattern).channels, &Registry::default());
    let model = asked.replace('#', &(count - 1).to_string());
    let now = Instant::now();
    move || {
        let wish = Wish {
            protocol: Protocol::OpenAi,
            model: Some(black_box(&model)),
            among: &[],
            last: None,
            chance: black_box(7),
            now,
        };
        _ = black_box(channels.choose(&wish, |_| true, |_| true));
    }
}

fn configuration(channels: usize, pattern: &str) -> Config {
    let mut text = String::from("keys: [{ name: first, sha256: ");
    text.push_str(&"5f".repeat(32));
    text.push_str(" }]\nchannels:\n");
    for channel in 0..channels {
        let models = pattern.replace('#', &channel.to_string());
        text.push_str(&format!(
            "  - {{ name: c{channel}, protocol: openai, base_url: \"http://127.0.0.1:9\", \
             keys: [{{ name: main, value: sk-bench-{channel} }}], models: [\"{models}\"], priority: {channel} }}\n"
        ));
    }
    match config::parse(&text, Path::new("bench.yaml"), &|_| None) {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes:?}"),
    }
}
