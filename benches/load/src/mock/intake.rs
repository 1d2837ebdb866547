//! Reads requests and judges them: what is asked for, and whether the proxy did its work on the headers.

use crate::bench::Bench;
use crate::body::{Body, Piece};
use crate::head::{self, BadHead, Framing};

/// The only key that the upstream takes.
pub(crate) const UPSTREAM_KEY: &str = "upstream-key";

/// What asks for a usage report, as written without spaces.
const ASKS: &[u8] = br#""include_usage":true"#;

/// What a whole request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve(Bench),
    /// 403: not the upstream's key.
    Forbidden,
    /// 400: a reason.
    Bad(&'static str),
}

/// A request that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) verdict: Verdict,
    /// The connection ends with the answer.
    pub(super) close: bool,
    /// The stream is to report its usage.
    pub(super) report: bool,
}

/// The request that one connection is sending.
pub(super) struct Intake {
    /// The beginning of a head.
    held: Vec<u8>,
    body: Option<(Body, Asked, Seen)>,
}

/// What was seen of a body.
#[derive(Default)]
struct Seen {
    first: Option<u8>,
    last: u8,
    /// Bytes that `ASKS` may begin in.
    tail: Vec<u8>,
    report: bool,
}

impl Seen {
    fn note(&mut self, data: &[u8], is_stream: bool) {
        self.first = self.first.or(data.first().copied());
        self.last = data.last().copied().unwrap_or(self.last);
        if is_stream && !self.report {
            self.tail.extend_from_slice(data);
            self.report = memchr::memmem::find(&self.tail, ASKS).is_some();
            self.tail.drain(..self.tail.len().saturating_sub(ASKS.len() - 1));
        }
    }

    fn is_object(&self) -> bool {
        (self.first, self.last) == (Some(b'{'), b'}')
    }
}

impl Intake {
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), body: None }
    }

    /// Takes bytes; gives the request if they complete it. Bytes behind it are a mistake of the proxy, which
    /// must wait for the answer.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Asked> {
        match self.read(bytes) {
            Ok(asked) => asked,
            Err(BadHead) => Some(Asked { verdict: Verdict::Bad("malformed request"), close: true, report: false }),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Option<Asked>, BadHead> {
        let Some((body, asked, seen)) = &mut self.body else {
            if self.held.is_empty() {
                if let Some(len) = head::head_len(bytes)? {
                    return self.begin(&bytes[..len], &bytes[len..]);
                }
                self.held.extend_from_slice(bytes);
                return Ok(None);
            }
            let before = self.held.len();
            self.held.extend_from_slice(&bytes[..bytes.len().min(head::MAX_HEAD_BYTES)]);
            let Some(len) = head::head_len(&self.held)? else { return Ok(None) };
            let head = std::mem::take(&mut self.held);
            let result = self.begin(&head[..len], &bytes[len - before..]);
            self.held = head;
            self.held.clear();
            return result;
        };
        let mut input = bytes;
        loop {
            match body.next(&mut input).map_err(|_| BadHead)? {
                Piece::Data(data) => {
                    seen.note(data, matches!(asked.verdict, Verdict::Serve(bench) if bench.is_stream()));
                }
                Piece::More => return Ok(None),
                Piece::End if !input.is_empty() => return Err(BadHead),
                Piece::End => {
                    let mut asked = Asked { report: seen.report, ..*asked };
                    if !seen.is_object() && matches!(asked.verdict, Verdict::Serve(_)) {
                        asked.verdict = Verdict::Bad("the body is not the JSON that was sent");
                    }
                    self.body = None;
                    return Ok(Some(asked));
                }
            }
        }
    }

    fn begin(&mut self, head: &[u8], rest: &[u8]) -> Result<Option<Asked>, BadHead> {
        let (body, asked) = judge(head)?;
        self.body = Some((body, asked, Seen::default()));
        self.read(rest)
    }
}

fn judge(head: &[u8]) -> Result<(Body, Asked), BadHead> {
    let (request_line, fields) = head::split_head(head);
    if !request_line.ends_with(b" HTTP/1.1") {
        return Err(BadHead);
    }
    let mut framing = Framing::default();
    let (mut bench, mut foreign) = (None, None);
    let (mut credentials, mut ours) = (0, 0);
    for field in fields {
        let (name, value) = field?;
        framing.note(name, value)?;
        match name.len() {
            6 if name.eq_ignore_ascii_case(b"cookie") => foreign = Some("cookie was not removed"),
            7 if name.eq_ignore_ascii_case(b"x-bench") => bench = Bench::parse(value),
            9 if name.eq_ignore_ascii_case(b"x-api-key") => foreign = Some("x-api-key was not removed"),
            13 if name.eq_ignore_ascii_case(b"authorization") => {
                credentials += 1;
                ours += u32::from(value.strip_prefix(b"Bearer ") == Some(UPSTREAM_KEY.as_bytes()));
            }
            15 if name.eq_ignore_ascii_case(b"x-forwarded-for") => foreign = Some("x-forwarded-for was not removed"),
            _ => {}
        }
    }
    let verdict = match ((credentials, ours) == (1, 1), foreign, bench) {
        (false, ..) => Verdict::Forbidden,
        (true, Some(reason), _) => Verdict::Bad(reason),
        (true, None, _) if !request_line.starts_with(b"POST /") => Verdict::Bad("not a POST"),
        (true, None, None) => Verdict::Bad("x-bench is not there or not known"),
        (true, None, Some(bench)) => Verdict::Serve(bench),
    };
    Ok((framing.body(Body::Length(0))?, Asked { verdict, close: framing.close, report: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &str, body: &str) -> Vec<u8> {
        let common = "host: a\r\nauthorization: Bearer upstream-key\r\nx-bench: json\r\n";
        format!("POST /v1 HTTP/1.1\r\n{common}{fields}\r\n{body}").into_bytes()
    }

    fn verdict(request: &[u8]) -> Verdict {
        Intake::new().feed(request).expect("whole").verdict
    }

    #[test]
    fn requests_are_read_at_every_split_and_one_after_another() {
        let mut intake = Intake::new();
        let served = Some(Asked { verdict: Verdict::Serve(Bench::Json), close: false, report: false });
        for whole in [
            request("content-length: 9\r\n", "{\"a\":\"b\"}"),
            request("Transfer-Encoding: chunked\r\n", "4\r\n{\"a\"\r\n5\r\n:\"b\"}\r\n0\r\n\r\n"),
        ] {
            for split in 1..whole.len() {
                assert_eq!(intake.feed(&whole[..split]), None, "split at {split}");
                assert_eq!(intake.feed(&whole[split..]), served, "split at {split}");
            }
            assert_eq!(intake.feed(&whole), served);
        }
    }

    #[test]
    fn a_stream_reports_its_usage_if_it_is_asked_to() {
        let body = r#"{"stream_options":{"include_usage":true}}"#;
        let asking = |bench: &str| {
            let request = request(&format!("content-length: {}\r\n", body.len()), body);
            String::from_utf8(request).unwrap().replace("x-bench: json", &format!("x-bench: {bench}")).into_bytes()
        };
        let whole = asking("sse;events=5");
        for split in 1..whole.len() {
            let mut intake = Intake::new();
            assert_eq!(intake.feed(&whole[..split]), None, "split at {split}");
            assert!(intake.feed(&whole[split..]).unwrap().report, "split at {split}");
        }
        assert!(!Intake::new().feed(&asking("json")).unwrap().report);
        let not = String::from_utf8(whole).unwrap().replace(":true}", ":null}").into_bytes();
        assert!(!Intake::new().feed(&not).unwrap().report);
    }

    #[test]
    fn headers_that_a_proxy_must_remove_are_refused() {
        for (field, reason) in [
            ("Cookie: a=b\r\n", "cookie was not removed"),
            ("X-Forwarded-For: 1.2.3.4\r\n", "x-forwarded-for was not removed"),
            ("x-api-key: k\r\n", "x-api-key was not removed"),
            ("x-bench: xml\r\n", "x-bench is not there or not known"),
        ] {
            let request = request(&format!("{field}content-length: 2\r\n"), "{}");
            assert_eq!(verdict(&request), Verdict::Bad(reason));
        }
        let two_keys = request("authorization: Bearer upstream-key\r\ncontent-length: 2\r\n", "{}");
        assert_eq!(verdict(&two_keys), Verdict::Forbidden);
        let other_key = b"POST /v1 HTTP/1.1\r\nauthorization: Bearer upstream-keys\r\nx-bench: json\r\n\r\n";
        assert_eq!(verdict(other_key), Verdict::Forbidden);
    }

    #[test]
    fn bodies_that_were_cut_or_extended_are_refused() {
        let cut = Verdict::Bad("the body is not the JSON that was sent");
        assert_eq!(verdict(&request("content-length: 2\r\n", "{1")), cut);
        assert_eq!(verdict(&request("", "")), cut);
        let malformed = Verdict::Bad("malformed request");
        assert_eq!(verdict(&request("content-length: 2\r\n", "{}{}")), malformed);
        assert_eq!(verdict(&request("transfer-encoding: chunked\r\n", "x")), malformed);
        assert_eq!(verdict(b"POST / HTTP/1.0\r\n\r\n"), malformed);
        assert_eq!(verdict(&vec![b'a'; head::MAX_HEAD_BYTES + 1]), malformed);
    }
}
