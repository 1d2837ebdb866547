//! Owns the crashes: killed processes, damaged stores, snapshots and segments.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::fixtures::settlement;
use super::super::journal::files;
use super::super::journal::segment::HEADER_LEN;
use super::super::{Ledger, now_ms, read_only, snapshot};
use super::scene::{Scene, by_model, copy_tree, eventually, requests};

const CHILD: &str = "WEIR_TEST_LEDGER_CHILD";

/// The child's part of the test below: appends for ever, and says so after each record.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    let scene = Scene { segment_bytes: 4096, ..Scene::new() };
    let options = super::LedgerOptions {
        directory: directory.into(),
        shards: 2,
        durability: crate::config::Durability::Relaxed,
        keep_minutes: Duration::from_secs(86_400),
        keep_hours: Duration::from_secs(86_400),
        when_locked: super::WhenLocked::Refuse,
    };
    let ledger = Ledger::open_tuned(options, scene.tuning()).unwrap();
    let base = u128::from(now_ms()) << 64;
    for n in 0.. {
        ledger.append(&settlement(base | n, now_ms()));
        // Straight to the descriptor: the harness must not hold it back.
        rustix::io::write(std::io::stdout(), b"appended\n").unwrap();
    }
}

#[test]
fn every_acknowledged_record_survives_kill_9_and_counts_once() {
    let scene = Scene::new();
    let mut acknowledged = 0;
    for run in 1..=4_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::crash::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD, scene.directory())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_record = |line: &String| line.ends_with("appended");
        // Some runs are killed within a segment, some after folds and rotations.
        let wanted = 40 * run * run;
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            seen += u64::from(is_record(&line));
        }
        child.kill().unwrap();
        let rest = lines.map_while(Result::ok).filter(is_record).count() as u64;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // The last record may have been written and its acknowledgement not.
        let before = acknowledged;
        acknowledged += seen + rest;
        let ledger = scene.open();
        let counted = requests(&ledger);
        assert!(
            counted == acknowledged || counted == acknowledged + 1,
            "{counted} counted, {acknowledged} acknowledged"
        );
        assert!(counted > before);
        assert_eq!(ledger.key_totals()[0].counters.requests, counted);
        acknowledged = counted;
    }
}

#[test]
fn a_copy_taken_at_any_moment_counts_every_record_once() {
    // The store keeps up with the totals, or falls behind them and the snapshot is what it meets.
    for store_every in [Duration::ZERO, Duration::from_secs(3600)] {
        copies_count_every_record_once(&Scene { segment_bytes: 2048, store_every, ..Scene::new() });
    }
}

fn copies_count_every_record_once(scene: &Scene) {
    let ledger = scene.open();
    for step in 0..6_u64 {
        scene.append(&ledger, step * 20..step * 20 + 20);
        let expected = (step + 1) * 20;
        // Unfolded; folded in memory; written to the store.
        for moment in 0..3 {
            match moment {
                1 => assert_eq!(requests(&ledger), expected),
                2 => ledger.inner.tick(step % 2 == 1, Duration::ZERO),
                _ => {}
            }
            // The store is idle while its keeper is held; sled's own thread may write on, which is
            // what a kill meets too.
            let keeper = super::lock(&ledger.inner.keeper);
            let image = scene.copy();
            drop(keeper);
            let reopened = image.open();
            assert_eq!(requests(&reopened), expected, "step {step}, moment {moment}");
            drop(reopened);
            assert_eq!(requests(&image.open()), expected, "step {step}, moment {moment}, again");
        }
    }
}

#[test]
fn a_store_that_is_behind_is_brought_up_at_the_end_and_by_the_journal_after_a_kill() {
    let scene = Scene { store_every: Duration::from_secs(3600), ..Scene::new() };
    let ledger = scene.open();
    for part in [0..1, 1..50] {
        scene.append(&ledger, part);
        ledger.inner.tick(false, Duration::ZERO);
    }
    assert_eq!(requests(&ledger), 50);
    let killed = scene.copy();
    drop(ledger);
    assert_eq!(stored(&scene), 50);
    assert!(stored(&killed) <= 1, "only the first tick was due to write");
    assert_eq!(requests(&killed.open()), 50);
}

/// The records that the store holds, in a copy: the ledger may be open.
fn stored(scene: &Scene) -> u64 {
    let image = scene.copy();
    let store = crate::store::Store::open(&image.directory().join("store")).unwrap();
    let view = super::super::view::View::from_rows(store.rows().unwrap()).unwrap();
    view.map_or(0, |view| view.meta.folded)
}

/// A ledger of 150 records, most of whose segments were dropped, closed.
fn closed() -> Scene {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let ledger = scene.open();
    scene.append(&ledger, 0..100);
    drop(ledger);
    let ledger = scene.open();
    scene.append(&ledger, 100..150);
    drop(ledger);
    scene
}

#[test]
fn a_store_that_is_deleted_or_damaged_is_rebuilt_with_equal_totals() {
    let scene = closed();
    let expected = scene.open().key_totals();
    assert_eq!(expected[0].counters.requests, 150);
    let damages: [(&str, bool, fn(&std::path::Path)); 5] = [
        ("deleted", false, |store| fs::remove_dir_all(store).unwrap()),
        ("emptied", false, |store| {
            fs::remove_dir_all(store).unwrap();
            fs::create_dir(store).unwrap();
        }),
        ("a file", true, |store| {
            fs::remove_dir_all(store).unwrap();
            fs::write(store, "not a directory").unwrap();
        }),
        ("garbage in its log", false, |store| {
            let log = store.join("db");
            let len = fs::read(&log).unwrap().len();
            fs::write(&log, vec![0x5a; len]).unwrap();
        }),
        ("garbage in its configuration", true, |store| fs::write(store.join("conf"), [b'x'; 100]).unwrap()),
    ];
    for (name, is_set_aside, damage) in damages {
        let image = scene.copy();
        damage(&image.directory().join("store"));
        let ledger = image.open();
        assert_eq!(ledger.key_totals(), expected, "{name}");
        let status = ledger.status();
        assert!(status.store_up && !status.history_lost, "{name}");
        if is_set_aside {
            let place = status.set_aside.expect(name);
            assert!(fs::exists(&place).unwrap(), "{name}: {place}");
        }
        image.append(&ledger, 150..160);
        drop(ledger);
        // And the rebuilt store stands on its own.
        fs::remove_file(snapshot::path(image.directory())).unwrap();
        assert_eq!(requests(&image.open()), 160, "{name}");
    }
}

#[test]
fn damage_anywhere_in_the_store_changes_no_total() {
    let scene = closed();
    let expected = scene.open().key_totals();
    let mut set_aside = 0;
    for part in 0..24 {
        let image = scene.copy();
        let log = image.directory().join("store/db");
        let mut bytes = fs::read(&log).unwrap();
        let used = bytes.iter().rposition(|b| *b != 0).unwrap();
        let at = used * part / 24;
        bytes[at..at + 16].iter_mut().for_each(|b| *b ^= 0x55);
        fs::write(&log, bytes).unwrap();
        let ledger = image.open();
        assert_eq!(ledger.key_totals(), expected, "part {part}");
        let minutes = super::UsageQuery { step: Some(super::Step::Minute), ..by_model() };
        let counted: u64 = ledger.usage(&minutes).iter().map(|row| row.counters.requests).sum();
        assert_eq!(counted, 150, "part {part}");
        assert!(ledger.status().store_up, "part {part}");
        set_aside += u32::from(ledger.status().set_aside.is_some());
    }
    assert!(set_aside > 0, "sled notices damage");
}

#[test]
fn a_store_whose_rows_contradict_themselves_is_set_aside() {
    let scene = closed();
    let store = crate::store::Store::open(&scene.directory().join("store")).unwrap();
    let day = store.rows().unwrap().into_iter().find(|(key, _)| key[0] == b'D').unwrap();
    store.write([(day.0, None)]).unwrap();
    drop(store);
    let ledger = scene.open();
    assert_eq!(requests(&ledger), 150);
    assert!(ledger.status().set_aside.unwrap().ends_with("store.broken-1"));
}

#[test]
fn an_older_store_is_brought_up_to_the_snapshot() {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let ledger = scene.open();
    scene.append(&ledger, 0..30);
    drop(ledger);
    let old = tempfile::tempdir().unwrap();
    copy_tree(&scene.directory().join("store"), old.path());
    let ledger = scene.open();
    scene.append(&ledger, 30..90);
    drop(ledger);
    fs::remove_dir_all(scene.directory().join("store")).unwrap();
    copy_tree(old.path(), &scene.directory().join("store"));
    let ledger = scene.open();
    assert_eq!(requests(&ledger), 90);
    assert_eq!(ledger.status().set_aside, None);
    drop(ledger);
    assert_eq!(requests(&scene.open()), 90);
}

#[test]
fn a_damaged_snapshot_is_made_anew_from_the_store() {
    let scene = closed();
    fs::write(snapshot::path(scene.directory()), "garbage").unwrap();
    let ledger = scene.open();
    assert_eq!(requests(&ledger), 150);
    drop(ledger);
    assert_eq!(read_only(scene.directory()).unwrap().usage(&by_model())[0].counters.requests, 150);
}

#[test]
fn losing_store_and_snapshot_is_said_and_numbers_are_not_given_out_again() {
    let scene = closed();
    let journal = scene.directory().join("journal");
    let before = files::list(&journal).unwrap();
    fs::remove_dir_all(scene.directory().join("store")).unwrap();
    fs::remove_file(snapshot::path(scene.directory())).unwrap();
    let ledger = scene.open();
    assert!(ledger.status().history_lost);
    assert!(requests(&ledger) < 150);
    ledger.append(&settlement(1, now_ms()));
    let after = files::list(&journal).unwrap();
    assert!(after.last().unwrap().0 > before.last().unwrap().0);
}

#[test]
fn damage_in_the_journal_is_counted_once_and_the_rest_is_read() {
    let scene = Scene::new();
    let ledger = scene.open();
    scene.append(&ledger, 0..10);
    let image = scene.copy();
    drop(ledger);
    fs::remove_dir_all(image.directory().join("store")).unwrap();
    let path = files::SegmentId { shard: 0, seq: 1 }.path(&image.directory().join("journal"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_LEN + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let ledger = image.open();
        assert_eq!(requests(&ledger), 9);
        assert_eq!(ledger.status().corrupt_records, 1);
    }
}

#[test]
fn a_torn_segment_is_left_alone_and_another_is_begun() {
    let scene = Scene::new();
    let ledger = scene.open();
    scene.append(&ledger, 0..3);
    let image = scene.copy();
    drop(ledger);
    fs::remove_dir_all(image.directory().join("store")).unwrap();
    let torn = files::SegmentId { shard: 0, seq: 1 }.path(&image.directory().join("journal"));
    let mut bytes = fs::read(&torn).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes.truncate(end - 5);
    fs::write(&torn, &bytes).unwrap();
    let ledger = image.open();
    assert_eq!((requests(&ledger), ledger.status().corrupt_records), (2, 1));
    image.append(&ledger, 10..12);
    assert_eq!(requests(&ledger), 4);
    assert_eq!(fs::read(&torn).unwrap(), bytes);
    eventually("the fold writes", || ledger.status().fold_lag_records == 0);
}

#[test]
fn garbage_among_the_segments_is_no_reason_to_stop() {
    let scene = Scene::new();
    let ledger = scene.open();
    scene.append(&ledger, 0..3);
    drop(ledger);
    let shard = scene.directory().join("journal/0000");
    fs::write(shard.join("0000000000000002.journal"), vec![0xa7; 5000]).unwrap();
    fs::write(shard.join("0000000000000003.journal"), "").unwrap();
    fs::write(shard.join("readme"), "hello").unwrap();
    fs::write(scene.directory().join("journal/stray"), "hello").unwrap();
    let ledger = scene.open();
    scene.append(&ledger, 3..5);
    assert_eq!(requests(&ledger), 5);
    assert_eq!(ledger.status().corrupt_records, 2);
}
