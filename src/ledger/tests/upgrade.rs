//! Owns the two processes of a binary upgrade, as two ledgers of one directory.

use std::time::Duration;

use std::sync::Arc;

use super::super::{LedgerError, WhenLocked};
use super::scene::{Scene, eventually, requests};

#[test]
fn a_ledger_has_one_holder() {
    let scene = Scene::new();
    let ledger = scene.open();
    assert!(matches!(scene.try_open(), Err(LedgerError::Locked)));
    drop(ledger);
    assert!(scene.try_open().is_ok());
}

#[test]
fn both_processes_of_an_upgrade_write_and_every_record_counts_once() {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let old = scene.open();
    scene.append(&old, 0..50);
    let next =
        Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), segment_bytes: 1024, ..Scene::new() };
    let new = next.open();
    assert!(!new.status().leads && !new.status().store_up);
    for n in 1..=5 {
        scene.append(&old, n * 100..n * 100 + 30);
        next.append(&new, n * 1000..n * 1000 + 30);
        // Drops segments while the other is reading.
        old.inner.tick(true, Duration::ZERO);
        let expected = 50 + 60 * n;
        assert_eq!(requests(&old), expected);
        eventually("the new process knows both journals", || requests(&new) == expected);
    }
    drop(old);
    eventually("the new process takes over", || new.status().leads && new.status().store_up);
    assert_eq!(requests(&new), 350);
    next.append(&new, 9000..9010);
    assert_eq!(requests(&new), 360);
    assert_eq!(new.status().corrupt_records, 0);
    drop(new);
    assert_eq!(requests(&scene.open()), 360);
}
