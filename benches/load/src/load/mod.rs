//! The load: requests on many connections, every answer checked, the window's figures in one report.
//!
//! One thread, edge-triggered, no timer per request: limits are looked after together, every few milliseconds.
//! In a closed loop each connection sends its next request when its answer is whole. In an open loop requests
//! arrive at constant spacing, whatever the answers do; one that finds no free connection waits, and its
//! latency counts from its arrival.
//!
//! With a mock in the same thread both are polled without a pause. Neither ever sleeps, so no proxy between them is
//! charged for waking them.

mod conn;
mod reply;
mod requests;
mod tally;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::args::LoadOptions;
use crate::mock::Mock;
use crate::sys::{self, Epoll, Ready, ReadySet};
use conn::{Conn, Failure, Outcome, Settings, State};
use reply::{Expected, Fault};
use requests::Requests;
use tally::{CpuTimes, Tally, Window};

/// One read takes what a fast stream has sent meanwhile.
const READ_BYTES: usize = 256 * 1024;

/// How often limits are looked after, in nanoseconds.
const SWEEP: u64 = 10_000_000;

/// After a fault a connection waits this long, so that a target that is down is not hammered.
const REST: u64 = 10_000_000;

/// How long the other side may take to close a connection that both agreed to close.
const LEAVE: u64 = 1_000_000_000;

/// The share of the warm-up in which paced streams are opened, and in which other connections are, in percent.
const PACED_RAMP: u64 = 60;
const RAMP: u64 = 10;

/// How long the first connection may take.
const REACH: Duration = Duration::from_secs(2);

/// How many streams of a mock in this thread write before the load reads again: each write is a few microseconds, and
/// an event that has arrived waits for so long.
const MOCK_STREAMS: usize = 4;

/// How long a mock in this thread outlives the load's connections: a proxy learns that its clients have left, and not
/// that its upstream has failed.
const FAREWELL: u64 = 100_000_000;

/// Why there is no report.
pub(crate) enum CannotRun {
    /// The arguments ask for what cannot be.
    Arguments(String),
    /// The address cannot be reached or listened on, or the system refuses.
    System(SocketAddrV4, io::Error),
}

/// Runs the load and returns the report.
pub(crate) fn run(options: &LoadOptions) -> Result<String, CannotRun> {
    if let Some(pid) = options.pids.iter().find(|pid| sys::cpu_of(**pid).is_err()) {
        return Err(CannotRun::Arguments(format!("--cpu: there is no process {pid}")));
    }
    let (mock, target) = match &options.mock {
        Some(mock_options) => {
            let refused = |error| CannotRun::System(mock_options.listen, error);
            let mock = Mock::listen(mock_options).map_err(refused)?;
            let target = options.target.map_or_else(|| mock.address(), Ok).map_err(refused)?;
            (Some(mock), target)
        }
        None => (None, options.target.ok_or_else(|| CannotRun::Arguments("--target is missing".into()))?),
    };
    let requests = Requests::build(options, target).map_err(CannotRun::Arguments)?;
    measure(options, requests, mock, target).map_err(|error| CannotRun::System(target, error))
}

fn measure(
    options: &LoadOptions,
    requests: Requests,
    mut mock: Option<Mock>,
    target: SocketAddrV4,
) -> io::Result<String> {
    sys::prepare_process()?;
    if let Some(mock) = &mut mock {
        serve(mock, nanos(options.delay))?;
    }
    drop(TcpStream::connect_timeout(&target.into(), REACH)?);
    Load::new(options, requests, mock, target)?.run()
}

/// Gives a mock all turns for so many nanoseconds.
fn serve(mock: &mut Mock, nanos: u64) -> io::Result<()> {
    let end = sys::now() + nanos;
    while sys::now() < end {
        mock.turn(Some(0), MOCK_STREAMS)?;
    }
    Ok(())
}

struct Load<'a> {
    options: &'a LoadOptions,
    settings: Settings,
    requests: Requests,
    /// It has its turns from this thread.
    mock: Option<Mock>,
    target: SocketAddrV4,
    epoll: Epoll,
    conns: Vec<Conn>,
    /// Connections of an open loop that have no request.
    free: VecDeque<usize>,
    arrivals: Option<Arrivals>,
    tally: Tally,
    buffer: Vec<u8>,
    start: u64,
    /// Connections of a closed loop that have begun.
    opened: usize,
}

/// The requests of an open loop: the i-th is intended at start + i * spacing.
struct Arrivals {
    start: u64,
    /// In nanoseconds.
    spacing: f64,
    begun: u64,
}

impl Arrivals {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a day: exact in both types")]
    fn next(&self) -> u64 {
        self.start + (self.begun as f64 * self.spacing) as u64
    }

    /// How many have arrived and have not begun.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a day: exact in both types")]
    fn waiting(&self, now: u64) -> u64 {
        (((now - self.start) as f64 / self.spacing) as u64 + 1).saturating_sub(self.begun)
    }
}

impl<'a> Load<'a> {
    fn new(options: &'a LoadOptions, requests: Requests, mock: Option<Mock>, target: SocketAddrV4) -> io::Result<Self> {
        let expected = Expected { status: options.expect_status, bench: options.bench, report: options.include_usage };
        let start = sys::now();
        Ok(Self {
            options,
            settings: Settings { reconnect: options.reconnect, silence_counts: options.bench.is_paced() },
            requests,
            mock,
            target,
            epoll: Epoll::new()?,
            conns: (0..options.connections).map(|_| Conn::new(expected)).collect(),
            free: (0..if options.rate.is_some() { options.connections } else { 0 }).collect(),
            arrivals: options.rate.map(|rate| Arrivals { start, spacing: 1e9 / rate, begun: 0 }),
            tally: Tally::new(),
            buffer: vec![0; READ_BYTES],
            start,
            opened: 0,
        })
    }

    fn run(mut self) -> io::Result<String> {
        let window_start = self.start + nanos(self.options.warmup);
        self.run_until(window_start)?;
        self.tally.begin_window();
        let (began, cpu_start) = (sys::now(), CpuTimes::now(&self.options.pids)?);
        let worked = self.run_until(window_start + nanos(self.options.window))?;
        let (ended, own_cpu) = (sys::now(), sys::own_cpu());
        let cpu_end = CpuTimes::now(&self.options.pids).ok();
        let window = Window {
            nanos: ended - began,
            cpu: (cpu_start, cpu_end),
            own_cpu,
            worked: self.mock.is_some().then_some(worked),
            // Reading it costs the process nothing, but takes a while: streams stay open meanwhile.
            pss: self.options.pids.iter().map(|pid| (*pid, tally::pss_kib(*pid))).collect(),
            open_streams: self.conns.iter().filter(|conn| conn.is_streaming()).count(),
            waiting: self.arrivals.as_ref().map_or(0, |arrivals| arrivals.waiting(ended)),
        };
        self.conns.iter_mut().for_each(Conn::close);
        if let Some(mock) = &mut self.mock {
            serve(mock, FAREWELL)?;
        }
        Ok(tally::report(&self.tally, &window))
    }

    /// Returns how long the turns took that found something to do, in nanoseconds.
    fn run_until(&mut self, end: u64) -> io::Result<u64> {
        let mut ready = ReadySet::new();
        let mut worked = 0;
        let mut now = sys::now();
        let mut sweep = now + SWEEP;
        while now < end {
            if now >= sweep {
                self.sweep(now);
                sweep = now + SWEEP;
            }
            let mut found = self.open(now);
            found |= self.arrive(now);
            let patience = if let Some(mock) = &mut self.mock {
                found |= mock.turn(Some(0), MOCK_STREAMS)?;
                0
            } else {
                let wake = end.min(sweep).min(self.opening_time()).min(self.arrival_time());
                wake.saturating_sub(sys::now())
            };
            self.epoll.wait(&mut ready, Some(patience))?;
            for index in 0..ready.len() {
                self.ready(ready.get(index));
            }
            let ended = sys::now();
            if found || ready.len() > 0 {
                worked += ended - now;
            }
            now = ended;
        }
        Ok(worked)
    }

    /// When the next connection of a closed loop begins.
    fn opening_time(&self) -> u64 {
        let all = if self.arrivals.is_some() { 0 } else { self.conns.len() };
        if self.opened >= all {
            return u64::MAX;
        }
        let share = if self.options.bench.is_paced() { PACED_RAMP } else { RAMP };
        let ramp = nanos(self.options.warmup) / 100 * share;
        self.start + ramp / all as u64 * self.opened as u64
    }

    /// Begins the connections whose time has come; false if there was none.
    fn open(&mut self, now: u64) -> bool {
        let before = self.opened;
        while self.opening_time() <= now {
            self.opened += 1;
            self.begin(self.opened - 1, sys::now());
        }
        self.opened > before
    }

    /// When a request arrives that a connection is free for.
    fn arrival_time(&self) -> u64 {
        match &self.arrivals {
            Some(arrivals) if !self.free.is_empty() => arrivals.next(),
            _ => u64::MAX,
        }
    }

    /// Begins the requests that have arrived, as far as connections are free; false if there was none.
    fn arrive(&mut self, now: u64) -> bool {
        let mut any = false;
        while self.arrival_time() <= now {
            let intended = self.arrival_time();
            let Some(slot) = self.free.pop_front() else { break };
            self.arrivals.iter_mut().for_each(|arrivals| arrivals.begun += 1);
            self.begin(slot, intended);
            any = true;
        }
        any
    }

    fn ready(&mut self, ready: Ready) {
        let (slot, generation) = sys::slot_of(ready.token);
        let conn = &mut self.conns[slot];
        if conn.generation() != generation {
            return;
        }
        if ready.writable
            && let Err(failure) = conn.write(&self.requests)
        {
            return self.failed(slot, &failure);
        }
        if !ready.readable {
            return;
        }
        match conn.read(&mut self.buffer, &self.requests, &mut self.tally, self.settings, ready.hung_up) {
            Ok(Outcome::Waiting) => {}
            Ok(Outcome::More) => {
                if let Some(stream) = conn.stream()
                    && let Err(error) = self.epoll.again(stream, ready.token)
                {
                    self.failed(slot, &Failure(Fault::Closed, error.to_string()));
                }
            }
            Ok(Outcome::Free) => self.free(slot),
            Err(failure) => self.failed(slot, &failure),
        }
    }

    /// Gives a free connection its next request, or none yet.
    fn free(&mut self, slot: usize) {
        if self.arrivals.is_some() {
            self.free.push_back(slot);
            self.arrive(sys::now());
        } else {
            self.begin(slot, sys::now());
        }
    }

    fn begin(&mut self, slot: usize, intended: u64) {
        let conn = &mut self.conns[slot];
        if let Err(failure) = conn.begin(slot, intended, &mut self.requests, &self.epoll, self.target) {
            self.failed(slot, &failure);
        }
    }

    fn failed(&mut self, slot: usize, Failure(fault, detail): &Failure) {
        self.tally.fault(*fault, detail);
        let conn = &mut self.conns[slot];
        let had_request = matches!(conn.state, State::Busy(_) | State::Leaving(_));
        conn.close();
        conn.state = if had_request { State::Failed(sys::now()) } else { State::Idle };
    }

    /// Ends what takes too long, and begins anew what has rested.
    fn sweep(&mut self, now: u64) {
        let timeout = nanos(self.options.timeout);
        for slot in 0..self.conns.len() {
            match self.conns[slot].state {
                State::Busy(since) if now.saturating_sub(since) > timeout => {
                    let detail = format!("no answer after {:?}", self.options.timeout);
                    self.failed(slot, &Failure(Fault::Timeout, detail));
                }
                State::Leaving(since) if now.saturating_sub(since) > LEAVE => {
                    self.conns[slot].close();
                    self.conns[slot].state = State::Idle;
                    self.free(slot);
                }
                State::Failed(since) if now.saturating_sub(since) > REST => {
                    self.conns[slot].state = State::Idle;
                    self.free(slot);
                }
                _ => {}
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
