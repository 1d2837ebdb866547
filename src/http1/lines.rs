//! The header lines of a message as they were written: their case, order and repetition stay.

use std::fmt;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName};

/// Where a piece of a head lies in it.
#[derive(Clone, Copy)]
struct Place(u32, u32);

/// A head's lines. Names are compared without regard to case.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    head: Bytes,
    lines: Vec<(Place, Place)>,
}

impl Lines {
    /// Notes where the lines lie that were parsed out of `head`.
    pub(super) fn find(head: &[u8], parsed: &[httparse::Header<'_>]) -> Found {
        let base = head.as_ptr() as usize;
        let place = |text: &[u8]| {
            let start = (text.as_ptr() as usize).saturating_sub(base);
            let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
            Place(place(start), place(start + text.len()))
        };
        Found(parsed.iter().map(|line| (place(line.name.as_bytes()), place(line.value))).collect())
    }

    /// The lines of `head`, which has the bytes in which they were found.
    pub(super) fn new(head: Bytes, found: Found) -> Self {
        Self { head, lines: found.0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Names and values, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|&(name, value)| (self.at(name), self.at(value)))
    }

    /// The same; the values are parts of the head, without a copy.
    pub(super) fn shared(&self) -> impl Iterator<Item = (&[u8], Bytes)> {
        self.iter().map(|(name, value)| (name, self.head.slice_ref(value)))
    }

    /// The value of the first line of that name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all lines of that name.
    pub(crate) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Leaves out every line that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { head, lines } = self;
        lines.retain(|&(name, value)| keep(at(head, name), at(head, value)));
    }

    /// The tokens of every `Connection` line.
    pub(crate) fn connection(&self) -> impl Iterator<Item = &[u8]> {
        self.all(&CONNECTION).flat_map(|value| value.split(|&b| b == b',')).map(<[u8]>::trim_ascii)
    }

    /// What the lines say of the message's end and of the connection's life, in one pass.
    pub(super) fn framing(&self, persistent: bool) -> Result<Said, BadFraming> {
        let mut said =
            Said { chunked: false, length: None, keep_alive: persistent, hosts: 0, bad_host: false, lookalike: false };
        let (mut codings, mut close) = (0, false);
        for (name, value) in self.iter() {
            // The length of a name tells most lines apart.
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    said.hosts += 1;
                    said.bad_host |= !value.iter().all(|&b| is_of_host(b));
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                        close |= token.eq_ignore_ascii_case(b"close");
                        said.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    for text in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                        // The same length may be said more than once; two are a contradiction.
                        let length = number(text).ok_or(BadFraming)?;
                        if said.length.replace(length).is_some_and(|before| before != length) {
                            return Err(BadFraming);
                        }
                    }
                }
                // Only a single `chunked` is understood: no other coding was offered or asked for.
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    codings += 1;
                    said.chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                    if codings > 1 || !said.chunked {
                        return Err(BadFraming);
                    }
                }
                14 | 17 => said.lookalike |= is_lookalike(name),
                _ => {}
            }
        }
        said.keep_alive &= !close;
        Ok(said)
    }

    fn at(&self, place: Place) -> &[u8] {
        at(&self.head, place)
    }
}

/// Where lines lie, until the head in which they were found is taken out of its buffer.
pub(super) struct Found(Vec<(Place, Place)>);

/// What a head says of its message.
pub(super) struct Said {
    pub(super) chunked: bool,
    pub(super) length: Option<u64>,
    /// Whether the connection goes on.
    pub(super) keep_alive: bool,
    /// How many `Host` lines there are.
    pub(super) hosts: usize,
    /// Whether one of these cannot be a host.
    pub(super) bad_host: bool,
    /// Whether there is a line that servers which read `_` as `-` take for one that frames the message.
    pub(super) lookalike: bool,
}

/// RFC 3986, 3.2.2 and 3.2.3: what a host and a port are written with.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%[]:".contains(&byte)
}

fn is_lookalike(name: &[u8]) -> bool {
    let is = |other: &[u8]| {
        name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).eq(other.iter().copied())
    };
    is(b"content-length") || is(b"transfer-encoding")
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |n, &b| n * 10 + u64::from(b - b'0')))
}

/// Lengths or codings that contradict each other, or are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadFraming;

fn at(head: &[u8], place: Place) -> &[u8] {
    head.get(place.0 as usize..place.1 as usize).unwrap_or_default()
}

// A value may be a credential, or repeat one.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}
