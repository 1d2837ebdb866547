//! A walk through JSON that arrives in pieces: values at wanted paths are handed out as they stand
//! in the bytes, everything else is skipped, and nothing but those values is kept.
//!
//! Documents may follow one another or be the elements of one array. It does not validate: what is
//! not JSON yields no values. It knows nothing of what a value means.

mod bytes;
mod paths;
#[cfg(test)]
mod tests;
mod whole;

use crate::text::{Text, string_end};
use bytes::skip;
pub(crate) use bytes::{CLASSES, Class};
use paths::Paths;
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
        Walker {
            paths: Paths::new(wanted, texts),
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
        if self.depth == 0 && self.lexeme == Lexeme::Between && self.feed_whole(chunk, &mut found) {
            return;
        }
        let mut at = 0;
        // Where the bytes of this piece that belong to the captured value begin.
        let mut from = 0;
        // The last string, while it lies in this piece.
        let mut word: Option<&[u8]> = None;
        while at < chunk.len() {
            match self.lexeme {
                Lexeme::Between if self.inert > 0 => at += self.skip_inert(&chunk[at..]),
                Lexeme::Between => {
                    if self.is_unwanted() {
                        at += skip(&chunk[at..]);
                    }
                    let Some(&byte) = chunk.get(at) else { break };
                    let class = CLASSES[usize::from(byte)];
                    if matches!(class, Class::Quote | Class::Open | Class::Scalar) {
                        from = if self.capture.is_none() { at } else { from };
                        if self.next != 0 {
                            self.value_begins(byte, &mut found);
                        }
                    }
                    at += 1;
                    match class {
                        Class::Space => {}
                        Class::Quote => {
                            self.in_text = std::mem::take(&mut self.next_is_text);
                            self.next = 0;
                            self.word_len = 0;
                            let mut escaped = false;
                            if let Some(end) = string_end(&chunk[at..], &mut escaped) {
                                let inside = &chunk[at..at + end];
                                if self.in_text {
                                    self.text.add(inside);
                                }
                                word = Some(inside);
                                at += end + 1;
                                self.value_ended(&chunk[from..at], &mut found);
                            } else {
                                word = None;
                                self.inside_string(&chunk[at..]);
                                at = chunk.len();
                                self.lexeme = Lexeme::String { escaped };
                            }
                        }
                        Class::Open => self.open(byte == b'['),
                        Class::Close => {
                            word = None;
                            self.word_len = NO_KEY;
                            if self.depth > 0 {
                                self.close(&chunk[from..at], &mut found);
                            }
                        }
                        Class::Colon => self.key(word),
                        Class::Comma => self.comma(),
                        Class::Scalar => {
                            self.next = 0;
                            self.next_is_text = false;
                            self.lexeme = Lexeme::Scalar;
                        }
                    }
                }
                Lexeme::String { mut escaped } => {
                    let end = string_end(&chunk[at..], &mut escaped);
                    let inside = &chunk[at..end.map_or(chunk.len(), |end| at + end)];
                    if self.inert == 0 {
                        self.inside_string(inside);
                    }
                    at += inside.len() + usize::from(end.is_some());
                    self.lexeme = Lexeme::String { escaped };
                    if end.is_some() {
                        self.lexeme = Lexeme::Between;
                        self.value_ended(&chunk[from..at], &mut found);
                    }
                }
                Lexeme::Scalar => {
                    let rest = &chunk[at..];
                    let end = rest.iter().position(|&b| CLASSES[usize::from(b)] != Class::Scalar);
                    at += end.unwrap_or(rest.len());
                    if end.is_some() {
                        self.lexeme = Lexeme::Between;
                        self.value_ended(&chunk[from..at], &mut found);
                    }
                }
            }
        }
        if let Some(word) = word {
            self.word_len = 0;
            self.inside_word(word);
        }
        self.keep(&chunk[from..]);
    }

    /// Walks a piece that is a document, if it is one; otherwise nothing has happened.
    fn feed_whole(&mut self, chunk: &[u8], found: &mut impl FnMut(Found<'_, W>)) -> bool {
        let Some(whole) = Whole::walk(chunk, &self.paths) else { return false };
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

    /// Passes over what is inside a container in which nothing can be wanted, up to its own end. How
    /// many bytes that was.
    fn skip_inert(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match CLASSES[usize::from(byte)] {
                Class::Quote => {
                    let mut escaped = false;
                    let Some(end) = string_end(&bytes[at + 1..], &mut escaped) else {
                        self.lexeme = Lexeme::String { escaped };
                        return bytes.len();
                    };
                    at += end + 1;
                }
                Class::Open => self.depth += 1,
                Class::Close if self.depth == self.inert => {
                    // Its end may be that of a captured value.
                    self.inert = 0;
                    return at;
                }
                Class::Close => self.depth -= 1,
                Class::Space | Class::Colon | Class::Comma | Class::Scalar => {}
            }
            at += 1;
        }
        at
    }

    /// Whether no value here can be wanted, so that only containers, strings and keys matter.
    fn is_unwanted(&self) -> bool {
        self.depth > self.base && !self.next_is_text && self.level().mask == 0
    }

    /// The innermost container, if it is within reach of a wanted path.
    fn level(&self) -> Level {
        let steps = self.depth - self.base;
        if (1..=MAX_STEPS).contains(&steps) { self.levels[steps - 1] } else { Level::default() }
    }

    fn value_begins(&mut self, byte: u8, found: &mut impl FnMut(Found<'_, W>)) {
        if self.capture.is_some() {
            return;
        }
        let steps = self.depth - self.base;
        let mut left = self.next;
        while left != 0 {
            let wanted = &self.paths.wanted[left.trailing_zeros() as usize];
            left &= left - 1;
            if wanted.path.len() != steps {
                continue;
            }
            if wanted.mark {
                found(Found::Value(wanted.what, &[byte], false));
            } else if self.capture.is_none() {
                self.capture = Some(Capture { what: wanted.what, depth: self.depth, whole: true });
            }
        }
    }

    /// A colon: the last string was a key, if it is not too long for one of ours.
    fn key(&mut self, word: Option<&[u8]>) {
        self.next = 0;
        self.next_is_text = false;
        let earlier = self.word;
        let key = match word {
            Some(word) => word,
            None if self.word_len > MAX_KEY_BYTES => return,
            None => &earlier[..self.word_len],
        };
        self.next_is_text = self.paths.is_text(key);
        let level = self.level();
        if level.mask != 0 && self.capture.is_none() && !(level.array && level.index > 0) {
            self.next = self.paths.next(level.mask, self.depth - self.base - 1, key);
        }
    }

    fn comma(&mut self) {
        self.next = 0;
        self.next_is_text = false;
        let steps = self.depth - self.base;
        if (1..=MAX_STEPS).contains(&steps) && self.levels[steps - 1].array {
            self.levels[steps - 1].index = 1;
        }
    }

    fn open(&mut self, array: bool) {
        self.next_is_text = false;
        if self.depth == 0 && array {
            self.base = 1;
            self.depth = 1;
            return;
        }
        let steps = self.depth - self.base;
        let mask = if self.capture.is_some() {
            0
        } else if steps == 0 {
            Mask::MAX
        } else {
            self.next
        };
        if let Some(level) = self.levels.get_mut(steps) {
            *level = Level { mask, array, index: 0 };
        }
        self.depth += 1;
        self.next = 0;
        if mask == 0 {
            // Text may still be anywhere below.
            self.inert = if self.paths.texts.is_empty() { self.depth } else { 0 };
        } else if array {
            self.next = self.paths.first(mask, steps);
        }
    }

    fn close(&mut self, captured: &[u8], found: &mut impl FnMut(Found<'_, W>)) {
        self.next = 0;
        self.next_is_text = false;
        self.depth -= 1;
        if self.depth < self.base {
            self.base = 0;
            return;
        }
        self.value_ended(captured, found);
        if self.depth == self.base {
            found(Found::End);
        }
    }

    fn inside_string(&mut self, inside: &[u8]) {
        if self.in_text {
            self.text.add(inside);
        }
        self.inside_word(inside);
    }

    fn inside_word(&mut self, inside: &[u8]) {
        let room = MAX_KEY_BYTES.saturating_sub(self.word_len);
        let kept = inside.len().min(room);
        self.word[MAX_KEY_BYTES - room..][..kept].copy_from_slice(&inside[..kept]);
        self.word_len = (self.word_len + inside.len()).min(NO_KEY);
    }

    #[inline]
    fn value_ended(&mut self, captured: &[u8], found: &mut impl FnMut(Found<'_, W>)) {
        if let Some(capture) = self.capture
            && capture.depth == self.depth
        {
            self.capture_ended(capture, captured, found);
        }
    }

    fn capture_ended(&mut self, capture: Capture<W>, captured: &[u8], found: &mut impl FnMut(Found<'_, W>)) {
        if self.value.is_empty() && captured.len() <= MAX_VALUE_BYTES {
            found(Found::Value(capture.what, captured, true));
        } else {
            self.keep(captured);
            let whole = self.capture.is_some_and(|capture| capture.whole);
            found(Found::Value(capture.what, &self.value, whole));
        }
        self.capture = None;
        self.value = Vec::new();
    }

    fn keep(&mut self, piece: &[u8]) {
        if let Some(capture) = &mut self.capture {
            let room = MAX_VALUE_BYTES - self.value.len();
            capture.whole &= piece.len() <= room;
            self.value.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
}
