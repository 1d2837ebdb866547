//! Heads of HTTP/1.1 messages: where they end, their fields, and how they say that a body is framed.

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use crate::body::{Body, Chunks};

/// The largest head that is read; a proxy adds a few hundred bytes to one of about as many.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

static EMPTY_LINE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

/// A head that no HTTP/1.1 message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHead;

/// The head's length with its empty line, once that is there.
pub(crate) fn head_len(bytes: &[u8]) -> Result<Option<usize>, BadHead> {
    match EMPTY_LINE.find(bytes) {
        Some(at) if at + 4 <= MAX_HEAD_BYTES => Ok(Some(at + 4)),
        None if bytes.len() < MAX_HEAD_BYTES => Ok(None),
        _ => Err(BadHead),
    }
}

/// The first line of a whole head, and its fields.
pub(crate) fn split_head(head: &[u8]) -> (&[u8], Fields<'_>) {
    let mut lines = Fields(head);
    let first = lines.line().and_then(Result::ok).unwrap_or_default();
    (first, lines)
}

/// The fields of a head: names as they are, values without the space around them.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn line(&mut self) -> Option<Result<&'a [u8], BadHead>> {
        let end = memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").ok_or(BadHead))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadHead>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.line()? {
            Ok([]) => return None,
            Ok(line) => line,
            Err(bad) => return Some(Err(bad)),
        };
        Some(match memchr(b':', line) {
            Some(colon) if colon > 0 && line[colon - 1] != b' ' => Ok((&line[..colon], line[colon + 1..].trim_ascii())),
            _ => Err(BadHead),
        })
    }
}

/// What a head says of its message's body and of its connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    length: Option<u64>,
    chunked: bool,
    /// The sender closes the connection behind this message.
    pub(crate) close: bool,
}

impl Framing {
    /// Takes note of a field; fields that say nothing of framing are passed over.
    pub(crate) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadHead> {
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => self.close |= value.eq_ignore_ascii_case(b"close"),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.replace(number(value).ok_or(BadHead)?).is_some() {
                    return Err(BadHead);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadHead);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The body that follows; `unsaid` is the one of a message that names neither length nor coding.
    pub(crate) fn body(&self, unsaid: Body) -> Result<Body, BadHead> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(BadHead),
            (Some(length), false) => Ok(Body::Length(length)),
            (None, true) => Ok(Body::Chunked(Chunks::new())),
            (None, false) => Ok(unsaid),
        }
    }
}

/// A decimal number of plain digits.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &[u8]) -> Result<Framing, BadHead> {
        let mut framing = Framing::default();
        for field in split_head(head).1 {
            let (name, value) = field?;
            framing.note(name, value)?;
        }
        Ok(framing)
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        assert_eq!(head_len(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nbody"), Ok(Some(25)));
        assert_eq!(head_len(b"HTTP/1.1 200 OK\r\na: b\r\n"), Ok(None));
        assert_eq!(head_len(&[b'a'; MAX_HEAD_BYTES]), Err(BadHead));
    }

    #[test]
    fn fields_are_split_at_the_first_colon() {
        let (first, fields) = split_head(b"HTTP/1.1 200 OK\r\nDate: 10:00\r\nEmpty:\r\n\r\n");
        assert_eq!(first, b"HTTP/1.1 200 OK");
        let fields: Vec<_> = fields.map(Result::unwrap).collect();
        assert_eq!(fields, [(b"Date".as_slice(), b"10:00".as_slice()), (b"Empty", b"")]);
    }

    #[test]
    fn framing_that_contradicts_itself_is_refused() {
        let cases: [&[u8]; 7] = [
            b"x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            b"x\r\ncontent-length: +1\r\n\r\n",
            b"x\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"x\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            b"x\r\nno colon\r\n\r\n",
            b"x\r\na: b\ncontent-length: 1\r\n\r\n",
            b"x\r\ncontent-length : 1\r\n\r\n",
        ];
        for case in cases {
            assert_eq!(framing(case), Err(BadHead), "{:?}", String::from_utf8_lossy(case));
        }
        let both = framing(b"x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(both.body(Body::UntilClose).unwrap_err(), BadHead);
    }

    #[test]
    fn framing_is_read_in_any_case() {
        let said = framing(b"x\r\nContent-Length: 12\r\nCONNECTION: Close\r\n\r\n").unwrap();
        assert_eq!(said, Framing { length: Some(12), chunked: false, close: true });
        assert!(matches!(said.body(Body::UntilClose), Ok(Body::Length(12))));
    }
}
