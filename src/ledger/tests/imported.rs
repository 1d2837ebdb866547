//! Owns imports across kills, restarts and upgrades: a record counts once however often it is imported.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::fixtures::settlement;
use super::super::{Ledger, LedgerOptions, Settlement, Step, UsageQuery, WhenLocked, now_ms, read_only};
use super::disk::{FULL, WELL, failing};
use super::scene::{Scene, by_model, eventually, requests};
use crate::config::Durability;

fn some(ids: std::ops::Range<u128>) -> Vec<Settlement> {
    ids.map(|id| settlement(id, now_ms())).collect()
}

/// How many of them were new.
fn import(ledger: &Ledger, ids: std::ops::Range<u128>) -> usize {
    ledger.import(&some(ids)).unwrap().into_iter().filter(|is_new| *is_new).count()
}

fn counted(ledger: &Ledger) -> u128 {
    requests(ledger).into()
}

#[test]
fn what_is_imported_counts_once_and_each_is_told_whether_it_is_new() {
    let scene = Scene::new();
    let ledger = scene.open();
    let twice = [some(0..3), some(1..5), some(4..5)].concat();
    let is_new = ledger.import(&twice).unwrap();
    assert_eq!(is_new, [true, true, true, false, false, true, true, false]);
    assert_eq!((import(&ledger, 0..5), import(&ledger, 3..7)), (0, 2));
    assert_eq!((requests(&ledger), ledger.status().duplicates), (7, 0), "nothing known is written again");
    let c = ledger.usage(&by_model())[0].counters;
    assert_eq!((c.input_uncached, c.output, c.cost_nano_usd), (21, 35, 49));
    scene.append(&ledger, 100..103);
    assert_eq!(requests(&ledger), 10);
}

#[test]
fn an_import_counts_in_the_minute_the_hour_and_the_day_of_its_time() {
    let scene = Scene::new();
    let ledger = scene.open();
    let (now, day) = (now_ms(), 86_400_000);
    let at = |id, time| settlement(id, time);
    ledger.import(&[at(1, now), at(2, now), at(3, now - 3 * day), at(4, 5)]).unwrap();
    let rows = |step| {
        let rows = ledger.usage(&UsageQuery { step: Some(step), ..by_model() });
        rows.iter().map(|row| row.counters.requests).collect::<Vec<_>>()
    };
    ledger.inner.tick(false, Duration::ZERO);
    assert_eq!(rows(Step::Minute), [2], "minutes are kept for a day here");
    assert_eq!(rows(Step::Hour), [1, 2]);
    assert_eq!(rows(Step::Day), [1, 1, 2]);
}

#[test]
fn what_was_imported_is_known_after_any_restart() {
    let scene = Scene { segment_bytes: 4096, ..Scene::new() };
    let ledger = scene.open();
    for part in 0..8 {
        assert_eq!(import(&ledger, part * 100..part * 100 + 100), 100);
        // Unfolded; folded; written; written with a snapshot that lets segments go.
        match part % 4 {
            1 => assert_eq!(counted(&ledger), part * 100 + 100),
            2 => ledger.inner.tick(false, Duration::ZERO),
            3 => ledger.inner.tick(true, Duration::ZERO),
            _ => {}
        }
        let whole = part * 100 + 100;
        let keeper = super::lock(&ledger.inner.keeper);
        let [image, without_store, without_snapshot] = [(); 3].map(|()| scene.copy());
        drop(keeper);
        fs::remove_dir_all(without_store.directory().join("store")).unwrap();
        let has_snapshot = fs::remove_file(without_snapshot.directory().join("totals.snapshot")).is_ok();
        assert_eq!(has_snapshot, part >= 3);
        for image in [image, without_store, without_snapshot] {
            for _ in 0..2 {
                let next = image.open();
                assert_eq!((counted(&next), import(&next, 0..whole)), (whole, 0), "part {part}");
                assert_eq!((counted(&next), next.status().corrupt_records), (whole, 0), "part {part}");
            }
        }
    }
    let left = fs::read_dir(scene.directory().join("journal/0000")).unwrap().count();
    assert!(left < 40, "segments are dropped: {left} are left");
    assert_eq!(read_only(scene.directory()).unwrap().usage(&by_model())[0].counters.requests, 800);
}

const CHILD: &str = "WEIR_TEST_IMPORT_CHILD";

/// The child's part of the test below: imports for ever, and says so after each part.
#[test]
fn child_that_imports_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    let options = LedgerOptions {
        directory: directory.into(),
        shards: 1,
        durability: Durability::Relaxed,
        keep_minutes: Duration::from_secs(86_400),
        keep_hours: Duration::from_secs(86_400),
        when_locked: WhenLocked::Refuse,
    };
    let ledger = Ledger::open_tuned(options, Scene { segment_bytes: 8192, ..Scene::new() }.tuning()).unwrap();
    for part in 0.. {
        import(&ledger, part * 10..part * 10 + 10);
        rustix::io::write(std::io::stdout(), b"imported\n").unwrap();
    }
}

#[test]
fn an_import_that_is_killed_is_finished_by_the_next() {
    let scene = Scene::new();
    let mut known = 0;
    for run in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::imported::child_that_imports_until_it_is_killed", "--nocapture"])
            .env(CHILD, scene.directory())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut parts = lines.filter(|line| line.ends_with("imported"));
        // Each run begins anew, and comes further than the one before.
        let wanted = run * 60;
        assert_eq!(parts.by_ref().take(wanted).count(), wanted);
        child.kill().unwrap();
        let said = (wanted + parts.count()) as u64 * 10;
        child.wait().unwrap();
        let ledger = scene.open();
        let counted = requests(&ledger);
        assert!((said.max(known)..=said.max(known) + 10).contains(&counted), "{counted} counted, {said} said");
        assert_eq!(import(&ledger, 0..u128::from(counted)), 0, "each of them is known");
        assert_eq!((requests(&ledger), ledger.status().duplicates), (counted, 0));
        known = counted;
    }
    let ledger = scene.open();
    assert_eq!(import(&ledger, 0..u128::from(known) + 5), 5);
    assert_eq!(requests(&ledger), known + 5);
}

#[test]
fn the_next_process_of_an_upgrade_knows_what_the_last_imported() {
    let scene = Scene::new();
    let old = scene.open();
    let waits = Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), ..Scene::new() };
    let new = waits.open();
    assert_eq!(old.id(), new.id());
    assert_eq!((import(&old, 0..50), import(&new, 25..75)), (50, 25));
    assert_eq!(import(&old, 0..80), 5);
    drop(old);
    eventually("the new process takes over", || new.status().leads);
    assert_eq!((import(&new, 0..80), requests(&new), new.status().duplicates), (0, 80, 0));
}

#[test]
fn two_records_of_one_import_in_two_shards_count_once() {
    let scene = Scene { shards: 2, ..Scene::new() };
    let ledger = Arc::new(scene.open());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            std::thread::spawn(move || (0..20).map(|part| import(&ledger, part * 10..part * 10 + 10)).sum::<usize>())
        })
        .collect();
    let new: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!((new, requests(&ledger)), (200, 200));
}

#[test]
fn a_full_disk_ends_an_import_and_the_next_one_finishes_it() {
    let (scene, disk) = failing();
    let ledger = scene.open();
    assert_eq!(import(&ledger, 0..10), 10);
    disk.0.store(FULL, Ordering::SeqCst);
    assert!(ledger.import(&some(5..20)).is_err());
    let status = ledger.status();
    assert_eq!((requests(&ledger), status.backlog_records, status.refused), (10, 0, 0));
    disk.0.store(WELL, Ordering::SeqCst);
    eventually("the disk is tried again", || ledger.import(&some(5..20)).is_ok());
    assert_eq!(import(&ledger, 0..20), 0);
    assert_eq!((requests(&ledger), ledger.status().corrupt_records), (20, 0));
}

#[test]
fn a_strict_ledger_has_an_import_on_the_disk() {
    let scene = Scene { durability: Durability::Strict, ..Scene::new() };
    let ledger = scene.open();
    assert_eq!((import(&ledger, 0..100), import(&ledger, 0..100)), (100, 0));
}

#[test]
fn a_ledger_keeps_its_id_for_as_long_as_it_has_counters() {
    let scene = Scene::new();
    let ledger = scene.open();
    let id = ledger.id();
    scene.append(&ledger, 0..3);
    drop(ledger);
    assert_eq!(scene.open().id(), id);
    for lost in ["store", "journal"] {
        fs::remove_dir_all(scene.directory().join(lost)).unwrap();
        assert_eq!(scene.open().id(), id, "without the {lost}");
    }
    for lost in ["store", "journal"] {
        fs::remove_dir_all(scene.directory().join(lost)).unwrap();
    }
    fs::remove_file(scene.directory().join("totals.snapshot")).unwrap();
    let next = scene.open();
    assert_ne!(next.id(), id, "its counters are lost");
    assert_eq!(requests(&next), 0);
}
