//! Where a body ends, and what of the bytes on the wire belongs to it (RFC 9112, section 6).

use bytes::{Bytes, BytesMut};

/// The longest chunk-size line, extensions included. Real ones have ten bytes; nginx allows about 4 KiB.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// The longest trailer section. Nothing is read from it.
const MAX_TRAILERS: usize = 16 * 1024;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, up to one of size zero.
    Chunked,
    /// Whatever comes before the connection closes.
    UntilClose,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the connection closed in the middle of the body")]
    Early,
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    #[error("a chunk or a trailer does not end in CRLF")]
    ChunkEnd,
    #[error("a chunk line or the trailer section is too long")]
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(usize),
    Done,
}

/// Takes a body out of what was read.
#[derive(Debug)]
pub(crate) struct BodyReader(State);

impl BodyReader {
    pub(crate) fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// How much is still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Moves what belongs to the body out of `input`, without its framing. Bytes behind the body's
    /// end, and a chunk line that is not whole yet, stay there.
    pub(crate) fn take(&mut self, input: &mut BytesMut) -> Result<Bytes, BodyError> {
        match self.0 {
            State::Done => Ok(Bytes::new()),
            State::UntilClose => Ok(input.split().freeze()),
            State::Length(left) => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let left = left - n as u64;
                self.0 = if left == 0 { State::Done } else { State::Length(left) };
                Ok(input.split_to(n).freeze())
            }
            _ => self.take_chunks(input),
        }
    }

    /// Called when the connection was closed: fine only where that is how the body ends.
    pub(crate) fn close(&mut self) -> Result<(), BodyError> {
        match self.0 {
            State::Done => Ok(()),
            State::UntilClose => {
                self.0 = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Early),
        }
    }

    /// Decodes every chunk that has arrived and joins their data in place: what arrived in one read
    /// goes on in one write, and only the second and later chunks of a read are moved.
    fn take_chunks(&mut self, input: &mut BytesMut) -> Result<Bytes, BodyError> {
        let (mut read, mut start, mut end) = (0, 0, 0);
        loop {
            match self.0 {
                State::ChunkSize => {
                    let Some(line) = line(&input[read..], MAX_CHUNK_LINE)? else { break };
                    let size = chunk_size(&input[read..read + line])?;
                    read += line;
                    self.0 = if size == 0 { State::Trailers(0) } else { State::ChunkData(size) };
                }
                State::ChunkData(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - read);
                    if n == 0 {
                        break;
                    }
                    if start == end {
                        (start, end) = (read, read);
                    }
                    if end != read {
                        input.copy_within(read..read + n, end);
                    }
                    (read, end) = (read + n, end + n);
                    let left = left - n as u64;
                    self.0 = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                }
                State::ChunkEnd => {
                    let rest = &input[read..];
                    if !b"\r\n".starts_with(&rest[..rest.len().min(2)]) {
                        return Err(BodyError::ChunkEnd);
                    }
                    if rest.len() < 2 {
                        break;
                    }
                    read += 2;
                    self.0 = State::ChunkSize;
                }
                State::Trailers(seen) => {
                    let Some(line) = line(&input[read..], MAX_TRAILERS - seen)? else { break };
                    let text = &input[read..read + line];
                    if !text.ends_with(b"\r\n") {
                        return Err(BodyError::ChunkEnd);
                    }
                    let empty = line == 2;
                    read += line;
                    self.0 = if empty { State::Done } else { State::Trailers(seen + line) };
                }
                State::Done | State::Length(_) | State::UntilClose => break,
            }
        }
        let mut taken = input.split_to(read).freeze();
        Ok(if end == start { Bytes::new() } else { taken.split_to(end).slice(start..) })
    }
}

/// The length of the first line with its LF, or `None` if it has not ended yet.
fn line(input: &[u8], max: usize) -> Result<Option<usize>, BodyError> {
    match input.iter().take(max).position(|&b| b == b'\n') {
        Some(at) => Ok(Some(at + 1)),
        None if input.len() >= max => Err(BodyError::TooLong),
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, BodyError> {
    let Some(line) = line.strip_suffix(b"\r\n") else { return Err(BodyError::ChunkSize) };
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    // Fifteen digits are 2^60: a larger chunk is a lie, and the sum could overflow.
    let follows = matches!(rest.first(), None | Some(b';' | b' ' | b'\t'));
    // A carriage return in an extension ends the line for some.
    if digits.is_empty() || digits.len() > 15 || !follows || rest.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(BodyError::ChunkSize);
    }
    Ok(digits.iter().fold(0, |n, &b| n << 4 | u64::from((b as char).to_digit(16).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(framing: Framing, pieces: &[&[u8]]) -> (Result<Vec<u8>, BodyError>, bool, usize) {
        let mut reader = BodyReader::new(framing);
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            match reader.take(&mut input) {
                Ok(data) => out.extend_from_slice(&data),
                Err(e) => return (Err(e), false, input.len()),
            }
        }
        (Ok(out), reader.is_done(), input.len())
    }

    const CHUNKED: &[u8] = b"5\r\nhello\r\n1;ext=\"a\"\r\n \r\n0A\r\nworld,bye!\r\n0\r\nx-trailer: 1\r\n\r\n";

    #[test]
    fn chunks_of_one_read_are_joined() {
        assert_eq!(run(Framing::Chunked, &[CHUNKED]), (Ok(b"hello world,bye!".to_vec()), true, 0));
    }

    #[test]
    fn a_chunked_body_survives_every_split() {
        for a in 0..CHUNKED.len() {
            for b in a..CHUNKED.len() {
                let pieces = [&CHUNKED[..a], b"", &CHUNKED[a..b], &CHUNKED[b..]];
                assert_eq!(run(Framing::Chunked, &pieces), (Ok(b"hello world,bye!".to_vec()), true, 0), "{a} {b}");
            }
        }
    }

    #[test]
    fn bytes_behind_the_end_are_not_of_the_body() {
        let mut bytes = CHUNKED.to_vec();
        bytes.extend_from_slice(b"HTTP/1.1 200 OK");
        assert_eq!(run(Framing::Chunked, &[&bytes]), (Ok(b"hello world,bye!".to_vec()), true, 15));
        assert_eq!(run(Framing::Length(3), &[b"ab", b"cdef"]), (Ok(b"abc".to_vec()), true, 3));
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for (bytes, error) in [
            (&b"\r\n"[..], BodyError::ChunkSize),
            (b"-1\r\nx", BodyError::ChunkSize),
            (b"0x5\r\nhello", BodyError::ChunkSize),
            (b"5\nhello", BodyError::ChunkSize),
            (b"ffffffffffffffff\r\nx", BodyError::ChunkSize),
            (b"5\r\nhelloX\r\n", BodyError::ChunkEnd),
            (b"5\r\nhello\n0\r\n", BodyError::ChunkEnd),
            (b"5;a\rb\r\nhello\r\n", BodyError::ChunkSize),
            (b"5;\0\r\nhello\r\n", BodyError::ChunkSize),
            (b"5;\nhello\r\n", BodyError::ChunkSize),
            (b"0\r\n\n", BodyError::ChunkEnd),
            (b"0\r\nx: y\n\r\n", BodyError::ChunkEnd),
        ] {
            assert_eq!(run(Framing::Chunked, &[bytes]).0, Err(error), "{}", bytes.escape_ascii());
        }
        let endless = [b'1'; MAX_CHUNK_LINE];
        assert_eq!(run(Framing::Chunked, &[&endless]).0, Err(BodyError::TooLong));
    }

    #[test]
    fn a_close_ends_only_a_body_without_a_length() {
        let mut body = BodyReader::new(Framing::UntilClose);
        assert_eq!(body.take(&mut BytesMut::from("abc")).as_deref(), Ok(&b"abc"[..]));
        assert_eq!((body.is_done(), body.close(), body.is_done()), (false, Ok(()), true));
        assert_eq!(BodyReader::new(Framing::Length(1)).close(), Err(BodyError::Early));
        assert_eq!(BodyReader::new(Framing::Chunked).close(), Err(BodyError::Early));
        assert_eq!(BodyReader::new(Framing::Empty).close(), Ok(()));
    }
}
