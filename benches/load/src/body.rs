//! Bodies of HTTP/1.1 messages in pieces: by length, in chunks (RFC 9112, section 7.1), up to the end.
//!
//! The chunk machine is strict: only CRLF ends a line, sizes are plain hexadecimal. It keeps no bytes.

/// The longest chunk extension or trailer section that is skipped; proxies send none.
const MAX_SKIPPED: usize = 4096;

/// Sixteen digits would not fit; nothing here has chunks of 2^60 bytes.
const MAX_SIZE_DIGITS: u8 = 15;

/// What is left of one message's body.
#[derive(Debug)]
pub(crate) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All bytes up to the connection's end.
    UntilClose,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of the body, never none.
    Data(&'a [u8]),
    /// The input is used up and the body goes on.
    More,
    /// The body is whole; what is left of the input does not belong to it.
    End,
}

/// Bytes that no chunked body can have at this place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Body {
    /// The next piece, taken off the input.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Piece<'a>, BadChunk> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(data(input, left)),
            Self::Chunked(chunks) => chunks.next(input),
            Self::UntilClose => {
                let mut endless = u64::MAX;
                Ok(data(input, &mut endless))
            }
        }
    }
}

/// The state between two bytes of a chunked body.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// The size so far, then what is left of the chunk.
    size: u64,
    digits: u8,
    skipped: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { state: State::Size, size: 0, digits: 0, skipped: 0 }
    }

    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Piece<'a>, BadChunk> {
        loop {
            match self.state {
                State::Data if self.size > 0 => return Ok(data(input, &mut self.size)),
                State::Data => self.state = State::DataCr,
                State::End => return Ok(Piece::End),
                _ => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(Piece::More) };
                    *input = rest;
                    self.state = self.step(byte)?;
                }
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => Ok(State::Extension),
            (State::Size, _) => {
                let digit = (byte as char).to_digit(16).ok_or(BadChunk)?;
                self.digits += 1;
                self.size = (self.size << 4) | u64::from(digit);
                if self.digits > MAX_SIZE_DIGITS { Err(BadChunk) } else { Ok(State::Size) }
            }
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) => self.skip(byte, State::Extension),
            (State::SizeLf, b'\n') if self.size == 0 => Ok(State::TrailerStart),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::Trailer, _) => self.skip(byte, State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf, b'\n') => Ok(State::End),
            _ => Err(BadChunk),
        }
    }

    fn skip(&mut self, byte: u8, state: State) -> Result<State, BadChunk> {
        self.skipped += 1;
        if byte == b'\n' || self.skipped > MAX_SKIPPED { Err(BadChunk) } else { Ok(state) }
    }
}

fn data<'a>(input: &mut &'a [u8], left: &mut u64) -> Piece<'a> {
    if input.is_empty() {
        return Piece::More;
    }
    let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let (now, later) = input.split_at(count);
    *input = later;
    *left -= count as u64;
    Piece::Data(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body's bytes, whether it ended, and how many bytes stand behind it.
    fn read(body: &mut Body, parts: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), BadChunk> {
        let mut bytes = Vec::new();
        let (mut ended, mut behind) = (false, 0);
        for part in parts {
            let mut input = *part;
            loop {
                match body.next(&mut input)? {
                    Piece::Data(data) => bytes.extend_from_slice(data),
                    Piece::More => break,
                    Piece::End => {
                        ended = true;
                        behind += input.len();
                        break;
                    }
                }
            }
        }
        Ok((bytes, ended, behind))
    }

    fn chunked(parts: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), BadChunk> {
        read(&mut Body::Chunked(Chunks::new()), parts)
    }

    const WHOLE: &[u8] =
        b"5\r\nhello\r\n00C;name=value\r\n, wide world\r\n1 \r\n!\r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\nnext";

    #[test]
    fn chunks_survive_every_split_in_three() {
        let expected = Ok((b"hello, wide world!".to_vec(), true, 4));
        for first in 0..=WHOLE.len() {
            for second in first..=WHOLE.len() {
                let parts = [&WHOLE[..first], &WHOLE[first..second], &WHOLE[second..]];
                assert_eq!(chunked(&parts), expected, "split at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = WHOLE.chunks(1).collect();
        assert_eq!(chunked(&single), expected, "byte by byte");
    }

    #[test]
    fn a_body_that_is_cut_has_no_end() {
        let whole = WHOLE.len() - b"next".len();
        for cut in 0..whole {
            assert!(!chunked(&[&WHOLE[..cut]]).unwrap().1, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_no_chunk_has_are_refused() {
        let cases: [&[u8]; 12] = [
            b"\r\n",
            b"g\r\n",
            b" 5\r\nhello\r\n",
            b"-1\r\n",
            b"0x5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"5;a\nb\r\nhello\r\n",
            b"0\r\n\rx",
            b"1000000000000000\r\n",
        ];
        for case in cases {
            assert_eq!(chunked(&[case]), Err(BadChunk), "{:?}", String::from_utf8_lossy(case));
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let extension = [b"5;".as_slice(), &[b'a'; MAX_SKIPPED + 1]].concat();
        assert_eq!(chunked(&[&extension]), Err(BadChunk));
        let trailer = [b"0\r\n".as_slice(), &b"a:b\r\n".repeat(MAX_SKIPPED)].concat();
        assert_eq!(chunked(&[&trailer]), Err(BadChunk));
    }

    #[test]
    fn a_length_takes_that_many_bytes() {
        assert_eq!(read(&mut Body::Length(3), &[b"ab", b"cd"]), Ok((b"abc".to_vec(), true, 1)));
        assert_eq!(read(&mut Body::Length(0), &[b"a"]), Ok((Vec::new(), true, 1)));
        assert_eq!(read(&mut Body::Length(3), &[b"ab"]), Ok((b"ab".to_vec(), false, 0)));
    }

    #[test]
    fn without_a_length_all_bytes_belong() {
        assert_eq!(read(&mut Body::UntilClose, &[b"ab", b"c"]), Ok((b"abc".to_vec(), false, 0)));
    }
}
