//! The walk of a document that arrives in pieces: what each byte does to the walker's state.

use super::bytes::{CLASSES, Class, skip};
use super::{Capture, Found, Level, Lexeme, MAX_KEY_BYTES, MAX_STEPS, MAX_VALUE_BYTES, Mask, NO_KEY, Walker};
use crate::text::string_end;

impl<W: Copy> Walker<W> {
    /// Walks the next piece, wherever it begins and ends.
    pub(super) fn feed_piece(&mut self, chunk: &[u8], found: &mut impl FnMut(Found<'_, W>)) {
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
                            self.value_begins(byte, found);
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
                                self.value_ended(&chunk[from..at], found);
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
                                self.close(&chunk[from..at], found);
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
                        self.value_ended(&chunk[from..at], found);
                    }
                }
                Lexeme::Scalar => {
                    let rest = &chunk[at..];
                    let end = rest.iter().position(|&b| CLASSES[usize::from(b)] != Class::Scalar);
                    at += end.unwrap_or(rest.len());
                    if end.is_some() {
                        self.lexeme = Lexeme::Between;
                        self.value_ended(&chunk[from..at], found);
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
