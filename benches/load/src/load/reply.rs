//! Reads one answer and checks it: status, framing, and every byte of the body.
//!
//! Bytes in, verdict out: it knows no socket and no clock.

use crate::answer::{Event, EventCheck, JSON_BODY, Script};
use crate::bench::Bench;
use crate::body::{Body, Piece};
use crate::head::{self, BadHead, Framing};

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Connect,
    Status,
    Framing,
    Body,
    Timeout,
    Closed,
}

impl Fault {
    pub(super) const ALL: [Self; 6] =
        [Self::Connect, Self::Status, Self::Framing, Self::Body, Self::Timeout, Self::Closed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Status => "status",
            Self::Framing => "framing",
            Self::Body => "body",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

impl From<BadHead> for Fault {
    fn from(_: BadHead) -> Self {
        Self::Framing
    }
}

/// What an answer is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) status: u16,
    pub(super) bench: Bench,
    /// The usage report of a stream that asked for it.
    pub(super) report: bool,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// It is whole, and the connection stays open.
    Whole,
    /// It is whole, and the other side closes the connection.
    Last,
}

/// The answer to one request.
pub(super) struct Reply {
    expected: Expected,
    /// The beginning of a head.
    held: Vec<u8>,
    state: State,
    check: Check,
    status: u16,
    close: bool,
    /// Bytes of the body so far.
    body_bytes: u64,
}

enum State {
    Head,
    Body(Body),
    Whole,
}

#[expect(clippy::large_enum_variant, reason = "an allocation for each stream would cost more")]
enum Check {
    /// The JSON answer from this place on.
    Json(usize),
    Events(EventCheck),
    /// Another status was asked for or came: its body is its sender's.
    Any,
}

impl Reply {
    pub(super) fn new(expected: Expected) -> Self {
        let (state, check) = (State::Head, Check::Any);
        Self { expected, held: Vec::new(), state, check, status: 0, close: false, body_bytes: 0 }
    }

    /// Awaits the answer to the next request.
    pub(super) fn reset(&mut self) {
        self.held.clear();
        (self.state, self.check, self.status, self.close, self.body_bytes) = (State::Head, Check::Any, 0, false, 0);
    }

    /// Whether the answer is another than was asked for, though it may be whole.
    pub(super) fn has_other_status(&self) -> bool {
        self.status != self.expected.status
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The events of an event stream so far; `None` if the answer is none, or has not begun.
    pub(super) fn events(&self) -> Option<u64> {
        match &self.check {
            Check::Events(check) => Some(check.expected()),
            _ => None,
        }
    }

    /// Takes the next bytes and reports each event that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8], on_event: impl FnMut(Event)) -> Result<Progress, Fault> {
        if !matches!(self.state, State::Head) {
            return self.body(bytes, on_event);
        }
        let mut held = std::mem::take(&mut self.held);
        let result = if held.is_empty() {
            self.heads(bytes, &mut held, on_event)
        } else {
            held.extend_from_slice(bytes);
            let joined = std::mem::take(&mut held);
            self.heads(&joined, &mut held, on_event)
        };
        self.held = held;
        result
    }

    /// The connection's end: it ends a body that has no other end.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Body(Body::UntilClose) => self.whole(),
            State::Whole => Ok(()),
            _ => Err(Fault::Closed),
        }
    }

    /// Reads heads, of which the interim ones (1xx) are passed over, then what follows.
    fn heads(&mut self, mut bytes: &[u8], held: &mut Vec<u8>, on_event: impl FnMut(Event)) -> Result<Progress, Fault> {
        loop {
            let Some(len) = head::head_len(bytes)? else {
                held.extend_from_slice(bytes);
                return Ok(Progress::More);
            };
            let (whole, rest) = bytes.split_at(len);
            bytes = rest;
            if self.head(whole)? {
                return self.body(bytes, on_event);
            }
        }
    }

    /// Reads one head; false if it is an interim one.
    fn head(&mut self, head: &[u8]) -> Result<bool, Fault> {
        let (status_line, fields) = head::split_head(head);
        let code = status_line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = code.and_then(head::number).and_then(|code| u16::try_from(code).ok()).ok_or(Fault::Framing)?;
        let mut framing = Framing::default();
        for field in fields {
            let (name, value) = field?;
            framing.note(name, value)?;
        }
        match status {
            100 | 102..200 => return Ok(false),
            200..600 => {}
            _ => return Err(Fault::Framing),
        }
        self.status = status;
        self.close = framing.close;
        let unsaid = if status == 204 || status == 304 { Body::Length(0) } else { Body::UntilClose };
        let body = framing.body(unsaid)?;
        self.close |= matches!(body, Body::UntilClose);
        self.state = State::Body(body);
        self.check = match (status, self.has_other_status(), self.expected.bench) {
            (200, false, Bench::Json) => Check::Json(0),
            (200, false, Bench::Sse(sse)) => {
                Check::Events(EventCheck::new(Script::new(sse.events, self.expected.report)))
            }
            _ => Check::Any,
        };
        Ok(true)
    }

    fn body(&mut self, mut input: &[u8], mut on_event: impl FnMut(Event)) -> Result<Progress, Fault> {
        let State::Body(body) = &mut self.state else {
            // Bytes that no request asked for.
            return Err(Fault::Framing);
        };
        loop {
            match body.next(&mut input).map_err(|_| Fault::Framing)? {
                Piece::Data(data) => {
                    self.body_bytes += data.len() as u64;
                    self.check.feed(data, &mut on_event)?;
                }
                Piece::More => return Ok(Progress::More),
                Piece::End if input.is_empty() => {
                    self.whole()?;
                    return Ok(if self.close { Progress::Last } else { Progress::Whole });
                }
                Piece::End => return Err(Fault::Framing),
            }
        }
    }

    fn whole(&mut self) -> Result<(), Fault> {
        self.state = State::Whole;
        let as_sent = match &self.check {
            Check::Json(at) => *at == JSON_BODY.len(),
            Check::Events(check) => check.is_whole(),
            Check::Any => true,
        };
        if as_sent { Ok(()) } else { Err(Fault::Body) }
    }
}

impl Check {
    fn feed(&mut self, data: &[u8], on_event: impl FnMut(Event)) -> Result<(), Fault> {
        match self {
            Self::Json(at) => {
                if !JSON_BODY[*at..].starts_with(data) {
                    return Err(Fault::Body);
                }
                *at += data.len();
                Ok(())
            }
            Self::Events(check) => check.feed(data, on_event).map_err(|_| Fault::Body),
            Self::Any => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;

    const EVENTS: u64 = 3;

    fn reply(status: u16, bench: &str) -> Reply {
        Reply::new(Expected { status, bench: Bench::parse(bench.as_bytes()).unwrap(), report: false })
    }

    fn json(fields: &str) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n", JSON_BODY.len());
        [head.as_bytes(), JSON_BODY].concat()
    }

    fn stream() -> Vec<u8> {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        (0..EVENTS).for_each(|index| answer::push_chunk(&mut bytes, index, Script::new(EVENTS, false), 7));
        bytes
    }

    fn feed(reply: &mut Reply, bytes: &[u8]) -> Result<Progress, Fault> {
        reply.feed(bytes, |_| {})
    }

    #[test]
    fn answers_are_read_at_every_split_and_one_after_another() {
        let interim = [b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(), &json("")].concat();
        for (bench, whole) in [("json", interim), ("sse;events=3", stream())] {
            let mut reply = reply(200, bench);
            for split in 1..whole.len() {
                reply.reset();
                let mut events = 0;
                assert_eq!(reply.feed(&whole[..split], |_| events += 1), Ok(Progress::More), "{bench} at {split}");
                assert_eq!(reply.feed(&whole[split..], |_| events += 1), Ok(Progress::Whole), "{bench} at {split}");
                assert_eq!(events, if bench == "json" { 0 } else { EVENTS });
                assert_eq!(reply.end(), Ok(()));
            }
        }
    }

    #[test]
    fn each_fault_of_an_answer_has_its_name() {
        let alter = |from: &str, to: &str| String::from_utf8(json("")).unwrap().replacen(from, to, 1).into_bytes();
        let extra_event =
            String::from_utf8(stream()).unwrap().replace("0\r\n\r\n", "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        let cut_stream = String::from_utf8(stream()).unwrap().replace("e\r\ndata: [DONE]\n\n\r\n", "");
        let cases: [(&str, Vec<u8>, Fault); 10] = [
            ("json", alter("HTTP/1.1", "HTTP/1.0"), Fault::Framing),
            ("json", alter("200", "2x0"), Fault::Framing),
            ("json", alter("200", "099"), Fault::Framing),
            ("json", alter("content-length", "content-length: 3\r\ncontent-length"), Fault::Framing),
            ("json", alter("weir", "Weir"), Fault::Body),
            ("json", alter("content-length: ", "content-length: 1\r\nx: "), Fault::Framing),
            ("json", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{".to_vec(), Fault::Body),
            ("json", [json(""), b"x".to_vec()].concat(), Fault::Framing),
            ("sse;events=3", extra_event.into_bytes(), Fault::Body),
            ("sse;events=3", cut_stream.into_bytes(), Fault::Body),
        ];
        for (bench, bytes, fault) in cases {
            let result = feed(&mut reply(200, bench), &bytes);
            assert_eq!(result, Err(fault), "{bench} {:?}", String::from_utf8_lossy(&bytes));
        }
        let endless = vec![b'a'; head::MAX_HEAD_BYTES + 1];
        assert_eq!(feed(&mut reply(200, "json"), &endless), Err(Fault::Framing));
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_not_whole() {
        for (bench, whole) in [("json", json("")), ("sse;events=3", stream())] {
            for cut in 0..whole.len() {
                let mut reply = reply(200, bench);
                assert_eq!(feed(&mut reply, &whole[..cut]), Ok(Progress::More));
                assert_eq!(reply.end(), Err(Fault::Closed), "{bench} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_connection_may_end_with_its_answer() {
        assert_eq!(feed(&mut reply(200, "json"), &json("connection: close\r\n")), Ok(Progress::Last));
        let mut reply = reply(200, "json");
        let without_length = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), JSON_BODY].concat();
        assert_eq!(feed(&mut reply, &without_length), Ok(Progress::More));
        assert_eq!(reply.end(), Ok(()));
    }

    #[test]
    fn another_status_has_a_body_of_its_own() {
        let refused = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
        let mut expecting = reply(401, "json");
        assert_eq!(feed(&mut expecting, refused), Ok(Progress::Whole));
        assert!(!expecting.has_other_status());
        let mut surprised = reply(200, "json");
        assert_eq!(feed(&mut surprised, refused), Ok(Progress::Whole));
        assert!(surprised.has_other_status());
    }
}
