//! What JSON's bytes are between strings, and how those are passed over that do not matter.

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

/// How many bytes can be passed over where no scalar is wanted: up to the next container, string or
/// colon. In blocks that a compiler turns into vector code, for answers of megabytes of numbers.
pub(super) fn skip(bytes: &[u8]) -> usize {
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
