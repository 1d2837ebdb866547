//! What can be asked of the history, and how an answer goes on.
//!
//! Owns the question, its cursor and the comparison with a record. Refuses to know where records are.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::audit::batch::term;

use super::record::Record;
use super::table::{Row, short};

/// Records of a page if nothing is said, and the most that can be asked for.
pub(crate) const DEFAULT_LIMIT: usize = 50;
/// See [`DEFAULT_LIMIT`].
pub(crate) const MAX_LIMIT: usize = 1000;

/// The form of a cursor; another one is made when places change their meaning.
const CURSOR_VERSION: u8 = 1;

/// Which records, and how many at once. What is not said is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The key's name.
    pub key: Option<String>,
    /// The key's id, beside its name: names are given to other keys when theirs are gone. It is not looked up, so that
    /// it should be asked for together with something that is.
    pub key_id: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The model that the client asked for.
    pub model: Option<String>,
    /// The channel that served it.
    pub channel: Option<String>,
    /// The status that the client got.
    pub status: Option<StatusFilter>,
    /// Those that arrived then or later, in milliseconds since 1970-01-01 UTC.
    pub from: Option<u64>,
    /// Those that arrived before.
    pub to: Option<u64>,
    /// How many at most.
    pub limit: usize,
    /// Goes on where a page ended.
    pub cursor: Option<Cursor>,
}

impl Default for Query {
    fn default() -> Self {
        let (key, user, model, channel) = (None, None, None, None);
        Self {
            key,
            key_id: None,
            user,
            model,
            channel,
            status: None,
            from: None,
            to: None,
            limit: DEFAULT_LIMIT,
            cursor: None,
        }
    }
}

/// A status, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// `429`
    Is(u16),
    /// `4xx`: its first digit.
    Class(u16),
    /// `none`: the client left before one was sent.
    None,
}

impl FromStr for StatusFilter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.as_bytes() {
            b"none" => Ok(Self::None),
            [class @ b'1'..=b'9', b'x', b'x'] => Ok(Self::Class(u16::from(class - b'0'))),
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => text.parse().map(Self::Is).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

impl StatusFilter {
    /// Whether it is one of those; 0 is that of a client that left before it had one.
    pub(crate) fn admits(self, status: u16) -> bool {
        self.range().contains(&status)
    }

    fn range(self) -> RangeInclusive<u16> {
        match self {
            Self::Is(status) => status..=status,
            Self::Class(class) => class * 100..=class * 100 + 99,
            Self::None => 0..=0,
        }
    }
}

/// Where a page ended: the next one has what is older. It holds while new records come, across restarts, and after the
/// records at its place are gone. Its text is for nobody to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment.
    pub(super) segment: u64,
    /// The first record in it that is not wanted any more; those before it are.
    pub(super) before: u32,
}

impl Cursor {
    /// Before everything there is.
    pub(super) const NEWEST: Self = Self { segment: u64::MAX, before: u32::MAX };

    fn bytes(self) -> [u8; 15] {
        let mut bytes = [CURSOR_VERSION; 15];
        bytes[1..9].copy_from_slice(&self.segment.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.before.to_be_bytes());
        let sum = crc32fast::hash(&bytes[..13]);
        bytes[13..].copy_from_slice(&sum.to_be_bytes()[..2]);
        bytes
    }
}

impl Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let part = |range: std::ops::Range<usize>| u64::from_str_radix(text.get(range).ok_or(())?, 16).map_err(|_| ());
        let (segment, before) = (part(2..18)?, part(18..26)?);
        let cursor = Self { segment, before: u32::try_from(before).map_err(|_| ())? };
        // What else is not as it was written, the sum and the version among it, is seen here.
        if cursor.to_string() == text { Ok(cursor) } else { Err(()) }
    }
}

/// Records that were asked for, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Each one a JSON object.
    pub rows: Vec<String>,
    /// There may be older ones from here on; `None`: there are none.
    pub next: Option<Cursor>,
}

/// A question as the index understands it.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'q> {
    /// In the order of [`super::table::NAMES`].
    names: [Option<&'q str>; 4],
    key_id: Option<&'q str>,
    pub(super) terms: [Option<u32>; 4],
    pub(super) status: Option<RangeInclusive<u16>>,
    pub(super) from: u64,
    /// Exclusive.
    pub(super) to: u64,
}

impl<'q> Wanted<'q> {
    /// What `query` asks for, of what arrived at `kept_from` or later.
    pub(super) fn of(query: &'q Query, kept_from: u64) -> Self {
        let names = [&query.key, &query.user, &query.model, &query.channel].map(Option::as_deref);
        Self {
            names,
            key_id: query.key_id.as_deref(),
            terms: names.map(|name| name.map(|name| short(term(name)))),
            status: query.status.map(StatusFilter::range),
            from: query.from.unwrap_or(0).max(kept_from),
            to: query.to.unwrap_or(u64::MAX),
        }
    }

    /// Whether a record with this row may be one.
    pub(super) fn admits(&self, row: &Row) -> bool {
        let named = self.terms.iter().zip(row.terms).all(|(wanted, term)| wanted.is_none_or(|wanted| wanted == term));
        named && self.has_time(row.time_ms) && self.status.as_ref().is_none_or(|range| range.contains(&row.status))
    }

    pub(super) fn has_time(&self, time_ms: u64) -> bool {
        (self.from..self.to).contains(&time_ms)
    }

    /// Whether times are asked for that begin or end between these.
    pub(super) fn divides(&self, oldest_ms: u64, newest_ms: u64) -> bool {
        !(self.has_time(oldest_ms) && self.has_time(newest_ms))
    }

    /// Whether the record, which the index has found, is one: names are known to it by their terms alone.
    pub(super) fn is(&self, record: &Record<'_>) -> bool {
        let is_named =
            self.names.iter().zip(record.names()).all(|(wanted, name)| wanted.is_none_or(|wanted| wanted == name));
        is_named && self.key_id.is_none_or(|wanted| wanted == record.key_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_exact_or_a_class_or_none() {
        for (text, range) in [("200", 200..=200), ("429", 429..=429), ("4xx", 400..=499), ("none", 0..=0)] {
            assert_eq!(text.parse().map(StatusFilter::range), Ok(range), "{text}");
        }
        for text in ["", "0", "000", "20", "2000", "xxx", "4XX", "4x", "0xx", "None", " 200", "+20", "２００"] {
            assert_eq!(text.parse::<StatusFilter>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        for cursor in [Cursor::NEWEST, Cursor { segment: 1_796_066_404_123, before: 7 }] {
            let text = cursor.to_string();
            assert_eq!(text.parse(), Ok(cursor));
            for at in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[at] = if other[at] == b'0' { b'1' } else { b'0' };
                assert_eq!(String::from_utf8(other).unwrap().parse::<Cursor>(), Err(()), "{at}");
            }
            for other in [&text[1..], &format!("{text}0"), "", "é", &"é".repeat(15)] {
                assert_eq!(other.parse::<Cursor>(), Err(()), "{other}");
            }
        }
        assert_eq!(Cursor { segment: 1, before: 2 }.to_string(), "01000000000000000100000002018c");
    }
}
