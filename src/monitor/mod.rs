//! The monitor: channels are probed at their times, and what came of it is kept.
//!
//! Owns a thread that knows when which channel is due, and what is known of probes so far (`book`, written by `store`).
//! When a channel is due, what a row of probes says and what they may cost is decided in [`weir_filters::monitor`]; how
//! one is made is `trial`'s. It stands back behind the threads that serve, and its connections are its own.

mod book;
mod line;
mod models;
mod run;
mod show;
mod store;
mod writing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use weir_filters::monitor::Schedule;

use crate::catalog::{Kind, Refused};
use crate::channels::Channel;
use crate::config::Probe;
use crate::control::now_ms;
use crate::draw;
use crate::ledger::stand_back;
use crate::proxy::{Shared, Snapshot};

use book::{Book, Open};
use line::{Head, Line, Reason, Shown};
use run::{BOOKED, Run};
use store::{Folder, Store};

pub use show::{Asked, Page};

/// Between two looks at the configuration in force, and at the clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of all channels at a time: a thousand that are due after a start must not take all there is of ports and of one core.
const ACROSS: usize = 32;
/// What is under way at the end may take so long yet.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// Between two tries to be the one who writes.
const LOCK_EVERY: Duration = Duration::from_millis(200);
/// What a person had a channel be asked is no traffic either.
const NO_TRAFFIC: [&str; 2] = [BOOKED, "(channel run)"];

/// The monitor. It begins with [`Monitor::start`].
pub(crate) struct Monitor {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Inner {
    shared: Arc<Shared>,
    folder: Folder,
    book: Mutex<Book>,
    /// `None`: nothing is written yet, or any more.
    store: Mutex<Option<Store>>,
    across: Semaphore,
    /// Channels with a run under way.
    busy: Mutex<HashSet<String>>,
    /// Runs that somebody wants now: the channel and the run's id.
    wanted: Mutex<Vec<(String, String)>>,
    wake: Notify,
    is_stopped: AtomicBool,
}

impl Monitor {
    pub(crate) fn new(shared: Arc<Shared>, data_dir: &Path) -> Self {
        let inner = Inner {
            shared,
            folder: Folder::new(data_dir),
            book: Mutex::default(),
            store: Mutex::default(),
            across: Semaphore::new(ACROSS),
            busy: Mutex::default(),
            wanted: Mutex::default(),
            wake: Notify::new(),
            is_stopped: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner), thread: Mutex::default() }
    }

    /// Begins, now that clients are served.
    pub(crate) fn start(&self) {
        let inner = self.inner.clone();
        let run = move || {
            stand_back();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(inner.live()),
                Err(e) => log::error!("no channel is probed: {e}"),
            }
        };
        match std::thread::Builder::new().name("weir-monitor".into()).spawn(run) {
            Ok(thread) => *lock(&self.thread) = Some(thread),
            Err(e) => log::error!("no channel is probed: {e}"),
        }
    }

    /// Begins nothing any more. What is under way is waited for a little by the thread itself.
    pub(crate) fn stop(&self) {
        self.inner.is_stopped.store(true, Ordering::Release);
        self.inner.wake.notify_one();
    }

    /// Whether something is under way that is worth waiting for.
    pub(crate) fn is_busy(&self) -> bool {
        lock(&self.thread).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Has all models of a channel asked now; the run's id.
    ///
    /// # Errors
    /// There is no such channel, it is not probed, or a run is under way.
    pub(crate) fn run(&self, name: &str) -> Result<String, Refused> {
        let live = self.inner.shared.live.load_full();
        let channel = live.channels().iter().find(|channel| **channel.name() == *name);
        let channel = channel.ok_or(Refused::NotFound(Kind::Channel))?;
        if channel.config().probe.is_none() {
            let message = format!("the channel `{name}` has no `probe`, which says what it is asked");
            return Err(Refused::Conflict { code: "not_probed", message });
        }
        let busy = |message: String| Refused::Conflict { code: "busy", message };
        if lock(&self.inner.store).is_none() {
            return Err(busy("no channel is probed here yet: ask again in a moment".to_owned()));
        }
        if !lock(&self.inner.busy).insert(name.to_owned()) {
            return Err(busy(format!("a run of the channel `{name}` is under way already")));
        }
        let Ok(id) = draw::id() else {
            lock(&self.inner.busy).remove(name);
            return Err(Refused::NoRandomness);
        };
        lock(&self.inner.wanted).push((name.to_owned(), id.clone()));
        self.inner.wake.notify_one();
        Ok(id)
    }
}

/// A channel that is probed.
struct Watched {
    channel: Arc<Channel>,
    probe: Probe,
    schedule: Schedule,
    /// The slot whose run is next.
    slot: u64,
}

impl Inner {
    /// From the first line that is read to the last that is written.
    async fn live(self: Arc<Self>) {
        let Some(open) = self.begin_writing().await else { return };
        let mut runs = JoinSet::new();
        let mut live = self.shared.live.load_full();
        let mut watched = self.watch(&live, Vec::new());
        for open in open {
            self.go_on(open, &live, &watched, &mut runs);
        }
        while !self.is_stopped() {
            let newest = self.shared.live.load_full();
            if newest.version() != live.version() {
                live = newest;
                watched = self.watch(&live, watched);
            }
            for (name, id) in std::mem::take(&mut *lock(&self.wanted)) {
                match watched.iter().find(|one| **one.channel.name() == *name) {
                    Some(one) => self.launch(&live, one, None, id, &mut runs),
                    None => drop(lock(&self.busy).remove(&name)),
                }
            }
            let now = now_ms();
            let mut next = now + u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
            for one in &mut watched {
                let due = one.schedule.due(one.slot);
                if due > now {
                    next = next.min(due);
                    continue;
                }
                let slot = one.slot;
                one.slot = one.schedule.next(now, Some(slot));
                if one.channel.is_drained() || !lock(&self.busy).insert(one.channel.name().to_string()) {
                    continue;
                }
                match draw::id() {
                    Ok(id) => self.launch(&live, one, Some(slot), id, &mut runs),
                    Err(e) => {
                        log::error!("no run of channel `{}`: {e}", one.channel.name());
                        lock(&self.busy).remove(&**one.channel.name());
                    }
                }
            }
            while runs.try_join_next().is_some() {}
            let wait = Duration::from_millis(next.saturating_sub(now).max(1));
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
        }
        let all = async { while runs.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE_TIME, all).await.is_err() {
            log::info!("probes are broken off that did not end in time; the next process goes on");
        }
        runs.shutdown().await;
        *lock(&self.store) = None;
    }

    /// The channels to be probed, with the slots that are next.
    fn watch(&self, live: &Snapshot, before: Vec<Watched>) -> Vec<Watched> {
        let (now, book) = (now_ms(), self.book());
        let probed = live.channels().iter().filter_map(|channel| Some((channel, channel.config().probe.clone()?)));
        let watched: Vec<Watched> = probed
            .map(|(channel, probe)| {
                let every_ms = millis_of(probe.every);
                let schedule = Schedule::new(channel.name(), every_ms);
                let same =
                    before.iter().find(|one| one.channel.name() == channel.name() && one.probe.every == probe.every);
                let last = book.of(channel.name()).and_then(|course| course.last_slot_of(&schedule, every_ms));
                let slot = same.map_or_else(|| schedule.next(now, last), |same| same.slot);
                Watched { channel: channel.clone(), probe, schedule, slot }
            })
            .collect();
        drop(book);
        let is_probed = |name: &str| watched.iter().any(|one| **one.channel.name() == *name);
        self.shared.metrics.keep_probed_channels(is_probed);
        for channel in live.channels().iter().filter(|channel| !is_probed(channel.name())) {
            channel.forget(|_| false);
        }
        watched
    }

    /// Begins a run. Its channel is marked busy already.
    fn launch(
        self: &Arc<Self>,
        live: &Arc<Snapshot>,
        one: &Watched,
        slot: Option<u64>,
        id: String,
        runs: &mut JoinSet<()>,
    ) {
        let reason = if slot.is_some() { Reason::Schedule } else { Reason::Manual };
        let channel = one.channel.name().to_string();
        let every_ms = millis_of(one.probe.every);
        let head = Head { id, channel, slot, every_ms, begun_at: now_ms(), reason };
        self.spawn(live, one, head, HashSet::new(), runs);
    }

    /// Goes on with a run that another process had begun, if its time is not over.
    fn go_on(self: &Arc<Self>, open: Open, live: &Arc<Snapshot>, watched: &[Watched], runs: &mut JoinSet<()>) {
        let touched = open.touched();
        for begun in open.begun.values() {
            // Nobody knows what it has used: all that it may.
            let skipped = Shown::skipped(&begun.model, "interrupted");
            let known = self
                .book()
                .of(&begun.run.channel)
                .and_then(|course| course.models.get(&begun.model))
                .map(|m| m.standing);
            if self.note(&begun.run, begun.reserved.into(), known.unwrap_or_default(), skipped).is_err() {
                return;
            }
        }
        let now = now_ms();
        let one = watched.iter().find(|one| **one.channel.name() == *open.head.channel);
        let is_current = |one: &&Watched| now.saturating_sub(open.head.begun_at) < millis_of(one.probe.every);
        if let Some(one) = one.filter(is_current)
            && lock(&self.busy).insert(open.head.channel.clone())
        {
            self.spawn(live, one, open.head, touched, runs);
            return;
        }
        let results = self.results(&open.head);
        let state = line::state_of(&results).name().to_owned();
        let run = line::Finished { run: open.head, ended_at: now, state, results };
        let _ = self.write(&Line::Run(run));
    }

    fn spawn(
        self: &Arc<Self>,
        live: &Arc<Snapshot>,
        one: &Watched,
        head: Head,
        touched: HashSet<String>,
        runs: &mut JoinSet<()>,
    ) {
        let since = self.book().of(&head.channel).and_then(|course| course.last_run).map(|(at, _)| at);
        let since = since.unwrap_or_else(|| head.begun_at.saturating_sub(head.every_ms));
        let served = if one.probe.pause_on_traffic {
            self.shared.ledger.served(&head.channel, since, &NO_TRAFFIC)
        } else {
            HashMap::new()
        };
        let (channel, probe) = (one.channel.clone(), one.probe.clone());
        let (inner, name) = (self.clone(), head.channel.clone());
        let run = Run { inner: self.clone(), live: live.clone(), channel, probe, head, touched, served };
        runs.spawn(async move {
            run.go().await;
            lock(&inner.busy).remove(&name);
            inner.wake.notify_one();
        });
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What panics under it leaves figures that are still some.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
