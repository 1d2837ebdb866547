//! The Loki sink: takes records off its queue, pushes them in their order, and keeps them while it cannot.
//!
//! Owns the one thread on which all of that happens. While a push is under way the queue is emptied all the same:
//! into memory, and into the spool as soon as the push fails or takes long. So nothing that Loki does fills the
//! queue, as long as the spool has room. Every record that was taken is delivered, refused or dropped, and counted
//! once; what the end leaves in the spool counts again where it is found. Delivery is at least once: a push without an
//! answer is repeated as it was, and Loki knows a record again by its time and line. Refuses to know how a push is
//! written (`weir_filters::loki`) and where a record comes from.

mod backlog;
mod gather;
mod push;
mod spool;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use weir_filters::backoff::backoff;
use weir_filters::loki::{Format, Labels, Verdict, body};

use self::backlog::{Backlog, MAX_MEMORY};
use self::gather::Gather;
use self::push::{Outcome, Pusher};
use self::spool::{Disk, RealDisk, Spool};
use super::queue::{Next, SinkStats, Taker};
use crate::config::{Loki, LokiFormat};

/// How long the end may take, for what Loki takes at once.
const LAST_TRIES: Duration = Duration::from_secs(3);
/// How long a push may take before what waits for it is brought to the disk, where kill -9 does not reach it.
const SLOW: Duration = Duration::from_secs(1);
/// How often it is looked for what other processes have left, and the longest that the thread sleeps.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// How often the queue is emptied during a push: 32 MiB would have to come in this time to fill it.
const TICK: Duration = Duration::from_millis(20);
/// Batches that are taken off the queue in one go, so that a flood of them does not keep pushes from being made.
const AT_ONCE: usize = 64;
/// How often the log may say the same.
const SELDOM: Duration = Duration::from_secs(60);

/// A Loki that records are pushed to.
pub(crate) struct LokiSink {
    pusher: Pusher,
    labels: Labels,
    format: Format,
    config: Loki,
    spool: PathBuf,
    disk: Box<dyn Disk>,
    /// [`backoff`] and [`MAX_MEMORY`], unless a test has less time and fewer records.
    backoff: fn(u32, u64) -> Duration,
    max_memory: usize,
}

impl LokiSink {
    /// A sink that is not connected yet. What it cannot deliver waits in the directory `spool`, which other processes
    /// may share. `authorities`: a file of certificates that are trusted beside the system's.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub(crate) fn new(config: &Loki, spool: PathBuf, authorities: Option<&Path>) -> io::Result<Self> {
        let format = match config.format {
            LokiFormat::Protobuf => Format::Protobuf,
            LokiFormat::Json => Format::Json { gzip: config.gzip },
        };
        Ok(Self {
            pusher: Pusher::new(config, authorities)?,
            labels: Labels::new(config.labels.iter().cloned()),
            format,
            config: config.clone(),
            spool,
            disk: Box::new(RealDisk),
            backoff,
            max_memory: MAX_MEMORY,
        })
    }

    /// Delivers what comes, until the queue is closed and what is left is delivered or in the spool, which takes some
    /// seconds at most. It wants a thread of its own.
    pub(crate) fn run(self, taker: Taker) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                log::error!("the thread for Loki cannot be started: {e}; no record goes there");
                return;
            }
        };
        runtime.block_on(Work::new(self, taker).run());
        // A name server that does not answer is not waited for.
        runtime.shutdown_background();
    }
}

/// A sink at work.
struct Work {
    pusher: Pusher,
    labels: Labels,
    format: Format,
    backoff: fn(u32, u64) -> Duration,
    intake: Intake,
    /// Failures since the last push that succeeded.
    failures: u32,
    /// Until when Loki is left alone.
    rests_until: Instant,
    failure_notes: Seldom,
    refusal_notes: Seldom,
}

/// The way from the queue to the backlog. It goes on while a push is under way.
struct Intake {
    taker: Taker,
    gather: Gather,
    backlog: Backlog,
    looks_at: Instant,
    /// When all is over; `None`: the queue is not closed.
    ends_at: Option<Instant>,
}

impl Work {
    fn new(sink: LokiSink, taker: Taker) -> Self {
        let LokiSink { pusher, labels, format, config, spool, disk, backoff, max_memory } = sink;
        let stats: Arc<SinkStats> = taker.stats().clone();
        let spool = (config.spool > 0).then(|| Spool::new(spool, config.spool, disk, stats.clone()));
        let delivery = config.delivery;
        let now = Instant::now();
        let intake = Intake {
            gather: Gather::new(delivery.batch, delivery.batch_wait, labels.clone(), stats.clone()),
            backlog: Backlog::new(spool, max_memory, stats),
            taker,
            looks_at: now,
            ends_at: None,
        };
        Self {
            pusher,
            labels,
            format,
            backoff,
            intake,
            failures: 0,
            rests_until: now,
            failure_notes: Seldom::default(),
            refusal_notes: Seldom::default(),
        }
    }

    async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.intake.take_in(now);
            if self.failures > 0 {
                self.intake.backlog.spill();
            }
            let (waits, rests) = (!self.intake.backlog.is_empty(), now < self.rests_until);
            match self.intake.ends_at {
                Some(_) if !waits => break,
                Some(end) if now >= end || rests && self.rests_until >= end => break,
                _ if waits && !rests => self.push_part().await,
                Some(_) => sleep_until(self.rests_until.into()).await,
                None => self.intake.wait(waits.then_some(self.rests_until)),
            }
        }
        self.intake.backlog.end();
    }

    /// Pushes what is next, and empties the queue meanwhile.
    async fn push_part(&mut self) {
        let Some((frame, part)) = self.intake.backlog.part() else { return };
        let body = body(frame.entries().skip(part.start).take(part.len()), &self.labels, self.format);
        let begun = Instant::now();
        let outcome = {
            let mut push = pin!(self.pusher.push(body));
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut push => break outcome,
                    () = sleep(TICK) => {}
                }
                let now = Instant::now();
                self.intake.take_in(now);
                if self.failures > 0 || now >= begun + SLOW {
                    self.intake.backlog.spill();
                }
                if self.intake.ends_at.is_some_and(|end| now >= end) {
                    return;
                }
            }
        };
        self.settle(outcome, part.len());
    }

    fn settle(&mut self, outcome: Outcome, records: usize) {
        let backlog = &mut self.intake.backlog;
        let Outcome { verdict, said, after } = outcome;
        match verdict {
            Verdict::Taken => backlog.taken(),
            Verdict::Refused | Verdict::RefusedInPart => {
                let in_part = verdict == Verdict::RefusedInPart;
                backlog.refused(in_part);
                if self.refusal_notes.is_time() {
                    let what = if in_part { "some or all of " } else { "" };
                    log::warn!("Loki refuses {what}{records} records: {said}");
                }
            }
            Verdict::Again => {
                self.failures = self.failures.saturating_add(1);
                let own = (self.backoff)(self.failures, getrandom::u64().unwrap_or_default());
                self.rests_until = Instant::now() + after.map_or(own, |after| after.max(own));
                backlog.again();
                backlog.spill();
                if self.failure_notes.is_time() {
                    log::warn!("Loki takes no records, which wait: {said}");
                }
                return;
            }
        }
        if std::mem::take(&mut self.failures) > 0 {
            log::info!("Loki answers again");
        }
    }
}

impl Intake {
    /// Takes what the queue has.
    fn take_in(&mut self, now: Instant) {
        if now >= self.looks_at {
            self.looks_at = now + LOOK_AROUND;
            self.gather.not_before(self.backlog.adopt());
        }
        for _ in 0..AT_ONCE {
            if !self.take_one(now) {
                break;
            }
        }
        if self.ends_at.is_some() || self.gather.due().is_some_and(|due| now >= due) {
            self.gather.take().into_iter().for_each(|frame| self.backlog.put(frame));
        }
    }

    /// Waits for a batch until `deadline` at most, and until something else is to be done.
    fn wait(&mut self, deadline: Option<Instant>) {
        let times = [deadline, self.gather.due(), Some(self.looks_at)];
        let until = times.into_iter().flatten().min().unwrap_or(self.looks_at);
        self.take_one(until);
    }

    /// Takes a batch, waited for until `until` at most; `false`: there is none.
    fn take_one(&mut self, until: Instant) -> bool {
        match self.taker.next(until) {
            Next::Batch(batch) => {
                self.gather.add(&batch, Instant::now(), |frame| self.backlog.put(frame));
                true
            }
            Next::Nothing => false,
            Next::Closed => {
                self.ends_at.get_or_insert_with(|| Instant::now() + LAST_TRIES);
                false
            }
        }
    }
}

/// Keeps the log short.
#[derive(Debug, Default)]
struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be said; it counts as said then.
    fn is_time(&mut self) -> bool {
        let is_time = self.0.is_none_or(|last| last.elapsed() >= SELDOM);
        if is_time {
            self.0 = Some(Instant::now());
        }
        is_time
    }
}
