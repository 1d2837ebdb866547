//! What of a string need not be looked at byte by byte.
//!
//! Owns: which bytes of a string are text, or an escape of two characters. Most of a request is such: prompts,
//! files, images. Code and prose in JSON have an escape in every line.

#![expect(clippy::inline_always, reason = "vector code is made only of what lies in the function that asks for it")]

use crate::text::{every, zeros};

/// How many bytes of a string's inside come before its quote, a control character, or an escape that is
/// longer than two characters, unknown, or not whole in these bytes.
#[inline]
pub(super) fn skim(bytes: &[u8]) -> usize {
    // Most strings are shorter than what a call of vector code costs.
    const FEW: usize = 24;
    let few = by_words(&bytes[..bytes.len().min(FEW)]);
    match bytes.get(few) {
        Some(b'\\') => few + with_escapes(&bytes[few..]),
        Some(byte) if is_plain(*byte) => few + with_escapes(&bytes[few..]),
        _ => few,
    }
}

/// By the widest registers that the machine is known to have.
fn with_escapes(bytes: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = pulp::x86::V3::try_new() {
        return v3.vectorize(wide::Skim { v3, bytes });
    }
    runs_and_escapes(bytes, by_words)
}

/// With `run` that finds how many bytes are plain.
#[inline(always)]
fn runs_and_escapes(bytes: &[u8], run: impl Fn(&[u8]) -> usize) -> usize {
    let mut at = 0;
    loop {
        at += run(&bytes[at..]);
        match bytes[at..] {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => at += 2,
            _ => return at,
        }
    }
}

/// How many bytes are plain, eight at a time.
#[inline(always)]
fn by_words(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // In a word the lowest of these is right.
        let controls = word.wrapping_sub(every(b' ')) & !word & every(0x80);
        let stops = controls | zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| is_plain(**byte)).count()
}

fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\\' | 0..b' ')
}

/// 32 bytes at a time.
#[cfg(target_arch = "x86_64")]
mod wide {
    use pulp::NullaryFnOnce;
    use pulp::x86::V3;

    pub(super) struct Skim<'a> {
        pub v3: V3,
        pub bytes: &'a [u8],
    }

    impl NullaryFnOnce for Skim<'_> {
        type Output = usize;

        #[inline(always)]
        fn call(self) -> usize {
            super::runs_and_escapes(self.bytes, |bytes| plain(self.v3, bytes))
        }
    }

    #[inline(always)]
    fn plain(v3: V3, bytes: &[u8]) -> usize {
        let (avx, avx2) = (v3.avx, v3.avx2);
        let backslash = avx._mm256_set1_epi8(b'\\'.cast_signed());
        let (swap, last) = (avx._mm256_set1_epi8(2), avx._mm256_set1_epi8(b' '.cast_signed()));
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut at = 0;
        for block in blocks {
            let block = pulp::cast(*block);
            // With this bit the other way the quote is next to the control characters.
            let swapped = avx2._mm256_xor_si256(block, swap);
            let ends = avx2._mm256_cmpeq_epi8(avx2._mm256_min_epu8(swapped, last), swapped);
            let stops = avx2._mm256_or_si256(ends, avx2._mm256_cmpeq_epi8(block, backslash));
            let before = avx2._mm256_movemask_epi8(stops).trailing_zeros() as usize;
            if before < 32 {
                return at + before;
            }
            at += 32;
        }
        at + super::by_words(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, a byte at a time.
    fn one_by_one(bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match bytes[at..] {
                [b'\\', next, ..] if b"\"\\/bfnrt".contains(&next) => at += 2,
                [b'"' | b'\\' | 0..b' ', ..] | [] => return at,
                _ => at += 1,
            }
        }
    }

    #[test]
    fn whatever_is_no_text_stops_it_at_every_place() {
        for stop in [&b"\""[..], b"\n", b"\0", b"\x1f", b"\\u0041", b"\\x", b"\\"] {
            for before in 0..200 {
                let mut bytes = vec![b'x'; before];
                bytes.extend_from_slice(stop);
                assert_eq!(skim(&bytes), before, "{stop:?}");
                if stop != b"\\" {
                    bytes.extend_from_slice(&[b'y'; 70]);
                    assert_eq!(skim(&bytes), before, "{stop:?}");
                }
            }
        }
    }

    #[test]
    fn escapes_of_two_characters_are_text_at_every_place() {
        for escape in [br#"\""#, br"\\", br"\/", br"\b", br"\f", br"\n", br"\r", br"\t"] {
            for before in 0..100 {
                let mut bytes = vec![b'x'; before];
                bytes.extend_from_slice(escape);
                bytes.extend_from_slice(b"y\"z");
                assert_eq!(skim(&bytes), before + 3, "{escape:?}");
            }
        }
    }

    #[test]
    fn bytes_above_ascii_and_the_ones_next_to_the_stops_are_text() {
        let text: Vec<u8> = (0..=u8::MAX).filter(|byte| is_plain(*byte)).collect();
        assert_eq!(text.len(), 256 - 32 - 2);
        assert_eq!(skim(&text), text.len());
    }

    proptest! {
        #[test]
        fn vectors_words_and_bytes_agree(pieces in prop::collection::vec(
            prop_oneof![
                4 => "[ -~]{0,80}".prop_map(String::into_bytes),
                4 => prop::sample::select(vec![&b"\\n"[..], b"\\\"", b"\\\\"]).prop_map(<[u8]>::to_vec),
                1 => prop::collection::vec(any::<u8>(), 0..40),
            ],
            0..8,
        )) {
            let bytes = pieces.concat();
            prop_assert_eq!(skim(&bytes), one_by_one(&bytes));
            prop_assert_eq!(runs_and_escapes(&bytes, by_words), one_by_one(&bytes));
        }
    }
}
