//! Owns the order of things: any order of settlements, reservations, folds, snapshots, outages, kills, stops and other
//! processes, held against a model that knows only which requests there were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use proptest::prelude::*;
use weir_filters::price::NanoUsd;

use super::super::fixtures::settlement;
use super::super::journal::files::{Disk, RealDisk};
use super::super::journal::segment::Header;
use super::super::{Ledger, Settlement, WhenLocked, now_ms};
use super::scene::{Scene, by_model, eventually, how_many};
use crate::config::WhenFull;

/// What a request cost, and what was reserved for it.
const COST: u64 = 7;
const RESERVED: u64 = 9;

/// Something that happens. `usize` says to which of the processes; what cannot happen does not.
#[derive(Clone, Debug)]
enum Event {
    /// A gateway starts; beside another one it waits for that.
    Start,
    /// Requests of keys without a budget end.
    Append(usize, u8),
    Reserve(usize),
    /// The oldest reservation under way is settled.
    Settle(usize),
    /// A fold, perhaps with a snapshot, which lets segments go.
    Tick(usize, bool),
    Ask(usize),
    /// The disk takes nothing while requests end, and then everything.
    Outage(usize, u8),
    Kill(usize),
    Stop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..3_usize;
    prop_oneof![
        3 => Just(Event::Start),
        4 => (who(), 1..30_u8).prop_map(|(who, count)| Event::Append(who, count)),
        4 => who().prop_map(Event::Reserve),
        3 => who().prop_map(Event::Settle),
        3 => (who(), any::<bool>()).prop_map(|(who, force)| Event::Tick(who, force)),
        1 => who().prop_map(Event::Ask),
        1 => (who(), 1..5_u8).prop_map(|(who, count)| Event::Outage(who, count)),
        2 => who().prop_map(Event::Kill),
        1 => who().prop_map(Event::Stop),
    ]
}

/// A disk that is full at times.
#[derive(Default)]
struct Tidal(AtomicBool);

impl Tidal {
    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for Tidal {
    fn create(&self, journal: &Path, header: Header, bytes: u64) -> io::Result<File> {
        self.check()?;
        RealDisk.create(journal, header, bytes)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check()?;
        RealDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

struct Process {
    ledger: Ledger,
    under_way: Vec<u64>,
}

struct World {
    scene: Scene,
    disk: Arc<Tidal>,
    processes: Vec<Process>,
    /// Every request that there was, and what it has to cost in the end.
    costs: BTreeMap<u64, u64>,
}

impl World {
    fn new() -> Self {
        let disk = Arc::new(Tidal::default());
        let never = Duration::from_secs(3600);
        let scene = Scene { disk: disk.clone(), segment_bytes: 1024, fold_every: never, ..Scene::new() };
        Self { scene, disk, processes: Vec::new(), costs: BTreeMap::new() }
    }

    fn request(&mut self, cost: u64) -> (u64, Settlement) {
        let id = self.costs.len() as u64 + 1;
        self.costs.insert(id, cost);
        (id, record(id, cost))
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Start => self.start(),
            Event::Append(who, count) if who < self.processes.len() => {
                for _ in 0..count {
                    let (_, settlement) = self.request(COST);
                    self.processes[who].ledger.append(&settlement);
                }
            }
            Event::Reserve(who) if who < self.processes.len() => {
                let (id, thought) = self.request(RESERVED);
                assert!(self.processes[who].ledger.reserve(&thought, WhenFull::Refuse));
                self.processes[who].under_way.push(id);
            }
            Event::Settle(who) if self.processes.get(who).is_some_and(|p| !p.under_way.is_empty()) => {
                let id = self.processes[who].under_way.remove(0);
                self.costs.insert(id, COST);
                self.processes[who].ledger.append(&record(id, COST));
            }
            Event::Tick(who, force) if who < self.processes.len() => {
                self.processes[who].ledger.inner.tick(force, Duration::ZERO);
            }
            Event::Ask(who) if who < self.processes.len() => {
                let counted = counted(&self.processes[who].ledger);
                assert!(counted.keys().all(|id| self.costs.contains_key(id)), "a request that never was: {counted:?}");
            }
            Event::Outage(who, count) if who < self.processes.len() => {
                self.disk.0.store(true, Ordering::SeqCst);
                self.happen(&Event::Append(who, count));
                self.disk.0.store(false, Ordering::SeqCst);
                let ledger = &self.processes[who].ledger;
                eventually("what waited is written", || ledger.status().backlog_records == 0);
            }
            Event::Kill(who) if who < self.processes.len() => self.processes.remove(who).ledger.kill(),
            Event::Stop(who) if who < self.processes.len() => drop(self.processes.remove(who)),
            _ => {}
        }
    }

    /// A process starts alone, or beside one or two: those of two upgrades in a row.
    fn start(&mut self) {
        let when_locked = match self.processes.len() {
            0 => WhenLocked::Refuse,
            1 | 2 => WhenLocked::Wait,
            _ => return,
        };
        let scene = Scene {
            dir: Arc::clone(&self.scene.dir),
            disk: self.disk.clone(),
            when_locked,
            segment_bytes: self.scene.segment_bytes,
            fold_every: self.scene.fold_every,
            ..Scene::new()
        };
        self.processes.push(Process { ledger: scene.open(), under_way: Vec::new() });
    }

    /// All are gone, and the next one is asked.
    fn end(mut self) {
        self.processes.drain(..).for_each(|process| process.ledger.kill());
        for look in ["the next", "the one after it"] {
            let ledger = self.scene.open();
            let counted = counted(&ledger);
            let expected: BTreeMap<u64, (u64, u64)> = self.costs.iter().map(|(id, cost)| (*id, (1, *cost))).collect();
            let wrong: Vec<_> = expected.iter().filter(|(id, figures)| counted.get(id) != Some(figures)).collect();
            assert!(
                wrong.is_empty(),
                "{look}: {wrong:?} should be, and is {:?}",
                wrong.iter().map(|(id, _)| counted.get(id)).collect::<Vec<_>>()
            );
            assert_eq!(counted.len(), expected.len(), "{look}: a request that never was");
            let status = ledger.status();
            assert_eq!((status.corrupt_records, status.duplicates, status.history_lost), (0, 0, false), "{look}");
        }
    }
}

fn record(id: u64, cost: u64) -> Settlement {
    Settlement { model: format!("m{id}").into(), cost: NanoUsd(cost), ..settlement(id.into(), now_ms()) }
}

/// How often each request counts, and what it cost.
fn counted(ledger: &Ledger) -> BTreeMap<u64, (u64, u64)> {
    let figures = |c: super::Counters| (c.requests, c.cost_nano_usd);
    ledger.usage(&by_model()).iter().map(|row| (row.value[1..].parse().unwrap(), figures(row.counters))).collect()
}

#[test]
fn whatever_happens_in_whatever_order_each_request_counts_once() {
    let cases = u32::try_from(how_many("WEIR_TRUST_CASES", 16)).unwrap();
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let events = std::cell::Cell::new(0);
    let outcome = runner.run(&prop::collection::vec(event(), 4..60), |all| {
        events.set(events.get() + all.len());
        let mut world = World::new();
        all.iter().for_each(|event| world.happen(event));
        world.end();
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    println!("trust: {cases} orders of {} events, no counter-example", events.get());
}
