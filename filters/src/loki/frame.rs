//! Owns the form in which the records of one push wait for it, in memory and on the disk: where each belongs is
//! decided before it waits, so that a push that is sent again is the same push, which is how Loki knows it again.
//! Refuses to know where it waits.

use super::{Class, cut};

/// Time, class and the two lengths.
const FIXED: usize = 8 + 1 + 2 + 4;

/// Records of one push, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    bytes: Vec<u8>,
    records: u32,
}

/// One record of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its timestamp, in nanoseconds since 1970-01-01.
    pub time_ns: u64,
    /// Its class of statuses.
    pub class: Class,
    /// Its route, as its stream has it.
    pub route: &'a str,
    /// The record, without its line feed.
    pub line: &'a str,
}

impl Frame {
    /// Puts a record behind the others. A route longer than 64 KiB is cut.
    pub fn push(&mut self, entry: Entry<'_>) {
        let route = cut(entry.route, usize::from(u16::MAX));
        let (route_len, line_len) = (route.len().to_le_bytes(), entry.line.len().to_le_bytes());
        self.bytes.reserve(FIXED + route.len() + entry.line.len());
        self.bytes.extend_from_slice(&entry.time_ns.to_le_bytes());
        self.bytes.push(entry.class.number());
        self.bytes.extend_from_slice(&route_len[..2]);
        self.bytes.extend_from_slice(&line_len[..4]);
        self.bytes.extend_from_slice(route.as_bytes());
        self.bytes.extend_from_slice(entry.line.as_bytes());
        self.records += 1;
    }

    /// A frame out of its bytes; `None`: they are not those of a frame.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (mut rest, mut records) = (&bytes[..], 0);
        while !rest.is_empty() {
            rest = split(rest)?.1;
            records += 1;
        }
        Some(Self { bytes, records })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its records.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (entry, after) = split(rest)?;
            rest = after;
            Some(entry)
        })
    }
}

/// The first record, and the bytes behind it.
fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (time, rest) = bytes.split_first_chunk::<8>()?;
    let (&class, rest) = rest.split_first()?;
    let (route_len, rest) = rest.split_first_chunk::<2>()?;
    let (line_len, rest) = rest.split_first_chunk::<4>()?;
    let (route, rest) = rest.split_at_checked(u16::from_le_bytes(*route_len).into())?;
    let (line, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*line_len)).ok()?)?;
    let entry = Entry {
        time_ns: u64::from_le_bytes(*time),
        class: Class::numbered(class)?,
        route: str::from_utf8(route).ok()?,
        line: str::from_utf8(line).ok()?,
    };
    Some((entry, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(line: &str) -> Entry<'_> {
        Entry { time_ns: 1_795_248_115_042_000_000, class: Class::of(200), route: "/v1/messages", line }
    }

    #[test]
    fn a_frame_gives_back_what_was_put() {
        let mut frame = Frame::default();
        assert!(frame.is_empty() && frame.entries().next().is_none());
        let none = Entry { time_ns: 0, class: Class::of(0), route: "", line: "" };
        let puts = [entry(r#"{"id":"1"}"#), none, entry("ü")];
        puts.into_iter().for_each(|entry| frame.push(entry));
        assert_eq!((frame.len(), frame.is_empty()), (3, false));
        assert_eq!(frame.entries().collect::<Vec<_>>(), puts);
        assert_eq!(Frame::from_bytes(frame.as_bytes().to_vec()), Some(frame));
    }

    #[test]
    fn what_is_cut_or_altered_is_no_frame() {
        let mut frame = Frame::default();
        frame.push(entry("ab"));
        let bytes = frame.as_bytes();
        for len in 1..bytes.len() {
            assert_eq!(Frame::from_bytes(bytes[..len].to_vec()), None, "{len} bytes");
        }
        let altered = |at: usize, byte: u8| {
            let mut bytes = bytes.to_vec();
            bytes[at] = byte;
            Frame::from_bytes(bytes)
        };
        assert_eq!(altered(8, 10), None, "a class that does not exist");
        assert_eq!(altered(14, 1), None, "a line of 16 MiB");
        assert_eq!(altered(bytes.len() - 1, 0xff), None, "no UTF-8");
    }

    #[test]
    fn a_route_is_cut_at_what_its_length_can_say() {
        let mut frame = Frame::default();
        let route = "ü".repeat(40_000);
        frame.push(Entry { route: &route, ..entry("a") });
        frame.push(entry("b"));
        let entries: Vec<_> = frame.entries().map(|entry| (entry.route.len(), entry.line)).collect();
        assert_eq!(entries, [(65_534, "a"), (12, "b")]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(frame) = Frame::from_bytes(bytes) {
                prop_assert_eq!(frame.entries().count(), frame.len());
            }
        }
    }
}
