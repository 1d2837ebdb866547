//! Owns the set-up of the ledger's tests.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::fixtures::settlement;
use super::super::journal::files::{Disk, RealDisk};
use super::super::{By, Ledger, LedgerError, LedgerOptions, Tuning, UsageQuery, WhenLocked, now_ms};
use crate::config::Durability;

/// A directory and the ledger's settings.
pub(super) struct Scene {
    pub(super) dir: Arc<tempfile::TempDir>,
    pub(super) shards: usize,
    pub(super) segment_bytes: u64,
    pub(super) durability: Durability,
    pub(super) when_locked: WhenLocked,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) fold_every: Duration,
    /// Zero by default: each fold reaches the store too.
    pub(super) store_every: Duration,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            shards: 1,
            segment_bytes: 64 << 10,
            durability: Durability::Relaxed,
            when_locked: WhenLocked::Refuse,
            disk: Arc::new(RealDisk),
            fold_every: Duration::from_millis(20),
            store_every: Duration::ZERO,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<Ledger, LedgerError> {
        let options = LedgerOptions {
            directory: self.directory().to_owned(),
            shards: self.shards,
            durability: self.durability,
            keep_minutes: Duration::from_secs(86_400),
            keep_hours: Duration::from_secs(7 * 86_400),
            when_locked: self.when_locked,
        };
        Ledger::open_tuned(options, self.tuning())
    }

    pub(super) fn tuning(&self) -> Tuning {
        Tuning {
            segment_bytes: self.segment_bytes,
            fold_every: self.fold_every,
            store_every: self.store_every..self.store_every,
            disk: Arc::clone(&self.disk),
        }
    }

    /// What a kill at this moment would leave: a copy of the files as they are.
    pub(super) fn copy(&self) -> Scene {
        let scene = Scene { disk: Arc::clone(&self.disk), ..Scene::new() };
        copy_tree(self.directory(), scene.directory());
        Scene { segment_bytes: self.segment_bytes, shards: self.shards, ..scene }
    }

    pub(super) fn append(&self, ledger: &Ledger, ids: std::ops::Range<u64>) {
        for id in ids {
            ledger.append(&settlement(id.into(), now_ms()));
        }
    }
}

pub(super) fn by_model() -> UsageQuery {
    UsageQuery { by: By::Model, ..UsageQuery::default() }
}

/// All requests that the ledger knows of.
pub(super) fn requests(ledger: &Ledger) -> u64 {
    ledger.usage(&by_model()).iter().map(|row| row.counters.requests).sum()
}

/// How many: the number in the environment's variable, which the long run of the scorecard sets, or `usual`.
pub(super) fn how_many(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |n| n.parse().expect("a number"))
}

/// Waits until `done`, and fails after ten seconds.
pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
