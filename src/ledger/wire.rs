//! Owns the smallest pieces of the ledger's binary form: variable-length integers and
//! length-prefixed strings. Refuses to know what they mean.

use std::str;

/// The longest string in a record. A model's name is the client's to choose, so it must be bounded;
/// what is longer is cut at a character.
pub(crate) const MAX_TEXT: usize = 512;

/// Appends `value` as a LEB128 integer: seven bits a byte, the lowest first.
pub(crate) fn put_int(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends the length of `text` and its bytes, cut to [`MAX_TEXT`].
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_int(out, end as u64);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Reads what the functions above wrote. Each method answers `None` when the bytes cannot be that.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes not yet read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(len)?;
        self.bytes = tail;
        Some(head)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn int(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.int()?).ok()?;
        if len > MAX_TEXT {
            return None;
        }
        str::from_utf8(self.take(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_and_texts_survive_a_round_trip(value: u64, text in ".{0,40}") {
            let mut bytes = Vec::new();
            put_int(&mut bytes, value);
            put_text(&mut bytes, &text);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.int(), Some(value));
            prop_assert_eq!(reader.text(), Some(text.as_str()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.int().is_some() && reader.text().is_some() {}
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &format!("{}ü", "a".repeat(MAX_TEXT - 1)));
        assert_eq!(Reader::new(&bytes).text(), Some("a".repeat(MAX_TEXT - 1).as_str()));
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 10]).int(), None);
        let mut max = [0xff; 10];
        max[9] = 1;
        assert_eq!(Reader::new(&max).int(), Some(u64::MAX));
    }
}
