//! The sinks that there are, and what each was told.
//!
//! Owns when a sink begins and ends: one whose settings are the same after a reload goes on as if nothing had been.
//! What a sink does is its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::config;
use crate::ledger::stand_back;

use super::batch::Batch;
use super::files::{FileSink, Reopen, What};
use super::history::History;
use super::loki::LokiSink;
use super::nsq;
use super::queue::{Giver, SinkStats, Taker, queue_into};

/// How long all sinks together have at the end for what they hold.
const LAST_WORDS: Duration = Duration::from_secs(8);

/// Where the recent records are, in `data_dir`.
const HISTORY: &str = "history";
/// Where sinks keep what they cannot deliver, in `data_dir`.
const SPOOL: &str = "spool";

/// How a sink is doing. Records that it was given = delivered + failed + dropped + waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFigures {
    /// Its name.
    pub sink: &'static str,
    /// Records that it has written, or the other side has taken.
    pub delivered: u64,
    /// Records that the other side has refused.
    pub failed: u64,
    /// Records that were lost for want of room.
    pub dropped: u64,
    /// Records that it still has to deliver.
    pub waiting: u64,
}

/// What a sink was begun with.
#[derive(Clone, Debug, PartialEq)]
enum Setting {
    Jsonl(config::Files),
    Access(config::Files),
    History(config::History),
    /// With a file of certificates that are trusted beside the system's.
    Loki(config::Loki, Option<PathBuf>),
    Nsq(config::Nsq),
}

impl Setting {
    /// Those that `config` wants.
    fn all(config: &config::Config) -> Vec<Self> {
        let authorities = &config.server.upstream_ca;
        let config = &config.audit;
        let loki = config.loki.clone().map(|loki| Setting::Loki(loki, authorities.clone()));
        let files = config.jsonl.clone().map(Setting::Jsonl);
        let access = config.access_log.clone().map(Setting::Access);
        let history = config.history.clone().map(Setting::History);
        let nsq = config.nsq.clone().map(Setting::Nsq);
        [files, access, history, loki, nsq].into_iter().flatten().collect()
    }

    const fn name(&self) -> &'static str {
        match self {
            Setting::Jsonl(_) => "jsonl",
            Setting::Access(_) => "access_log",
            Setting::History(_) => "history",
            Setting::Loki(..) => "loki",
            Setting::Nsq(_) => "nsq",
        }
    }
}

struct Sink {
    setting: Setting,
    giver: Giver,
    worker: Worker,
}

/// What works for a sink.
enum Worker {
    /// A thread that ends with its queue.
    Thread(JoinHandle<()>),
    /// The one that is also asked.
    History(Arc<History>),
    /// Nothing: it could not begin.
    None,
}

/// All sinks.
pub(super) struct Sinks {
    data_dir: PathBuf,
    reopen: Reopen,
    running: Vec<Sink>,
    /// Those that were ended and may not be done yet.
    ending: Vec<Worker>,
    /// Of every sink that there ever was: figures never fall.
    stats: Vec<(&'static str, Arc<SinkStats>)>,
}

impl Sinks {
    /// None.
    pub(super) fn new(data_dir: &Path, reopen: &Reopen) -> Self {
        let (running, ending, stats) = (Vec::new(), Vec::new(), Vec::new());
        Self { data_dir: data_dir.to_owned(), reopen: reopen.clone(), running, ending, stats }
    }

    /// Ends those that are not wanted any more, or not as they are, and those that have ended themselves. What is given
    /// back is to be closed while nobody waits for these sinks: it takes as long as the disk takes.
    pub(super) fn retire(&mut self, config: &config::Config) -> Vec<Arc<History>> {
        let wanted = Setting::all(config);
        for sink in std::mem::take(&mut self.running) {
            if wanted.contains(&sink.setting) && !sink.worker.is_done() {
                self.running.push(sink);
            } else {
                // Its queue is closed with its giver: what waits is still delivered.
                self.ending.push(sink.worker);
            }
        }
        self.take_histories()
    }

    /// Begins those that `config` wants and that are not there.
    pub(super) fn begin_all(&mut self, config: &config::Config) {
        self.ending.retain(|worker| !worker.is_done());
        for setting in Setting::all(config) {
            if !self.running.iter().any(|sink| sink.setting == setting) {
                self.begin(setting);
            }
        }
    }

    fn begin(&mut self, setting: Setting) {
        let (giver, taker) = queue_into(self.stats_of(setting.name()));
        let name = setting.name();
        let begun = match &setting {
            Setting::Jsonl(files) => self.files(name, files, What::Records, taker),
            Setting::Access(files) => self.files(name, files, What::Access, taker),
            Setting::History(history) => {
                History::open(&self.data_dir.join(HISTORY), history, taker).map(Worker::History)
            }
            Setting::Loki(config, authorities) => {
                let sink = LokiSink::new(config, self.data_dir.join(SPOOL).join("loki"), authorities.as_deref());
                sink.and_then(|sink| spawn(name, move || sink.run(taker)))
            }
            Setting::Nsq(config) => {
                let config = config.clone();
                spawn(name, move || nsq::run(&config, taker))
            }
        };
        // One that cannot begin stays in its place: what it would have been given is counted as dropped.
        let worker = begun.unwrap_or_else(|e| {
            log::error!("audit: {name} cannot begin, and is tried again at the next reload: {e}");
            Worker::None
        });
        self.running.push(Sink { setting, giver, worker });
    }

    fn files(&self, name: &str, files: &config::Files, what: What, taker: Taker) -> io::Result<Worker> {
        let sink = FileSink::new(files, what, &self.data_dir, &self.reopen);
        spawn(name, move || sink.run(&taker))
    }

    /// Those that are to end, each with the index that the next one needs.
    fn take_histories(&mut self) -> Vec<Arc<History>> {
        let (histories, others) = std::mem::take(&mut self.ending).into_iter().partition(|w| w.history().is_some());
        self.ending = others;
        histories.into_iter().filter_map(|worker: Worker| worker.history().cloned()).collect()
    }

    /// The recent records, if they are kept.
    pub(super) fn history(&self) -> Option<Arc<History>> {
        self.running.iter().find_map(|sink| sink.worker.history().cloned())
    }

    fn stats_of(&mut self, name: &'static str) -> Arc<SinkStats> {
        if let Some((_, stats)) = self.stats.iter().find(|(other, _)| *other == name) {
            return stats.clone();
        }
        let stats = Arc::<SinkStats>::default();
        self.stats.push((name, stats.clone()));
        stats
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Gives records to all of them.
    pub(super) fn give(&self, batch: &Arc<Batch>) {
        for sink in &self.running {
            sink.giver.give(batch);
        }
    }

    /// Counts records that none of the sinks has been given.
    pub(super) fn lose(&self, records: u64) {
        for sink in &self.running {
            let stats = sink.giver.stats();
            stats.find(records);
            stats.drop_records(records);
        }
    }

    pub(super) fn figures(&self) -> Vec<SinkFigures> {
        let figures = |(sink, stats): &(&'static str, Arc<SinkStats>)| {
            let [delivered, failed, dropped, waiting] =
                [&stats.delivered, &stats.failed, &stats.dropped, &stats.waiting].map(|n| n.load(Ordering::Relaxed));
            SinkFigures { sink, delivered, failed, dropped, waiting }
        };
        self.stats.iter().map(figures).collect()
    }

    /// Ends all. Who is not done in time is left behind.
    pub(super) fn end_all(&mut self) {
        let due = Instant::now() + LAST_WORDS;
        self.ending.extend(self.running.drain(..).map(|sink| sink.worker));
        self.take_histories().iter().for_each(|history| history.close());
        while self.ending.iter().any(|worker| !worker.is_done()) && Instant::now() < due {
            std::thread::sleep(Duration::from_millis(5));
        }
        for worker in self.ending.drain(..) {
            let Worker::Thread(thread) = worker else { continue };
            if !thread.is_finished() {
                log::warn!("audit: a sink is not done in time; what it holds is lost, or in its spool");
            } else if thread.join().is_err() {
                log::error!("audit: a sink had panicked");
            }
        }
    }
}

impl Worker {
    fn is_done(&self) -> bool {
        match self {
            Worker::Thread(thread) => thread.is_finished(),
            Worker::History(history) => history.is_over(),
            Worker::None => true,
        }
    }

    fn history(&self) -> Option<&Arc<History>> {
        match self {
            Worker::History(history) => Some(history),
            Worker::Thread(_) | Worker::None => None,
        }
    }
}

/// Begins a thread that stands back behind those that serve.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
    let stands_back = move || {
        stand_back();
        run();
    };
    Builder::new().name(format!("weir-{name}")).spawn(stands_back).map(Worker::Thread)
}
