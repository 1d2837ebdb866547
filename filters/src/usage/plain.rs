//! A report as providers write it: names without escapes, whole numbers, objects and arrays of
//! those. It is read here without serde, because some providers send one with every token.
//!
//! Whatever is written otherwise, and whatever would be refused, is left to the reading with serde:
//! `None` says nothing about a report.

use super::{Counts, Field, MAX_TOKENS, Merged, Name, Place};
use crate::text::{every, zeros};

/// How deep reports nest here; they nest three deep.
const MAX_NESTING: u32 = 8;

/// Merges a plain report into `counts`; they are half changed if it was not plain to its end.
pub(super) fn merge(raw: &[u8], names: &'static [Name], place: Place, counts: &mut Counts) -> Option<Merged> {
    let mut plain = Plain::new(raw, names, counts);
    plain.whole(place)?;
    Some(Merged { read: plain.read, invalid: 0 })
}

/// Where the numbers of a plain report begin that are figures, and which they are.
pub(super) fn figures(raw: &[u8], names: &'static [Name]) -> Option<Vec<(usize, Field)>> {
    let mut figures = Vec::new();
    let mut counts = Counts::default();
    let mut plain = Plain { figures: Some(&mut figures), ..Plain::new(raw, names, &mut counts) };
    plain.whole(Place::Object(""))?;
    Some(figures)
}

struct Plain<'a> {
    raw: &'a [u8],
    at: usize,
    names: &'static [Name],
    /// The name that is likely next: most reports have them in the order of the list.
    likely: usize,
    counts: &'a mut Counts,
    read: u64,
    figures: Option<&'a mut Vec<(usize, Field)>>,
}

impl<'a> Plain<'a> {
    fn new(raw: &'a [u8], names: &'static [Name], counts: &'a mut Counts) -> Self {
        Plain { raw, at: 0, names, likely: 0, counts, read: 0, figures: None }
    }

    fn whole(&mut self, place: Place) -> Option<()> {
        self.space();
        self.value(place, 0)?;
        self.space();
        (self.at == self.raw.len()).then_some(())
    }

    fn value(&mut self, place: Place, nesting: u32) -> Option<()> {
        match (*self.raw.get(self.at)?, place) {
            (b'0'..=b'9', Place::Figure(field)) => {
                if let Some(figures) = &mut self.figures {
                    figures.push((self.at, field));
                }
                let tokens = self.number()?;
                self.counts.set(field, u32::try_from(tokens).ok()?);
                self.read += 1;
                Some(())
            }
            (b'0'..=b'9', Place::Unknown) => self.number().map(drop),
            (b'n', _) => self.word(b"null"),
            (b't', Place::Unknown) => self.word(b"true"),
            (b'f', Place::Unknown) => self.word(b"false"),
            (b'"', Place::Unknown) => self.string().map(drop),
            (b'{', Place::Object(_) | Place::Unknown) if nesting < MAX_NESTING => self.object(place, nesting + 1),
            (b'[', Place::Unknown) if nesting < MAX_NESTING => self.array(nesting + 1),
            _ => None,
        }
    }

    fn object(&mut self, place: Place, nesting: u32) -> Option<()> {
        self.at += 1;
        self.space();
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.space();
            if !self.takes(b':') {
                return None;
            }
            self.space();
            let place = if let Place::Object(outer) = place { self.place(outer, name) } else { Place::Unknown };
            self.value(place, nesting)?;
            self.space();
            if self.takes(b'}') {
                return Some(());
            }
            if !self.takes(b',') {
                return None;
            }
            self.space();
        }
    }

    fn array(&mut self, nesting: u32) -> Option<()> {
        self.at += 1;
        self.space();
        if self.takes(b']') {
            return Some(());
        }
        loop {
            self.value(Place::Unknown, nesting)?;
            self.space();
            if self.takes(b']') {
                return Some(());
            }
            if !self.takes(b',') {
                return None;
            }
            self.space();
        }
    }

    /// What stands under `name`.
    fn place(&mut self, outer: &'static str, name: &[u8]) -> Place {
        let is = |known: &str| known.as_bytes() == name;
        let mut next = self.likely;
        for _ in 0..self.names.len() {
            let at = if next < self.names.len() { next } else { 0 };
            next = at + 1;
            let (object, figure, field) = self.names[at];
            if object == outer && is(figure) {
                self.likely = at + 1;
                return Place::Figure(field);
            }
            if outer.is_empty() && is(object) {
                self.likely = at;
                return Place::Object(object);
            }
        }
        Place::Unknown
    }

    /// A whole number that is one of tokens.
    fn number(&mut self) -> Option<u64> {
        let from = self.at;
        let mut number = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.raw.get(self.at) {
            number = number * 10 + u64::from(digit - b'0');
            if number > MAX_TOKENS {
                return None;
            }
            self.at += 1;
        }
        let padded = self.raw[from] == b'0' && self.at > from + 1;
        let goes_on = matches!(self.raw.get(self.at), Some(b'.' | b'e' | b'E'));
        (!padded && !goes_on).then_some(number)
    }

    /// A string of printable ASCII without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        if !self.takes(b'"') {
            return None;
        }
        let raw = self.raw;
        let from = self.at;
        while let Some(word) = raw[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*word);
            // In a word the lowest of these is right: a control character or one beyond ASCII, a quote, a backslash.
            let special = word.wrapping_sub(every(b' ')) & !word & every(0x80) | word & every(0x80);
            let stops = special | zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                break;
            }
            self.at += 8;
        }
        // Nothing is passed over here unless the report's last bytes were reached.
        while matches!(raw.get(self.at), Some(b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
            self.at += 1;
        }
        let string = &raw[from..self.at];
        self.takes(b'"').then_some(string)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let ends = self.raw[self.at..].starts_with(word);
        self.at += word.len();
        ends.then_some(())
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is = self.raw.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }

    fn space(&mut self) {
        while matches!(self.raw.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }
}
