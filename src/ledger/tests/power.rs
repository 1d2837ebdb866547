//! Owns the power cuts: what is left of a ledger of which only that is on the disk which was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::fixtures::settlement;
use super::super::journal::files::{Disk, RealDisk, SegmentId};
use super::super::journal::segment::Header;
use super::super::journal::window::Window;
use super::super::{Ledger, Settlement, now_ms, snapshot};
use super::scene::{Scene, by_model, how_many};
use crate::config::Durability;

/// What a power cut may take beside the syncs under way: `SYNC_EVERY` of the journal.
const WINDOW: Duration = Duration::from_millis(50);
/// What a machine that builds and tests beside this one adds before a thread that is due runs; and one that does not.
const LATE: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(30)];
const CUTS: &str = "WEIR_TRUST_POWER_CUTS";

/// A disk that remembers what was synced of each segment.
#[derive(Default)]
struct Remembering(Mutex<Memory>);

#[derive(Clone, Default)]
struct Memory {
    /// By inode: where the segment is, and its bytes when it was last synced.
    segments: BTreeMap<u64, (PathBuf, Vec<u8>)>,
    /// Those whose names are on the disk.
    named: BTreeSet<PathBuf>,
    slowest: Duration,
}

impl Disk for Remembering {
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File> {
        let file = RealDisk.create(journal, header, bytes)?;
        let path = SegmentId { shard: header.shard, seq: header.seq }.path(journal);
        self.0.lock().unwrap().segments.insert(file.metadata()?.ino(), (path, Vec::new()));
        Ok(file)
    }

    fn window(&self, file: &File, at: u64) -> Option<Window> {
        RealDisk.window(file, at)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        RealDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let path = self.0.lock().unwrap().segments[&inode].0.clone();
        // Read before: what comes during the sync may not be part of it.
        let begun = Instant::now();
        let bytes = fs::read(&path);
        RealDisk.sync(file)?;
        let mut memory = self.0.lock().unwrap();
        memory.slowest = memory.slowest.max(begun.elapsed());
        // A segment that is folded may be gone by now.
        if let (Ok(bytes), Some(segment)) = (bytes, memory.segments.get_mut(&inode)) {
            segment.1 = bytes;
        }
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let names: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
        RealDisk.sync_directory(path)?;
        self.0.lock().unwrap().named.extend(names);
        Ok(())
    }
}

/// What a cut at this moment leaves: segments as they were synced, the snapshot, and no store.
struct Left {
    memory: Memory,
    snapshot: Option<Vec<u8>>,
    /// Segments whose removal was asked for.
    removed: BTreeSet<PathBuf>,
}

impl Left {
    fn of(scene: &Scene, ledger: &Ledger, disk: &Remembering) -> Self {
        // While the keeper is held no snapshot is written and no segment removed.
        let _keeper = super::lock(&ledger.inner.keeper);
        let memory = disk.0.lock().unwrap().clone();
        let snapshot = fs::read(snapshot::path(scene.directory())).ok();
        let removed = memory.segments.values().map(|(path, _)| path).filter(|path| !path.exists()).cloned().collect();
        Self { memory, snapshot, removed }
    }

    /// `returned`: removals of segments were not on the disk.
    fn scene(&self, from: &Path, returned: bool) -> Scene {
        let scene = Scene::new();
        for (path, bytes) in self.memory.segments.values() {
            if self.memory.named.contains(path) && (returned || !self.removed.contains(path)) {
                let target = scene.directory().join(path.strip_prefix(from).unwrap());
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                // A name without contents: the space was given to it, and nothing is in it.
                let bytes = if bytes.is_empty() { &[0; 4096] } else { bytes.as_slice() };
                fs::write(target, bytes).unwrap();
            }
        }
        if let Some(snapshot) = &self.snapshot {
            fs::write(snapshot::path(scene.directory()), snapshot).unwrap();
        }
        scene
    }
}

/// A record whose count can be told from all others.
fn record(id: u64) -> Settlement {
    Settlement { model: format!("m{id}").into(), ..settlement(id.into(), now_ms()) }
}

/// How often each record counts, by its id.
fn counted(scene: &Scene) -> BTreeMap<u64, u64> {
    let ledger = scene.open();
    assert!(!ledger.status().history_lost);
    let rows = ledger.usage(&by_model());
    rows.iter().map(|row| (row.value[1..].parse().unwrap(), row.counters.requests)).collect()
}

/// Cuts the power so often: how old the oldest record was that a cut took, and how long the slowest sync took.
fn cut(durability: Durability, cuts: u64) -> (Duration, Duration, u64) {
    let (mut oldest, mut slowest, mut appended) = (Duration::ZERO, Duration::ZERO, 0);
    for number in 0..cuts {
        let disk = Arc::new(Remembering::default());
        // Some have many segments, and snapshots that let them go; some have one.
        let segment_bytes = if number % 2 == 0 { 4096 } else { 64 << 10 };
        let scene = Scene { disk: disk.clone(), durability, segment_bytes, shards: 2, ..Scene::new() };
        let ledger = scene.open();
        let mut times: Vec<Instant> = Vec::new();
        let until = Instant::now() + Duration::from_millis(150 + number * 137 % 500);
        while Instant::now() < until {
            let id = times.len() as u64;
            let position = ledger.append(&record(id));
            if durability == Durability::Strict {
                assert!(futures::executor::block_on(ledger.synced(position)));
            }
            times.push(Instant::now());
            if number % 4 == 0 && id % 100 == 99 {
                ledger.inner.tick(true, Duration::ZERO);
            }
            if durability == Durability::Relaxed {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let left = Left::of(&scene, &ledger, &disk);
        let now = Instant::now();
        slowest = slowest.max(left.memory.slowest);
        for returned in [false, true] {
            let counted = counted(&left.scene(scene.directory(), returned));
            assert!(counted.values().all(|count| *count == 1), "something counts twice: {counted:?}");
            for (id, at) in (0..).zip(&times) {
                if !counted.contains_key(&id) {
                    oldest = oldest.max(now - *at);
                }
            }
        }
        appended += times.len() as u64;
        ledger.kill();
    }
    (oldest, slowest, appended)
}

#[test]
fn a_power_cut_takes_what_is_younger_than_the_stated_window() {
    let cuts = how_many(CUTS, 6);
    let late = LATE[usize::from(std::env::var(CUTS).is_ok())];
    let (oldest, slowest, appended) = cut(Durability::Relaxed, cuts);
    let most = WINDOW + 2 * slowest + late;
    assert!(oldest <= most, "a record was lost that was {oldest:?} old; syncs take up to {slowest:?}");
    println!(
        "trust: default: {cuts} power cuts over {appended} records, the oldest that was lost was {} ms old (syncs take up \
         to {} ms)",
        oldest.as_millis(),
        slowest.as_millis()
    );
}

#[test]
fn a_power_cut_takes_nothing_that_was_confirmed_as_synced() {
    let cuts = how_many(CUTS, 6);
    let (oldest, _, appended) = cut(Durability::Strict, cuts);
    assert_eq!(oldest, Duration::ZERO, "a record was lost that was confirmed");
    println!("trust: strict: {cuts} power cuts over {appended} confirmed records, 0 lost");
}
