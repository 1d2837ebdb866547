//! What a sink does while Loki takes nothing, or the disk takes nothing either.

use std::fs::File;
use std::sync::atomic::AtomicI64;

use super::*;

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
