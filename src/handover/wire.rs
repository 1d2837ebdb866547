//! What two processes of a gateway say to each other: lines of JSON, and descriptors beside them.
//!
//! Owns the words, their framing and their limits. Refuses to know in which order they are said.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of a line: the longest holds the mistakes of a configuration, or the names of all sockets.
const MAX_LINE: usize = 64 * 1024;

/// Descriptors in one message. The kernel takes 253; a gateway has one for each listener and three of its own.
pub(super) const MAX_SOCKETS: usize = 128;

/// How long the other side may take to read a line: it does nothing else meanwhile.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// The sockets, by a process that is to take this one's place.
    Take {
        /// In which words.
        version: u32,
    },
    /// A process that takes this one's place.
    Upgrade {
        /// Its program.
        binary: PathBuf,
        /// How long it may take until it serves.
        within_ms: u64,
    },
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Say {
    /// Beside this are the sockets, in the order of their names.
    Sockets {
        /// As [`crate::sockets::Sockets`] calls them.
        names: Vec<String>,
    },
    /// The new process accepts connections.
    Serving,
    /// The old one does not any more.
    Leaving,
    /// It does not work, and nothing has changed.
    Failed {
        /// For whoever asked.
        why: String,
    },
    /// How far an upgrade is.
    Step {
        /// For whoever asked.
        what: String,
    },
    /// The new process serves.
    Done {
        /// Its number.
        pid: u32,
    },
}

/// One side of a conversation.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    read: Vec<u8>,
    received: Vec<OwnedFd>,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        // Accepted by a runtime, which had its own idea of waiting.
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, read: Vec::new(), received: Vec::new() })
    }

    /// The process at the other side.
    pub(super) fn peer(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.stream)?.pid.as_raw_nonzero().get().unsigned_abs())
    }

    pub(super) fn send(&mut self, word: &impl Serialize) -> io::Result<()> {
        self.send_with(word, &[])
    }

    /// Says `word` with descriptors beside it.
    pub(super) fn send_with(&mut self, word: &impl Serialize, sockets: &[OwnedFd]) -> io::Result<()> {
        if sockets.len() > MAX_SOCKETS {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("more than {MAX_SOCKETS} sockets")));
        }
        let mut text = serde_json::to_vec(word)?;
        text.push(b'\n');
        if text.len() > MAX_LINE {
            return Err(io::Error::new(ErrorKind::InvalidInput, "more than a line holds"));
        }
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let sent = loop {
            match sendmsg(&self.stream, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => break sent?,
            }
        };
        self.stream.write_all(&text[sent..])
    }

    /// The next word, within the time until `deadline`.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, deadline: Instant) -> io::Result<T> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(io::Error::from);
            }
            if self.read.len() >= MAX_LINE {
                return Err(io::Error::new(ErrorKind::InvalidData, "more than a line holds"));
            }
            self.fill(deadline)?;
        }
    }

    /// The descriptors that have come since the last call.
    pub(super) fn take_received(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.received)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags) {
            Ok(got) => got,
            Err(Errno::INTR) => return Ok(()),
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(e) => return Err(e.into()),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                self.received.extend(sockets);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) || self.received.len() > MAX_SOCKETS {
            return Err(io::Error::new(ErrorKind::InvalidData, "more descriptors than can be taken"));
        }
        if got.bytes == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the other process is gone"));
        }
        self.read.extend_from_slice(&bytes[..got.bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        (Line::new(one).unwrap(), Line::new(other).unwrap())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn descriptors_arrive_with_their_word_and_work() {
        let (mut old, mut new) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let names = vec![address.to_string()];
        old.send(&Say::Step { what: "a word before".into() }).unwrap();
        old.send_with(&Say::Sockets { names: names.clone() }, &[listener.into()]).unwrap();
        assert_eq!(new.receive::<Say>(soon()).unwrap(), Say::Step { what: "a word before".into() });
        assert_eq!(new.receive::<Say>(soon()).unwrap(), Say::Sockets { names });
        let taken = TcpListener::from(new.take_received().pop().expect("one"));
        std::net::TcpStream::connect(address).unwrap();
        assert!(taken.accept().is_ok());
        assert_eq!(old.peer().unwrap(), std::process::id());
    }

    #[test]
    fn silence_an_end_and_nonsense_are_told_apart() {
        let (mut old, mut new) = pair();
        let now = Instant::now() + Duration::from_millis(50);
        assert_eq!(new.receive::<Say>(now).unwrap_err().kind(), ErrorKind::TimedOut);
        old.stream.write_all(b"{\"say\":\"hello\"}\n").unwrap();
        assert_eq!(new.receive::<Say>(soon()).unwrap_err().kind(), ErrorKind::InvalidData);
        drop(old);
        assert_eq!(new.receive::<Say>(soon()).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let (mut old, mut new) = pair();
        let writer = std::thread::spawn(move || {
            let _ = old.stream.write_all(&vec![b'x'; MAX_LINE + 1]);
            old
        });
        assert_eq!(new.receive::<Say>(soon()).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(new.send(&Say::Failed { why: "x".repeat(MAX_LINE) }).is_err(), "nor is one written");
        drop(new);
        let mut rest = Vec::new();
        let _ = writer.join().unwrap().stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
}
