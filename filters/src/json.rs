//! JSON values put behind what is already written, as the request record needs them: strings, whole numbers,
//! durations, times and ids.
//!
//! Owns: what a JSON string has to escape, and nothing more than that is escaped. Every function appends one whole
//! value, strings with their quotes. Knows no document: commas, colons and braces are the caller's.

use crate::calendar;
use crate::text::{every, zeros};

/// The last millisecond whose year has four digits, as RFC 3339 demands.
const LAST_TIME_MS: u64 = 253_402_300_799_999;

/// Puts a string.
#[inline]
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    put_quoted(out, text.as_bytes());
}

/// Puts bytes as a string: each ill-formed part of UTF-8 becomes one U+FFFD, as in [`String::from_utf8_lossy`].
pub fn put_bytes_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nearly all are ASCII without anything to escape, which one look tells.
    if plain::<true>(bytes) == bytes.len() {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    if std::str::from_utf8(bytes).is_ok() {
        put_quoted(out, bytes);
        return;
    }
    out.push(b'"');
    for part in bytes.utf8_chunks() {
        escape(out, part.valid().as_bytes());
        if !part.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Puts a whole number.
pub fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Puts microseconds as a number of milliseconds with no more than three decimals and none that says nothing:
/// `12`, `12.3`, `0.005`.
pub fn put_ms(out: &mut Vec<u8>, micros: u64) {
    put_u64(out, micros / 1000);
    let below = micros % 1000;
    if below != 0 {
        let decimals = [b'.', digit(below / 100), digit(below / 10), digit(below)];
        let zeros = decimals.iter().rev().take_while(|digit| **digit == b'0').count();
        out.extend_from_slice(&decimals[..decimals.len() - zeros]);
    }
}

/// Puts a time, in milliseconds since 1970-01-01, as RFC 3339 writes it in UTC: `"2026-11-30T19:20:04.123Z"`.
/// Beyond the year 9999 it is that year's last millisecond.
pub fn put_time_ms(out: &mut Vec<u8>, unix_ms: u64) {
    let unix_ms = unix_ms.min(LAST_TIME_MS);
    let ms = unix_ms % 1000;
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    text[1..20].copy_from_slice(&calendar::rfc3339_seconds(unix_ms)[..19]);
    text[21..24].copy_from_slice(&[digit(ms / 100), digit(ms / 10), digit(ms)]);
    out.extend_from_slice(&text);
}

/// Puts a number as a string of 32 hexadecimal digits, in lower case.
pub fn put_hex128(out: &mut Vec<u8>, number: u128) {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let mut text = [b'"'; 34];
    for (pair, byte) in text[1..33].as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = [digit(byte >> 4), digit(byte & 0xF)];
    }
    out.extend_from_slice(&text);
}

/// The last decimal digit of a number.
fn digit(number: u64) -> u8 {
    b'0' + (number % 10).to_le_bytes()[0]
}

#[inline]
fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Appends a string's inside. Most strings have nothing to escape: they are copied at once.
#[inline]
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let plain = plain::<false>(text);
    out.extend_from_slice(&text[..plain]);
    if plain < text.len() {
        escape_some(out, &text[plain..]);
    }
}

/// How many bytes at least come before the first that must be escaped, or is no ASCII if that is asked: all, if there is
/// none.
#[inline]
fn plain<const ASCII: bool>(text: &[u8]) -> usize {
    /// What baseline vector code looks at in one step.
    const BLOCK: usize = 32;
    // A block that overlaps the one before is cheaper than single bytes at the end.
    if let Some(last) = text.last_chunk::<BLOCK>() {
        let (blocks, rest) = text.as_chunks::<BLOCK>();
        let plain = blocks.iter().take_while(|block| !has_stop::<ASCII, _>(block)).count();
        let all = plain == blocks.len() && (rest.is_empty() || !has_stop::<ASCII, _>(last));
        return if all { text.len() } else { plain * BLOCK };
    }
    let all = if let (Some(first), Some(last)) = (text.first_chunk::<16>(), text.last_chunk::<16>()) {
        !has_stop::<ASCII, _>(first) && !has_stop::<ASCII, _>(last)
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        let high = if ASCII { (u64::from_le_bytes(*first) | u64::from_le_bytes(*last)) & every(0x80) } else { 0 };
        stops(*first) | stops(*last) | high == 0
    } else {
        !text.iter().any(|byte| is_stop(*byte) || (ASCII && *byte >= 0x80))
    };
    if all { text.len() } else { 0 }
}

/// Appends text in which something must be escaped: eight bytes at a time are put, and those taken back that
/// come from the first escape on.
fn escape_some(out: &mut Vec<u8>, text: &[u8]) {
    /// After so many plain words it is worth to look at larger blocks again.
    const CALM: u32 = 8;
    let (mut rest, mut calm) = (text, 0);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let stops = stops(*word);
        out.extend_from_slice(word);
        rest = tail;
        calm += 1;
        if stops != 0 {
            let before = stops.trailing_zeros() as usize / 8;
            out.truncate(out.len() - word.len() + before);
            put_escape(out, word[before]);
            rest = &text[text.len() - tail.len() - word.len() + before + 1..];
            calm = 0;
        } else if calm == CALM {
            let plain = plain::<false>(rest);
            out.extend_from_slice(&rest[..plain]);
            rest = &rest[plain..];
            calm = 0;
        }
    }
    for byte in rest {
        if is_stop(*byte) {
            put_escape(out, *byte);
        } else {
            out.push(*byte);
        }
    }
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        b'"' | b'\\' => byte,
        _ => {
            let low = byte & 0xF;
            let digit = low + if low < 10 { b'0' } else { b'a' - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Whether a string cannot hold the byte as it is (RFC 8259, section 7).
#[inline]
fn is_stop(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// Whether there is such a byte. Without a branch, so that it becomes vector code.
#[inline]
fn has_stop<const ASCII: bool, const N: usize>(block: &[u8; N]) -> bool {
    block.iter().fold(0, |hit, byte| hit | u8::from(is_stop(*byte) | (ASCII & (*byte >= 0x80)))) != 0
}

/// The high bit of such bytes in a word; bits above the lowest one may be wrong.
#[inline]
fn stops(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let controls = word.wrapping_sub(every(b' ')) & !word & every(0x80);
    controls | zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before,".to_vec();
        put(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before,").unwrap().to_owned()
    }

    fn string(text: &str) -> String {
        put(|out| put_str(out, text))
    }

    #[test]
    fn every_character_below_128_is_written_as_serde_json_writes_it() {
        for byte in 0..128_u8 {
            let text = char::from(byte).to_string();
            assert_eq!(string(&text), serde_json::to_string(&text).unwrap(), "{byte:#x}");
        }
        assert_eq!(string("\u{7f}\u{2028}\u{2029}é你🦀"), "\"\u{7f}\u{2028}\u{2029}é你🦀\"");
    }

    #[test]
    fn what_must_be_escaped_is_found_at_every_place_of_every_length() {
        for stop in ["\"", "\\", "\0", "\u{1f}", "\n"] {
            for length in 0..140 {
                for at in 0..=length {
                    let text = ["x".repeat(at), stop.to_owned(), "é".repeat(length - at)].concat();
                    assert_eq!(string(&text), serde_json::to_string(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn the_bytes_next_to_the_stops_stay_as_they_are() {
        for length in 0..140 {
            let text: String = " !#[]~".chars().cycle().take(length).collect();
            assert_eq!(string(&text), format!("\"{text}\""));
        }
    }

    #[test]
    fn an_ill_formed_part_becomes_one_replacement() {
        let lossy = |bytes: &[u8]| put(|out| put_bytes_lossy(out, bytes));
        assert_eq!(lossy(b"plain \"\n"), r#""plain \"\n""#);
        assert_eq!(lossy(b"\xFF"), "\"\u{FFFD}\"");
        assert_eq!(lossy(b"a\"\xF0\x9F\xA6b\xC3"), "\"a\\\"\u{FFFD}b\u{FFFD}\"");
        assert_eq!(lossy(b"\xED\xA0\x80"), "\"\u{FFFD}\u{FFFD}\u{FFFD}\"");
        assert_eq!(lossy(b""), "\"\"");
    }

    #[test]
    fn milliseconds_have_only_decimals_that_say_something() {
        for (micros, expected) in [
            (0, "0"),
            (5, "0.005"),
            (50, "0.05"),
            (500, "0.5"),
            (999, "0.999"),
            (1_000, "1"),
            (12_000, "12"),
            (12_300, "12.3"),
            (12_030, "12.03"),
            (100_001, "100.001"),
            (u64::MAX, "18446744073709551.615"),
        ] {
            assert_eq!(put(|out| put_ms(out, micros)), expected);
        }
    }

    #[test]
    fn a_time_has_milliseconds_and_a_year_of_four_digits() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_796_066_404_123, "2026-11-30T19:20:04.123Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(put(|out| put_time_ms(out, unix_ms)), format!("\"{expected}\""));
        }
    }

    #[test]
    fn an_id_has_all_its_digits() {
        for (number, expected) in [
            (0, "00000000000000000000000000000000"),
            (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, "0123456789abcdeffedcba9876543210"),
            (u128::MAX, "ffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(put(|out| put_hex128(out, number)), format!("\"{expected}\""));
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![4 => "[ -~]{0,90}", 2 => "[\"\\\\\n\t]{0,9}", 2 => ".{0,20}", 1 => "[\0-\u{1f}]{0,9}"],
            0..8,
        )
        .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn strings_are_those_of_serde_json(text in texts()) {
            prop_assert_eq!(string(&text), serde_json::to_string(&text).unwrap());
            prop_assert_eq!(put(|out| put_bytes_lossy(out, text.as_bytes())), string(&text));
        }

        #[test]
        fn any_bytes_become_the_string_that_lossy_reading_gives(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let json = put(|out| put_bytes_lossy(out, &bytes));
            let read: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn numbers_are_those_of_the_standard_library(number: u64, id: u128, time in 0..LAST_TIME_MS) {
            prop_assert_eq!(put(|out| put_u64(out, number)), number.to_string());
            prop_assert_eq!(put(|out| put_hex128(out, id)), format!("\"{id:032x}\""));
            prop_assert_eq!(put(|out| put_time_ms(out, time)), format!("\"{}\"", calendar::rfc3339(time)));
            let ms = put(|out| put_ms(out, number));
            let (whole, below) = ms.split_once('.').unwrap_or((&ms, ""));
            prop_assert_eq!(whole.to_owned() + &format!("{below:0<3}"), format!("{number:04}"));
            prop_assert!(!below.ends_with('0') && below.len() <= 3);
        }
    }
}
