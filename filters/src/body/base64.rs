//! Bytes that are no text, as text (RFC 4648, section 4).

/// Appends the bytes in base64, with padding: four characters for each three bytes begun.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextet = |number: u32, place: u32| ALPHABET[(number >> (6 * place) & 0x3F) as usize];
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let number = a << 16 | b << 8 | c;
        let mut four = [sextet(number, 3), sextet(number, 2), sextet(number, 1), sextet(number, 0)];
        four[group.len() + 1..].fill(b'=');
        out.extend_from_slice(&four);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xFB\xFF\xFE\x00", "+//+AA=="),
        ] {
            let mut out = Vec::new();
            put(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
