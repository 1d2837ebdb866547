//! A stand-in for nsqd's HTTP side, as strict as nsqd: the same rules, answers and words (nsqio/nsq at 3103474b,
//! `nsqd/http.go`, `nsqd/protocol_v2.go`, `internal/http_api`, `internal/protocol/names.go`), and stricter where nsqd
//! overlooks what nobody should send. It misbehaves when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::Url;

/// What it does with a request.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    /// What nsqd does.
    Well,
    /// Reads it, and says nothing as long as it is in this mood.
    Hangs,
    /// Says this: a status, lines of a head, a body.
    Says(u16, &'static str, &'static str),
    /// Takes the messages, and breaks off before it says so.
    BreaksOff,
    /// What nsqd does, and then closes the connection, which it did not announce.
    Closes,
}

/// A request that was understood.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) topic: String,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) body_len: usize,
    pub(super) authorization: Option<String>,
    pub(super) at: Instant,
}

pub(super) struct Nsqd {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    stopped: AtomicBool,
    max_message: usize,
    max_body: usize,
}

struct State {
    mood: Mood,
    /// Heads that came, whatever became of them.
    heads: usize,
    taken: Vec<Request>,
    /// What nsqd would overlook.
    oddities: Vec<String>,
}

impl Nsqd {
    /// One with nsqd's own limits.
    pub(super) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(super) fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, 1_048_576, 5_242_880)
    }

    /// One with `--max-msg-size` and `--max-body-size`.
    pub(super) fn with_limits(max_message: usize, max_body: usize) -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), max_message, max_body)
    }

    fn listen(address: SocketAddr, max_message: usize, max_body: usize) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { mood: Mood::Well, heads: 0, taken: Vec::new(), oddities: Vec::new() };
        let stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { state: Mutex::new(state), stopped, max_message, max_body });
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = serving.clone();
                std::thread::spawn(move || shared.serve(&mut stream.unwrap()));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_now(&self, mood: Mood) {
        self.shared.state().mood = mood;
    }

    pub(super) fn heads(&self) -> usize {
        self.shared.state().heads
    }

    /// Every request whose messages were taken. Fails if one was odd.
    pub(super) fn taken(&self) -> Vec<Request> {
        let state = self.shared.state();
        assert_eq!(state.oddities, Vec::<String>::new());
        state.taken.clone()
    }

    /// Every message that was taken, as text.
    pub(super) fn messages(&self) -> Vec<String> {
        let all = self.taken().into_iter().flat_map(|request| request.messages);
        all.map(|message| String::from_utf8(message).unwrap()).collect()
    }
}

impl Drop for Nsqd {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

struct Head {
    method: String,
    target: String,
    length: Option<usize>,
    authorization: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: &mut TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = Vec::new();
        while let Some(head) = self.head(stream, &mut buffer) {
            self.state().heads += 1;
            // Only what is too large is answered before it is read, as Go does.
            let length = head.length.unwrap_or(0);
            if length <= self.max_body {
                while buffer.len() < length {
                    if !self.read(stream, &mut buffer) {
                        return;
                    }
                }
            }
            let body: Vec<u8> = buffer.drain(..length.min(buffer.len())).collect();
            if !self.answer(stream, &head, body) {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    fn answer(&self, stream: &mut TcpStream, head: &Head, body: Vec<u8>) -> bool {
        let mood = self.state().mood;
        match mood {
            Mood::Hangs => {
                while matches!(self.state().mood, Mood::Hangs) && !self.stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return false;
            }
            Mood::Says(status, lines, body) => return say(stream, status, lines, body),
            Mood::Well | Mood::BreaksOff | Mood::Closes => {}
        }
        let result = self.publish(head, body);
        if matches!(mood, Mood::BreaksOff) {
            return false;
        }
        let goes_on = match result {
            Ok(()) => say(stream, 200, "X-NSQ-Content-Type: nsq; version=1.0\r\n", "OK"),
            Err((status, word)) => {
                let lines = "Content-Type: application/json; charset=utf-8\r\nX-NSQ-Content-Type: nsq; version=1.0\r\n";
                say(stream, status, lines, &format!("{{\"message\":\"{word}\"}}"))
            }
        };
        if matches!(mood, Mood::Closes) {
            // The answer is read by then.
            std::thread::sleep(Duration::from_millis(10));
        }
        // Go closes a connection on which more would come than it wants to read.
        goes_on && head.length.unwrap_or(0) <= self.max_body && !matches!(mood, Mood::Closes)
    }

    fn publish(&self, head: &Head, body: Vec<u8>) -> Result<(), (u16, &'static str)> {
        let url = Url::parse(&format!("http://nsqd{}", head.target)).map_err(|_| (400, "INVALID_REQUEST"))?;
        if url.path() != "/mpub" {
            return Err((404, "NOT_FOUND"));
        }
        if head.method != "POST" {
            return Err((405, "METHOD_NOT_ALLOWED"));
        }
        if head.length.is_none() {
            self.odd("a body without a length");
        }
        if head.length.unwrap_or(0) > self.max_body {
            return Err((413, "BODY_TOO_BIG"));
        }
        let value = |name: &str| url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value);
        let topic = value("topic").ok_or((400, "MISSING_ARG_TOPIC"))?;
        if !is_valid_topic(&topic) {
            return Err((400, "INVALID_TOPIC"));
        }
        if value("binary").as_deref() != Some("true") {
            self.odd("text mode, or a value of `binary` that is deprecated");
        }
        let messages = self.read_mpub(&body)?;
        let (topic, body_len, authorization) = (topic.into_owned(), body.len(), head.authorization.clone());
        self.state().taken.push(Request { topic, messages, body_len, authorization, at: Instant::now() });
        Ok(())
    }

    fn read_mpub(&self, mut body: &[u8]) -> Result<Vec<Vec<u8>>, (u16, &'static str)> {
        let number = |body: &mut &[u8]| {
            let (number, rest) = body.split_first_chunk::<4>()?;
            *body = rest;
            Some(i32::from_be_bytes(*number))
        };
        let count = number(&mut body).filter(|count| *count > 0).ok_or((413, "BAD_BODY"))?;
        if usize::try_from(count).unwrap() > (self.max_body - 4) / 5 {
            return Err((413, "BAD_BODY"));
        }
        let mut messages = Vec::new();
        for _ in 0..count {
            let size = number(&mut body).filter(|size| *size > 0).ok_or((413, "BAD_MESSAGE"))?;
            let size = usize::try_from(size).unwrap();
            if size > self.max_message {
                return Err((413, "BAD_MESSAGE"));
            }
            let (message, rest) = body.split_at_checked(size).ok_or((413, "BAD_MESSAGE"))?;
            messages.push(message.to_vec());
            body = rest;
        }
        if !body.is_empty() {
            self.odd("bytes behind the last message");
        }
        Ok(messages)
    }

    fn odd(&self, what: &str) {
        self.state().oddities.push(what.to_owned());
    }

    fn head(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Head> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            if let httparse::Status::Complete(len) = request.parse(buffer).unwrap() {
                let value = |name: &str| {
                    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
                    Some(String::from_utf8(header.value.to_vec()).unwrap())
                };
                let head = Head {
                    method: request.method.unwrap().to_owned(),
                    target: request.path.unwrap().to_owned(),
                    length: value("content-length").map(|length| length.parse().unwrap()),
                    authorization: value("authorization"),
                };
                buffer.drain(..len);
                return Some(head);
            }
            if !self.read(stream, buffer) {
                return None;
            }
        }
    }

    /// More bytes; whether there may be more still.
    fn read(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
        let mut chunk = [0; 64 << 10];
        while !self.stopped.load(Ordering::Relaxed) {
            match stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(len) => {
                    buffer.extend_from_slice(&chunk[..len]);
                    return true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

fn say(stream: &mut TcpStream, status: u16, lines: &str, body: &str) -> bool {
    let len = body.len();
    let answer = format!("HTTP/1.1 {status} Said\r\n{lines}Content-Length: {len}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).is_ok()
}

fn is_valid_topic(name: &str) -> bool {
    let base = name.strip_suffix("#ephemeral").unwrap_or(name);
    let is_plain = base.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    (1..=64).contains(&name.len()) && !base.is_empty() && is_plain
}
