//! What happened to each request, told to those who ask later: records, and the sinks that keep them.
//!
//! ```text
//! a request's end ─► shards (one a thread) ─► collector ─┬─► queue ─► jsonl, access log
//!                                                        ├─► queue ─► history ◄─ questions
//!                                                        ├─► queue ─► loki, nsq
//!                                                        └─► who follows live
//! ```
//!
//! Owns the way of a record from the thread that served its request to every sink. It refuses to know how a request is
//! served, and nothing here is waited for by one: what has no room is dropped and counted.

mod batch;
mod bodies;
mod collector;
mod files;
mod history;
mod live;
mod loki;
mod node;
mod nsq;
mod queue;
mod shards;
mod sinks;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::config;

#[cfg(test)]
pub(crate) use batch::batch_of;
pub(crate) use batch::{Entry, term};
pub(crate) use bodies::{Caps, Capture, Kept, Layout, Room};
#[cfg(test)]
pub(crate) use history::StatusFilter;
pub(crate) use history::{DEFAULT_LIMIT, History, MAX_LIMIT, Page, Query};
pub(crate) use live::{Event, EventId, Filter, Following, Heard, Records};
pub(crate) use node::node_name;
pub(crate) use shards::Left;
pub(crate) use sinks::SinkFigures;

use collector::Collector;
use files::Reopen;
pub(crate) use live::Live;
use shards::Shards;
use sinks::Sinks;

/// The records of a gateway.
pub(crate) struct Audit {
    inner: Arc<Inner>,
    collector: Mutex<Option<JoinHandle<()>>>,
}

/// What the collector shares with those who leave records.
pub(crate) struct Inner {
    shards: Shards,
    sinks: Mutex<Sinks>,
    live: Live,
    room: Arc<Room>,
    reopen: Reopen,
    /// Whether any sink wants records.
    is_wanted: AtomicBool,
    stopped: AtomicBool,
}

impl Audit {
    /// For a gateway with so many threads, whose relative directories are in `data_dir`. Without a configuration put
    /// in force by [`Audit::apply`] there are no sinks.
    pub(crate) fn start(threads: usize, data_dir: &Path) -> io::Result<Self> {
        let reopen = Reopen::default();
        let inner = Arc::new(Inner {
            shards: Shards::new(threads),
            sinks: Mutex::new(Sinks::new(data_dir, &reopen)),
            live: Live::default(),
            room: Arc::default(),
            reopen,
            is_wanted: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let collector = Collector::new(inner.clone());
        let thread = Builder::new().name("weir-audit".into()).spawn(move || collector.run())?;
        inner.shards.collected_by(thread.thread().clone());
        Ok(Self { inner, collector: Mutex::new(Some(thread)) })
    }

    /// Begins, changes and ends sinks so that there are those that `config` wants.
    pub(crate) fn apply(&self, config: &config::Config) {
        let retired = self.inner.sinks().retire(config);
        // Nobody waits for the disk meanwhile: the other sinks go on.
        retired.iter().for_each(|history| history.close());
        let mut sinks = self.inner.sinks();
        sinks.begin_all(config);
        self.inner.is_wanted.store(!sinks.is_empty(), Ordering::Relaxed);
    }

    /// Opens all files anew, as after somebody moved them.
    pub(crate) fn reopen(&self) {
        self.inner.reopen.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether records are wanted now.
    pub(crate) fn is_wanted(&self) -> bool {
        self.inner.is_wanted.load(Ordering::Relaxed) || self.inner.live.is_watched()
    }

    /// Room for the bodies of requests under way.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.inner.room
    }

    /// Lets `put` leave one record. It is not waited for.
    pub(crate) fn leave(&self, put: impl FnOnce(&mut Left) -> Entry) {
        self.inner.shards.leave(put);
    }

    /// The recent records, if they are kept.
    pub(crate) fn history(&self) -> Option<Arc<History>> {
        self.inner.sinks().history()
    }

    /// Leaves what only one process may have to the one that serves now, and those who follow to it.
    pub(crate) fn stand_aside(&self) {
        if let Some(history) = self.history() {
            history.stand_aside();
        }
        self.inner.live.end();
    }

    /// Follows what comes: behind the event with the id `after`, or else from now on. `None`: too many do already.
    pub(crate) fn follow(&self, filter: &Filter, after: Option<&str>) -> Option<Following> {
        self.inner.live.follow(filter, after)
    }

    /// Whether somebody hears, or may come back for, what is published. Whoever has to make it first asks this.
    pub(crate) fn is_watched(&self) -> bool {
        self.inner.live.is_watched()
    }

    /// Tells those who follow. It waits for nobody, and costs nothing while nobody follows.
    pub(crate) fn publish(&self, event: Event) {
        self.inner.live.publish(event);
    }

    /// How each sink is doing.
    pub(crate) fn figures(&self) -> Vec<SinkFigures> {
        self.inner.sinks().figures()
    }

    /// Hands on what was left, and ends every sink: each has a few seconds for what it holds.
    pub(crate) fn close(&self) {
        let Some(collector) = lock(&self.collector).take() else { return };
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.shards.wake();
        if collector.join().is_err() {
            log::error!("audit: the collector had panicked");
        }
        self.inner.live.end();
        self.inner.sinks().end_all();
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn sinks(&self) -> MutexGuard<'_, Sinks> {
        lock(&self.sinks)
    }
}

/// A panic under one of these locks leaves a list of sinks that is still one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
