//! Two processes with one history: a new one begins before the old one ends.

use super::super::*;
use super::scene::until;
use super::*;

#[test]
fn the_successor_finds_everything_once_the_other_stands_aside_and_reads_along() {
    let scene = Scene::with_segments_of(4);
    let old = scene.started();
    old.give(&(0..10).map(record).collect::<Vec<_>>());
    old.settle();
    let new = scene.start();
    new.give(&[record(100), record(101)]);
    assert_eq!(new.all_ids(), [101, 100], "the index is the other's");
    assert!(!new.history.status().index_up);
    old.history.stand_aside();
    until(|| new.history.status().index_up && new.all_ids().len() == 12);
    assert_eq!(new.all_ids(), [101, 100, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    // The last streams of the old one.
    old.give(&[record(10), record(11)]);
    until(|| new.all_ids().len() == 14);
    assert_eq!(new.history.find(11), Ok(Some(record(11).line())));
    old.give(&[record(12)]);
    old.stop();
    until(|| new.all_ids().len() == 15);
    new.settle();
    let mut ids = new.all_ids();
    ids.sort_unstable();
    assert_eq!(ids, [(0..13).collect::<Vec<_>>(), vec![100, 101]].concat());
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_as_it_was() {
    let scene = Scene::with_segments_of(4);
    let old = scene.started();
    old.give(&(0..6).map(record).collect::<Vec<_>>());
    let new = scene.start();
    new.give(&[record(100)]);
    new.kill();
    old.give(&[record(6)]);
    until(|| old.all_ids().len() == 8);
    old.settle();
    old.stop();
    let history = scene.started();
    assert_eq!(history.all_ids().len(), 8);
}

#[test]
fn memory_is_bounded_while_the_index_is_anothers_and_nothing_is_lost() {
    let scene = Scene::with_segments_of(2);
    let old = scene.started();
    let new = scene.start();
    for id in 0..40 {
        new.give(&[record(id * 2), record(id * 2 + 1)]);
    }
    until(|| new.history.shared.lock().blocks.len() == 8);
    let ids = new.all_ids();
    assert_eq!(ids, (0..80).rev().take(ids.len()).collect::<Vec<_>>());
    assert!((16..=18).contains(&ids.len()), "{}", ids.len());
    old.stop();
    new.settle();
    assert_eq!(new.all_ids(), (0..80).rev().collect::<Vec<_>>());
}

#[test]
fn closing_takes_a_bounded_time_and_can_be_done_twice() {
    let scene = Scene::with_segments_of(4);
    let history = scene.started();
    history.give(&[record(1)]);
    let begun = Instant::now();
    history.history.close();
    history.history.close();
    assert!(begun.elapsed() < MAX_CLOSE);
    // The giver lives on: what it gives is counted as lost.
    history.giver.as_ref().unwrap().give(&scene::batch(&[record(2)]));
    assert_eq!(history.figures(), [1, 1, 0]);
}
