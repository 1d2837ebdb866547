//! The head of a response: read and judged.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};

use super::Framing;
use super::lines::{BadFraming, Lines, Said};

/// The largest response head. OpenAI's with all its rate-limit headers has 2 KiB; nginx reads 4 to
/// 8 KiB, HAProxy 16 KiB.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// The most header lines of a response head.
const MAX_HEADERS: usize = 128;

/// What is wrong with a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("the response head is not HTTP/1: {0}")]
    Parse(httparse::Error),
    #[error("the response head is larger than 64 KiB or has more than 128 lines")]
    TooLarge,
    #[error("the response head has a length or transfer coding that cannot be right")]
    Framing,
    #[error("the upstream switched protocols without being asked")]
    Switched,
}

impl From<BadFraming> for ResponseError {
    fn from(_: BadFraming) -> Self {
        Self::Framing
    }
}

/// A response head and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// The words behind the status, if they are not the usual ones.
    pub(crate) reason: Option<Bytes>,
    /// Its lines, without those that frame the body.
    pub(crate) lines: Lines,
    pub(crate) framing: Framing,
    /// What `Content-Length` says; of a HEAD's answer too, which has no body.
    pub(crate) length: Option<u64>,
    pub(crate) keep_alive: bool,
}

/// Takes a whole response head out of `input`; `None` if it has not arrived yet.
pub(crate) fn take_response(input: &mut BytesMut, method: &Method) -> Result<Option<Response>, ResponseError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
        Err(e) => return Err(ResponseError::Parse(e)),
    };
    let bad_status = ResponseError::Parse(httparse::Error::Status);
    let status = StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(|_| bad_status)?;
    let reason = parsed.reason.filter(|r| Some(*r) != status.canonical_reason());
    let reason = reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
    let persistent = parsed.version == Some(1);
    let found = Lines::find(input, parsed.headers);
    let lines = Lines::new(input.split_to(length).freeze(), found);
    judge(status, reason, lines, method, persistent).map(Some)
}

fn judge(
    status: StatusCode,
    reason: Option<Bytes>,
    mut lines: Lines,
    method: &Method,
    persistent: bool,
) -> Result<Response, ResponseError> {
    let Said { chunked, mut length, mut keep_alive, .. } = lines.framing(persistent)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ResponseError::Switched);
    }
    if chunked && length.take().is_some() {
        // RFC 9112, 6.3: the transfer coding overrides; whoever sends both is not to be trusted twice.
        keep_alive = false;
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if *method == Method::HEAD || status.is_informational() || bodiless {
        Framing::Empty
    } else if chunked {
        Framing::Chunked
    } else if let Some(length) = length {
        Framing::Length(length)
    } else {
        keep_alive = false;
        Framing::UntilClose
    };
    // The length is said anew, once; the coding is each connection's own.
    let (coding, said) = (http::header::TRANSFER_ENCODING.as_str(), CONTENT_LENGTH.as_str());
    lines
        .retain(|name, _| !name.eq_ignore_ascii_case(said.as_bytes()) && !name.eq_ignore_ascii_case(coding.as_bytes()));
    Ok(Response { status, reason, lines, framing, length, keep_alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<(u16, Framing, bool), ResponseError> {
        take_response(&mut BytesMut::from(text), &Method::POST)
            .map(|head| head.expect("a whole head"))
            .map(|head| (head.status.as_u16(), head.framing, head.keep_alive))
    }

    #[test]
    fn the_end_of_a_body_is_known_from_its_head() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, expected) in [
            (format!("{ok}content-length: 5\r\n\r\n"), Ok((200, Framing::Length(5), true))),
            (format!("{ok}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), Ok((200, Framing::Length(5), true))),
            (format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), Err(ResponseError::Framing)),
            (format!("{ok}Content-Length: +5\r\n\r\n"), Err(ResponseError::Framing)),
            (format!("{ok}Content-Length:\r\n\r\n"), Err(ResponseError::Framing)),
            (format!("{ok}Transfer-Encoding: Chunked\r\n\r\n"), Ok((200, Framing::Chunked, true))),
            (format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n"), Err(ResponseError::Framing)),
            (
                format!("{ok}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
                Ok((200, Framing::Chunked, false)),
            ),
            (format!("{ok}Connection: foo, Close\r\nContent-Length: 5\r\n\r\n"), Ok((200, Framing::Length(5), false))),
            (format!("{ok}\r\n"), Ok((200, Framing::UntilClose, false))),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n".into(), Ok((200, Framing::Length(1), false))),
            ("HTTP/1.1 204 No Content\r\n\r\n".into(), Ok((204, Framing::Empty, true))),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), Err(ResponseError::Switched)),
            ("HTTP/1.1 099 X\r\n\r\n".into(), Err(ResponseError::Parse(httparse::Error::Status))),
        ] {
            assert_eq!(head(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_endless_head_is_given_up() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nx: ");
        input.resize(MAX_HEAD, b'a');
        assert_eq!(take_response(&mut input, &Method::GET).unwrap_err(), ResponseError::TooLarge);
    }

    #[test]
    fn names_keep_their_case_and_repeated_lines_stay() {
        let mut input = BytesMut::from("HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\nrest");
        let head = take_response(&mut input, &Method::GET).unwrap().unwrap();
        let lines: Vec<_> = head.lines.iter().collect();
        assert_eq!(lines, [(&b"X-A"[..], &b"1"[..]), (b"x-a", b"2")]);
        assert_eq!((head.reason.as_deref(), &input[..]), (Some(&b"Fine"[..]), &b"rest"[..]));
        assert_eq!((head.length, head.lines.get(&http::HeaderName::from_static("x-a"))), (Some(0), Some(&b"1"[..])));
    }

    #[test]
    fn the_answer_to_a_head_has_a_length_and_no_body() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
        let head = take_response(&mut input, &Method::HEAD).unwrap().unwrap();
        assert_eq!((head.framing, head.length), (Framing::Empty, Some(9)));
    }
}
