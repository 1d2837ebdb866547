//! What pages hold, where the next one begins, and how long records are kept.

use std::sync::atomic::Ordering;

use super::super::*;
use super::scene::{NOW, Record, batch, id_of, until};
use super::*;

fn records(ids: std::ops::Range<u128>) -> Vec<Record> {
    ids.map(record).collect()
}

#[test]
fn the_newest_come_first_and_each_filter_narrows() {
    let scene = Scene::with_segments_of(3);
    let history = scene.started();
    let mut all = records(0..9);
    for (n, record) in all.iter_mut().enumerate() {
        record.time_ms += n as u64;
        record.status = [200, 201, 404, 0][n % 4];
        record.names[0] = format!("key-{}", n % 2);
        record.names[3] = ["openai", "", "azure"][n % 3].to_owned();
    }
    all.chunks(2).for_each(|records| history.give(records));
    let ask = |query: Query| history.ids(&query);
    let default = Query::default;
    let name = |name: &str| Some(name.to_owned());
    for _ in 0..2 {
        assert_eq!(history.all_ids(), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(ask(Query { key: name("key-1"), ..default() }), [7, 5, 3, 1]);
        assert_eq!(ask(Query { key: name("key-2"), ..default() }), []);
        assert_eq!(ask(Query { channel: name("azure"), ..default() }), [8, 5, 2]);
        assert_eq!(ask(Query { channel: name("azure"), key: name("key-0"), ..default() }), [8, 2]);
        assert_eq!(ask(Query { status: "2xx".parse().ok(), ..default() }), [8, 5, 4, 1, 0]);
        assert_eq!(ask(Query { status: "201".parse().ok(), ..default() }), [5, 1]);
        assert_eq!(ask(Query { status: "none".parse().ok(), ..default() }), [7, 3]);
        assert_eq!(ask(Query { from: Some(NOW + 3), to: Some(NOW + 6), ..default() }), [5, 4, 3]);
        assert_eq!(ask(Query { from: Some(NOW + 3), to: Some(NOW + 3), ..default() }), []);
        let all = Query { user: name("alice"), model: name("gpt-4o"), status: "404".parse().ok(), ..default() };
        assert_eq!(ask(Query { limit: 1, ..all.clone() }), [6, 2]);
        assert_eq!(ask(Query { from: Some(NOW + 5), ..all }), [6]);
        // Once from memory, once from the index.
        history.settle();
    }
}

#[test]
fn a_record_is_found_before_it_is_written_and_its_line_is_shown_as_it_is() {
    let mut scene = Scene::with_segments_of(100);
    scene.limits.write_after = Duration::from_secs(3600);
    let history = scene.started();
    let all = records(0..5);
    history.giver.as_ref().unwrap().give(&batch(&all[..2]));
    history.giver.as_ref().unwrap().give(&batch(&all[2..]));
    until(|| history.all_ids().len() == 5);
    assert_eq!(history.figures(), [0, 0, 5], "none is in the file");
    for record in &all {
        assert_eq!(history.history.find(record.id), Ok(Some(record.line())));
    }
    let page = history.history.page(&Query { limit: 1, ..Query::default() }).unwrap();
    assert_eq!(page.rows, [all[4].line()]);
    history.stop();
    let history = scene.started();
    assert_eq!(history.all_ids(), [4, 3, 2, 1, 0], "the end writes what waits");
    assert_eq!(history.history.find(3), Ok(Some(all[3].line())));
    assert_eq!(history.history.find(9), Ok(None));
}

#[test]
fn a_cursor_goes_on_where_it_was_while_records_come_and_across_restarts() {
    let scene = Scene::with_segments_of(4);
    let history = scene.started();
    history.give(&records(0..10));
    let query = Query { limit: 4, ..Query::default() };
    let first = history.history.page(&query).unwrap();
    assert_eq!(first.rows.iter().map(|row| id_of(row)).collect::<Vec<_>>(), [9, 8, 7, 6]);
    let query = Query { cursor: first.next, ..query };
    history.stop();
    for restarts in 0..3 {
        let history = scene.started();
        history.give(&records(100 + restarts..101 + restarts));
        let second = history.history.page(&query).unwrap();
        assert_eq!(second.rows.iter().map(|row| id_of(row)).collect::<Vec<_>>(), [5, 4, 3, 2]);
        let third = history.history.page(&Query { cursor: second.next, ..query.clone() }).unwrap();
        assert_eq!(third.rows.iter().map(|row| id_of(row)).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(third.next, None);
        if restarts == 1 { history.kill() } else { history.stop() }
    }
}

#[test]
fn the_last_page_says_so_even_if_it_is_full() {
    let scene = Scene::with_segments_of(100);
    let history = scene.started();
    assert_eq!(history.history.page(&Query::default()), Ok(Page::default()));
    history.give(&records(0..6));
    for (limit, is_last) in [(5, false), (6, true), (7, true)] {
        let page = history.history.page(&Query { limit, ..Query::default() }).unwrap();
        assert_eq!((page.rows.len(), page.next.is_none()), (limit.min(6), is_last), "{limit}");
    }
}

#[test]
fn names_with_the_same_term_are_told_apart_by_the_record() {
    // 32 bits of FNV-1a's 64, folded: found by search, and checked here.
    let (one, other) = colliding_names();
    let scene = Scene::with_segments_of(10);
    let history = scene.started();
    let mut all = records(0..40);
    for record in &mut all {
        record.names[1] = if record.id % 4 == 0 { one.clone() } else { other.clone() };
    }
    history.give(&all[..35]);
    history.settle();
    history.give(&all[35..]);
    let query = Query { user: Some(one), limit: 3, ..Query::default() };
    assert_eq!(history.ids(&query), [36, 32, 28, 24, 20, 16, 12, 8, 4, 0]);
}

fn colliding_names() -> (String, String) {
    use crate::audit::batch::term;
    let mut seen = std::collections::HashMap::new();
    for number in 0_u32.. {
        let name = format!("user-{number}");
        if let Some(other) = seen.insert(table::short(term(&name)), number) {
            return (format!("user-{other}"), name);
        }
    }
    unreachable!("there are more names than terms");
}

#[test]
fn a_page_of_large_records_ends_early_and_goes_on() {
    let scene = Scene::with_segments_of(100);
    let history = scene.started();
    let all: Vec<Record> = (0..12).map(|id| Record { ballast: 3 << 20, ..record(id) }).collect();
    all.iter().for_each(|record| history.give(std::slice::from_ref(record)));
    let page = history.history.page(&Query::default()).unwrap();
    assert_eq!(page.rows.len(), 3, "8 MiB and the record that exceeds them");
    assert_eq!(history.all_ids(), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn what_is_older_than_it_may_be_is_not_shown_and_then_gone() {
    let mut scene = Scene::with_segments_of(4);
    scene.config.keep = Duration::from_secs(100);
    let history = scene.started();
    for minute in 0..3_u32 {
        let now = scene.now.load(Ordering::SeqCst);
        let first = u128::from(minute) * 4;
        let time_ms = |id: u128| now + u64::try_from(id).unwrap();
        let all: Vec<Record> = (first..first + 4).map(|id| Record { time_ms: time_ms(id), ..record(id) }).collect();
        history.give(&all);
        history.settle();
        scene.advance(Duration::from_secs(40));
    }
    // Two of the first four are older by now, by a few milliseconds.
    scene.now.store(NOW + 100_002, Ordering::SeqCst);
    assert_eq!(history.all_ids(), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    assert_eq!([1, 2].map(|id| history.history.find(id).unwrap().is_some()), [false, true]);
    scene.now.store(NOW + 100_004, Ordering::SeqCst);
    until(|| scene.segments().len() == 2);
    history.settle();
    assert_eq!(history.all_ids(), [11, 10, 9, 8, 7, 6, 5, 4]);
    assert_eq!(history.history.find(1), Ok(None));
    history.stop();
    assert_eq!(rows_of_index(&scene), 2, "the index has nothing of what is gone");
}

#[test]
fn the_oldest_make_room_for_new_ones() {
    let mut scene = Scene::with_segments_of(8);
    scene.config.max_total = 400 << 10;
    let history = scene.started();
    for first in (0..1600).step_by(8) {
        let all: Vec<Record> = (first..first + 8).map(|id| Record { ballast: 1000, ..record(id) }).collect();
        history.give(&all);
    }
    history.settle();
    // 1.2 KB each, and their part of the index.
    until(|| (250..320).contains(&history.all_ids().len()));
    let ids = history.all_ids();
    let expected: Vec<u128> = (0..1600).rev().take(ids.len()).collect();
    assert_eq!(ids, expected, "what is kept is the newest, without gaps");
    until(|| {
        let bytes = history.history.status().bytes;
        bytes <= scene.config.max_total && bytes > scene.bytes()
    });
    history.stop();
    assert_eq!(rows_of_index(&scene), scene.segments().len());
}

/// Segments that the index has.
fn rows_of_index(scene: &Scene) -> usize {
    let mut opened = None;
    until(|| {
        opened = index::Index::open(&scene.directory()).unwrap();
        opened.is_some()
    });
    let (index, found) = opened.unwrap();
    assert_eq!(found.broken, [] as [u64; 0]);
    index.close();
    found.blocks.len()
}

#[test]
fn a_full_disk_drops_records_and_counts_them_and_goes_on_when_there_is_room() {
    let scene = Scene::with_segments_of(100);
    let history = scene.started();
    history.give(&records(0..3));
    scene.disk.refuses.store(true, Ordering::SeqCst);
    history.give(&records(3..5));
    history.give(&records(5..6));
    assert_eq!(history.figures(), [3, 3, 0]);
    assert_eq!(history.all_ids(), [2, 1, 0]);
    scene.disk.refuses.store(false, Ordering::SeqCst);
    history.give(&records(6..8));
    assert_eq!(history.figures(), [5, 3, 0]);
    assert_eq!(history.all_ids(), [7, 6, 2, 1, 0]);
    history.kill();
    let history = scene.started();
    assert_eq!(history.all_ids(), [7, 6, 2, 1, 0], "nothing is left of what was refused");
}

#[test]
fn a_segment_is_whole_by_its_age_too() {
    let mut scene = Scene::with_segments_of(1000);
    scene.limits.age = Duration::from_millis(1);
    let history = scene.started();
    for id in 0..3 {
        history.give(&[record(id)]);
        until(|| history.history.shared.lock().own.is_none());
    }
    assert_eq!(scene.segments().len(), 3);
    history.settle();
    assert_eq!(history.all_ids(), [2, 1, 0]);
}
