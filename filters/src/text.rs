//! Generated text, counted cheaply: what an estimate of tokens rests on when nothing was reported.
//!
//! A key is looked for as bytes (`"content"` with its quotes cannot occur inside a JSON string,
//! where quotes are escaped), so that an event which carries neither usage nor an error is never
//! parsed. It knows nothing of protocols: they say which keys hold text.

use memchr::memchr2;
use memchr::memmem::Finder;

/// A JSON key, or a string value, to be found in the bytes of a document.
pub(crate) struct Needle {
    quoted: &'static str,
    finder: Finder<'static>,
}

impl Needle {
    /// `quoted` is the key in its quotes.
    pub(crate) fn new(quoted: &'static str) -> Needle {
        debug_assert!(quoted.len() > 2 && quoted.starts_with('"') && quoted.ends_with('"'));
        debug_assert!(quoted.len() >= 6 && quoted.as_bytes()[1].is_ascii_lowercase(), "see Dialect::is_word");
        Needle { quoted, finder: Finder::new(quoted) }
    }

    /// The key without its quotes.
    pub(crate) fn word(&self) -> &'static [u8] {
        &self.quoted.as_bytes()[1..self.quoted.len() - 1]
    }

    /// Whether the key is there with a value that says something, or stands there as a value.
    /// `null`, `false`, `""`, `[]` and `{}` say nothing; a value that is not there yet may.
    pub(crate) fn hits(&self, data: &[u8]) -> bool {
        self.finder.find_iter(data).any(|at| match value(&data[at + self.quoted.len()..]) {
            Some(value) => !says_nothing(value),
            None => true,
        })
    }

    /// Adds the string values of the key to `text`; whether there were any that are not empty.
    pub(crate) fn collect(&self, data: &[u8], text: &mut Text) -> bool {
        let before = *text;
        for at in self.finder.find_iter(data) {
            if let Some([b'"', string @ ..]) = value(&data[at + self.quoted.len()..]) {
                text.add(&string[..string_end(string, &mut false).unwrap_or(string.len())]);
            }
        }
        *text != before
    }
}

/// Whether a JSON value, or the beginning of one, is empty in any of JSON's ways.
pub(crate) fn says_nothing(value: &[u8]) -> bool {
    match value {
        [b'n' | b'f', ..] | [b'"', b'"', ..] => true,
        [b'[', rest @ ..] => rest.trim_ascii_start().first() == Some(&b']'),
        [b'{', rest @ ..] => rest.trim_ascii_start().first() == Some(&b'}'),
        _ => false,
    }
}

/// Where a JSON string ends: the index of its closing quote in `bytes`, which begin inside it.
/// `escaped` is carried over reads: whether the byte before was a backslash that escapes the next.
#[inline]
pub(crate) fn string_end(bytes: &[u8], escaped: &mut bool) -> Option<usize> {
    let mut at = usize::from(*escaped && !bytes.is_empty());
    *escaped = *escaped && bytes.is_empty();
    while let Some(found) = quote_or_backslash(&bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return Some(at);
        }
        if at + 1 == bytes.len() {
            *escaped = true;
            return None;
        }
        at += 2;
    }
    None
}

/// Keys and most values are shorter than what a call of vector code costs: the first bytes are
/// looked at here, eight at a time.
#[inline]
pub(crate) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const WORDS: usize = 3;
    let mut at = 0;
    while at < WORDS * 8
        && let Some(word) = bytes[at..].first_chunk::<8>()
    {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

/// A word of eight times `byte`.
pub(crate) const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of each byte that is zero; bits above the lowest one may be wrong.
pub(crate) const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(every(0x01)) & !word & every(0x80)
}

/// The value after a key, if a colon and at least one byte of it are there.
fn value(after_key: &[u8]) -> Option<&[u8]> {
    let value = after_key.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    (!value.is_empty()).then_some(value)
}

/// How many bytes are such. In blocks whose count fits a byte, so that vector code adds sixteen at a time.
#[inline]
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> u64 {
    const BLOCK: usize = u8::MAX as usize;
    bytes.chunks(BLOCK).map(|block| u64::from(block.iter().fold(0, |sum: u8, &byte| sum + u8::from(is(byte))))).sum()
}

/// How much generated text was seen, as JSON spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    ascii: u64,
    other: u64,
}

impl Text {
    /// Adds a piece of a string's inside. Backslashes are not counted: `\n` is one byte of text.
    /// An escaped `\u4f60` counts as five bytes, which is about the one token that it is.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        let other = count(piece, |byte| !byte.is_ascii());
        let escapes = count(piece, |byte| byte == b'\\');
        self.other += other;
        self.ascii += piece.len() as u64 - other - escapes;
    }

    /// Adds bytes of which nothing is known.
    pub(crate) fn add_opaque(&mut self, bytes: u64) {
        self.ascii += bytes;
    }

    /// Both together.
    pub(crate) fn and(self, more: Text) -> Text {
        Text { ascii: self.ascii + more.ascii, other: self.other + more.other }
    }

    /// Whether any text was seen.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Text::default()
    }

    /// The estimate: a token for four bytes of ASCII, and for three bytes of anything else (most
    /// scripts take two or three bytes a character and about a token each), rounded up.
    pub(crate) fn tokens(&self) -> u64 {
        self.ascii.saturating_mul(3).saturating_add(self.other.saturating_mul(4)).div_ceil(12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ascii: u64, other: u64) -> Text {
        Text { ascii, other }
    }

    #[test]
    fn a_key_counts_only_with_a_value_that_says_something() {
        let usage = Needle::new("\"usage\"");
        for (data, hit) in [
            (r#"{"usage":null}"#, false),
            (r#"{"usage" : null}"#, false),
            (r#"{"usage":{ }}"#, false),
            (r#"{"text":"\"usage\":{1}"}"#, false),
            (r#"{"usage":null,"x":{"usage":{"a":1}}}"#, true),
            (r#"{"type":"usage"}"#, true),
            (r#"{"usage"#, false),
            (r#"{"usage""#, true),
            (r#"{"usage":"#, true),
        ] {
            assert_eq!(usage.hits(data.as_bytes()), hit, "{data}");
        }
    }

    #[test]
    fn text_is_every_string_under_the_key() {
        let content = Needle::new("\"content\"");
        let mut seen = Text::default();
        let data = r#"{"content": "a\"b","logprobs":{"content":[{"token":"x"}]},"y":{"content":"né"}}"#;
        assert!(content.collect(data.as_bytes(), &mut seen));
        assert_eq!(seen, text(4, 2));
        assert!(!content.collect(br#"{"content":"","type":"content"}"#, &mut seen));
        assert_eq!(seen, text(4, 2));
    }

    #[test]
    fn the_estimate_rounds_up_and_weighs_scripts_apart() {
        assert_eq!(text(0, 0).tokens(), 0);
        assert_eq!(text(1, 0).tokens(), 1);
        assert_eq!(text(8, 0).tokens(), 2);
        assert_eq!(text(0, 9).tokens(), 3);
        assert_eq!(text(4, 4).tokens(), 3);
    }

    #[test]
    fn a_strings_end_is_found_at_any_length() {
        for length in 0..70 {
            let string = "x".repeat(length) + "\"\"\\";
            assert_eq!(string_end(string.as_bytes(), &mut false), Some(length));
            let escaped = "\u{1}\u{a2}".repeat(length) + "\\\"x\"";
            assert_eq!(string_end(escaped.as_bytes(), &mut false), Some(3 * length + 3));
            let open = "!#[]".repeat(length);
            assert_eq!(string_end(open.as_bytes(), &mut false), None);
        }
    }

    #[test]
    fn a_strings_end_survives_any_split() {
        let bytes = br#"a\\\"b\u00e9\\" tail"#;
        for at in 0..bytes.len() {
            let mut escaped = false;
            let end = match string_end(&bytes[..at], &mut escaped) {
                Some(end) => Some(end),
                None => string_end(&bytes[at..], &mut escaped).map(|end| end + at),
            };
            assert_eq!(end, Some(14), "split at {at}");
        }
    }
}
