//! Owns the damage: any file of the ledger, changed in any way. What was not touched counts once, what was is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::codec::RecordRef;
use super::super::fixtures::settlement;
use super::super::journal::files;
use super::super::journal::segment::{Extent, FRAME_HEAD, HEADER, HEADER_LEN, Header, scan};
use super::super::{Ledger, Settlement, now_ms};
use super::scene::{Scene, by_model, how_many};

/// Records up to here are in snapshot and store, up to the next in the store, the rest in the journal alone.
const PARTS: [u64; 3] = [60, 90, 130];

/// A step of xorshift64.
struct Lot(u64);

impl Lot {
    fn draw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % below.max(1)
    }
}

/// A ledger as a killed process leaves it, every record of a model of its own.
fn killed() -> Scene {
    let never = Duration::from_secs(3600);
    let scene = Scene { segment_bytes: 2048, fold_every: never, ..Scene::new() };
    let append = |ledger: &Ledger, ids: Range<u64>| {
        for id in ids {
            ledger.append(&Settlement { model: format!("m{id}").into(), ..settlement(id.into(), now_ms()) });
        }
    };
    let ledger = scene.open();
    append(&ledger, 0..PARTS[0]);
    drop(ledger);
    let ledger = scene.open();
    append(&ledger, PARTS[0]..PARTS[1]);
    ledger.inner.tick(false, Duration::ZERO);
    append(&ledger, PARTS[1]..PARTS[2]);
    ledger.kill();
    scene
}

/// The records of a segment that nothing but it has, each with the place of its frame.
fn frames(segment: &[u8]) -> Vec<(u64, Range<usize>)> {
    let (header, _) = Header::decode(segment).expect("a whole header");
    let mut found = Vec::new();
    scan(&segment[HEADER_LEN..], HEADER, header.salt, Extent::Sealed, |at, payload| {
        let payload = payload.expect("no damage yet");
        let (at, id) = (usize::try_from(at).unwrap(), RecordRef::id_of(payload).unwrap());
        found.push((u64::try_from(id).unwrap(), at..at + FRAME_HEAD + payload.len()));
    });
    found.retain(|(id, _)| *id >= PARTS[1]);
    found
}

/// Changes bytes in some way. The answer is the range that is not what it was, and the way's name.
fn change(bytes: &mut Vec<u8>, lot: &mut Lot) -> (Range<usize>, &'static str) {
    let at = lot.draw(bytes.len());
    let some = (at + 1 + lot.draw(64)).min(bytes.len());
    match lot.draw(6) {
        0 => {
            bytes[at] ^= 1 << lot.draw(8);
            (at..at + 1, "a bit flipped")
        }
        1 => {
            bytes[at..some].iter_mut().for_each(|byte| *byte ^= 0x5a);
            (at..some, "bytes changed")
        }
        2 => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
            (at..end, "a sector zeroed")
        }
        3 => {
            let len = bytes.len();
            bytes.truncate(at);
            (at..len, "cut")
        }
        4 => {
            let copied = bytes[..some - at].to_vec();
            bytes[at..some].copy_from_slice(&copied);
            (at..some, "its own beginning over its middle")
        }
        _ => {
            let len = bytes.len();
            bytes.extend((0..lot.draw(4096)).map(|n| u8::try_from(n % 251).unwrap()));
            (len..bytes.len(), "garbage behind it")
        }
    }
}

fn all_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

/// What a damage takes: records that may be gone, and whether it looks as if nothing had ever been written.
fn taken(before: &[u8], after: &[u8], changed: &Range<usize>) -> (BTreeSet<u64>, bool) {
    let all = frames(before);
    let header_gone = Header::decode(after).is_err();
    let gone = |place: &Range<usize>| header_gone || place.start < changed.end && changed.start < place.end;
    let first = all.iter().filter(|(_, place)| gone(place)).map(|(_, place)| place.start).min();
    let silent = first.is_none_or(|first| !header_gone && after.iter().skip(first).all(|byte| *byte == 0));
    (all.iter().filter(|(_, place)| gone(place)).map(|(id, _)| *id).collect(), silent)
}

#[derive(Default)]
struct Found {
    told: u64,
    set_aside: u64,
    records_gone: usize,
}

/// Damages one file of a copy, opens it, and looks at every record.
fn damaged(original: &Scene, number: u64, found: &mut Found) {
    let mut lot = Lot(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number + 1) | 1);
    let image = original.copy();
    let everything = all_files(image.directory());
    // Every kind of file as often as every other, however many there are of it.
    let kinds = ["/journal/", "/store/", "totals.snapshot"];
    let kind = kinds[usize::try_from(number).unwrap() % kinds.len()];
    let files: Vec<&PathBuf> = everything.iter().filter(|file| file.to_string_lossy().contains(kind)).collect();
    let file = files[lot.draw(files.len())];
    let before = fs::read(file).unwrap();
    let mut after = before.clone();
    let (mut may_be_gone, mut silent) = (BTreeSet::new(), true);
    let way;
    if lot.draw(12) == 0 {
        fs::remove_file(file).unwrap();
        way = "removed";
        if kind == kinds[0] {
            may_be_gone = frames(&before).into_iter().map(|(id, _)| id).collect();
            // The last one of a shard leaves no gap behind it.
            silent = files.last() == Some(&file);
        }
    } else {
        let changed;
        (changed, way) = change(&mut after, &mut lot);
        fs::write(file, &after).unwrap();
        if kind == kinds[0] {
            (may_be_gone, silent) = taken(&before, &after, &changed);
        }
    }
    let case = format!("case {number}: {}: {way}", file.strip_prefix(image.directory()).unwrap().display());

    let opened = catch_unwind(AssertUnwindSafe(|| image.try_open()));
    let ledger = opened.unwrap_or_else(|_| panic!("{case}: a panic")).unwrap_or_else(|e| panic!("{case}: {e}"));
    let counted: BTreeMap<u64, u64> = ledger
        .usage(&by_model())
        .iter()
        .map(|row| (row.value[1..].parse().unwrap_or_else(|_| panic!("{case}: {}", row.value)), row.counters.requests))
        .collect();
    let twice: Vec<_> = counted.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{case}: counted {twice:?}");
    let gone: BTreeSet<u64> = (0..PARTS[2]).filter(|id| !counted.contains_key(id)).collect();
    assert!(gone.is_subset(&may_be_gone), "{case}: {gone:?} are gone, and only {may_be_gone:?} were touched");
    assert_eq!(counted.len() + gone.len(), usize::try_from(PARTS[2]).unwrap(), "{case}: something was added");
    let status = ledger.status();
    let is_told = status.corrupt_records > 0 || status.history_lost || status.set_aside.is_some();
    assert!(gone.is_empty() || silent || is_told, "{case}: {gone:?} are gone without a word");
    assert!(status.store_up, "{case}: the store is rebuilt");
    // And it goes on from there.
    ledger.append(&Settlement { model: "m9999".into(), ..settlement(9999, now_ms()) });
    assert!(ledger.usage(&by_model()).iter().any(|row| row.value == "m9999"), "{case}: it does not go on");
    found.told += u64::from(is_told);
    found.set_aside += u64::from(status.set_aside.is_some());
    found.records_gone += gone.len();
    assert!(super::lock(&ledger.threads).as_ref().is_some_and(|t| !t.fold.is_finished()), "{case}: the fold ended");
}

#[test]
fn any_damage_to_any_file_leaves_every_other_figure_as_it_was() {
    let original = killed();
    let count = how_many("WEIR_TRUST_MUTATIONS", 48);
    assert!(files::list(&original.directory().join("journal")).unwrap().len() > 3, "several segments");
    let mut found = Found::default();
    for number in 0..count {
        damaged(&original, number, &mut found);
    }
    assert!(found.told > count / 8, "damage is noticed: {} times", found.told);
    println!(
        "trust: {count} damaged files: 0 panics, 0 other figures, {} told of, {} stores set aside and rebuilt, {} records \
         lost, all of them touched",
        found.told, found.set_aside, found.records_gone
    );
}
