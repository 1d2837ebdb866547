//! The sink before a strict stand-in of Loki that hangs, refuses, lies and comes back.

#[path = "../../../tests/it/support/loki/mod.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
mod stand_in;

mod ends;
mod outages;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use weir_filters::secret::Secret;

use self::stand_in::{Loki as StandIn, Mood};
use super::super::batch::{Batch, Entry};
use super::super::queue::{Giver, queue_of};
use super::*;
use crate::config::{BaseUrl, Delivery, Login};

const PATIENCE: Duration = Duration::from_secs(30);
const QUEUE: usize = 256 << 10;
/// What [`Running::small`] holds in memory.
const MEMORY: usize = 256 << 10;

fn config_for(loki: &StandIn) -> Loki {
    Loki {
        url: BaseUrl { tls: false, host: "127.0.0.1".to_owned(), port: loki.address().port(), path: String::new() },
        labels: vec![("env".to_owned(), "test".to_owned())],
        format: LokiFormat::Protobuf,
        gzip: true,
        tenant: None,
        login: None,
        delivery: Delivery {
            batch: 8 << 10,
            batch_wait: Duration::from_millis(20),
            timeout: Duration::from_millis(400),
        },
        spool: 64 << 20,
    }
}

/// A sink that runs, and the records that it was given.
struct Running {
    giver: Option<Giver>,
    thread: Option<JoinHandle<()>>,
    stats: Arc<SinkStats>,
    given: u64,
}

/// Tens of milliseconds instead of tens of seconds.
fn soon(failures: u32, random: u64) -> Duration {
    backoff(failures.min(3), random) / 50
}

fn sink(config: &Loki, spool: &Path) -> LokiSink {
    LokiSink { backoff: soon, ..LokiSink::new(config, spool.join("spool/loki"), None).expect("a client") }
}

impl Running {
    fn of(sink: LokiSink) -> Self {
        let (giver, taker) = queue_of(QUEUE, Arc::default());
        let stats = giver.stats().clone();
        let thread = Some(thread::spawn(move || sink.run(taker)));
        Self { giver: Some(giver), thread, stats, given: 0 }
    }

    fn start(config: &Loki, spool: &Path) -> Self {
        Self::of(sink(config, spool))
    }

    /// One that holds little in memory.
    fn small(config: &Loki, spool: &Path, disk: impl Disk + 'static) -> Self {
        Self::of(LokiSink { max_memory: MEMORY, disk: Box::new(disk), ..sink(config, spool) })
    }

    /// Gives the records with these ids, whose requests have just ended.
    fn give(&mut self, ids: std::ops::Range<u64>) {
        self.give_padded(ids, 200);
    }

    fn give_padded(&mut self, ids: std::ops::Range<u64>, padding: usize) {
        self.given += ids.end - ids.start;
        let batch = batch(ids, &"x".repeat(padding));
        self.giver.as_ref().expect("it is open").give(&Arc::new(batch));
    }

    /// Delivered, failed, dropped, waiting.
    fn figures(&self) -> [u64; 4] {
        let SinkStats { delivered, failed, dropped, waiting } = &*self.stats;
        [delivered, failed, dropped, waiting].map(|figure| figure.load(Ordering::Relaxed))
    }

    fn until(&self, what: &str, is_so: impl Fn([u64; 4]) -> bool) -> [u64; 4] {
        let begun = Instant::now();
        while !is_so(self.figures()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: not with {:?} of {}", self.figures(), self.given);
            thread::sleep(Duration::from_millis(5));
        }
        self.figures()
    }

    fn settled(&self) -> [u64; 4] {
        self.until("all are accounted for", |[.., waiting]| waiting == 0)
    }

    /// Closes the queue and waits for the end.
    fn stop(mut self) -> [u64; 4] {
        self.giver = None;
        self.thread.take().expect("it runs").join().expect("no panic");
        self.figures()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.giver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Five streams, and durations that are out of order.
fn batch(ids: std::ops::Range<u64>, padding: &str) -> Batch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let time_ms = u64::try_from(now.as_millis()).expect("a time");
    let mut batch = Batch::default();
    for id in ids {
        let (route, status) = [
            ("/v1/chat/completions", 200),
            ("/v1/chat/completions", 429),
            ("/v1/messages", 200),
            ("/v1/messages", 0),
            ("/a\"b\\", 502),
        ][usize::try_from(id % 5).expect("below five")];
        let line = serde_json::json!({
            "schema_version": 1, "id": format!("{id:032x}"), "route": route,
            "status": if status == 0 { None } else { Some(status) },
            "duration_ms": (id * 7919) % 50, "request_body": {"text": padding}, "response_body": null,
        });
        batch.lines.extend_from_slice(format!("{line}\n").as_bytes());
        let end = batch.lines.len();
        let id = u128::from(id);
        batch.entries.push(Entry { end, id, time_ms: time_ms - 50, status, key: 0, user: 0, model: 0, channel: 0 });
    }
    batch
}

/// The ids of what the stand-in has, in each stream in its order, and that nothing about it is wrong.
fn ids_by_stream(loki: &StandIn) -> BTreeMap<BTreeMap<String, String>, Vec<u64>> {
    assert_eq!(loki.complaints(), [""; 0]);
    let mut streams: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for stored in loki.stored() {
        let record: serde_json::Value = serde_json::from_str(&stored.line).expect("a record");
        let id = u64::from_str_radix(record["id"].as_str().expect("an id"), 16).expect("hex");
        streams.entry(stored.labels).or_default().push(id);
    }
    streams
}

/// All ids, each of which is there once and behind those that came before it in its stream.
fn ids(loki: &StandIn) -> Vec<u64> {
    let streams = ids_by_stream(loki);
    for (labels, ids) in &streams {
        assert!(ids.is_sorted_by(|a, b| a < b), "{labels:?} is not in order: {ids:?}");
    }
    let mut ids: Vec<u64> = streams.into_values().flatten().collect();
    ids.sort_unstable();
    ids
}

fn all(ids: std::ops::Range<u64>) -> Vec<u64> {
    ids.collect()
}

fn says(status: u16, body: &'static str) -> Mood {
    Mood::Says { status, headers: Vec::new(), body }
}

#[test]
fn records_come_into_few_streams_with_the_labels_that_are_documented() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    let mut running = Running::start(&config_for(&loki), dir.path());
    running.give(0..10);
    assert_eq!(running.settled(), [10, 0, 0, 0]);
    let labels = |route: &str, status: &str| {
        let pairs = [("env", "test"), ("route", route), ("service", "weir"), ("status", status)];
        BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let expected = BTreeMap::from([
        (labels("/v1/chat/completions", "2xx"), vec![0, 5]),
        (labels("/v1/chat/completions", "4xx"), vec![1, 6]),
        (labels("/v1/messages", "2xx"), vec![2, 7]),
        (labels("/v1/messages", "none"), vec![3, 8]),
        (labels("/a\"b\\", "5xx"), vec![4, 9]),
    ]);
    assert_eq!(ids_by_stream(&loki), expected);
    assert!(!dir.path().join("spool").exists(), "a Loki that is well costs no disk");
    assert_eq!(running.stop(), [10, 0, 0, 0]);
}

#[test]
fn a_refused_record_takes_no_other_one_along() {
    // The stand-in takes the others of a refused push, as the real one does, and so does its dedup.
    let (loki, dir) = (StandIn::start().hates("0000000017\""), tempfile::tempdir().unwrap());
    let mut running = Running::start(&config_for(&loki), dir.path());
    running.give(0..100);
    assert_eq!(running.settled(), [99, 1, 0, 0]);
    assert_eq!(loki.stored().len(), 99);
    assert!(loki.complaints().iter().all(|complaint| complaint.starts_with("400: a line that is hated")));
}

#[test]
fn a_push_that_is_refused_for_itself_is_not_tried_again() {
    let (loki, dir) = (StandIn::start().wants("X-Scope-OrgID", "a"), tempfile::tempdir().unwrap());
    let mut running = Running::start(&Loki { tenant: Some("b".to_owned()), ..config_for(&loki) }, dir.path());
    running.give(0..5);
    assert_eq!(running.settled(), [0, 5, 0, 0]);
    running.give(5..10);
    assert_eq!(running.settled(), [0, 10, 0, 0]);
    assert_eq!((loki.pushes(), loki.stored().len()), (2, 0));
}

#[test]
fn tenant_and_login_are_shown() {
    for (login, authorization) in [
        (
            Login::Basic { username: "weir".to_owned(), password: Secret::new("pass:word") },
            "Basic d2VpcjpwYXNzOndvcmQ=",
        ),
        (Login::Bearer(Secret::new("token")), "Bearer token"),
    ] {
        let loki = StandIn::start().wants("X-Scope-OrgID", "team-a").wants("Authorization", authorization);
        let dir = tempfile::tempdir().unwrap();
        let config = Loki { tenant: Some("team-a".to_owned()), login: Some(login), ..config_for(&loki) };
        let mut running = Running::start(&config, dir.path());
        running.give(0..5);
        assert_eq!(running.settled(), [5, 0, 0, 0]);
        assert_eq!(ids(&loki), all(0..5));
    }
}
