//! A walk through JSON that arrives in pieces: values at wanted paths are handed out as they stand
//! in the bytes, everything else is skipped, and nothing but those values is kept.
//!
//! Documents may follow one another or be the elements of one array. It does not validate: what is
//! not JSON yields no values. It knows nothing of what a value means.

mod whole;

use crate::text::{Text, string_end};
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

/// What is looked for.
#[derive(Debug)]
struct Paths<W: 'static> {
    wanted: &'static [Wanted<W>],
    texts: &'static [&'static str],
    /// The keys of `wanted`, step by step.
    steps: [Sketch; MAX_STEPS],
    words: Sketch,
}

impl<W> Paths<W> {
    fn new(wanted: &'static [Wanted<W>], texts: &'static [&'static str]) -> Paths<W> {
        debug_assert!(wanted.len() <= Mask::BITS as usize);
        debug_assert!(wanted.iter().all(|w| w.path.len() <= MAX_STEPS));
        let mut steps = [Sketch::default(); MAX_STEPS];
        for (step, key) in wanted.iter().flat_map(|wanted| wanted.path.iter().enumerate()) {
            steps[step].add(key.as_bytes());
        }
        let mut words = Sketch::default();
        texts.iter().for_each(|text| words.add(text.as_bytes()));
        Paths { wanted, texts, steps, words }
    }

    fn is_text(&self, key: &[u8]) -> bool {
        self.words.may_have(key) && self.texts.iter().any(|text| text.as_bytes() == key)
    }

    /// Those of the paths in `mask` that lead to the member `key` of a container `step` steps down.
    fn next(&self, mask: Mask, step: usize, key: &[u8]) -> Mask {
        if !self.steps.get(step).is_some_and(|keys| keys.may_have(key)) {
            return 0;
        }
        let mut next = 0;
        for (bit, wanted) in self.wanted.iter().enumerate() {
            if wanted.path.get(step).is_some_and(|step| step.as_bytes() == key) {
                next |= 1 << bit;
            }
        }
        next & mask
    }

    /// The same for the first element of an array.
    fn first(&self, mask: Mask, step: usize) -> Mask {
        self.next(mask, step, b"0")
    }
}

/// What a byte is between strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Space,
    Quote,
    Open,
    Close,
    Colon,
    Comma,
    /// A number or a word, or what is no JSON.
    Scalar,
}

pub(crate) const CLASSES: [Class; 256] = {
    let mut classes = [Class::Scalar; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let class = match byte as u8 {
            b'"' => Class::Quote,
            b'{' | b'[' => Class::Open,
            b'}' | b']' => Class::Close,
            b':' => Class::Colon,
            b',' => Class::Comma,
            space if space.is_ascii_whitespace() => Class::Space,
            _ => Class::Scalar,
        };
        classes[byte] = class;
        byte += 1;
    }
    classes
};

/// A set of keys, told by length and first byte: most keys of a document are seen not to be in it
/// without a comparison.
#[derive(Clone, Copy, Debug, Default)]
struct Sketch(u64);

impl Sketch {
    fn add(&mut self, key: &[u8]) {
        self.0 |= Sketch::bit(key);
    }

    fn may_have(self, key: &[u8]) -> bool {
        self.0 & Sketch::bit(key) != 0
    }

    fn bit(key: &[u8]) -> u64 {
        let first = usize::from(key.first().copied().unwrap_or_default());
        1 << ((first + 7 * key.len()) % 64)
    }
}

/// How many bytes can be passed over where no scalar is wanted: up to the next container, string or
/// colon. In blocks that a compiler turns into vector code, for answers of megabytes of numbers.
fn skip(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    // `[` and `{`, and `]` and `}`, differ in one bit; the second pair differs from the first in
    // two more. A false hit only ends the fast part early.
    let may_stop = |b: u8| (b == b'"') | (b == b':') | ((b | 0x20) & 0xF9 == 0x79);
    let plain =
        bytes.chunks_exact(BLOCK).take_while(|block| !block.iter().fold(false, |hit, &b| hit | may_stop(b))).count()
            * BLOCK;
    let rest = &bytes[plain..];
    plain + rest.iter().position(|b| matches!(b, b'"' | b':' | b'{' | b'}' | b'[' | b']')).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[Wanted<u8>] = &[
        Wanted { path: &["usage"], what: 1, mark: false },
        Wanted { path: &["choices", "0", "usage"], what: 2, mark: false },
        Wanted { path: &["choices", "0"], what: 3, mark: true },
        Wanted { path: &["done"], what: 4, mark: false },
    ];

    fn walk(pieces: &[&[u8]]) -> (Vec<(u8, String)>, usize, Text) {
        let mut walker = Walker::new(WANTED, &["content"]);
        let (mut values, mut ends) = (Vec::new(), 0);
        let mut found = |found: Found<'_, u8>| match found {
            Found::Value(what, raw, _) => {
                values.push((what, String::from_utf8_lossy(raw).into_owned()));
            }
            Found::End => ends += 1,
        };
        for piece in pieces {
            walker.feed(piece, &mut found);
        }
        walker.end(&mut found);
        (values, ends, walker.text)
    }

    fn values(json: &str) -> Vec<(u8, String)> {
        let whole = walk(&[json.as_bytes()]);
        for at in 0..=json.len() {
            let (head, tail) = json.as_bytes().split_at(at);
            assert_eq!(walk(&[head, b"", tail]), whole, "{json} at {at}");
        }
        whole.0
    }

    fn found(expected: &[(u8, &str)]) -> Vec<(u8, String)> {
        expected.iter().map(|(what, raw)| (*what, (*raw).to_owned())).collect()
    }

    #[test]
    fn values_are_found_at_their_path_alone() {
        for (json, expected) in [
            (r#"{"usage":{"a":[1,"}"]},"b":2}"#, &[(1, r#"{"a":[1,"}"]}"#)][..]),
            (r#"{"b":{"usage":1},"c":[{"usage":2}]}"#, &[]),
            (r#"{"b":"\"usage\":1","c":"usage"}"#, &[]),
            (r#"{"usage" : null , "done": true}"#, &[(1, "null"), (4, "true")]),
            (r#"{"usage":1,"usage":2}"#, &[(1, "1"), (1, "2")]),
            (r#"{"done":"a\\\"b"}"#, &[(4, r#""a\\\"b""#)]),
            (r#"{"choices":[{"usage":{"a":1}},{"usage":{"a":2}}]}"#, &[(3, "{"), (2, r#"{"a":1}"#)]),
            (r#"{"choices":[[{"usage":1}]]}"#, &[(3, "[")]),
            (r#"{"choices":[]}"#, &[]),
            (r#"{"usage":{"usage":{"usage":3}}}"#, &[(1, r#"{"usage":{"usage":3}}"#)]),
            (r#"[{"usage":1},{"usage":2}]"#, &[(1, "1"), (1, "2")]),
            ("{\"usage\":1}\n{\"usage\":2}", &[(1, "1"), (1, "2")]),
            (r#"{"usage":{"a":1"#, &[]),
            (r#"[[[[[[[[{"usage":1}]]]]]]]]"#, &[]),
            (r#"}}]]{"usage":5}"#, &[(1, "5")]),
            (r#""usage":7"#, &[]),
        ] {
            assert_eq!(values(json), found(expected), "{json}");
        }
    }

    #[test]
    fn documents_end_once_each() {
        for (json, ends) in
            [("", 0), ("[DONE]", 0), ("{}", 1), ("{}{}\n{}", 3), (r#"[{"a":{}},{}]"#, 2), (r#"{"a":"#, 1)]
        {
            assert_eq!(walk(&[json.as_bytes()]).1, ends, "{json}");
        }
    }

    #[test]
    fn text_is_counted_at_any_depth() {
        let json = r#"{"a":[[[[[[[[{"content":"x\"y","b":"no"}]]]]]]]],"content":["no"],"c":"content","content":5,"d":"no","content":"zz"}"#;
        let mut expected = Text::default();
        expected.add(b"xyzz");
        expected.add(b"\"");
        assert_eq!(walk(&[json.as_bytes()]).2, expected);
        values(json);
    }

    #[test]
    fn numbers_are_skipped_in_blocks_without_losing_what_follows() {
        for count in 0..70 {
            let json = format!(r#"{{"data":[[{}0]],"usage":{{"n":1}}}}"#, "0.5, ".repeat(count));
            assert_eq!(values(&json), found(&[(1, r#"{"n":1}"#)]), "{count}");
        }
    }

    #[test]
    fn a_long_value_is_handed_out_in_part() {
        let json = format!(r#"{{"usage":"{}","done":1}}"#, "x".repeat(MAX_VALUE_BYTES));
        for size in [100, json.len()] {
            let mut walker = Walker::new(WANTED, &[]);
            let mut seen = Vec::new();
            for piece in json.as_bytes().chunks(size) {
                walker.feed(piece, |found| {
                    if let Found::Value(what, raw, whole) = found {
                        seen.push((what, raw.len(), whole));
                    }
                });
            }
            assert_eq!(seen, [(1, MAX_VALUE_BYTES, false), (4, 1, true)], "by {size}");
        }
    }
}
