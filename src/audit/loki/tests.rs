//! The sink before a strict stand-in of Loki that hangs, refuses, lies and comes back.

#[path = "../../../tests/it/support/loki/mod.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
mod stand_in;

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
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
        let (giver, taker) = queue_of(QUEUE);
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
fn whatever_loki_does_every_record_is_delivered_once_and_in_order_in_protobuf() {
    is_delivered_whatever_loki_does(LokiFormat::Protobuf, false);
}

#[test]
fn whatever_loki_does_every_record_is_delivered_once_and_in_order_in_json() {
    is_delivered_whatever_loki_does(LokiFormat::Json, false);
}

#[test]
fn whatever_loki_does_every_record_is_delivered_once_and_in_order_in_gzip() {
    is_delivered_whatever_loki_does(LokiFormat::Json, true);
}

fn is_delivered_whatever_loki_does(format: LokiFormat, gzip: bool) {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    let mut running = Running::start(&Loki { format, gzip, ..config_for(&loki) }, dir.path());
    let with = |status, name, value: &str| Mood::Says { status, headers: vec![(name, value.to_owned())], body: "" };
    let moods = [
        Mood::Well,
        Mood::Hangs,
        with(429, "Retry-After", "0"),
        Mood::Well,
        says(503, "Service Unavailable"),
        says(500, ""),
        Mood::Garbage(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        Mood::Garbage(b""),
        Mood::Garbage(b"HTTP/1.1 204 No Co"),
        Mood::Garbage(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n<html>"),
        says(200, "<html>log in</html>"),
        with(307, "Location", "http://127.0.0.1:9/"),
        Mood::Resets,
        Mood::TakesAndResets,
        Mood::Hangs,
    ];
    for (mood, n) in moods.into_iter().zip(0..) {
        let step = if mood == Mood::Hangs { 40 } else { 10 };
        loki.feels(mood);
        for first in (n * 200..n * 200 + 200).step_by(10) {
            running.give(first..first + 10);
            thread::sleep(Duration::from_millis(step));
        }
    }
    assert!(running.figures()[3] > 0, "some wait");
    assert!(dir.path().join("spool/loki").read_dir().unwrap().count() > 0, "on the disk");
    loki.feels(Mood::Well);
    assert_eq!(running.settled(), [3_000, 0, 0, 0]);
    assert_eq!(ids(&loki), all(0..3_000));
    assert!(loki.repeated() > 0, "what was taken without an answer came again, and was known");
    assert_eq!(dir.path().join("spool/loki").read_dir().unwrap().count(), 0, "nothing stays on the disk");
    assert_eq!(running.stop(), [3_000, 0, 0, 0]);
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

#[test]
fn no_push_comes_before_retry_after_is_over() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    let wait = vec![("Retry-After", "1".to_owned())];
    loki.then([Mood::Says { status: 429, headers: wait, body: "" }]);
    let mut running = Running::start(&config_for(&loki), dir.path());
    running.give(0..5);
    let begun = Instant::now();
    assert_eq!(running.settled(), [5, 0, 0, 0]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(loki.pushes(), 2);
}

#[test]
fn a_loki_that_hangs_fills_no_queue() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.feels(Mood::Hangs);
    let config = config_for(&loki);
    let delivery = Delivery { timeout: Duration::from_secs(20), ..config.delivery };
    let mut running = Running::start(&Loki { delivery, ..config }, dir.path());
    // Many times what the queue holds, over longer than a slow push takes to be brought to the disk.
    for n in 0..1_000 {
        running.give_padded(n * 5..n * 5 + 5, 1_000);
        if n % 5 == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    }
    running.until("the queue is empty", |figures| figures == [0, 0, 0, 5_000]);
    assert!(dir.path().join("spool/loki").is_dir(), "it is on the disk, though no push has failed");
    loki.feels(Mood::Well);
    assert_eq!(running.settled(), [5_000, 0, 0, 0]);
    assert_eq!(ids(&loki), all(0..5_000));
}

#[test]
fn what_a_spool_has_no_room_for_is_the_oldest_and_is_counted() {
    for spool in [600 << 10, 0] {
        let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
        loki.feels(says(503, ""));
        let mut running = Running::small(&Loki { spool, ..config_for(&loki) }, dir.path(), RealDisk);
        for n in 0..300 {
            running.give_padded(n * 5..n * 5 + 5, 1_000);
            thread::sleep(Duration::from_millis(4));
        }
        let [.., dropped, waiting] = running.until("all are seen", |figures| figures[2] + figures[3] == 1_500);
        assert!(dropped > 300 && waiting > 150, "{dropped} {waiting}");
        loki.feels(Mood::Well);
        let [delivered, failed, dropped, _] = running.settled();
        assert_eq!((delivered + dropped, failed), (1_500, 0));
        let mut ids = ids(&loki);
        assert_eq!(u64::try_from(ids.len()).unwrap(), delivered);
        // The one in hand as it began was tried until its room was wanted.
        ids.retain(|id| *id >= dropped);
        assert!(u64::try_from(ids.len()).unwrap() >= delivered - 10, "those that are left are the last");
    }
}

/// A disk that is full after some writes, until it is not.
struct FullDisk(Arc<AtomicI64>);

impl Disk for FullDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) > 0 {
            return RealDisk.write(file, bytes, at);
        }
        // Half of it is there, as when space ends.
        RealDisk.write(file, &bytes[..bytes.len() / 2], at)?;
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_full_disk_costs_only_what_has_no_room_in_memory_either() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.feels(Mood::Resets);
    let writes = Arc::new(AtomicI64::new(20));
    let mut running = Running::small(&config_for(&loki), dir.path(), FullDisk(writes.clone()));
    for n in 0..50 {
        running.give(n * 5..n * 5 + 5);
        thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(running.figures(), [0, 0, 0, 250], "disk and memory have room for it");
    for n in 50..300 {
        running.give_padded(n * 5..n * 5 + 5, 1_000);
        thread::sleep(Duration::from_millis(4));
    }
    assert!(writes.load(Ordering::Relaxed) < 0, "the disk was full");
    let [.., dropped, waiting] = running.until("all are seen", |figures| figures[2] + figures[3] == 1_500);
    assert!(dropped > 500 && waiting > 200, "{dropped} {waiting}");
    writes.store(i64::MAX, Ordering::Relaxed);
    loki.feels(Mood::Well);
    let [delivered, failed, dropped, _] = running.settled();
    assert_eq!((delivered + dropped, failed), (1_500, 0));
    assert_eq!(u64::try_from(ids(&loki).len()).unwrap(), delivered);
}

#[test]
fn what_the_end_leaves_is_delivered_by_the_next_process() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.feels(Mood::Hangs);
    let mut first = Running::start(&config_for(&loki), dir.path());
    first.give(0..500);
    thread::sleep(Duration::from_millis(100));
    first.give(500..505);
    let begun = Instant::now();
    assert_eq!(first.stop(), [0, 0, 0, 505]);
    assert!(begun.elapsed() < LAST_TRIES + Duration::from_secs(1), "{:?}", begun.elapsed());
    let mut second = Running::start(&config_for(&loki), dir.path());
    second.given += 505;
    second.give(505..600);
    loki.feels(Mood::Well);
    second.until("all are delivered", |figures| figures == [600, 0, 0, 0]);
    assert_eq!(ids(&loki), all(0..600));
}

#[test]
fn the_end_delivers_what_came_last() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    let config = config_for(&loki);
    let delivery = Delivery { batch_wait: Duration::from_secs(60), ..config.delivery };
    let mut running = Running::start(&Loki { delivery, ..config }, dir.path());
    running.give(0..500);
    assert_eq!(running.stop(), [500, 0, 0, 0]);
    assert_eq!(ids(&loki), all(0..500));
}

#[test]
fn without_a_spool_the_end_drops_what_is_left_and_counts_it() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.feels(says(503, ""));
    let mut running = Running::start(&Loki { spool: 0, ..config_for(&loki) }, dir.path());
    running.give(0..500);
    assert_eq!(running.stop(), [0, 0, 500, 0]);
    assert!(!dir.path().join("spool").exists());
}

#[test]
fn two_processes_share_a_spool_and_no_record() {
    let (loki, dir) = (StandIn::start().in_any_order(), tempfile::tempdir().unwrap());
    loki.feels(says(503, ""));
    let mut old = Running::start(&config_for(&loki), dir.path());
    old.give(0..500);
    old.until("the old one has a spool", |_| dir.path().join("spool/loki").is_dir());
    let mut new = Running::start(&config_for(&loki), dir.path());
    new.give(500..1_000);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((old.figures(), new.figures()), ([0, 0, 0, 500], [0, 0, 0, 500]), "nobody takes another's");
    assert_eq!(old.stop(), [0, 0, 0, 500]);
    new.given += 500;
    new.until("the new one has what the old one left", |figures| figures == [0, 0, 0, 1_000]);
    loki.feels(Mood::Well);
    assert_eq!(new.settled(), [1_000, 0, 0, 0]);
    let mut ids: Vec<u64> = ids_by_stream(&loki).into_values().flatten().collect();
    ids.sort_unstable();
    assert_eq!(ids, all(0..1_000));
    assert_eq!(loki.repeated(), 0);
}

const VICTIM: &str = "WEIR_TEST_LOKI_VICTIM";

/// Not a test of its own: what [`a_killed_process_loses_nothing_that_has_waited`] starts and kills.
#[test]
fn victim() {
    let Ok(given) = std::env::var(VICTIM) else { return };
    let (port, dir) = given.split_once(' ').expect("a port and a directory");
    let loki = StandIn::start();
    let mut config = config_for(&loki);
    config.url.port = port.parse().expect("a port");
    let mut running = Running::start(&config, Path::new(dir));
    (0..100).for_each(|n| running.give(n * 5..n * 5 + 5));
    thread::sleep(PATIENCE);
}

#[test]
fn a_killed_process_loses_nothing_that_has_waited() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.then([Mood::Well, Mood::TakesAndResets]);
    loki.feels(Mood::Hangs);
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "audit::loki::tests::victim", "--nocapture"])
        .env(VICTIM, format!("{} {}", loki.address().port(), dir.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let spool = dir.path().join("spool/loki");
    let begun = Instant::now();
    let size =
        || spool.read_dir().map_or(0, |files| files.flatten().map(|f| f.metadata().map_or(0, |m| m.len())).sum());
    while size() < 150_000 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes in the spool", size());
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    victim.kill().unwrap();
    victim.wait().unwrap();
    loki.feels(Mood::Well);
    let first = loki.stored().len();
    assert!(first > 0, "something was delivered before");
    let running = Running::start(&config_for(&loki), dir.path());
    let [delivered, ..] =
        running.until("what was left is delivered", |[delivered, _, _, waiting]| delivered > 0 && waiting == 0);
    assert_eq!(ids(&loki), all(0..500));
    assert!(delivered < 500, "and not what was delivered before and answered");
}
