//! Events that differ from the one before only in text and figures, as nearly all of a stream do.
//!
//! A stencil is an event that was read, with holes where text, filling and whole numbers stand. An
//! event that fits it has the same members with the same meaning, so that reading it is comparing
//! the bytes between the holes and looking into them. It knows nothing of what an event comes to:
//! whoever made it has to say what follows from one that fits.

use crate::text::{Needle, string_end};
use crate::usage::Field;
use crate::walk::{CLASSES, Class};

/// The longest event of which a stencil is made. Deltas have some hundred bytes, and each stream
/// holds one.
const MAX_BYTES: usize = 2 << 10;

/// Holes of a stencil: a delta has four, a report up to a dozen more.
const MAX_HOLES: usize = 24;

/// Digits of a number in a hole: each such number is one of tokens.
const MAX_DIGITS: usize = 9;

/// Keys of strings that mean nothing: OpenAI pads its events against guesses from their length.
const FILLERS: [&[u8]; 1] = [b"obfuscation"];

/// Builds in a row that may be in vain, before the stream counts as one without repetition.
const MAX_VAIN_BUILDS: u8 = 8;

/// After so many events such a stream is tried again.
const RETRY_EVENTS: u64 = 64;

/// An event with holes, or none.
#[derive(Debug, Default)]
pub(crate) struct Stencil {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
    /// Where the holes are in the event that was fitted last: kept, not made for each event.
    spots: Vec<Spot>,
    /// Builds since an event last fitted.
    vain: u8,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    from: usize,
    end: usize,
    what: What,
}

/// What stands in a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Generated text, under the key at this place of the list.
    Text(usize),
    /// A string that means nothing.
    Filler,
    /// A whole number, and the figure that it is, if it is one.
    Number(Option<Field>),
}

/// What an event that fits has in its holes.
pub(crate) struct Fit<'a> {
    stencil: &'a Stencil,
    data: &'a [u8],
}

#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    from: usize,
    end: usize,
    number: u32,
}

impl Stencil {
    /// Makes no event fit.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.holes.clear();
    }

    /// Whether it is worth to make one of the event of this number.
    pub(crate) fn is_worth(&mut self, event: u64) -> bool {
        if event.is_multiple_of(RETRY_EVENTS) {
            self.vain = self.vain.min(MAX_VAIN_BUILDS - 1);
        }
        self.vain < MAX_VAIN_BUILDS
    }

    /// Makes a stencil of an event, if its bytes are regular JSON. `texts` are the keys of text;
    /// `figures` is where numbers begin that are figures.
    pub(crate) fn build(&mut self, data: &[u8], texts: &[Needle], figures: &[(usize, Field)]) {
        self.vain += 1;
        self.clear();
        let cut = data.len() <= MAX_BYTES && self.cut_holes(data, texts, figures).is_some();
        // A figure that is not in a hole would be overlooked.
        if cut && self.holes.iter().filter(|hole| matches!(hole.what, What::Number(Some(_)))).count() == figures.len() {
            self.bytes.extend_from_slice(data);
            self.spots.resize(self.holes.len(), Spot::default());
        } else {
            self.clear();
        }
    }

    fn cut_holes(&mut self, data: &[u8], texts: &[Needle], figures: &[(usize, Field)]) -> Option<()> {
        /// What stands before the next lexeme.
        #[derive(Clone, Copy, PartialEq)]
        enum Before {
            /// An opening bracket or a comma.
            Start,
            /// A string that may be a key.
            Word,
            Colon,
            /// A value's end.
            Value,
        }
        let (mut at, mut before, mut key): (usize, Before, &[u8]) = (0, Before::Start, b"");
        while let Some(&byte) = data.get(at) {
            let mut end = at + 1;
            before = match (CLASSES[usize::from(byte)], before) {
                (Class::Space, before) => before,
                (Class::Quote, Before::Start) => {
                    let length = string_end(&data[end..], &mut false)?;
                    key = &data[end..end + length];
                    end += length + 1;
                    Before::Word
                }
                (Class::Quote, Before::Colon) => {
                    let length = string_end(&data[end..], &mut false)?;
                    let text = texts.iter().position(|text| text.word() == key).map(What::Text);
                    if let Some(what) = text.or(FILLERS.contains(&key).then_some(What::Filler)) {
                        self.cut(Hole { from: end, end: end + length, what })?;
                    }
                    end += length + 1;
                    Before::Value
                }
                (Class::Scalar, Before::Start | Before::Colon) => {
                    let rest = &data[at..];
                    let length = rest.iter().position(|&b| CLASSES[usize::from(b)] != Class::Scalar)?;
                    end = at + length;
                    if number(rest).is_some_and(|(digits, _)| digits == length) {
                        let field = figures.iter().find(|(figure, _)| *figure == at).map(|(_, field)| *field);
                        self.cut(Hole { from: at, end, what: What::Number(field) })?;
                    }
                    Before::Value
                }
                (Class::Colon, Before::Word) => Before::Colon,
                (Class::Open, Before::Start | Before::Colon) | (Class::Comma, Before::Word | Before::Value) => {
                    Before::Start
                }
                (Class::Close, Before::Start | Before::Word | Before::Value) => Before::Value,
                _ => return None,
            };
            at = end;
        }
        (before == Before::Value).then_some(())
    }

    fn cut(&mut self, hole: Hole) -> Option<()> {
        self.holes.push(hole);
        (self.holes.len() <= MAX_HOLES).then_some(())
    }

    /// Whether `data` fits. A string in a hole that `is_word` takes for a key could be taken for one
    /// by a search: such an event does not fit.
    pub(crate) fn fit<'a>(&'a mut self, data: &'a [u8], is_word: impl Fn(&[u8]) -> bool) -> Option<Fit<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        // Up to where the event and the stencil were compared.
        let (mut at, mut fixed) = (0, 0);
        for (hole, spot) in self.holes.iter().zip(&mut self.spots) {
            let between = &self.bytes[fixed..hole.from];
            let from = at + between.len();
            if data.get(at..from)? != between {
                return None;
            }
            spot.from = from;
            match hole.what {
                What::Text(_) | What::Filler => {
                    at = from + string_end(&data[from..], &mut false)?;
                    if is_word(&data[from..at]) {
                        return None;
                    }
                }
                What::Number(_) => {
                    let (length, number) = number(&data[from..])?;
                    spot.number = number;
                    at = from + length;
                }
            }
            spot.end = at;
            fixed = hole.end;
        }
        (data[at..] == self.bytes[fixed..]).then_some(Fit { stencil: self, data })
    }

    /// An event fitted: stencils are worth their price.
    pub(crate) fn fitted(&mut self) {
        self.vain = 0;
    }
}

impl Fit<'_> {
    /// What is in the holes, in order: the string's inside or the number's digits, and the number.
    pub(crate) fn holes(&self) -> impl Iterator<Item = (What, &[u8], u32)> {
        let holes = self.stencil.holes.iter().zip(&self.stencil.spots);
        holes.map(|(hole, spot)| (hole.what, &self.data[spot.from..spot.end], spot.number))
    }

    /// Where in the event the place is that was at `at` in the one of the stencil. It is not in a hole.
    pub(crate) fn place(&self, at: usize) -> usize {
        let before = self.stencil.holes.partition_point(|hole| hole.end <= at);
        match before.checked_sub(1) {
            Some(last) => self.stencil.spots[last].end + (at - self.stencil.holes[last].end),
            None => at,
        }
    }
}

/// The whole number that `bytes` begin with, as JSON writes one: its length and its value.
fn number(bytes: &[u8]) -> Option<(usize, u32)> {
    let (mut length, mut value) = (0, 0_u32);
    while let Some(digit @ b'0'..=b'9') = bytes.get(length) {
        if length == MAX_DIGITS {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
        length += 1;
    }
    let padded = length > 1 && bytes[0] == b'0';
    (length > 0 && !padded).then_some((length, value))
}
