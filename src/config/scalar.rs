//! Single values: sizes, numbers, digests, names.
//!
//! Each function takes a word and gives the value or a complaint that reads on from the field's
//! name. Knows nothing of fields, positions or files.

use std::ops::RangeInclusive;

use weir_filters::glob::Glob;
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;

use super::mistake::Complaint;
use super::{Durability, Role, WhenFull};

/// More threads than this are a slip of the finger; 0 stands for one per core.
const MAX_THREADS: usize = 1024;

/// Names become metric labels and header values, and are held once per counter.
const MAX_NAME_BYTES: usize = 128;

/// No provider's model name is near this.
const MAX_GLOB_BYTES: usize = 256;

/// The digest of the empty text: the key that it stands for is no key.
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A value with its variables replaced, and as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'t> {
    /// What to read.
    pub(super) text: &'t str,
    /// What may be shown: it names variables instead of holding their values.
    pub(super) raw: &'t str,
}

pub(super) type Parsed<T> = Result<T, Complaint>;

impl Word<'_> {
    /// "must be …, not `…`", unless what was written may be a secret in the wrong place.
    pub(super) fn must_be(self, what: &str) -> Complaint {
        match shown(self.raw) {
            _ if self.text.is_empty() => Complaint::new(format!("must be {what}, and is empty")),
            Some(raw) => Complaint::new(format!("must be {what}, not `{raw}`")),
            None => Complaint::new(format!("must be {what}")),
        }
    }
}

/// The text, if it is short and printable and does not look like a credential.
pub(super) fn shown(raw: &str) -> Option<&str> {
    const MAX_SHOWN: usize = 64;
    let is_token = |word: &str| {
        let has = |what: fn(char) -> bool| word.contains(what);
        word.len() >= 20 && has(|c| c.is_ascii_digit()) && has(char::is_alphabetic)
    };
    let looks_secret = ["sk-", "AIza", "Bearer "].iter().any(|prefix| raw.contains(prefix))
        || raw.split(|c: char| !c.is_alphanumeric()).any(is_token);
    let fits = raw.len() <= MAX_SHOWN && !raw.contains(|c: char| c.is_control() || c == '`');
    (fits && !looks_secret).then_some(raw)
}

/// `32MiB`, `64KiB`, `1GB`, `512B`, or plain bytes; more than none.
pub(super) fn size(word: Word<'_>) -> Parsed<usize> {
    const UNITS: [(&str, u64); 8] = [
        ("B", 1),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let what = "a size such as 64KiB, 32MiB, 1GB or a number of bytes";
    let unit = word.text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &word.text[..word.text.len() - unit.len()];
    if number.is_empty() {
        return Err(word.must_be(what));
    }
    let Some((_, factor)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        let letter = unit.trim_start().chars().next().map_or('?', |c| c.to_ascii_uppercase());
        let complaint = word.must_be(what);
        return Err(match letter {
            'K' => complaint.suggest(format!("did you mean \"{number}KiB\"?")),
            'M' | 'G' => complaint.suggest(format!("did you mean \"{number}{letter}iB\"?")),
            _ => complaint,
        });
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(0) => Err(word.must_be("more than nothing")),
        Some(bytes) => Ok(bytes),
        None => Err(word.must_be("a size that this machine can count")),
    }
}

/// A whole number, 0 included.
pub(super) fn count(word: Word<'_>) -> Parsed<usize> {
    let is_number = word.text.bytes().all(|b| b.is_ascii_digit());
    word.text.parse().ok().filter(|_| is_number).ok_or_else(|| word.must_be("a whole number from 0"))
}

/// A whole number, 0 excluded.
pub(super) fn positive(word: Word<'_>) -> Parsed<usize> {
    match count(word)? {
        0 => Err(word.must_be("a whole number from 1")),
        count => Ok(count),
    }
}

/// A number of threads.
pub(super) fn threads(word: Word<'_>) -> Parsed<usize> {
    match count(word)? {
        threads if threads <= MAX_THREADS => Ok(threads),
        _ => Err(word.must_be("at most 1024")),
    }
}

/// `true` or `false`.
pub(super) fn boolean(word: Word<'_>) -> Parsed<bool> {
    match word.text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let complaint = word.must_be("`true` or `false`");
            Err(match other.to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" | "true" => complaint.suggest("did you mean \"true\"?"),
                "no" | "off" | "0" | "false" => complaint.suggest("did you mean \"false\"?"),
                _ => complaint,
            })
        }
    }
}

/// A whole number of a range.
pub(super) fn number(word: Word<'_>, range: RangeInclusive<u32>) -> Parsed<u32> {
    let digits = word.text.bytes().all(|b| b.is_ascii_digit());
    match word.text.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => Err(word.must_be(&format!("a whole number from {} to {}", range.start(), range.end()))),
    }
}

/// One of a closed set of names.
pub(super) fn one_of<T: Copy>(word: Word<'_>, all: &[(&'static str, T)]) -> Parsed<T> {
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == word.text) {
        return Ok(*value);
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let what = format!("one of {}", names.join(", "));
    Err(word.must_be(&what).suggest_nearest(word.text, names))
}

/// A protocol's name.
pub(super) fn protocol(word: Word<'_>) -> Parsed<Protocol> {
    one_of(word, &Protocol::ALL.map(|protocol| (protocol.name(), protocol)))
}

/// An operation's name.
pub(super) fn operation(word: Word<'_>) -> Parsed<Operation> {
    one_of(word, &Operation::ALL.map(|operation| (operation.name(), operation)))
}

/// The ledger's durability.
pub(super) fn durability(word: Word<'_>) -> Parsed<Durability> {
    one_of(word, &[("relaxed", Durability::Relaxed), ("strict", Durability::Strict)])
}

/// What becomes of a request with a budget when the journal takes no record.
pub(super) fn when_full(word: Word<'_>) -> Parsed<WhenFull> {
    one_of(word, &[("serve", WhenFull::Serve), ("refuse", WhenFull::Refuse)])
}

/// What a user may do.
pub(super) fn role(word: Word<'_>) -> Parsed<Role> {
    one_of(word, &Role::ALL.map(|role| (role.name(), role)))
}

/// A name that travels in the `x-weir-channel` header and in metrics: ASCII, no spaces.
pub(super) fn plain_name(word: Word<'_>) -> Parsed<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-@:+".contains(&b);
    if word.text.is_empty() || word.text.len() > MAX_NAME_BYTES || !word.text.bytes().all(fits) {
        return Err(word.must_be("a name of letters, digits and `. _ - @ : +`, at most 128 bytes"));
    }
    Ok(word.text.to_owned())
}

/// A name that people read: any script, inner spaces, but nothing that breaks a path or a line.
pub(super) fn free_name(word: Word<'_>) -> Parsed<String> {
    let text = word.text;
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '*' | '?' | '#');
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.trim() != text || !text.chars().all(fits) {
        return Err(word.must_be("a printable name without `/ * ? #`, at most 128 bytes"));
    }
    Ok(text.to_owned())
}

/// A model's name or a pattern of names.
pub(super) fn glob(word: Word<'_>) -> Parsed<Glob> {
    model(word).map(Glob::new)
}

/// A model's name.
pub(super) fn model(word: Word<'_>) -> Parsed<String> {
    let fits = |c: char| !c.is_control() && !c.is_whitespace();
    if word.text.is_empty() || word.text.len() > MAX_GLOB_BYTES || !word.text.chars().all(fits) {
        return Err(word.must_be("a name or a glob without spaces, at most 256 bytes"));
    }
    Ok(word.text.to_owned())
}

/// 64 hex digits. A key that was put here by mistake is not repeated.
pub(super) fn sha256(word: Word<'_>) -> Parsed<[u8; 32]> {
    let text = word.text;
    if text.eq_ignore_ascii_case(SHA256_OF_NOTHING) {
        return Err(Complaint::new("is the SHA-256 of an empty key"));
    }
    let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex && text.len() >= 8 && text.is_ascii() && !text.contains(char::is_whitespace) {
        return Err(Complaint::new("must be 64 hex digits").suggest("give the SHA-256 of the key, not the key"));
    }
    if !is_hex || text.len() != 64 {
        let found = if is_hex { format!(", not {}", text.len()) } else { String::new() };
        return Err(Complaint::new(format!("must be 64 hex digits{found}")));
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        // All 64 are hex digits, so that no pair of them fails.
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).unwrap_or_default();
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word<'_> {
        Word { text, raw: text }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("32MiB", 33_554_432),
            ("64KiB", 65_536),
            ("1GB", 1_000_000_000),
            ("2GiB", 2_147_483_648),
            ("512B", 512),
            ("4096", 4096),
        ] {
            assert_eq!(size(word(text)), Ok(bytes), "{text}");
        }
        for (text, suggestion) in [
            ("32M", Some("did you mean \"32MiB\"?")),
            ("64 kb", Some("did you mean \"64KiB\"?")),
            ("1gib", Some("did you mean \"1GiB\"?")),
            ("0", None),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("99999999999GiB", None),
        ] {
            let complaint = size(word(text)).expect_err(text);
            assert_eq!(complaint.suggestion.as_deref(), suggestion, "{text}");
        }
    }

    #[test]
    fn a_digest_is_64_hex_digits_and_a_key_in_its_place_is_not_repeated() {
        let digest = sha256(word(&"0fA1".repeat(16))).unwrap();
        assert_eq!(digest[..4], [0x0f, 0xa1, 0x0f, 0xa1]);
        let message = |text: &str| {
            let Complaint { message, suggestion } = sha256(word(text)).expect_err(text);
            (message, suggestion)
        };
        let hint = Some("give the SHA-256 of the key, not the key".to_owned());
        assert_eq!(message("sk-canary-1234"), ("must be 64 hex digits".to_owned(), hint));
        assert_eq!(message("abc123"), ("must be 64 hex digits, not 6".to_owned(), None));
        assert_eq!(message("5e88…"), ("must be 64 hex digits".to_owned(), None));
        assert_eq!(message(SHA256_OF_NOTHING), ("is the SHA-256 of an empty key".to_owned(), None));
    }

    #[test]
    fn what_looks_like_a_credential_is_not_shown() {
        for raw in ["sk-abc", "a AIzaSy", "Bearer x", "0123456789abcdef0123456789abcdef", "a\nb"] {
            assert_eq!(shown(raw), None, "{raw}");
        }
        for raw in ["gpt-4o", "10 parsecs", "${VERY_LONG_VARIABLE_NAME}", ""] {
            assert_eq!(shown(raw), Some(raw));
        }
    }
}
