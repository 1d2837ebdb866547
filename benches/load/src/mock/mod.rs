//! An upstream that speaks like OpenAI and answers what `x-bench` asks for.
//!
//! One thread, edge-triggered. Paced streams stand in one heap by the time of their next event; streams that
//! are as fast as their sockets take turns. It knows nothing of the proxies before it.

mod conn;
mod intake;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::args::MockOptions;
use crate::sys::{self, Epoll, Ready, ReadySet};
use conn::{Conn, Need};

pub(crate) use intake::UPSTREAM_KEY;

/// A request of 100 KB comes in one read; larger ones take more.
const READ_BYTES: usize = 256 * 1024;

const LISTENER: u64 = u64::MAX;

/// How long accepting rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves until a signal ends the process.
pub(crate) fn run(options: &MockOptions) -> io::Result<Infallible> {
    sys::prepare_process()?;
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    // What is accepted inherits it.
    sys::without_pacing(&listener)?;
    let mut mock = Mock {
        epoll: Epoll::new()?,
        slots: Vec::new(),
        free: Vec::new(),
        turns: VecDeque::new(),
        times: BinaryHeap::new(),
        phase: 0,
        buffer: vec![0; READ_BYTES],
        scratch: Vec::new(),
    };
    mock.epoll.add_listener(&listener, LISTENER)?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening {}", listener.local_addr()?)?;
    out.flush()?;

    let tick = u64::try_from(options.tick.as_nanos()).unwrap_or(u64::MAX).max(1);
    let mut ready = ReadySet::new();
    loop {
        mock.epoll.wait(&mut ready, mock.patience(tick))?;
        for index in 0..ready.len() {
            match ready.get(index) {
                Ready { token: LISTENER, .. } => mock.accept(&listener)?,
                ready => mock.ready(ready),
            }
        }
        mock.due();
        for _ in 0..mock.turns.len() {
            let Some(token) = mock.turns.pop_front() else { break };
            mock.on(token, |conn, mock| conn.proceed(&mut mock.scratch));
        }
    }
}

struct Mock {
    epoll: Epoll,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Streams that write as fast as they can.
    turns: VecDeque<u64>,
    /// Paced streams by their next event's time.
    times: BinaryHeap<Reverse<(u64, u64)>>,
    /// The share of an interval, of 2^64, by which the last paced stream started later.
    phase: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    conn: Option<Conn>,
    /// Tells a connection from those that had the slot before it.
    generation: u32,
}

impl Mock {
    /// How long nothing is to be written: up to the tick that follows the next event's time.
    fn patience(&self, tick: u64) -> Option<u64> {
        if !self.turns.is_empty() {
            return Some(0);
        }
        let Reverse((due, _)) = self.times.peek()?;
        Some(due.next_multiple_of(tick).saturating_sub(sys::now()))
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    std::thread::sleep(ACCEPT_PAUSE);
                    return Ok(());
                }
                // A client that left before it was accepted.
                Err(_) => continue,
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            });
            self.epoll.add(&stream, sys::token(slot, self.slots[slot].generation))?;
            self.slots[slot].conn = Some(Conn::new(stream));
        }
    }

    fn ready(&mut self, ready: Ready) {
        if ready.hung_up {
            // A proxy that closes has no use for an answer.
            return self.on(ready.token, |_, _| Ok(Need::End));
        }
        if ready.writable {
            self.on(ready.token, |conn, mock| conn.writable(&mut mock.scratch));
        }
        if ready.readable {
            self.on(ready.token, |conn, mock| conn.readable(&mut mock.buffer, &mut mock.scratch, &mut mock.phase));
        }
    }

    /// Writes the events whose time has come.
    fn due(&mut self) {
        let Some(Reverse((first, _))) = self.times.peek() else { return };
        let now = sys::now();
        if *first > now {
            return;
        }
        while let Some(Reverse((due, token))) = self.times.peek().copied() {
            if due > now {
                return;
            }
            self.times.pop();
            self.on(token, |conn, mock| conn.proceed(&mut mock.scratch));
        }
    }

    /// Lets a connection work, if it is still there, and notes what it needs next.
    fn on(&mut self, token: u64, work: impl FnOnce(&mut Conn, &mut Self) -> io::Result<Need>) {
        let (slot, generation) = sys::slot_of(token);
        let entry = &mut self.slots[slot];
        if entry.generation != generation {
            return;
        }
        let Some(mut conn) = entry.conn.take() else { return };
        match work(&mut conn, self) {
            Ok(Need::End) | Err(_) => {
                self.slots[slot].generation = generation.wrapping_add(1);
                self.free.push(slot);
                return;
            }
            Ok(Need::Turn) => self.turns.push_back(token),
            Ok(Need::Time(due)) => self.times.push(Reverse((due, token))),
            Ok(Need::Readiness) => {}
        }
        self.slots[slot].conn = Some(conn);
    }
}
