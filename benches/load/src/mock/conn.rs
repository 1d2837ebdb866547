//! One connection of a proxy: the request that comes in, the answer that goes out.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;

use super::intake::{Asked, Intake, Verdict};
use crate::answer::{self, JSON_BODY, Script};
use crate::bench::{Bench, Sse};
use crate::sys;

/// Writes of one unpaced stream before the others have their turn.
const TURN_WRITES: usize = 16;

/// The golden ratio's fraction of 2^64: its multiples lie evenly in an interval, however many there are.
const PHASE_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
    x-request-id: req-bench\r\ntransfer-encoding: chunked\r\n\r\n";

static JSON_ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| json_answer("200 OK", JSON_BODY));

/// A connection and what is to be written to it.
pub(super) struct Conn {
    stream: TcpStream,
    intake: Intake,
    answering: Option<Answering>,
    /// Bytes that the socket did not take yet.
    unwritten: Vec<u8>,
    close: bool,
}

enum Answering {
    /// All of it is with the socket or in `unwritten`.
    Whole,
    Stream(Stream),
}

struct Stream {
    sse: Sse,
    script: Script,
    next: u64,
    /// When event 0 is due.
    start: u64,
}

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To be told when its socket is ready.
    Readiness,
    /// Another turn, once the others had theirs.
    Turn,
    /// To be called at this time.
    Time(u64),
    /// To be dropped.
    End,
}

impl Conn {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, intake: Intake::new(), answering: None, unwritten: Vec::new(), close: false }
    }

    /// Reads what is there and begins the answer of a whole request. `phase` is the share of an interval, of
    /// 2^64, by which the last paced stream started later; the next gets its own.
    pub(super) fn readable(&mut self, buffer: &mut [u8], scratch: &mut Vec<u8>, phase: &mut u64) -> io::Result<Need> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Ok(Need::End),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Need::Readiness),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.answering.is_some() {
                return Err(io::Error::other("bytes behind a request that is being answered"));
            }
            if let Some(asked) = self.intake.feed(&buffer[..count]) {
                return self.answer(asked, scratch, phase);
            }
            if count < buffer.len() {
                return Ok(Need::Readiness);
            }
        }
    }

    /// Goes on with an answer that waited for the socket.
    pub(super) fn writable(&mut self, scratch: &mut Vec<u8>) -> io::Result<Need> {
        if self.unwritten.is_empty() {
            return Ok(Need::Readiness);
        }
        let waiting = std::mem::take(&mut self.unwritten);
        let taken = self.write(&waiting);
        self.unwritten = waiting;
        self.unwritten.drain(..taken?);
        if self.unwritten.is_empty() { self.proceed(scratch) } else { Ok(Need::Readiness) }
    }

    /// Writes what is due of the answer.
    pub(super) fn proceed(&mut self, scratch: &mut Vec<u8>) -> io::Result<Need> {
        for _ in 0..TURN_WRITES {
            match &mut self.answering {
                Some(Answering::Stream(stream)) if stream.next < stream.script.total() => {
                    if let Some(due) = stream.due().filter(|due| *due > sys::now()) {
                        return Ok(Need::Time(due));
                    }
                    scratch.clear();
                    stream.push(scratch);
                    if !self.send(scratch)? {
                        return Ok(Need::Readiness);
                    }
                }
                _ => {
                    self.answering = None;
                    return Ok(if self.close { Need::End } else { Need::Readiness });
                }
            }
        }
        Ok(Need::Turn)
    }

    fn answer(&mut self, asked: Asked, scratch: &mut Vec<u8>, phase: &mut u64) -> io::Result<Need> {
        self.close = asked.close;
        self.answering = Some(Answering::Whole);
        let sent = match asked.verdict {
            Verdict::Serve(Bench::Json) => self.send(&JSON_ANSWER)?,
            Verdict::Serve(Bench::Sse(sse)) => {
                *phase = phase.wrapping_add(PHASE_STEP);
                let later = (u128::from(sse.every) * u128::from(*phase)) >> 64;
                let script = Script::new(sse.events, asked.report);
                let mut stream = Stream { sse, script, next: 0, start: sys::now() + u64::try_from(later).unwrap_or(0) };
                scratch.clear();
                scratch.extend_from_slice(STREAM_HEAD);
                if sse.every == 0 {
                    stream.push(scratch);
                }
                self.answering = Some(Answering::Stream(stream));
                self.send(scratch)?
            }
            Verdict::Forbidden => self.send(&refusal("403 Forbidden", "not the upstream's key"))?,
            Verdict::Bad(reason) => self.send(&refusal("400 Bad Request", reason))?,
        };
        if sent { self.proceed(scratch) } else { Ok(Need::Readiness) }
    }

    /// Writes all of it, or keeps the rest and gives false.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let taken = self.write(bytes)?;
        self.unwritten.extend_from_slice(&bytes[taken..]);
        Ok(taken == bytes.len())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

impl Stream {
    /// When the next event is due; `None` is always. Never "after the last write": a late event does not move
    /// the others.
    fn due(&self) -> Option<u64> {
        (self.sse.every > 0).then(|| self.start + self.next * self.sse.every)
    }

    /// Appends the events of one write.
    fn push(&mut self, out: &mut Vec<u8>) {
        let count = if self.sse.every > 0 { 1 } else { self.sse.batch };
        let now = sys::now();
        for _ in 0..count.min(self.script.total() - self.next) {
            answer::push_chunk(out, self.next, self.script, now);
            self.next += 1;
        }
    }
}

fn json_answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: req-bench\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn refusal(status: &str, reason: &str) -> Vec<u8> {
    json_answer(status, format!(r#"{{"error":{{"message":"{reason}","type":"bench"}}}}"#).as_bytes())
}
