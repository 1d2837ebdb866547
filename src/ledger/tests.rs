//! Owns what must hold of the whole ledger: every record counts once, whatever happens in between.

mod crash;
mod damage;
mod disk;
mod imported;
mod interleavings;
mod power;
mod rebuild;
mod reserved;
mod scene;
mod upgrade;

use std::sync::Arc;

use scene::{Scene, by_model, requests};

use super::fixtures::settlement;
use super::*;

#[test]
fn a_question_right_after_a_request_has_it() {
    let scene = Scene::new();
    let ledger = scene.open();
    for id in 1..=100_u64 {
        ledger.append(&settlement(id.into(), now_ms()));
        assert_eq!(requests(&ledger), id);
    }
    let status = ledger.status();
    assert_eq!((status.fold_lag_records, status.append_errors, status.corrupt_records), (0, 0, 0));
    assert!(status.store_up && status.leads && status.journal_bytes > 0);
}

#[test]
fn everything_adds_up_after_a_restart() {
    let scene = Scene::new();
    let ledger = scene.open();
    for id in 0..10 {
        ledger.append(&settlement(id, now_ms()));
    }
    ledger.close();
    drop(ledger);
    let ledger = scene.open();
    let rows = ledger.usage(&by_model());
    let c = rows[0].counters;
    assert_eq!((rows.len(), c.requests, c.input_uncached, c.output, c.cost_nano_usd), (1, 10, 30, 50, 70));
    assert_eq!((c.events, c.request_bytes, c.response_bytes, c.duration_us), (20, 1000, 2000, 15_000));
    assert_eq!(ledger.key_totals()[0].counters, c);
    assert_eq!(ledger.spends(now_ms()).keys["k1"].spent.total, weir_filters::price::NanoUsd(70));
}

#[test]
fn threads_and_shards_lose_and_repeat_nothing() {
    let scene = Scene { shards: 2, segment_bytes: 4096, ..Scene::new() };
    let ledger = Arc::new(scene.open());
    let threads: Vec<_> = (0..8_u128)
        .map(|thread| {
            let ledger = Arc::clone(&ledger);
            std::thread::spawn(move || {
                for n in 0..500 {
                    ledger.append(&settlement((thread << 64) | n, now_ms()));
                }
            })
        })
        .collect();
    let mut last = 0;
    while last < 4000 {
        let now = requests(&ledger);
        assert!(now >= last && now <= 4000, "{now} after {last}");
        last = now;
        if threads.iter().all(std::thread::JoinHandle::is_finished) {
            last = requests(&ledger);
            break;
        }
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(requests(&ledger), 4000);
    assert!(last <= 4000);
    drop(ledger);
    assert_eq!(requests(&scene.open()), 4000);
}

#[test]
fn a_record_appended_twice_counts_once() {
    let scene = Scene::new();
    let ledger = scene.open();
    ledger.append(&settlement(7, now_ms()));
    ledger.append(&settlement(7, now_ms()));
    assert_eq!(requests(&ledger), 1);
    assert_eq!(ledger.status().duplicates, 1);
}

#[test]
fn folded_segments_are_dropped_and_their_records_stay() {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let mut total = 0;
    for _ in 0..3 {
        let ledger = scene.open();
        for id in 0..50 {
            ledger.append(&settlement(id, now_ms()));
        }
        total += 50;
        drop(ledger);
        let left = journal::files::list(&scene.directory().join("journal")).unwrap();
        assert_eq!(left.len(), 1, "only the newest segment stays");
        let ledger = scene.open();
        assert_eq!(requests(&ledger), total);
        assert!(!ledger.status().history_lost);
    }
}

#[test]
fn minutes_are_pruned_on_disk_too_and_days_stay() {
    let scene = Scene::new();
    let old = now_ms() - 3 * 86_400_000;
    let ledger = scene.open();
    ledger.append(&settlement(1, old));
    ledger.append(&settlement(2, now_ms()));
    assert_eq!(requests(&ledger), 2);
    drop(ledger);
    let ledger = scene.open();
    let minutes = UsageQuery { step: Some(Step::Minute), ..by_model() };
    assert_eq!(ledger.usage(&minutes).len(), 1);
    let days = UsageQuery { step: Some(Step::Day), ..by_model() };
    assert_eq!(ledger.usage(&days).iter().map(|r| r.counters.requests).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_ledger_is_read_without_and_beside_a_gateway() {
    let scene = Scene { segment_bytes: 1024, ..Scene::new() };
    let absent = read_only(&scene.directory().join("nowhere"));
    assert!(matches!(absent, Err(LedgerError::Io(e)) if e.kind() == io::ErrorKind::NotFound));
    let ledger = scene.open();
    for id in 0..40 {
        ledger.append(&settlement(id, now_ms()));
    }
    let read = || read_only(scene.directory()).unwrap().usage(&by_model())[0].counters.requests;
    assert_eq!(read(), 40);
    ledger.close();
    assert_eq!(read(), 40);
    ledger.append(&settlement(40, now_ms()));
    assert_eq!(read(), 41, "a record after the close is still in the journal");
    assert_eq!(read_only(scene.directory()).unwrap().key_totals()[0].counters.requests, 41);
}

#[test]
fn a_relaxed_ledger_waits_for_no_sync() {
    let scene = Scene::new();
    let ledger = scene.open();
    let position = ledger.append(&settlement(1, 0));
    assert!(futures::executor::block_on(ledger.synced(position)));
}

#[test]
fn a_strict_ledger_waits_for_the_sync() {
    let scene = Scene { durability: Durability::Strict, ..Scene::new() };
    let ledger = scene.open();
    for id in 0..20 {
        let position = ledger.append(&settlement(id, 0));
        assert!(futures::executor::block_on(ledger.synced(position)));
    }
    let late = ledger.append(&settlement(20, 0));
    ledger.close();
    assert!(futures::executor::block_on(ledger.synced(late)), "closing syncs");
    let after = ledger.append(&settlement(21, 0));
    assert!(futures::executor::block_on(ledger.synced(after)), "without a thread the waiter syncs");
}
