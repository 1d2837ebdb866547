//! Single values of the network: addresses, base URLs, header names and values, paths, origins.
//!
//! Each function gives the value or a complaint that reads on from the field's name. Knows nothing
//! of fields, positions or files, and resolves no name.

use std::net::{Ipv6Addr, SocketAddr};

use http::{HeaderName, HeaderValue};
use weir_filters::address::is_ambiguous;
use weir_filters::network::Network;

use super::BaseUrl;
use super::mistake::Complaint;
use super::scalar::{Parsed, Word};

/// Longer paths than this are not sent by clients that want an answer.
const MAX_PATH_BYTES: usize = 1024;

/// Headers that frame a message or belong to one connection: changing them breaks it.
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers that carry a credential: they are stripped, then set from the channel's key.
const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key"];

/// An IP address with a port, such as `127.0.0.1:8514`.
pub(super) fn address(word: Word<'_>) -> Parsed<SocketAddr> {
    word.text.parse().map_err(|_| {
        let complaint = word.must_be("an IP address with a port, such as 127.0.0.1:8514");
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        match word.text.rsplit_once(':') {
            None if is_port(word.text) => complaint.suggest(format!("did you mean \"0.0.0.0:{}\"?", word.text)),
            Some(("", port)) if is_port(port) => complaint.suggest(format!("did you mean \"0.0.0.0:{port}\"?")),
            Some(("localhost", port)) if is_port(port) => {
                complaint.suggest(format!("did you mean \"127.0.0.1:{port}\"?"))
            }
            _ => complaint,
        }
    })
}

/// An address, or a network such as `10.0.0.0/8`.
pub(super) fn network(word: Word<'_>) -> Parsed<Network> {
    let what = "an IP address or a network such as 10.0.0.0/8, with no bit set behind the first ones";
    word.text.parse().map_err(|()| word.must_be(what))
}

/// `http://` or `https://`, a host, perhaps a port and a path prefix, and nothing else. What was
/// written is not repeated if it holds a credential.
pub(super) fn base_url(word: Word<'_>) -> Parsed<BaseUrl> {
    let text = word.text;
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some(_) => return Err(Complaint::new("must begin with http:// or https://")),
        None => {
            let complaint = Complaint::new("must begin with http:// or https://");
            let is_host = !text.is_empty() && !text.contains('@') && super::scalar::shown(word.raw) == Some(text);
            return Err(if is_host {
                complaint.suggest(format!("did you mean \"https://{text}\"?"))
            } else {
                complaint
            });
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Complaint::new("must hold no credentials").suggest("put them into the channel's `keys`"));
    }
    if path.contains('?') {
        return Err(Complaint::new("must have no query"));
    }
    if path.contains('#') {
        return Err(Complaint::new("must have no fragment"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| word.must_be("a URL with a port from 1 to 65535"))?;
    if is_ambiguous(host) {
        let complaint = word.must_be("a URL whose address is four plain decimal numbers");
        return Err(complaint.suggest("other forms are read differently by different programs"));
    }
    let host = host_name(host).ok_or_else(|| word.must_be("a URL with a host name or an address"))?;
    let path = path.trim_end_matches('/');
    if !path.is_empty() {
        canonical(path).map_err(|why| Complaint::new(format!("has a path that {why}")))?;
    }
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    Ok(BaseUrl { tls, host, port, path: path.to_owned() })
}

/// Host and port of an authority; `None` if the port is none.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| at + bracket),
        // An IPv6 address that is not closed has no port; the host is what is wrong.
        None if authority.starts_with('[') => None,
        None => authority.find(':'),
    };
    let Some(colon) = colon else {
        return Some((authority, None));
    };
    let port = &authority[colon + 1..];
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|&port: &u16| is_number && port > 0)?;
    Some((&authority[..colon], Some(port)))
}

/// A DNS name, an IPv4 address, or an IPv6 address in brackets, which are taken off.
fn host_name(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return inner.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label);
    fits.then(|| host.to_ascii_lowercase())
}

/// The path of a route: canonical, and no more than a path.
pub(super) fn path(word: Word<'_>) -> Parsed<String> {
    let what = match canonical(word.text) {
        Ok(()) if word.text.ends_with('/') => "ends in `/`",
        Ok(()) => return Ok(word.text.to_owned()),
        Err(why) => why,
    };
    Err(match super::scalar::shown(word.raw) {
        Some(raw) if !raw.is_empty() => Complaint::new(format!("is not canonical: `{raw}` {what}")),
        _ => Complaint::new(format!("is not canonical: it {what}")),
    })
}

/// What a path must be so that routing, permission and upstream read it alike.
fn canonical(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        Err("does not begin with `/`")
    } else if path.len() > MAX_PATH_BYTES {
        Err("is longer than 1024 bytes")
    } else if path.contains("//") {
        Err("has an empty segment")
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        Err("has a `.` or `..` segment")
    } else if path.contains(['?', '#']) {
        Err("has a query or a fragment")
    } else if path.contains('%') {
        Err("has a percent-encoded character")
    } else if path.bytes().any(|b| !b.is_ascii_graphic() || b"\\\"<>^`{|}".contains(&b)) {
        Err("has a character that a path cannot hold")
    } else {
        Ok(())
    }
}

/// A header that may be removed.
pub(super) fn stripped_header(word: Word<'_>) -> Parsed<HeaderName> {
    let name = header_name(word)?;
    if FRAMING.contains(&name.as_str()) {
        return Err(Complaint::new(format!("must not name `{name}`, which Weir handles itself")));
    }
    Ok(name)
}

/// A header that may be set.
pub(super) fn set_header(word: Word<'_>) -> Parsed<HeaderName> {
    let name = stripped_header(word)?;
    if CREDENTIALS.contains(&name.as_str()) {
        return Err(
            Complaint::new(format!("must not set `{name}`")).suggest("put credentials into the channel's `keys`")
        );
    }
    Ok(name)
}

fn header_name(word: Word<'_>) -> Parsed<HeaderName> {
    word.text.parse().map_err(|_| word.must_be("a header name"))
}

/// A header's value, which may be confidential and is never repeated.
pub(super) fn header_value(word: Word<'_>) -> Parsed<HeaderValue> {
    HeaderValue::from_str(word.text)
        .ok()
        .filter(|_| word.text.trim() == word.text)
        .ok_or_else(|| Complaint::new("must be a header value: printable, without outer spaces"))
}

/// `*`, or a scheme and host with perhaps a port. <https://www.rfc-editor.org/rfc/rfc6454#section-6.2>
pub(super) fn origin(word: Word<'_>) -> Parsed<String> {
    if word.text == "*" {
        return Ok("*".to_owned());
    }
    let url = base_url(word).ok().filter(|url| url.path.is_empty() && !word.text.ends_with('/'));
    match url {
        Some(_) => Ok(word.text.to_ascii_lowercase()),
        None => Err(word.must_be("`*` or an origin such as https://example.com")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word<'_> {
        Word { text, raw: text }
    }

    #[test]
    fn base_urls_are_taken_apart() {
        for (text, tls, host, port, path) in [
            ("http://127.0.0.1:9001", false, "127.0.0.1", 9001, ""),
            ("https://api.openai.com", true, "api.openai.com", 443, ""),
            ("http://Example.com/", false, "example.com", 80, ""),
            ("HTTPS://example.com:8443/a/b/", true, "example.com", 8443, "/a/b"),
            ("http://[::1]:9001/x", false, "::1", 9001, "/x"),
            ("http://[2001:db8::1]", false, "2001:db8::1", 80, ""),
            ("http://mock_1", false, "mock_1", 80, ""),
        ] {
            let expected = BaseUrl { tls, host: host.into(), port, path: path.into() };
            assert_eq!(base_url(word(text)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_credentials() {
        for (text, message) in [
            ("ftp://example.com", "must begin with http:// or https://"),
            ("example.com", "must begin with http:// or https://"),
            ("", "must begin with http:// or https://"),
            ("http://alice:canary@example.com", "must hold no credentials"),
            ("http://example.com?key=canary", "must have no query"),
            ("http://example.com/#canary", "must have no fragment"),
            ("http://", "must be a URL with a host name or an address, not `http://`"),
            ("http://a b", "must be a URL with a host name or an address, not `http://a b`"),
            ("http://[::1", "must be a URL with a host name or an address, not `http://[::1`"),
            ("http://[::1]x", "must be a URL with a host name or an address, not `http://[::1]x`"),
            ("http://a:0", "must be a URL with a port from 1 to 65535, not `http://a:0`"),
            ("http://a:+1", "must be a URL with a port from 1 to 65535, not `http://a:+1`"),
            ("http://a:65536", "must be a URL with a port from 1 to 65535, not `http://a:65536`"),
            ("http://a:", "must be a URL with a port from 1 to 65535, not `http://a:`"),
            ("http://127.1", "must be a URL whose address is four plain decimal numbers, not `http://127.1`"),
            (
                "http://0177.0.0.1/",
                "must be a URL whose address is four plain decimal numbers, not `http://0177.0.0.1/`",
            ),
            ("http://0x7f.1", "must be a URL whose address is four plain decimal numbers, not `http://0x7f.1`"),
            ("http://2130706433", "must be a URL whose address is four plain decimal numbers, not `http://2130706433`"),
            ("http://127.0.0.1.", "must be a URL whose address is four plain decimal numbers, not `http://127.0.0.1.`"),
            ("http://a/../b", "has a path that has a `.` or `..` segment"),
            ("http://a/%2e", "has a path that has a percent-encoded character"),
        ] {
            assert_eq!(base_url(word(text)).expect_err(text).message, message, "{text}");
        }
    }

    #[test]
    fn addresses_are_ip_and_port() {
        assert_eq!(address(word("[::]:8514")), Ok("[::]:8514".parse().unwrap()));
        for (text, suggestion) in [
            ("localhost:8514", Some("did you mean \"127.0.0.1:8514\"?")),
            (":8514", Some("did you mean \"0.0.0.0:8514\"?")),
            ("8514", Some("did you mean \"0.0.0.0:8514\"?")),
            ("0.0.0.0", None),
            ("0.0.0.0:99999", None),
            ("", None),
        ] {
            let complaint = address(word(text)).expect_err(text);
            assert_eq!(complaint.suggestion.as_deref(), suggestion, "{text}");
        }
    }

    #[test]
    fn route_paths_are_canonical() {
        for text in ["/a", "/proxy/miniai/v2/chat/completions", "/a:b/c.d~e"] {
            assert_eq!(path(word(text)), Ok(text.to_owned()));
        }
        for text in
            ["", "a", "/", "/a/", "//a", "/a//b", "/./a", "/a/..", "/a?b", "/a#b", "/a%2fb", "/a b", "/é", "/a\\b"]
        {
            assert!(path(word(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_that_weir_handles_are_left_to_it() {
        assert_eq!(stripped_header(word("X-Real-IP")), Ok(HeaderName::from_static("x-real-ip")));
        assert_eq!(stripped_header(word("authorization")), Ok(http::header::AUTHORIZATION));
        assert_eq!(
            stripped_header(word("Content-Length")).unwrap_err().message,
            "must not name `content-length`, which Weir handles itself"
        );
        assert_eq!(set_header(word("X-API-Key")).unwrap_err().message, "must not set `x-api-key`");
        assert_eq!(stripped_header(word("a b")).unwrap_err().message, "must be a header name, not `a b`");
        assert!(header_value(word("a\nb")).is_err());
        assert!(header_value(word(" a")).is_err());
        assert_eq!(header_value(word("a b")), Ok(HeaderValue::from_static("a b")));
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin(word("https://Example.com:8443")), Ok("https://example.com:8443".to_owned()));
        assert_eq!(origin(word("*")), Ok("*".to_owned()));
        for text in ["https://a/", "https://a/b", "a.com", "null", ""] {
            assert!(origin(word(text)).is_err(), "{text}");
        }
    }
}
