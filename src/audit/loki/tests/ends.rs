//! What becomes of records at the end of a process, and what the next one makes of them.

use std::process::{Command, Stdio};

use super::*;

#[test]
fn what_the_end_leaves_is_delivered_by_the_next_process() {
    let (loki, dir) = (StandIn::start(), tempfile::tempdir().unwrap());
    loki.feels(Mood::Hangs);
    let mut first = Running::start(&config_for(&loki), dir.path());
    first.give(0..500);
    thread::sleep(Duration::from_millis(100));
    first.give(500..505);
    let begun = Instant::now();
    assert_eq!(first.stop(), [0, 0, 0, 0], "none is lost");
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
    assert_eq!(old.stop(), [0, 0, 0, 0]);
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
        .args(["--exact", "audit::loki::tests::ends::victim", "--nocapture"])
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
