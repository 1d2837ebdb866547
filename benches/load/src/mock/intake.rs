//! Reads requests and judges them: what is asked for, and whether the proxy did its work on the headers.

use crate::bench::Bench;
use crate::body::{Body, Piece};
use crate::head::{self, BadHead, Framing};

/// The only key that the upstream takes.
pub(crate) const UPSTREAM_KEY: &str = "upstream-key";

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
}

/// The request that one connection is sending.
pub(super) struct Intake {
    /// The beginning of a head.
    held: Vec<u8>,
    body: Option<(Body, Asked, Ends)>,
}

/// The first and last byte of a body.
#[derive(Default)]
struct Ends(Option<u8>, u8);

impl Intake {
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), body: None }
    }

    /// Takes bytes; gives the request if they complete it. Bytes behind it are a mistake of the proxy, which
    /// must wait for the answer.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Asked> {
        match self.read(bytes) {
            Ok(asked) => asked,
            Err(BadHead) => Some(Asked { verdict: Verdict::Bad("malformed request"), close: true }),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Option<Asked>, BadHead> {
        let Some((body, asked, ends)) = &mut self.body else {
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
                    ends.0 = ends.0.or(data.first().copied());
                    ends.1 = data.last().copied().unwrap_or(ends.1);
                }
                Piece::More => return Ok(None),
                Piece::End if !input.is_empty() => return Err(BadHead),
                Piece::End => {
                    let mut asked = *asked;
                    if (ends.0, ends.1) != (Some(b'{'), b'}') && matches!(asked.verdict, Verdict::Serve(_)) {
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
        self.body = Some((body, asked, Ends::default()));
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
    Ok((framing.body(Body::Length(0))?, Asked { verdict, close: framing.close }))
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
        let served = Some(Asked { verdict: Verdict::Serve(Bench::Json), close: false });
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
