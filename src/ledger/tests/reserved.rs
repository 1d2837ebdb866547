//! Owns reservations across kills, restarts and upgrades: what nobody settled is settled once by whoever
//! leads next.

use std::sync::Arc;
use std::time::Duration;

use super::super::fixtures::settlement;
use super::super::{WhenLocked, now_ms};
use super::scene::{Scene, eventually, requests};
use crate::config::WhenFull;

#[test]
fn what_a_killed_process_had_reserved_is_settled_once_by_the_next() {
    let scene = Scene::new();
    let ledger = scene.open();
    for id in 1..=10 {
        ledger.reserve(&settlement(id, now_ms()), WhenFull::Serve);
    }
    for id in 1..=7 {
        ledger.append(&settlement(id, now_ms()));
    }
    assert_eq!(requests(&ledger), 7, "a reservation alone is no request");
    let killed = scene.copy();
    let next = killed.open();
    assert_eq!(requests(&next), 10);
    assert_eq!(next.spends(now_ms()).keys["k1"].spent.total.0, 70);
    // Killed again, at once and after everything was written.
    let again = killed.copy();
    next.close();
    drop(next);
    assert_eq!(requests(&killed.open()), 10);
    let again = again.open();
    assert_eq!(requests(&again), 10);
    assert_eq!(again.status().corrupt_records, 0);
    drop(ledger);
}

#[test]
fn a_reservation_outlives_the_segment_that_it_was_written_in() {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let ledger = scene.open();
    ledger.reserve(&settlement(1, now_ms()), WhenFull::Serve);
    for n in 1..20 {
        scene.append(&ledger, n * 100..n * 100 + 30);
        ledger.inner.tick(true, Duration::ZERO);
    }
    let left = std::fs::read_dir(scene.directory().join("journal")).unwrap().count();
    assert!(left < 10, "segments are dropped: {left} are left");
    let next = scene.copy().open();
    assert_eq!(requests(&next), 19 * 30 + 1);
    // The same with the totals from the snapshot alone.
    let copy = scene.copy();
    std::fs::remove_dir_all(copy.directory().join("store")).unwrap();
    assert_eq!(requests(&copy.open()), 19 * 30 + 1);
    drop(ledger);
}

#[test]
fn a_process_that_lives_settles_for_itself_while_another_waits_for_it() {
    let scene = Scene::new();
    let old = scene.open();
    old.reserve(&settlement(1, now_ms()), WhenFull::Serve);
    old.reserve(&settlement(2, now_ms()), WhenFull::Serve);
    let waits = Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), ..Scene::new() };
    let new = waits.open();
    new.reserve(&settlement(3, now_ms()), WhenFull::Serve);
    old.inner.tick(true, Duration::ZERO);
    new.inner.tick(false, Duration::ZERO);
    assert_eq!(requests(&new), 0, "the old process may still settle them");
    old.append(&settlement(1, now_ms()));
    drop(old);
    eventually("the new process takes over", || new.status().leads);
    eventually("it settles what the old one left", || requests(&new) == 2);
    new.append(&settlement(3, now_ms()));
    assert_eq!(requests(&new), 3, "its own reservation it settles itself");
    drop(new);
    assert_eq!(requests(&scene.open()), 3);
}

#[test]
fn a_neighbour_that_lives_is_not_taken_for_dead_after_two_upgrades() {
    let scene = Scene::new();
    let old = scene.open();
    // It waits, and never looks by itself.
    let drains = Scene {
        when_locked: WhenLocked::Wait,
        dir: Arc::clone(&scene.dir),
        fold_every: Duration::from_secs(3600),
        ..Scene::new()
    };
    let drains = drains.open();
    drains.reserve(&settlement(1, now_ms()), WhenFull::Serve);
    drains.reserve(&settlement(2, now_ms()), WhenFull::Serve);
    let newest = Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), ..Scene::new() };
    let newest = newest.open();
    drop(old);
    eventually("the newest leads", || newest.status().leads);
    newest.inner.tick(false, Duration::ZERO);
    assert_eq!(requests(&newest), 0, "the one between them still serves");
    drains.append(&settlement(1, now_ms()));
    assert_eq!((requests(&newest), newest.status().duplicates), (1, 0));
    drop(drains);
    eventually("what it left is settled", || requests(&newest) == 2);
    drop(newest);
    let left = std::fs::read_dir(scene.directory().join("processes")).unwrap().count();
    assert_eq!((left, requests(&scene.open())), (0, 2));
}

#[test]
fn a_process_that_was_replaced_does_not_take_the_ledger() {
    let scene = Scene::new();
    let old = scene.open();
    let replaced = Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), ..Scene::new() };
    let replaced = replaced.open();
    replaced.stand_aside();
    drop(old);
    for _ in 0..3 {
        replaced.inner.tick(false, Duration::ZERO);
        assert!(!replaced.status().leads);
    }
    let newest = Scene { when_locked: WhenLocked::Wait, dir: Arc::clone(&scene.dir), ..Scene::new() };
    assert!(newest.open().status().leads);
}
