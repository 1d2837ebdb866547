//! One connection of the load: the request that goes out, the answer that comes in.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddrV4, TcpStream};

use super::reply::{Expected, Fault, Progress, Reply};
use super::requests::Requests;
use super::tally::Tally;
use crate::sys::{self, Epoll};

/// Reads of one connection before the others have their turn.
const TURN_READS: usize = 8;

/// A connection, whether it stands or not.
pub(super) struct Conn {
    stream: Option<TcpStream>,
    /// Tells its present socket from those before it.
    generation: u32,
    /// The socket took bytes: from then on it counts as connected.
    established: bool,
    pub(super) state: State,
    reply: Reply,
    key: usize,
    written: usize,
    /// When the request was to begin.
    intended: u64,
    first_byte_seen: bool,
    last_event: Option<u64>,
}

/// What a connection is doing. The times are what its limit counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: it waits for a request.
    Idle,
    /// A request is on its way, or its answer, since this time.
    Busy(u64),
    /// Its answer is whole, and the other side is to close it, since this time.
    Leaving(u64),
    /// It failed at this time, and waits a little before the next request.
    Failed(u64),
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Wait for the socket.
    Waiting,
    /// There may be more to read, once the others had their turn.
    More,
    /// The connection is free for another request.
    Free,
}

/// A fault and what is known of it.
pub(super) struct Failure(pub(super) Fault, pub(super) String);

impl Conn {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            stream: None,
            generation: 0,
            established: false,
            state: State::Idle,
            reply: Reply::new(expected),
            key: 0,
            written: 0,
            intended: 0,
            first_byte_seen: false,
            last_event: None,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }

    /// Whether an event stream has begun and not ended.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.state, State::Busy(_)) && self.reply.events().is_some()
    }

    pub(super) fn close(&mut self) {
        if self.stream.take().is_some() {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Begins a request, on a new connection if there is none.
    pub(super) fn begin(
        &mut self,
        slot: usize,
        intended: u64,
        requests: &mut Requests,
        epoll: &Epoll,
        target: SocketAddrV4,
    ) -> Result<(), Failure> {
        self.reply.reset();
        (self.key, self.written, self.intended) = (requests.turn(), 0, intended);
        (self.first_byte_seen, self.last_event) = (false, None);
        self.state = State::Busy(sys::now());
        if self.stream.is_none() {
            self.established = false;
            let connect = |error: io::Error| Failure(Fault::Connect, error.to_string());
            let stream = sys::connect(target).map_err(connect)?;
            epoll.add(&stream, sys::token(slot, self.generation)).map_err(connect)?;
            self.stream = Some(stream);
        }
        self.write(requests)
    }

    /// Writes what the socket takes of the request.
    pub(super) fn write(&mut self, requests: &Requests) -> Result<(), Failure> {
        let (State::Busy(_), Some(stream)) = (self.state, &mut self.stream) else { return Ok(()) };
        loop {
            let result = match requests.from(self.key, self.written) {
                ([], []) => return Ok(()),
                (piece, []) => stream.write(piece),
                (first, second) => stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            };
            match result {
                Ok(count) => {
                    self.established = true;
                    self.written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An answer may stand before the end: reading tells.
                Err(_) if self.established => return Ok(()),
                Err(error) => return Err(Failure(Fault::Connect, error.to_string())),
            }
        }
    }

    /// Reads what is there. `to_the_end` says that the other side closed, so that no later event will.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        requests: &Requests,
        tally: &mut Tally,
        settings: Settings,
        to_the_end: bool,
    ) -> Result<Outcome, Failure> {
        for _ in 0..TURN_READS {
            let Some(stream) = &mut self.stream else { return Ok(Outcome::Waiting) };
            match stream.read(buffer) {
                Ok(0) => return self.end(tally),
                Ok(count) => {
                    if self.take(&buffer[..count], requests, tally, settings)? {
                        if to_the_end {
                            self.close();
                        }
                        return Ok(Outcome::Free);
                    }
                    if count < buffer.len() && !to_the_end {
                        return Ok(Outcome::Waiting);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Outcome::Waiting),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.broken(&error),
            }
        }
        Ok(Outcome::More)
    }

    /// Reads bytes of an answer; true if the connection is free with them.
    fn take(
        &mut self,
        bytes: &[u8],
        requests: &Requests,
        tally: &mut Tally,
        settings: Settings,
    ) -> Result<bool, Failure> {
        let State::Busy(since) = self.state else {
            return Err(Failure(Fault::Framing, format!("{} bytes that no request asked for", bytes.len())));
        };
        let now = sys::now();
        if settings.silence_counts {
            self.state = State::Busy(now);
        }
        if !self.first_byte_seen {
            self.first_byte_seen = true;
            tally.first_byte.record(now - self.intended);
        }
        let body_before = self.reply.body_bytes();
        let last_event = &mut self.last_event;
        let progress = self.reply.feed(bytes, |event| {
            tally.events += 1;
            if let Some(before) = last_event.replace(now) {
                tally.gap.record(now - before);
            }
            if let Some(written) = event.written {
                tally.event_delay.record(now.saturating_sub(written));
            }
        });
        let body_bytes = self.reply.body_bytes() - body_before;
        tally.bytes += body_bytes;
        tally.reads += u64::from(body_bytes > 0 && self.reply.events().is_some());
        match progress {
            Ok(Progress::More) => Ok(false),
            Ok(progress) => {
                self.finished(now, tally);
                let unwritten = requests.from(self.key, self.written) != (&[], &[]);
                if unwritten {
                    // An answer before the request's end: what is left of the request is never sent.
                    self.close();
                }
                if unwritten || (progress == Progress::Whole && !settings.reconnect) {
                    self.state = State::Idle;
                    return Ok(true);
                }
                self.state = State::Leaving(now);
                Ok(false)
            }
            Err(fault) => {
                self.state = State::Busy(since);
                Err(self.failure(fault, bytes))
            }
        }
    }

    /// Counts an answer that is whole.
    fn finished(&mut self, now: u64, tally: &mut Tally) {
        if self.reply.has_other_status() {
            tally.fault(Fault::Status, self.reply.status());
        } else {
            tally.requests += 1;
            tally.latency.record(now - self.intended);
        }
    }

    /// The other side closed the connection.
    fn end(&mut self, tally: &mut Tally) -> Result<Outcome, Failure> {
        let was = self.state;
        let ended = self.reply.end();
        match (was, ended) {
            (State::Busy(_), Err(fault)) => return Err(self.failure(fault, &[])),
            (State::Busy(_), Ok(())) => self.finished(sys::now(), tally),
            _ => {}
        }
        self.close();
        self.state = State::Idle;
        Ok(if was == State::Idle { Outcome::Waiting } else { Outcome::Free })
    }

    fn broken(&mut self, error: &io::Error) -> Result<Outcome, Failure> {
        match self.state {
            State::Busy(_) if self.established => Err(Failure(Fault::Closed, error.to_string())),
            State::Busy(_) => Err(Failure(Fault::Connect, error.to_string())),
            state => {
                self.close();
                self.state = State::Idle;
                Ok(if state == State::Idle { Outcome::Waiting } else { Outcome::Free })
            }
        }
    }

    fn failure(&self, fault: Fault, bytes: &[u8]) -> Failure {
        let events = self.reply.events().map(|event| format!(", at event {event}")).unwrap_or_default();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        Failure(
            fault,
            format!("status {}, {} bytes of body{events}, in {shown:?}", self.reply.status(), self.reply.body_bytes()),
        )
    }
}

/// What all connections have in common.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    /// A connection for each request.
    pub(super) reconnect: bool,
    /// The timeout counts from the last byte and not from the request.
    pub(super) silence_counts: bool,
}
