//! A request as a line of an access log, in the `combined` format that web servers write and their tools read:
//! <https://httpd.apache.org/docs/2.4/logs.html#combined>.
//!
//! Owns the line's form. The query is no part of it: it may hold a credential. Refuses to know where lines go.

use crate::calendar::civil;
use crate::json::put_u64;

/// The longest path, referrer or agent that a line repeats, in bytes.
const MAX_TEXT: usize = 1024;
/// What stands for a client that left before it had a status: nginx's word for it, which tools know.
const CLIENT_LEFT: u16 = 499;
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Puts what was asked for, in its quotes; `version` is `1.1` or `2.0`.
pub fn put_request(out: &mut Vec<u8>, method: &str, path: &[u8], version: &str) {
    out.push(b'"');
    put_text(out, method.as_bytes());
    out.push(b' ');
    put_text(out, path);
    out.extend_from_slice(b" HTTP/");
    out.extend_from_slice(version.as_bytes());
    out.push(b'"');
}

/// Puts where the request came from and with which program, each in its quotes. A referrer's query is left out.
pub fn put_agents(out: &mut Vec<u8>, referrer: &[u8], agent: &[u8]) {
    let referrer = referrer.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    for (text, before) in [(referrer, &b"\""[..]), (agent, b" \"")] {
        out.extend_from_slice(before);
        or_dash(out, text);
        out.push(b'"');
    }
}

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The client's address, or nothing.
    pub client_ip: &'a [u8],
    /// The key's name, or nothing.
    pub user: &'a str,
    /// When the request arrived, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// What [`put_request`] put.
    pub request: &'a [u8],
    /// The status that the client got; 0: it left before one was sent.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// What [`put_agents`] put.
    pub agents: &'a [u8],
}

impl Line<'_> {
    /// Puts the line, and a line feed behind it.
    pub fn put(&self, out: &mut Vec<u8>) {
        or_dash(out, self.client_ip);
        out.extend_from_slice(b" - ");
        put_word(out, self.user);
        out.extend_from_slice(b" [");
        put_time(out, self.time_ms);
        out.extend_from_slice(b"] ");
        out.extend_from_slice(self.request);
        out.push(b' ');
        put_u64(out, if self.status == 0 { CLIENT_LEFT } else { self.status }.into());
        out.push(b' ');
        put_u64(out, self.bytes);
        out.push(b' ');
        out.extend_from_slice(self.agents);
        out.push(b'\n');
    }
}

/// `30/Nov/2026:19:20:04 +0000`
fn put_time(out: &mut Vec<u8>, time_ms: u64) {
    let seconds = time_ms / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let two = |out: &mut Vec<u8>, n: u64| out.extend([n / 10, n % 10].map(|digit| b'0' + digit.to_le_bytes()[0]));
    two(out, day);
    out.push(b'/');
    out.extend_from_slice(MONTHS[usize::try_from(month).unwrap_or(1).clamp(1, 12) - 1]);
    out.push(b'/');
    put_u64(out, year);
    for part in [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60] {
        out.push(b':');
        two(out, part);
    }
    out.extend_from_slice(b" +0000");
}

fn or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() { out.push(b'-') } else { put_text(out, text) }
}

/// A field without quotes around it: a space would end it.
fn put_word(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        return out.push(b'-');
    }
    for (n, part) in text.split(' ').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\\x20");
        }
        put_text(out, part.as_bytes());
    }
}

/// Quotes, backslashes, control characters and what is not ASCII are written as nginx does: `\xHH`.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in &text[..text.len().min(MAX_TEXT)] {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            out.push(byte);
        } else {
            let digits = [byte >> 4, byte & 15].map(|nibble| b"0123456789ABCDEF"[usize::from(nibble)]);
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(user: &str, path: &[u8], status: u16, referrer: &[u8], agent: &[u8]) -> String {
        let (mut request, mut agents, mut out) = (Vec::new(), Vec::new(), Vec::new());
        put_request(&mut request, "POST", path, "1.1");
        put_agents(&mut agents, referrer, agent);
        let line = Line {
            client_ip: b"192.0.2.7",
            user,
            time_ms: 1_764_530_404_123,
            request: &request,
            status,
            bytes: 512,
            agents: &agents,
        };
        line.put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_one_combined_line() {
        assert_eq!(
            line("alice-laptop", b"/v1/chat/completions", 200, b"https://app.example/x?key=canary", b"curl/8.5"),
            "192.0.2.7 - alice-laptop [30/Nov/2025:19:20:04 +0000] \"POST /v1/chat/completions HTTP/1.1\" 200 512 \
             \"https://app.example/x\" \"curl/8.5\"\n"
        );
        assert_eq!(
            line("", b"/", 0, b"", b""),
            "192.0.2.7 - - [30/Nov/2025:19:20:04 +0000] \"POST / HTTP/1.1\" 499 512 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn nothing_in_it_can_end_a_field_or_a_line() {
        let odd = line("al ice", b"/\"x", 200, b"", b"a\"b\\c\r\n\xff\x7f");
        assert!(odd.contains(" - al\\x20ice ["), "{odd}");
        assert!(odd.contains("\"POST /\\x22x HTTP/1.1\""), "{odd}");
        assert!(odd.ends_with("\"a\\x22b\\x5Cc\\x0D\\x0A\\xFF\\x7F\"\n"), "{odd}");
    }

    proptest! {
        #[test]
        fn any_request_is_one_line_of_printable_ascii(
            user: String, path: Vec<u8>, referrer: Vec<u8>, agent: Vec<u8>, status: u16
        ) {
            let line = line(&user, &path, status, &referrer, &agent);
            let inside = line.strip_suffix('\n').unwrap();
            prop_assert!(inside.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(inside.matches('"').count(), 6);
        }
    }
}
