//! A set of words, told by length and first byte: most words of a document or a head are seen not to
//! be in it without a comparison.

/// What words there may be. The case of the first letter does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch(u64);

impl Sketch {
    /// The sketch of a list.
    pub(crate) const fn of(words: &[&str]) -> Sketch {
        let mut sketch = Sketch(0);
        let mut at = 0;
        while at < words.len() {
            sketch.add(words[at].as_bytes());
            at += 1;
        }
        sketch
    }

    pub(crate) const fn add(&mut self, word: &[u8]) {
        self.0 |= Sketch::bit(word);
    }

    /// `false`: the word is not in the set, in whatever case.
    #[inline]
    pub(crate) const fn may_have(self, word: &[u8]) -> bool {
        self.0 & Sketch::bit(word) != 0
    }

    #[inline]
    const fn bit(word: &[u8]) -> u64 {
        let first = if word.is_empty() { 0 } else { word[0] as usize | 0x20 };
        1 << ((first + 7 * word.len()) % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_the_set_is_denied_in_any_case() {
        let words = ["", "a", "te", "usage", "x-api-key", "transfer-encoding"];
        let sketch = Sketch::of(&words);
        for word in words {
            assert!(sketch.may_have(word.as_bytes()), "{word}");
            assert!(sketch.may_have(word.to_ascii_uppercase().as_bytes()), "{word}");
        }
        assert!(!Sketch::of(&["usage"]).may_have(b"model") && !Sketch::default().may_have(b""));
    }
}
