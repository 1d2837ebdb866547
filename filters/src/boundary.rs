//! Where a stream of events stands when it breaks off, and how another event can follow.
//!
//! A client takes an event when its empty line comes (see `sse`). So one more event can be written after
//! that line. It can also be written where the broken event has no data yet: what ends the line and the
//! event makes nothing of it. Once a client has a part of some data, nothing takes that back: every end but
//! that of the connection would make an event of it.

use memchr::{memchr2, memmem};

/// Enough of a line's beginning to know whether it is data.
const FIELD: &[u8] = b"data";

/// The first byte of a byte order mark in UTF-8.
const BOM: u8 = 0xEF;

/// Follows the bytes that a client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// How many bytes the open line has, as far as they matter.
    line: usize,
    /// Whether these are the beginning of `data`.
    may_be_data: bool,
    /// Whether the open event has data.
    has_data: bool,
    /// Whether it has anything.
    is_open: bool,
    /// A LF that follows belongs to the line that has ended.
    after_cr: bool,
}

impl Default for Boundary {
    fn default() -> Self {
        Self { line: 0, may_be_data: true, has_data: false, is_open: false, after_cr: false }
    }
}

impl Boundary {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The client got these bytes too.
    pub fn feed(&mut self, chunk: &[u8]) {
        // Nearly always a piece ends with an event.
        if chunk.ends_with(b"\n\n") {
            *self = Self::default();
            return;
        }
        let mut rest = match memmem::rfind(chunk, b"\n\n") {
            Some(at) => {
                *self = Self::default();
                &chunk[at + 2..]
            }
            None => chunk,
        };
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.take(&rest[..end]);
            self.end_line();
            let tail = &rest[end + 1..];
            if rest[end] == b'\r' {
                self.after_cr = tail.is_empty();
                rest = tail.strip_prefix(b"\n").unwrap_or(tail);
            } else {
                rest = tail;
            }
        }
        self.take(rest);
    }

    /// What has to be written before another event. `None`: none can follow.
    pub fn end_event(&self) -> Option<&'static [u8]> {
        let is_data = self.line >= FIELD.len() && self.may_be_data;
        if self.has_data || is_data {
            None
        } else if self.is_open || self.line > 0 {
            Some(b"\n\n")
        } else {
            Some(b"")
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        // A byte order mark may stand before the first data: what begins with one is taken for data.
        self.has_data |= self.line == 0 && bytes.first() == Some(&BOM);
        let wanted = (FIELD.len() + 1).saturating_sub(self.line);
        for &byte in bytes.iter().take(wanted) {
            self.may_be_data &= byte == FIELD.get(self.line).copied().unwrap_or(b':');
            self.line += 1;
        }
    }

    fn end_line(&mut self) {
        if self.line == 0 {
            (self.has_data, self.is_open) = (false, false);
        } else {
            self.has_data |= self.line >= FIELD.len() && self.may_be_data;
            self.is_open = true;
        }
        (self.line, self.may_be_data) = (0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Scanner;
    use proptest::prelude::*;

    const ERROR: &[u8] = b"event: error\ndata: {\"error\":1}\n\n";

    /// Names and data of the events in `stream`.
    fn events(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        Scanner::new().feed(stream, |event| found.push((event.name.to_vec(), event.data.to_vec())));
        found
    }

    fn after(pieces: &[&[u8]]) -> Boundary {
        let mut boundary = Boundary::new();
        pieces.iter().for_each(|piece| boundary.feed(piece));
        boundary
    }

    /// That an error can follow `stream` exactly if no client would make an event of what it broke off in,
    /// and that it is then one event more.
    fn check(stream: &[u8], split: usize) -> Result<(), TestCaseError> {
        let (before, behind) = stream.split_at(split.min(stream.len()));
        let whole = events(stream);
        if let Some(end) = after(&[before, behind]).end_event() {
            let expected = whole.into_iter().chain([(b"error".to_vec(), br#"{"error":1}"#.to_vec())]);
            let got = events(&[stream, end, ERROR].concat());
            prop_assert_eq!(got, expected.collect::<Vec<_>>(), "{}", stream.escape_ascii());
        } else {
            let ended = events(&[stream, b"\n\n"].concat());
            prop_assert_eq!(ended.len(), whole.len() + 1, "it was needless: {}", stream.escape_ascii());
        }
        Ok(())
    }

    #[test]
    fn an_error_is_one_event_more_wherever_a_stream_breaks_off() {
        let streams: [&[u8]; 3] = [
            b"event: message_start\ndata: {\"a\":1}\n\n: ping\n\nevent: x\ndata: 1\ndata: 2\n\ndata: [DONE]\n\n",
            b"data: 1\r\n\r\n: ping\r\n\r\nid: 7\r\nevent: x\r\ndata: 2\r\n\r\n",
            b"data: 1\r\rdata\r\rdatum: 2\r\rid\rdata:3\r\r",
        ];
        for stream in streams {
            for end in 0..=stream.len() {
                for split in 0..=end {
                    check(&stream[..end], split).unwrap();
                }
            }
        }
    }

    #[test]
    fn nothing_stands_before_the_error_where_an_event_has_just_ended() {
        assert_eq!(after(&[]).end_event(), Some(&b""[..]));
        assert_eq!(after(&[b"data: 1\n\n"]).end_event(), Some(&b""[..]));
        assert_eq!(after(&[b"data: 1\n\n", b"data: 2\n"]).end_event(), None);
        assert_eq!(after(&[b"data: 1\n\n: half a com"]).end_event(), Some(&b"\n\n"[..]));
    }

    #[test]
    fn a_byte_order_mark_hides_no_data() {
        let stream = b"\xEF\xBB\xBFdata: 1\n\nevent: x\n";
        for end in 1..=11 {
            assert_eq!(after(&[&stream[..end]]).end_event(), None, "{end}");
        }
        for end in 12..=stream.len() {
            check(&stream[..end], 5).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn any_bytes_are_followed_as_the_scanner_follows_them(
            stream in "(data|data:|dat|event|event: x|:c|[a-d:\\r\\n ]|\\n\\n|\\r\\n){0,24}",
            split in 0..80_usize,
        ) {
            check(stream.as_bytes(), split)?;
        }
    }
}
