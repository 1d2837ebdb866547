//! The heads of HTTP/1.1 messages: a request's is written, a response's is read and judged.

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};

use super::body::Framing;

/// The largest response head. OpenAI's with all its rate-limit headers has 2 KiB; nginx reads 4 to
/// 8 KiB, HAProxy 16 KiB.
const MAX_HEAD: usize = 64 * 1024;
/// The most header lines of a response head.
const MAX_HEADERS: usize = 128;

/// What is wrong with a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("the response head is not HTTP/1: {0}")]
    Parse(httparse::Error),
    #[error("the response head is larger than 64 KiB or has more than 128 lines")]
    TooLarge,
    #[error("the response head has a length or transfer coding that cannot be right")]
    Framing,
    #[error("the upstream switched protocols without being asked")]
    Switched,
}

/// A response head and what follows from it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) header: Box<ResponseHeader>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

/// Writes a request head in wire form.
pub(super) fn write_request(request: &RequestHeader, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.raw_path());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes a whole response head out of `input`; `None` if it has not arrived yet.
pub(super) fn take_response(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut lines);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(e) => return Err(HeadError::Parse(e)),
    };
    let code = parsed.code.unwrap_or(0);
    let status = StatusCode::from_u16(code).map_err(|_| HeadError::Parse(httparse::Error::Status))?;
    let mut header = ResponseHeader::build(status, Some(parsed.headers.len()))
        .map_err(|_| HeadError::Parse(httparse::Error::Status))?;
    if let Some(reason) = parsed.reason.filter(|r| Some(*r) != status.canonical_reason()) {
        header.set_reason_phrase(Some(reason)).map_err(|_| HeadError::Parse(httparse::Error::Status))?;
    }
    for line in parsed.headers.iter() {
        header
            .append_header(line.name.to_owned(), line.value)
            .map_err(|_| HeadError::Parse(httparse::Error::HeaderValue))?;
    }
    let persistent = parsed.version == Some(1);
    input.advance(length);
    judge(header, method, persistent).map(Some)
}

fn judge(mut header: ResponseHeader, method: &Method, persistent: bool) -> Result<Head, HeadError> {
    let mut keep_alive = match connection(&header.headers) {
        Connection::Close => false,
        Connection::KeepAlive => true,
        Connection::Unsaid => persistent,
    };
    let chunked = is_chunked(&header.headers)?;
    let length = content_length(&header.headers)?;
    let framing = if header.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(HeadError::Switched);
    } else if *method == Method::HEAD
        || header.status.is_informational()
        || matches!(header.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        Framing::Empty
    } else if chunked {
        if length.is_some() {
            // RFC 9112, 6.3: the transfer coding overrides; whoever sends both is not to be trusted twice.
            header.remove_header(&CONTENT_LENGTH);
            keep_alive = false;
        }
        Framing::Chunked
    } else if let Some(length) = length {
        // The same length said twice is one length; the client gets it once.
        header.insert_header(CONTENT_LENGTH, length).map_err(|_| HeadError::Framing)?;
        Framing::Length(length)
    } else {
        keep_alive = false;
        Framing::UntilClose
    };
    Ok(Head { header: Box::new(header), framing, keep_alive })
}

enum Connection {
    Close,
    KeepAlive,
    Unsaid,
}

fn connection(headers: &HeaderMap) -> Connection {
    let mut said = Connection::Unsaid;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                return Connection::Close;
            }
            if token.eq_ignore_ascii_case(b"keep-alive") {
                said = Connection::KeepAlive;
            }
        }
    }
    said
}

/// Only a single `chunked` is understood: no other coding was offered, so none may be used.
fn is_chunked(headers: &HeaderMap) -> Result<bool, HeadError> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(HeadError::Framing),
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
                return Err(HeadError::Framing);
            }
            let n = text.iter().fold(0, |n, &b| n * 10 + u64::from(b - b'0'));
            if length.replace(n).is_some_and(|before| before != n) {
                return Err(HeadError::Framing);
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<(u16, Framing, bool), HeadError> {
        take_response(&mut BytesMut::from(text), &Method::POST)
            .map(|head| head.expect("a whole head"))
            .map(|head| (head.header.status.as_u16(), head.framing, head.keep_alive))
    }

    #[test]
    fn the_end_of_a_body_is_known_from_its_head() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, expected) in [
            (format!("{ok}content-length: 5\r\n\r\n"), Ok((200, Framing::Length(5), true))),
            (format!("{ok}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), Ok((200, Framing::Length(5), true))),
            (format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), Err(HeadError::Framing)),
            (format!("{ok}Content-Length: +5\r\n\r\n"), Err(HeadError::Framing)),
            (format!("{ok}Content-Length:\r\n\r\n"), Err(HeadError::Framing)),
            (format!("{ok}Transfer-Encoding: Chunked\r\n\r\n"), Ok((200, Framing::Chunked, true))),
            (format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n"), Err(HeadError::Framing)),
            (
                format!("{ok}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
                Ok((200, Framing::Chunked, false)),
            ),
            (format!("{ok}Connection: foo, Close\r\nContent-Length: 5\r\n\r\n"), Ok((200, Framing::Length(5), false))),
            (format!("{ok}\r\n"), Ok((200, Framing::UntilClose, false))),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n".into(), Ok((200, Framing::Length(1), false))),
            ("HTTP/1.1 204 No Content\r\n\r\n".into(), Ok((204, Framing::Empty, true))),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), Err(HeadError::Switched)),
            ("HTTP/1.1 099 X\r\n\r\n".into(), Err(HeadError::Parse(httparse::Error::Status))),
        ] {
            assert_eq!(head(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_endless_head_is_given_up() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nx: ");
        input.resize(MAX_HEAD, b'a');
        assert_eq!(take_response(&mut input, &Method::GET).unwrap_err(), HeadError::TooLarge);
    }

    #[test]
    fn names_keep_their_case_and_repeated_lines_stay() {
        let mut input = BytesMut::from("HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\nrest");
        let head = take_response(&mut input, &Method::GET).unwrap().unwrap();
        let mut wire = Vec::new();
        head.header.header_to_h1_wire(&mut wire);
        assert_eq!(String::from_utf8(wire).unwrap(), "X-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n");
        assert_eq!((head.header.get_reason_phrase(), &input[..]), (Some("Fine"), &b"rest"[..]));
    }
}
