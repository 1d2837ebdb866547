//! An upstream that speaks like OpenAI and answers what `x-bench` asks for.
//!
//! Edge-triggered, without a thread of its own: `run` gives it one, or the load shares its thread. Paced streams stand in one heap by the time of their next event; streams that
//! are as fast as their sockets take turns. It knows nothing of the proxies before it.

mod conn;
mod intake;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
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

/// Serves until a signal ends the process, and sleeps while there is nothing to do.
pub(crate) fn run(options: &MockOptions) -> io::Result<Infallible> {
    sys::prepare_process()?;
    let mut mock = Mock::listen(options)?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening {}", mock.address()?)?;
    out.flush()?;
    loop {
        mock.turn(mock.patience(), usize::MAX)?;
    }
}

/// An upstream that listens. Whoever has it gives it its turns.
pub(crate) struct Mock {
    listener: TcpListener,
    epoll: Epoll,
    reported: ReadySet,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Streams that write as fast as they can.
    turns: VecDeque<u64>,
    /// Paced streams by their next event's time.
    times: BinaryHeap<Reverse<(u64, u64)>>,
    /// Paced events are written at multiples of these nanoseconds.
    tick: u64,
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
    pub(crate) fn listen(options: &MockOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        // What is accepted inherits it.
        sys::without_pacing(&listener)?;
        let epoll = Epoll::new()?;
        epoll.add_listener(&listener, LISTENER)?;
        Ok(Self {
            listener,
            epoll,
            reported: ReadySet::new(),
            slots: Vec::new(),
            free: Vec::new(),
            turns: VecDeque::new(),
            times: BinaryHeap::new(),
            tick: u64::try_from(options.tick.as_nanos()).unwrap_or(u64::MAX).max(1),
            phase: 0,
            buffer: vec![0; READ_BYTES],
            scratch: Vec::new(),
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddrV4> {
        match self.listener.local_addr()? {
            SocketAddr::V4(address) => Ok(address),
            SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Waits up to `patience` nanoseconds for sockets (`None` is for ever), then does what is to be done, but lets
    /// no more than `most` streams write that write without having been asked. Returns whether there was anything.
    pub(crate) fn turn(&mut self, patience: Option<u64>, most: usize) -> io::Result<bool> {
        self.epoll.wait(&mut self.reported, patience)?;
        for index in 0..self.reported.len() {
            match self.reported.get(index) {
                Ready { token: LISTENER, .. } => self.accept()?,
                ready => self.ready(ready),
            }
        }
        let due = self.due(most);
        let turns = self.turns.len().min(most);
        for _ in 0..turns {
            let Some(token) = self.turns.pop_front() else { break };
            self.on(token, |conn, mock| conn.proceed(&mut mock.scratch));
        }
        Ok(self.reported.len() + due + turns > 0)
    }

    /// How long nothing is to be written.
    fn patience(&self) -> Option<u64> {
        if !self.turns.is_empty() {
            return Some(0);
        }
        let Reverse((due, _)) = self.times.peek()?;
        Some(self.tick_of(*due).saturating_sub(sys::now()))
    }

    /// When an event is written that is due at this time: at the tick that follows.
    fn tick_of(&self, due: u64) -> u64 {
        due.checked_next_multiple_of(self.tick).unwrap_or(due)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
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

    /// Lets up to `most` streams write the events whose tick has come; returns how many did.
    fn due(&mut self, most: usize) -> usize {
        let Some(Reverse((first, _))) = self.times.peek() else { return 0 };
        let now = sys::now();
        if self.tick_of(*first) > now {
            return 0;
        }
        let mut count = 0;
        while let Some(Reverse((due, token))) = self.times.peek().copied() {
            if count == most || self.tick_of(due) > now {
                break;
            }
            self.times.pop();
            self.on(token, |conn, mock| conn.proceed(&mut mock.scratch));
            count += 1;
        }
        count
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
