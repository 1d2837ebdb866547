//! A walk through JSON that arrives in pieces: values at wanted paths are handed out as they stand
//! in the bytes, everything else is skipped, and nothing but those values is kept.
//!
//! Documents may follow one another or be the elements of one array. It does not validate: what is
//! not JSON yields no values. It knows nothing of what a value means.

mod bytes;
mod paths;
mod pieces;
#[cfg(test)]
mod tests;
mod whole;

use crate::text::Text;
pub(crate) use bytes::{CLASSES, Class};
pub(crate) use paths::Paths;
use whole::Whole;

/// The longest value that is handed out whole. A usage object is below 2 KiB at every provider.
pub(crate) const MAX_VALUE_BYTES: usize = 16 << 10;

/// How deep a wanted path may reach.
const MAX_STEPS: usize = 6;

/// No wanted key is longer.
const MAX_KEY_BYTES: usize = 32;

/// The length of a string that is no key: too long, or not right before the colon.
const NO_KEY: usize = MAX_KEY_BYTES + 1;

/// A set of wanted paths, a bit each.
type Mask = u16;

/// A value to look for.
#[derive(Debug)]
pub(crate) struct Wanted<W: 'static> {
    /// Keys from the document's root; `"0"` is the first element of an array. A key that is
    /// written with escapes is not recognised: no provider does so.
    pub(crate) path: &'static [&'static str],
    /// What it is, for whoever asked.
    pub(crate) what: W,
    /// Whether only its presence is wanted: its first byte is handed out, when it begins.
    pub(crate) mark: bool,
}

/// What a walk comes across.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a, W> {
    /// A wanted value, and whether this is all of it.
    Value(W, &'a [u8], bool),
    /// A document ended.
    End,
}

#[derive(Debug)]
pub(crate) struct Walker<W: 'static> {
    paths: Paths<W>,
    /// Strings under the keys of text, whatever their depth.
    pub(crate) text: Text,
    lexeme: Lexeme,
    /// Open containers, and how many of them are around the document: 1 if it is an element.
    depth: usize,
    base: usize,
    /// The depth inside the outermost container in which nothing can be wanted; 0: there is none.
    inert: usize,
    levels: [Level; MAX_STEPS],
    /// The last string of an earlier piece, if it can be a key.
    word: [u8; MAX_KEY_BYTES],
    word_len: usize,
    /// What the next value would be.
    next: Mask,
    next_is_text: bool,
    /// Whether the string at hand is text.
    in_text: bool,
    capture: Option<Capture<W>>,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lexeme {
    Between,
    String { escaped: bool },
    Scalar,
}

/// An open container: which wanted paths lead through it.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    mask: Mask,
    array: bool,
    index: u32,
}

#[derive(Clone, Copy, Debug)]
struct Capture<W> {
    what: W,
    depth: usize,
    whole: bool,
}

impl<W: Copy> Walker<W> {
    pub(crate) fn new(wanted: &'static [Wanted<W>], texts: &'static [&'static str]) -> Walker<W> {
        Walker::along(Paths::new(wanted, texts))
    }

    pub(crate) fn along(paths: Paths<W>) -> Walker<W> {
        Walker {
            paths,
            text: Text::default(),
            lexeme: Lexeme::Between,
            depth: 0,
            base: 0,
            inert: 0,
            levels: [Level::default(); MAX_STEPS],
            word: [0; MAX_KEY_BYTES],
            word_len: NO_KEY,
            next: 0,
            next_is_text: false,
            in_text: false,
            capture: None,
            value: Vec::new(),
        }
    }

    /// Walks the next piece, of any length.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut found: impl FnMut(Found<'_, W>)) {
        if !self.feed_whole(chunk, true, &mut found) {
            self.feed_piece(chunk, &mut found);
        }
    }

    /// Walks a piece that is a document for its values alone, and says whether it was one: otherwise
    /// nothing has happened. [`count_text`](Self::count_text) makes up for the text.
    pub(crate) fn feed_values(&mut self, chunk: &[u8], mut found: impl FnMut(Found<'_, W>)) -> bool {
        self.feed_whole(chunk, false, &mut found)
    }

    /// Counts the text of a document that was walked for its values alone.
    pub(crate) fn count_text(&mut self, document: &[u8]) {
        let mut walker = Walker::<W>::new(&[], self.paths.texts);
        walker.feed(document, |_| {});
        self.text = self.text.and(walker.text);
    }

    /// Walks a piece that is a document, if it is one; otherwise nothing has happened.
    fn feed_whole(&mut self, chunk: &[u8], with_text: bool, found: &mut impl FnMut(Found<'_, W>)) -> bool {
        if self.depth > 0 || self.lexeme != Lexeme::Between {
            return false;
        }
        let Some(whole) = Whole::walk(chunk, &self.paths, with_text) else { return false };
        self.text = self.text.and(whole.text);
        for find in whole.finds() {
            let wanted = &self.paths.wanted[usize::from(find.wanted)];
            found(Found::Value(wanted.what, &chunk[find.from..find.end], !wanted.mark));
        }
        found(Found::End);
        // What the walk in pieces leaves behind a document.
        self.reset();
        true
    }

    /// The document is over, whether its end came or not.
    pub(crate) fn end(&mut self, mut found: impl FnMut(Found<'_, W>)) {
        if self.depth > self.base {
            found(Found::End);
        }
        self.reset();
    }

    /// Whether no document is open.
    pub(crate) fn is_between(&self) -> bool {
        self.depth == self.base
    }

    /// Forgets the document, but not the text.
    fn reset(&mut self) {
        self.lexeme = Lexeme::Between;
        self.depth = 0;
        self.base = 0;
        self.inert = 0;
        self.word_len = NO_KEY;
        self.next = 0;
        self.next_is_text = false;
        self.capture = None;
        self.value.clear();
    }
}
