//! Owns the failing disk: full, broken, and well again.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::super::fixtures::settlement;
use super::super::journal::files::{self, Disk, RealDisk};
use super::super::journal::segment::Header;
use super::super::journal::window::Window;
use super::scene::{Scene, eventually, requests};
use crate::config::{Durability, WhenFull};

pub(super) const WELL: u8 = 0;
/// Half of the record is written, then the disk is full.
pub(super) const FULL: u8 = 1;
/// Writes fail with an input/output error.
const BROKEN: u8 = 2;
/// Writes succeed and syncs fail.
const NO_SYNC: u8 = 3;

pub(super) struct Failing(pub(super) AtomicU8);

impl Disk for Failing {
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File> {
        match self.0.load(Ordering::SeqCst) {
            FULL => Err(ErrorKind::StorageFull.into()),
            _ => RealDisk.create(journal, header, bytes),
        }
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            FULL => {
                RealDisk.write(file, &bytes[..bytes.len() / 2], at)?;
                Err(ErrorKind::StorageFull.into())
            }
            BROKEN => Err(io::Error::other("input/output error")),
            _ => RealDisk.write(file, bytes, at),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            NO_SYNC => Err(io::Error::other("input/output error")),
            _ => RealDisk.sync(file),
        }
    }
}

pub(super) fn failing() -> (Scene, Arc<Failing>) {
    let disk = Arc::new(Failing(AtomicU8::new(WELL)));
    (Scene { disk: disk.clone(), ..Scene::new() }, disk)
}

#[test]
fn a_short_failure_loses_nothing() {
    for mode in [FULL, BROKEN] {
        for appended_before in [0, 5] {
            let (scene, disk) = failing();
            let ledger = scene.open();
            scene.append(&ledger, 0..appended_before);
            disk.0.store(mode, Ordering::SeqCst);
            scene.append(&ledger, 100..110);
            let status = ledger.status();
            assert_eq!((status.append_errors, status.backlog_records, status.dropped), (10, 10, 0));
            assert_eq!(requests(&ledger), appended_before);
            disk.0.store(WELL, Ordering::SeqCst);
            eventually("the backlog is written", || ledger.status().backlog_records == 0);
            scene.append(&ledger, 200..205);
            assert_eq!(requests(&ledger), appended_before + 15);
            assert_eq!(ledger.status().corrupt_records, 0);
            drop(ledger);
            assert_eq!(requests(&scene.open()), appended_before + 15);
        }
    }
}

#[test]
fn the_end_writes_the_backlog_if_it_can() {
    let (scene, disk) = failing();
    let ledger = scene.open();
    disk.0.store(FULL, Ordering::SeqCst);
    scene.append(&ledger, 0..10);
    disk.0.store(WELL, Ordering::SeqCst);
    drop(ledger);
    assert_eq!(requests(&scene.open()), 10);
}

#[test]
fn a_long_failure_keeps_what_fits_and_counts_the_rest() {
    let (scene, disk) = failing();
    let ledger = scene.open();
    disk.0.store(FULL, Ordering::SeqCst);
    let mut long = settlement(0, super::now_ms());
    long.model = "m".repeat(500).into();
    let mut appended = 0_u64;
    while ledger.status().dropped < 10 {
        long.id += 1;
        appended += 1;
        ledger.append(&long);
    }
    let kept = ledger.status().backlog_records;
    assert_eq!(kept + 10, appended);
    disk.0.store(WELL, Ordering::SeqCst);
    eventually("the backlog is written", || ledger.status().backlog_records == 0);
    assert_eq!(requests(&ledger), kept);
    assert_eq!(ledger.status().fold_lag_records, 0);
}

#[test]
fn a_strict_answer_is_never_held_by_a_disk_that_refuses() {
    let (scene, disk) = failing();
    let scene = Scene { durability: Durability::Strict, ..scene };
    let ledger = scene.open();
    disk.0.store(FULL, Ordering::SeqCst);
    let kept = ledger.append(&settlement(1, 0));
    assert!(!futures::executor::block_on(ledger.synced(kept)));
    disk.0.store(WELL, Ordering::SeqCst);
    eventually("the backlog is written", || ledger.status().backlog_records == 0);
    assert!(futures::executor::block_on(ledger.synced(kept)));
}

#[test]
fn a_failed_sync_is_said_and_the_next_segment_is_good() {
    let (scene, disk) = failing();
    let scene = Scene { durability: Durability::Strict, ..scene };
    let ledger = scene.open();
    disk.0.store(NO_SYNC, Ordering::SeqCst);
    let lost = ledger.append(&settlement(1, 0));
    assert!(!futures::executor::block_on(ledger.synced(lost)));
    disk.0.store(WELL, Ordering::SeqCst);
    let good = ledger.append(&settlement(2, 0));
    assert!(futures::executor::block_on(ledger.synced(good)));
    assert_eq!(requests(&ledger), 2);
}

#[test]
fn a_reservation_that_cannot_be_written_is_refused_and_forgotten_until_it_can_be() {
    for mode in [FULL, BROKEN] {
        let (scene, disk) = failing();
        let ledger = scene.open();
        assert!(ledger.reserve(&settlement(1, 0), WhenFull::Refuse));
        disk.0.store(mode, Ordering::SeqCst);
        for id in 2..10 {
            assert!(!ledger.reserve(&settlement(id, 0), WhenFull::Refuse));
        }
        let status = ledger.status();
        assert_eq!((status.refused, status.backlog_records, status.append_errors, status.dropped), (8, 0, 0, 0));
        assert!(ledger.reserve(&settlement(10, 0), WhenFull::Serve), "whoever is served is kept in memory");
        assert_eq!(ledger.status().backlog_records, 1);
        assert!(!ledger.reserve(&settlement(11, 0), WhenFull::Refuse));
        disk.0.store(WELL, Ordering::SeqCst);
        eventually("it can be written again", || ledger.reserve(&settlement(12, 0), WhenFull::Refuse));
        let killed = Scene { disk: Arc::new(RealDisk), ..scene.copy() };
        let next = killed.open();
        let counted = requests(&next);
        assert_eq!(counted, 3, "1, 10 and 12 were under way; what was refused is owed by nobody");
        drop(ledger);
    }
}

#[test]
fn without_a_backlog_too_the_disk_is_tried_again() {
    let (scene, disk) = failing();
    let ledger = scene.open();
    disk.0.store(FULL, Ordering::SeqCst);
    assert!(!ledger.reserve(&settlement(1, 0), WhenFull::Refuse));
    disk.0.store(WELL, Ordering::SeqCst);
    eventually("the next one is made", || ledger.reserve(&settlement(2, 0), WhenFull::Refuse));
    assert_eq!(requests(&Scene { disk: Arc::new(RealDisk), ..scene.copy() }.open()), 1);
}

/// A disk with so much room left for segments.
struct Small(std::sync::atomic::AtomicU64);

impl Disk for Small {
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File> {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.checked_sub(bytes).ok_or(ErrorKind::StorageFull)?, Ordering::SeqCst);
        RealDisk.create(journal, header, bytes)
    }

    fn window(&self, file: &File, at: u64) -> Option<Window> {
        RealDisk.window(file, at)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        RealDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

#[test]
fn the_last_room_of_a_disk_is_used_by_smaller_segments() {
    let disk = Arc::new(Small((5 << 20).into()));
    let scene = Scene { disk, segment_bytes: 16 << 20, ..Scene::new() };
    let ledger = scene.open();
    let mut written = 0;
    while ledger.status().backlog_records == 0 {
        scene.append(&ledger, written..written + 1000);
        written += 1000;
    }
    let sizes: Vec<u64> =
        files::list(&scene.directory().join("journal")).unwrap().iter().map(|(_, len)| *len).collect();
    assert_eq!(sizes, [4 << 20, 1 << 20]);
    let waiting = ledger.status().backlog_records;
    assert!(waiting <= 1000, "{waiting}");
    assert_eq!(requests(&ledger), written - waiting);
}
