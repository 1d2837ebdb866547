//! A TCP relay before a mock that does one thing wrong to every answer.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::programs::Mock;

/// What a relay does to the bytes of answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mischief {
    None,
    /// These bytes for those, wherever they stand; no answer ends with the beginning of those.
    Replace(&'static [u8], &'static [u8]),
    /// More bytes behind each read.
    Append(&'static [u8]),
    /// The connection's end after this many bytes.
    CutAfter(usize),
    /// Nothing is passed on.
    Stall,
    /// One connection is taken, then nobody listens any more.
    LeaveAfterFirst,
}

/// A relay, and the mock behind it if it is its own.
pub(crate) struct Relay {
    address: SocketAddr,
    _mock: Option<Mock>,
}

impl Relay {
    pub(crate) fn start(mischief: Mischief) -> Self {
        let mock = Mock::start();
        Self { address: Self::before(mock.address, mischief).address, _mock: Some(mock) }
    }

    /// A relay to an address that need not be listened on yet.
    pub(crate) fn before(upstream: SocketAddr, mischief: Mischief) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else { return };
                if matches!(mischief, Mischief::LeaveAfterFirst) {
                    return;
                }
                let (to_server, from_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(from_client, to_server, Mischief::None));
                thread::spawn(move || pass(server, client, mischief));
            }
        });
        Self { address, _mock: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mischief: Mischief) {
    let mut buffer = vec![0; 1 << 20];
    let mut passed = 0;
    let mut held = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        let bytes = match mischief {
            Mischief::None | Mischief::LeaveAfterFirst => bytes.to_vec(),
            Mischief::Replace(old, new) => replaced(&mut held, bytes, old, new),
            Mischief::Append(more) => [bytes, more].concat(),
            Mischief::CutAfter(limit) => bytes[..count.min(limit - passed)].to_vec(),
            Mischief::Stall => continue,
        };
        passed += bytes.len();
        let cut = matches!(mischief, Mischief::CutAfter(limit) if passed == limit);
        if to.write_all(&bytes).is_err() || cut {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Replaces what is whole, and holds back an end that may be the beginning of another.
fn replaced(held: &mut Vec<u8>, bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    held.extend_from_slice(bytes);
    let mut out = Vec::with_capacity(held.len());
    let mut at = 0;
    while at < held.len() && !old.starts_with(&held[at..]) {
        if held[at..].starts_with(old) {
            out.extend_from_slice(new);
            at += old.len();
        } else {
            out.push(held[at]);
            at += 1;
        }
    }
    if held[at..] == *old {
        out.extend_from_slice(new);
        at = held.len();
    }
    held.drain(..at);
    out
}
