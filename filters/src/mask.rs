//! Known secrets taken out of text that will be recorded.
//!
//! Owns: the spellings in which a secret is looked for. These are the secret as it is, percent-encoded as in a query
//! (hexadecimal digits in either case, `/` encoded or left), and escaped as in a JSON string (`/` escaped or left).
//! Out of reach are `\u002d` and other escapes that no writer needs, a mixture of spellings, base64 and whatever else
//! someone makes of a secret; also what is spelled over several events of a stream, as long as they stand apart.
//!
//! Knows neither requests nor headers: whoever calls says what is secret, and passes what will be kept.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memmem::Finder;

use crate::headers::MIN_ECHO;

/// What stands in a secret's place.
const MARK: &[u8] = b"[secret]";

/// So many of a secret's first bytes are masked where a text was cut: fewer tell nothing, every key of a provider
/// begins with `sk-`.
const MIN_PREFIX: usize = 4;

/// The secrets of one request.
#[derive(Clone)]
pub struct Mask(Vec<Finder<'static>>);

impl Mask {
    /// Of these secrets. One that is shorter than eight bytes is not looked for, as it would be found in other text.
    pub fn new(secrets: &[&str]) -> Mask {
        let mut spellings: Vec<Vec<u8>> = Vec::with_capacity(secrets.len());
        for secret in secrets.iter().filter(|secret| secret.len() >= MIN_ECHO) {
            let json = |slash: &str| secret.replace('\\', r"\\").replace('"', r#"\""#).replace('/', slash).into_bytes();
            spellings.push(secret.as_bytes().to_vec());
            // Nearly no secret is spelled in any other way.
            if !secret.bytes().all(is_unreserved) {
                spellings.extend([json("/"), json(r"\/")]);
                for hex in [b"0123456789ABCDEF", b"0123456789abcdef"] {
                    spellings.extend([percent(secret, hex, |_| false), percent(secret, hex, |byte| byte == b'/')]);
                }
            }
        }
        spellings.sort_unstable();
        spellings.dedup();
        Mask(spellings.iter().map(|spelling| Finder::new(spelling).into_owned()).collect())
    }

    /// The text with `[secret]` in place of each secret.
    pub fn apply<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        replace(text, self.found(text))
    }

    /// The same for a text that was cut, or may have been: four or more bytes at its end that begin a secret are
    /// masked as well.
    pub fn apply_cut<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut found = self.found(text);
        let begun = self.0.iter().map(|finder| begun(finder.needle(), text)).max().unwrap_or(0);
        if begun >= MIN_PREFIX {
            found.push(text.len() - begun..text.len());
        }
        replace(text, found)
    }

    fn found(&self, text: &[u8]) -> Vec<Range<usize>> {
        let all = self.0.iter().flat_map(|finder| {
            let length = finder.needle().len();
            finder.find_iter(text).map(move |at| at..at + length)
        });
        all.collect()
    }
}

// It holds secrets.
impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask(…)")
    }
}

fn replace(text: &[u8], mut found: Vec<Range<usize>>) -> Cow<'_, [u8]> {
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|range| range.start);
    let mut masked = Vec::with_capacity(text.len());
    let mut at = 0;
    for range in found {
        // One that overlaps the one before makes its place longer.
        if range.start >= at {
            masked.extend_from_slice(&text[at..range.start]);
            masked.extend_from_slice(MARK);
        }
        at = at.max(range.end);
    }
    masked.extend_from_slice(&text[at..]);
    Cow::Owned(masked)
}

/// How many bytes at the text's end are the most that begin the secret, without being all of it. After Knuth, Morris
/// and Pratt: a client chooses what it presents, and a secret that repeats itself must not cost its length squared.
fn begun(secret: &[u8], text: &[u8]) -> usize {
    // No more of the secret than can be there, and one byte, so that it is never matched as a whole.
    let longest = text.len().min(secret.len() - 1);
    let (secret, tail) = (&secret[..=longest], &text[text.len() - longest..]);
    let longer = |borders: &[usize], mut matched: usize, byte: u8| {
        while matched > 0 && secret[matched] != byte {
            matched = borders[matched - 1];
        }
        matched + usize::from(secret[matched] == byte)
    };
    // For each beginning of the secret, the longest shorter beginning that it ends with.
    let mut borders = vec![0; secret.len()];
    for at in 1..secret.len() {
        borders[at] = longer(&borders, borders[at - 1], secret[at]);
    }
    tail.iter().fold(0, |matched, byte| longer(&borders, matched, *byte))
}

/// Percent-encoded (RFC 3986, section 2.1), but for unreserved characters and what is `left` as it is.
fn percent(secret: &str, hex: &[u8; 16], left: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(secret.len() * 3);
    for byte in secret.bytes() {
        if is_unreserved(byte) || left(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(&[b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 0xF)]]);
        }
    }
    encoded
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(mask: &Mask, text: &str) -> String {
        String::from_utf8(mask.apply(text.as_bytes()).into_owned()).unwrap()
    }

    fn apply_cut(mask: &Mask, text: &str) -> String {
        String::from_utf8(mask.apply_cut(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn every_occurrence_of_every_secret_is_masked() {
        let mask = Mask::new(&["wk-0123456789abcdef", "sk-upstream-key"]);
        let text = "key=sk-upstream-key;sk-upstream-key wk-0123456789abcdefwk-0123456789abcdef WK-0123456789ABCDEF";
        let masked = "key=[secret];[secret] [secret][secret] WK-0123456789ABCDEF";
        assert_eq!(apply(&mask, text), masked);
        assert_eq!(apply(&mask, "sk-upstream-ke"), "sk-upstream-ke");
    }

    #[test]
    fn what_holds_no_secret_is_not_copied() {
        for mask in [Mask::new(&["sk-upstream-key"]), Mask::new(&[])] {
            assert!(matches!(mask.apply(b"sk-up and so on"), Cow::Borrowed(b"sk-up and so on")));
            assert!(matches!(mask.apply_cut(b"a text"), Cow::Borrowed(b"a text")));
            assert!(matches!(mask.apply_cut(b""), Cow::Borrowed(b"")));
        }
    }

    #[test]
    fn what_is_short_or_empty_is_no_secret() {
        assert_eq!(apply(&Mask::new(&["", "1234567"]), "1234567"), "1234567");
        assert_eq!(apply(&Mask::new(&["", "12345678"]), "12345678"), "[secret]");
    }

    #[test]
    fn a_secret_is_found_as_queries_and_json_spell_it() {
        let mask = Mask::new(&[r#"ab/c+d="e\é"#]);
        for spelling in [
            r#"ab/c+d="e\é"#,
            "ab%2Fc%2Bd%3D%22e%5C%C3%A9",
            "ab%2fc%2bd%3d%22e%5c%c3%a9",
            "ab/c%2Bd%3D%22e%5C%C3%A9",
            "ab/c%2bd%3d%22e%5c%c3%a9",
            r#"ab/c+d=\"e\\é"#,
            r#"ab\/c+d=\"e\\é"#,
        ] {
            assert_eq!(apply(&mask, &format!("<{spelling}>")), "<[secret]>");
        }
    }

    #[test]
    fn the_beginning_of_a_secret_is_masked_where_the_text_was_cut() {
        let mask = Mask::new(&["sk-upstream/key", "wk-client"]);
        for (text, expected) in [
            ("the key is sk-upstream/ke", "the key is [secret]"),
            ("the key is sk-u", "the key is [secret]"),
            ("the key is sk-", "the key is sk-"),
            ("the key is sk-upstream%2Fke", "the key is [secret]"),
            ("the key is sk-upstream%2", "the key is [secret]"),
            ("sk-upstream\\/", "[secret]"),
            ("sk-usk-upst", "sk-u[secret]"),
            ("wk-client", "[secret]"),
            ("wk-clientwk-cli", "[secret][secret]"),
            ("sk-upstream.", "sk-upstream."),
        ] {
            assert_eq!(apply_cut(&mask, text), expected);
        }
        assert_eq!(apply(&mask, "the key is sk-upstream/ke"), "the key is sk-upstream/ke");
    }

    #[test]
    fn secrets_that_overlap_are_masked_as_one() {
        let mask = Mask::new(&["aaaabbbbcccc", "ccccdddd"]);
        assert_eq!(apply(&mask, "<aaaabbbbccccdddd>"), "<[secret]>");
        assert_eq!(apply_cut(&mask, "<aaaabbbbccccdd"), "<[secret]");
        let repeated = Mask::new(&["abababab"]);
        assert_eq!(apply_cut(&repeated, "ababababab"), "[secret]");
        assert_eq!(apply_cut(&repeated, "ababababababab"), "[secret][secret]");
        assert_eq!(apply_cut(&repeated, "xababab"), "x[secret]");
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Mask::new(&["sk-upstream-key"])), "Mask(…)");
    }

    proptest! {
        #[test]
        fn no_secret_is_left_and_nothing_else_is_lost(
            secret in "[a-c/]{8,12}",
            pieces in prop::collection::vec(("[ -Z]{0,20}", any::<bool>()), 0..6),
        ) {
            let mask = Mask::new(&[&secret]);
            let (mut text, mut expected) = (String::new(), String::new());
            for (between, follows) in pieces {
                // Upper case, so that a secret begins and ends only where it is put.
                let between = between.replace(['/', '%'], "") + ".";
                text.push_str(&between);
                expected.push_str(&between);
                if follows {
                    text.push_str(&secret);
                    expected.push_str("[secret]");
                }
            }
            prop_assert_eq!(apply(&mask, &text), expected);
        }

        #[test]
        fn the_beginning_of_a_secret_is_found_as_one_by_one(secret in "[ab]{8,14}", text in "[ab]{0,20}") {
            let (secret, text) = (secret.as_bytes(), text.as_bytes());
            let longest = (0..secret.len()).rev().find(|length| text.ends_with(&secret[..*length]));
            prop_assert_eq!(begun(secret, text), longest.unwrap());
        }

        #[test]
        fn any_bytes_stay_as_long_as_they_hold_no_secret(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mask = Mask::new(&["sk-upstream-key", "wk-client/key"]);
            prop_assert_eq!(&*mask.apply(&bytes), &bytes[..]);
        }
    }
}
