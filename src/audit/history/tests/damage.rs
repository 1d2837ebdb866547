//! Damaged, shortened and lost files: never a panic, never a wrong record, and everything that is whole is found again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::super::*;
use super::scene::{Record, until};
use super::*;

fn filled(records: u128, per_segment: usize) -> Scene {
    let scene = Scene::with_segments_of(per_segment);
    let history = scene.started();
    let all: Vec<Record> = (0..records).map(record).collect();
    all.chunks(per_segment).for_each(|records| history.give(records));
    history.settle();
    history.stop();
    scene
}

fn downwards(records: u128) -> Vec<u128> {
    (0..records).rev().collect()
}

#[test]
fn a_lost_index_is_made_anew() {
    let scene = filled(50, 8);
    fs::remove_dir_all(scene.directory().join("index")).unwrap();
    let history = scene.started();
    assert_eq!(history.all_ids(), downwards(50));
    assert_eq!(history.history.status().set_aside, None);
}

#[test]
fn a_damaged_index_is_set_aside_and_made_anew() {
    let scene = filled(50, 8);
    fs::write(scene.directory().join("index/db"), vec![0xA5; 3000]).unwrap();
    let _ = fs::remove_file(scene.directory().join("index/conf"));
    let history = scene.started();
    assert_eq!(history.all_ids(), downwards(50));
}

#[test]
fn an_index_of_another_form_is_set_aside() {
    let scene = filled(20, 8);
    {
        let store = crate::store::Store::open(&scene.directory().join("index")).unwrap();
        store.write([(block::FORMAT_KEY.to_vec(), Some(b"2".to_vec()))]).unwrap();
    }
    let history = scene.started();
    let aside = history.history.status().set_aside.unwrap();
    assert!(aside.ends_with("index.broken-1"), "{aside}");
    assert_eq!(history.all_ids(), downwards(20));
}

#[test]
fn rows_that_cannot_be_read_make_a_question_fail_and_the_index_anew() {
    let scene = filled(40, 8);
    {
        let store = crate::store::Store::open(&scene.directory().join("index")).unwrap();
        let mut rows = store.rows().unwrap();
        rows.retain(|(key, _)| block::segment_of(key).is_ok_and(|(_, is_meta)| !is_meta) && key != block::FORMAT_KEY);
        store.write(rows.into_iter().map(|(key, _)| (key, Some(vec![0xFF; 7])))).unwrap();
    }
    let history = scene.started();
    assert_eq!(history.history.page(&Query::default()), Err(Unavailable));
    until(|| history.history.status().set_aside.is_some());
    history.settle();
    assert_eq!(history.all_ids(), downwards(40));
    assert_eq!(history.history.find(11).unwrap().as_deref(), Some(&*record(11).line()));
}

#[test]
fn a_torn_line_is_cut_and_the_others_are_found() {
    let scene = Scene::with_segments_of(100);
    let history = scene.started();
    history.give(&(0..5).map(record).collect::<Vec<_>>());
    history.kill();
    let path = &scene.segments()[0];
    let length = fs::metadata(path).unwrap().len();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for cut in 1..=record(4).line().len() as u64 + 1 {
        file.set_len(length - cut).unwrap();
        let history = scene.started();
        assert_eq!(history.all_ids(), [3, 2, 1, 0], "{cut} bytes are missing");
        history.kill();
        if cut > 3 && cut.is_multiple_of(40) {
            // What was indexed once is found to be too long by then, too.
            fs::remove_dir_all(scene.directory().join("index")).unwrap();
        }
    }
}

#[test]
fn a_segment_that_has_become_shorter_than_the_index_says_is_read_anew() {
    let scene = filled(20, 10);
    let path = &scene.segments()[1];
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(fs::metadata(path).unwrap().len() / 2).unwrap();
    let history = scene.started();
    let ids = history.all_ids();
    assert_eq!(ids, downwards(ids.len() as u128));
    assert!((13..=15).contains(&ids.len()), "{}", ids.len());
    fs::remove_file(&scene.segments()[0]).unwrap();
    history.stop();
    let history = scene.started();
    assert_eq!(history.all_ids(), ids[..ids.len() - 10]);
}

#[test]
fn a_damaged_line_costs_itself_alone_and_moves_no_cursor() {
    let scene = filled(20, 10);
    let path = &scene.segments()[0];
    let line = record(0).line().len() as u64 + 1;
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"\x00", 4 * line + 9).unwrap();
    let expected: Vec<u128> = downwards(20).into_iter().filter(|id| *id != 4).collect();
    let history = scene.started();
    assert_eq!(history.all_ids(), expected);
    assert_eq!(history.history.find(4), Ok(None));
    let at = Query { limit: 14, ..Query::default() };
    let next = history.history.page(&at).unwrap().next;
    history.stop();
    fs::remove_dir_all(scene.directory().join("index")).unwrap();
    let history = scene.started();
    assert_eq!(history.all_ids(), expected);
    assert_eq!(history.history.page(&at).unwrap().next, next, "places are the same when lines are read again");
}

#[test]
fn what_is_not_the_historys_is_left_alone() {
    let scene = filled(5, 10);
    for name in ["notes.txt", "1.records", "zzzzzzzzzzzzzzzz.records"] {
        fs::write(scene.directory().join(name), "x").unwrap();
    }
    let history = scene.started();
    assert_eq!(history.all_ids(), downwards(5));
    history.stop();
    for name in ["notes.txt", "1.records", "zzzzzzzzzzzzzzzz.records"] {
        assert_eq!(fs::read(scene.directory().join(name)).unwrap(), b"x");
    }
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever becomes of the files, every record that is shown is one that was given, in the order of its giving.
    #[test]
    fn no_damage_makes_a_record_or_a_panic(
        harms in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..4), 1..4)
    ) {
        let scene = filled(30, 7);
        for (file, at, how) in harms {
            let files = files_below(&scene.directory());
            let path = file.get(&files);
            let length = fs::metadata(path).unwrap().len();
            let at = at.index(usize::try_from(length).unwrap() + 1) as u64;
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            match how {
                0 => file.set_len(at).unwrap(),
                1 if at < length => {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, at).unwrap();
                    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
                }
                1 | 2 => file.write_all_at(&[0; 64], at).unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        let history = scene.started();
        let mut ids = None;
        // A question may be the first to see that a row is broken.
        until(|| {
            let all = || -> Result<Vec<String>, Unavailable> {
                let (mut rows, mut query) = (Vec::new(), Query { limit: 9, ..Query::default() });
                loop {
                    let page = history.history.page(&query)?;
                    rows.extend(page.rows);
                    if page.next.is_none() { return Ok(rows) }
                    query.cursor = page.next;
                }
            };
            ids = all().ok();
            ids.is_some()
        });
        let rows = ids.unwrap();
        let given: Vec<String> = (0..30).rev().map(|id| record(id).line()).collect();
        let mut rest = given.iter();
        for row in &rows {
            let known = rest.any(|line| same_but_for_a_bit(line, row));
            prop_assert!(known, "{}", row);
        }
    }
}

/// A flipped bit in a string leaves a record that nobody can tell from a right one.
fn same_but_for_a_bit(line: &str, row: &str) -> bool {
    line.len() == row.len() && line.bytes().zip(row.bytes()).filter(|(a, b)| a != b).count() <= 3
}
