//! The head of a request: read, and refused where two readers could understand it in two ways.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{Method, Uri, Version};
use memchr::{memchr, memchr_iter};

use super::Framing;
use super::lines::{BadFraming, Lines, Said};
use super::map::map_of;

/// The most header lines of a request head.
const MAX_HEADERS: usize = 128;

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request head is not HTTP/1.1: {0}")]
    Parse(httparse::Error),
    #[error("a line of the request head does not end in CRLF")]
    BareLineFeed,
    #[error("the request target cannot be understood")]
    Target,
    #[error("the request has no Host, more than one, or one that its target contradicts")]
    Host,
    #[error("the request has a length or transfer coding that cannot be right")]
    Framing,
    #[error("the request head is larger than is taken or has more than 128 lines")]
    TooLarge,
    #[error("a header differs from one of those that frame a request only in its spelling")]
    Lookalike,
    #[error("no tunnel is made here")]
    Tunnel,
    #[error("the request head was not whole in time")]
    Late,
}

impl RequestError {
    /// The status that says it.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::TooLarge => 431,
            Self::Late => 408,
            Self::Tunnel => 405,
            Self::Parse(httparse::Error::Version) => 505,
            _ => 400,
        }
    }
}

impl From<BadFraming> for RequestError {
    fn from(_: BadFraming) -> Self {
        Self::Framing
    }
}

/// A request head and what follows from it.
pub(crate) struct Request {
    pub(crate) parts: Parts,
    pub(crate) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits to be told to send its body.
    pub(crate) expects: bool,
}

/// Takes a whole request head, of at most `max` bytes, out of `input`; `None` if it has not arrived yet.
/// `searched` is where the search for its end goes on: a head that comes in crumbs is looked at once.
pub(crate) fn take_request(
    input: &mut BytesMut,
    searched: &mut usize,
    max: usize,
) -> Result<Option<Request>, RequestError> {
    // Some clients send a line end behind a body; RFC 9112, 2.2 says to pass over it.
    while *searched == 0 && input.starts_with(b"\r\n") {
        input.advance(2);
    }
    let Some(length) = end(input, searched)? else {
        return if input.len() < max { Ok(None) } else { Err(RequestError::TooLarge) };
    };
    *searched = 0;
    if length > max {
        return Err(RequestError::TooLarge);
    }
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&input[..length], &mut slots) {
        Ok(httparse::Status::Complete(n)) if n == length => {}
        Ok(_) => return Err(RequestError::Parse(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLarge),
        Err(e) => return Err(RequestError::Parse(e)),
    }
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| RequestError::Target)?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let target = parsed.path.unwrap_or_default();
    // A fragment is the client's own; what parses it away is not what everybody else reads.
    if memchr(b'#', target.as_bytes()).is_some() {
        return Err(RequestError::Target);
    }
    let start = (target.as_ptr() as usize).saturating_sub(input.as_ptr() as usize);
    let target = start..start + target.len();
    let found = Lines::find(input, parsed.headers);
    // A copy, because a request lives as long as its answer: its buffer is free for what comes next.
    let head = Bytes::copy_from_slice(&input[..length]);
    input.advance(length);
    let uri = Uri::from_maybe_shared(head.slice(target)).map_err(|_| RequestError::Target)?;
    judge(method, uri, version, &Lines::new(head, found)).map(Some)
}

/// The length of the head, if its end is there.
fn end(input: &[u8], searched: &mut usize) -> Result<Option<usize>, RequestError> {
    let from = *searched;
    for at in memchr_iter(b'\n', &input[from..]).map(|at| from + at) {
        if at == 0 || input[at - 1] != b'\r' {
            return Err(RequestError::BareLineFeed);
        }
        if at >= 3 && input[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
    }
    *searched = input.len();
    Ok(None)
}

fn judge(method: Method, uri: Uri, version: Version, lines: &Lines) -> Result<Request, RequestError> {
    let Said { chunked, length, keep_alive, hosts, bad_host, lookalike } =
        lines.framing(version == Version::HTTP_11)?;
    // RFC 9112, 6.1: a coding beside a length, or in HTTP/1.0, may be refused. No client means it.
    if chunked && (length.is_some() || version == Version::HTTP_10) {
        return Err(RequestError::Framing);
    }
    // What follows a CONNECT is meant for the tunnel: no request may be read out of it.
    if method == Method::CONNECT {
        return Err(RequestError::Tunnel);
    }
    if lookalike {
        return Err(RequestError::Lookalike);
    }
    if bad_host || hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(RequestError::Host);
    }
    // RFC 9112, 3.2.2: of a target with a host in it, `Host` says the same.
    if let (Some(authority), Some(host)) = (uri.authority(), lines.get(&HOST))
        && !host.eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err(RequestError::Host);
    }
    let framing = match length {
        _ if chunked => Framing::Chunked,
        None | Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
    };
    let mut parts: Parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.version) = (method, uri, version);
    parts.headers = map_of(lines).map_err(|bad| RequestError::Parse(bad.0))?;
    let expects = parts.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok(Request { parts, framing, keep_alive, expects })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MAX: usize = 64 * 1024;

    fn take(text: &str) -> Result<Option<Request>, RequestError> {
        take_request(&mut BytesMut::from(text), &mut 0, MAX)
    }

    fn framing(lines: &str) -> Result<(Framing, bool), RequestError> {
        take(&format!("POST /a?b=c HTTP/1.1\r\nhost: w\r\n{lines}\r\n"))
            .map(|request| request.expect("a whole head"))
            .map(|request| (request.framing, request.keep_alive))
    }

    #[test]
    fn a_head_is_read_and_what_follows_stays() {
        let text = "\r\nPOST /a?b=c HTTP/1.1\r\nHost: w\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\n{}GET";
        let mut input = BytesMut::from(text);
        let request = take_request(&mut input, &mut 0, MAX).unwrap().unwrap();
        let parts = &request.parts;
        assert_eq!((parts.method.as_str(), parts.uri.path(), parts.uri.query()), ("POST", "/a", Some("b=c")));
        let repeated: Vec<_> = parts.headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!((repeated, request.framing), (vec![&b"1"[..], b"2"], Framing::Length(2)));
        assert_eq!(&input[..], b"{}GET");
    }

    #[test]
    fn a_head_in_crumbs_is_the_same_head() {
        let text = b"GET /v1/models HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n";
        let (mut input, mut searched) = (BytesMut::new(), 0);
        for (i, &byte) in text.iter().enumerate() {
            input.extend_from_slice(&[byte]);
            let taken = take_request(&mut input, &mut searched, MAX).unwrap();
            assert_eq!(taken.is_some(), i + 1 == text.len(), "{i}");
            if let Some(request) = taken {
                assert_eq!((request.parts.uri.path(), request.keep_alive), ("/v1/models", false));
            }
        }
        assert_eq!((input.len(), searched), (0, 0));
    }

    #[test]
    fn framing_is_understood_in_one_way_or_not_at_all() {
        for (lines, expected) in [
            ("", Ok((Framing::Empty, true))),
            ("content-length: 5\r\n", Ok((Framing::Length(5), true))),
            ("content-length: 0\r\n", Ok((Framing::Empty, true))),
            ("content-length: 5\r\ncontent-length: 5\r\n", Ok((Framing::Length(5), true))),
            ("transfer-encoding: Chunked\r\n", Ok((Framing::Chunked, true))),
            ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Err(RequestError::Framing)),
            ("content-length: 0\r\ntransfer-encoding: chunked\r\n", Err(RequestError::Framing)),
            ("content_length: 5\r\n", Err(RequestError::Lookalike)),
            ("Transfer_Encoding: chunked\r\n", Err(RequestError::Lookalike)),
            ("x-a_b: 1\r\ncontent-lengths: 5\r\n", Ok((Framing::Empty, true))),
            ("connection: x, close\r\n", Ok((Framing::Empty, false))),
            ("content-length: 5\r\ncontent-length: 6\r\n", Err(RequestError::Framing)),
            ("content-length: 5, 6\r\n", Err(RequestError::Framing)),
            ("content-length: +5\r\n", Err(RequestError::Framing)),
            ("content-length: -1\r\n", Err(RequestError::Framing)),
            ("content-length: 0x5\r\n", Err(RequestError::Framing)),
            ("content-length: 99999999999999999999\r\n", Err(RequestError::Framing)),
            ("transfer-encoding: chunked, chunked\r\n", Err(RequestError::Framing)),
            ("transfer-encoding: gzip\r\n", Err(RequestError::Framing)),
            ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", Err(RequestError::Framing)),
            ("host: x\r\n", Err(RequestError::Host)),
        ] {
            assert_eq!(framing(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_head_that_no_client_means_is_refused() {
        for (text, error) in [
            ("GET / HTTP/1.1\nhost: w\n\n", RequestError::BareLineFeed),
            ("GET / HTTP/1.1\r\nhost: w\nx: y\r\n\r\n", RequestError::BareLineFeed),
            ("\nGET / HTTP/1.1\r\nhost: w\r\n\r\n", RequestError::BareLineFeed),
            ("GET / HTTP/1.1\r\n\r\n", RequestError::Host),
            ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", RequestError::Host),
            ("CONNECT w:443 HTTP/1.1\r\nhost: w:443\r\n\r\n", RequestError::Tunnel),
            ("GET /#a HTTP/1.1\r\nhost: w\r\n\r\n", RequestError::Target),
            ("GET /?a#b HTTP/1.1\r\nhost: w\r\n\r\n", RequestError::Target),
            ("GET / HTTP/1.1\r\nhost : w\r\n\r\n", RequestError::Parse(httparse::Error::HeaderName)),
            ("GET / HTTP/1.1\r\nhost: w\r\nx: a\r\n b\r\n\r\n", RequestError::Parse(httparse::Error::HeaderName)),
            ("GET / HTTP/1.1\r\nhost: w\r\nx: a\0\r\n\r\n", RequestError::Parse(httparse::Error::HeaderValue)),
            ("GET / HTTP/3.7\r\nhost: w\r\n\r\n", RequestError::Parse(httparse::Error::Version)),
            ("GET /a b HTTP/1.1\r\nhost: w\r\n\r\n", RequestError::Parse(httparse::Error::Version)),
            ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", RequestError::Framing),
        ] {
            assert_eq!(take(text).err(), Some(error), "{text:?}");
        }
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(MAX));
        assert_eq!(take(&endless).err(), Some(RequestError::TooLarge));
        let whole = "GET / HTTP/1.1\r\nhost: w\r\n\r\n";
        let within = |max| take_request(&mut BytesMut::from(whole), &mut 0, max).map(|request| request.is_some());
        assert_eq!(within(whole.len()), Ok(true));
        assert_eq!(within(whole.len() - 1), Err(RequestError::TooLarge));
        let many = format!("GET / HTTP/1.1\r\nhost: w\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS));
        assert_eq!(take(&many).err(), Some(RequestError::TooLarge));
    }

    #[test]
    fn a_client_of_http_1_0_is_kept_only_if_it_asks() {
        for (lines, keep_alive) in [("", false), ("connection: keep-alive\r\n", true)] {
            let request = take(&format!("GET / HTTP/1.0\r\n{lines}\r\n")).unwrap().unwrap();
            assert_eq!((request.keep_alive, request.parts.version), (keep_alive, Version::HTTP_10));
        }
    }
}
