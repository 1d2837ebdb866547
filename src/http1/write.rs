//! The small pieces of a message, written.

use bytes::BytesMut;

/// A header line.
pub(crate) fn put_line(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// `Content-Length`.
pub(crate) fn put_length(out: &mut BytesMut, length: u64) {
    out.extend_from_slice(b"content-length: ");
    put_digits::<10>(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The line in front of a chunk (RFC 9112, section 7.1).
pub(crate) fn put_chunk_size(out: &mut BytesMut, size: usize) {
    put_digits::<16>(out, size as u64);
    out.extend_from_slice(b"\r\n");
}

fn put_digits<const BASE: u64>(out: &mut BytesMut, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::try_from(n % BASE).unwrap_or_default()];
        n /= BASE;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for n in [0, 1, 9, 10, 15, 16, 255, 256, 1_048_576, u64::MAX] {
            let mut out = BytesMut::new();
            put_length(&mut out, n);
            put_chunk_size(&mut out, usize::try_from(n).unwrap());
            assert_eq!(out, format!("content-length: {n}\r\n{n:x}\r\n"));
        }
    }

    #[test]
    fn a_line_is_written_as_it_is() {
        let mut out = BytesMut::new();
        put_line(&mut out, b"X-A", b" 1\t");
        assert_eq!(&out[..], b"X-A:  1\t\r\n");
    }
}
