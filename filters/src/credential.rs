//! What a client may present as its key, what is stripped of it, and what an upstream gets instead.
//!
//! Refuses to know which keys exist (`key`) and what a refusal looks like (`refusal`).

use std::borrow::Cow;
use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::protocol::Protocol;
use crate::secret::Secret;

/// The longest credential that is looked at, in bytes. Keys are tens of bytes; a signed token of a
/// client that mistook Weir for something else may be a few KiB, and is hashed before it is refused.
pub const MAX_CREDENTIAL: usize = 4 * 1024;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// What a client presented: never empty, never longer than [`MAX_CREDENTIAL`], and never printed.
#[derive(Clone)]
pub struct Credential<'a>(Cow<'a, str>);

impl Credential<'_> {
    /// The value itself, to be hashed and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Why there is no credential to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialError {
    /// None was presented, or only empty ones.
    Missing,
    /// Two were presented that differ.
    Disagree,
    /// One is not text, is too long, or is of a scheme that Weir does not take.
    Malformed,
}

/// The one credential of a request: `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`.
/// The same value may come in several of them; an empty one counts as absent.
///
/// An `Authorization` of another scheme is overlooked if there is another form, as clients behind
/// another proxy's login send both; beside a second `Authorization` it is a disagreement.
pub fn present<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Result<Credential<'a>, CredentialError> {
    let mut found = Found(None);
    let mut authorizations = 0;
    let mut foreign = false;
    for value in headers.get_all(AUTHORIZATION) {
        let text = trimmed(text(value)?);
        if text.is_empty() {
            continue;
        }
        authorizations += 1;
        let (scheme, token) = text.split_at(text.bytes().position(is_blank).unwrap_or(text.len()));
        if scheme.eq_ignore_ascii_case("bearer") {
            found.add(Cow::Borrowed(trimmed(token)))?;
        } else {
            foreign = true;
        }
    }
    if foreign && authorizations > 1 {
        return Err(CredentialError::Disagree);
    }
    for name in [&X_API_KEY, &X_GOOG_API_KEY] {
        for value in headers.get_all(name) {
            found.add(Cow::Borrowed(trimmed(text(value)?)))?;
        }
    }
    for parameter in query.into_iter().flat_map(|query| query.split('&')).filter(|parameter| is_key(parameter)) {
        let value = parameter.split_once('=').map_or("", |(_, value)| value);
        let value = percent_decoded(value).ok_or(CredentialError::Malformed)?;
        found.add(value)?;
    }
    match found.0 {
        Some(value) => Ok(Credential(value)),
        None if foreign => Err(CredentialError::Malformed),
        None => Err(CredentialError::Missing),
    }
}

/// A query without its `key` parameters, however `key` is spelled. Every other byte stays.
pub fn strip_query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_key) {
        return Cow::Borrowed(query);
    }
    let mut kept = String::with_capacity(query.len());
    for (i, parameter) in query.split('&').filter(|parameter| !is_key(parameter)).enumerate() {
        if i > 0 {
            kept.push('&');
        }
        kept.push_str(parameter);
    }
    Cow::Owned(kept)
}

/// Whether a header carries a credential in any of the forms that clients or upstreams know, taken
/// by Weir or not. None of them goes upstream.
pub fn is_credential_header(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"x-api-key" | b"x-goog-api-key" | b"api-key")
}

/// The header in which an upstream of `protocol` takes its key, marked as sensitive.
///
/// # Errors
/// If the key holds a byte that no header may.
pub fn upstream_header(protocol: Protocol, secret: &Secret) -> Result<(HeaderName, HeaderValue), InvalidHeaderValue> {
    let (name, mut value) = match protocol {
        Protocol::OpenAi => (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {}", secret.expose()))?),
        Protocol::Anthropic => (X_API_KEY, HeaderValue::from_str(secret.expose())?),
        Protocol::Gemini => (X_GOOG_API_KEY, HeaderValue::from_str(secret.expose())?),
    };
    value.set_sensitive(true);
    Ok((name, value))
}

struct Found<'a>(Option<Cow<'a, str>>);

impl<'a> Found<'a> {
    fn add(&mut self, value: Cow<'a, str>) -> Result<(), CredentialError> {
        if value.is_empty() {
            return Ok(());
        }
        if value.len() > MAX_CREDENTIAL {
            return Err(CredentialError::Malformed);
        }
        match &self.0 {
            Some(before) if *before != value => Err(CredentialError::Disagree),
            Some(_) => Ok(()),
            None => {
                self.0 = Some(value);
                Ok(())
            }
        }
    }
}

fn text(value: &HeaderValue) -> Result<&str, CredentialError> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| CredentialError::Malformed)
}

pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without the blanks at its ends.
fn trimmed(text: &str) -> &str {
    let bytes = text.as_bytes();
    let from = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    let blank = bytes[from..].iter().rev().take_while(|byte| is_blank(**byte)).count();
    &text[from..text.len() - blank]
}

/// Whether the parameter of a query is a key, however `key` is spelled.
pub(crate) fn is_key(parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    name == "key" || (name.contains('%') && percent_decoded(name).is_some_and(|name| name == "key"))
}

/// `+` stays: it is a space in forms only, and keys may hold one.
pub(crate) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            decoded.push(hex_pair(bytes, at + 1)?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The byte that two hex digits at `at` stand for.
pub(crate) fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from((digit(at)? << 4) | digit(at + 1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn presented(pairs: &[(&'static str, &str)], query: Option<&str>) -> Result<String, CredentialError> {
        present(&headers(pairs), query).map(|credential| credential.expose().to_owned())
    }

    #[test]
    fn every_form_is_taken() {
        for (pairs, query) in [
            (&[("authorization", "Bearer k1")][..], None),
            (&[("authorization", "bEaReR   k1 ")], None),
            (&[("authorization", "Bearer\tk1")], None),
            (&[("x-api-key", "k1")], None),
            (&[("x-goog-api-key", "k1")], None),
            (&[], Some("key=k1")),
            (&[], Some("alt=sse&key=k1&x")),
            (&[], Some("k%65y=k%31")),
            (&[], Some("%6B%65%79=k1")),
        ] {
            assert_eq!(presented(pairs, query), Ok("k1".to_owned()), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn a_value_in_the_query_is_decoded_once() {
        assert_eq!(presented(&[], Some("key=a%2Bb+c%253D=d")), Ok("a+b+c%3D=d".to_owned()));
    }

    #[test]
    fn the_same_value_may_come_in_several_forms() {
        let pairs =
            [("authorization", "Bearer k1"), ("x-api-key", "k1"), ("x-api-key", "k1"), ("x-goog-api-key", "k1")];
        assert_eq!(presented(&pairs, Some("key=k1&key=k%31")), Ok("k1".to_owned()));
        assert_eq!(presented(&[("authorization", "Bearer k1"), ("x-api-key", "")], None), Ok("k1".to_owned()));
        assert_eq!(presented(&[("authorization", "Basic dTpw"), ("x-api-key", "k1")], None), Ok("k1".to_owned()));
    }

    #[test]
    fn two_that_differ_disagree() {
        for (pairs, query) in [
            (&[("authorization", "Bearer k1"), ("x-api-key", "k2")][..], None),
            (&[("authorization", "Bearer k1"), ("authorization", "Bearer k2")], None),
            (&[("authorization", "Bearer k1"), ("authorization", "Basic k1")], None),
            (&[("authorization", "Basic k1"), ("authorization", "Basic k1")], None),
            (&[("x-api-key", "k1"), ("x-api-key", "k2")], None),
            (&[("x-api-key", "k1"), ("x-api-key", "K1")], None),
            (&[("x-goog-api-key", "k1")], Some("key=k2")),
            (&[], Some("key=k1&key=k2")),
            (&[], Some("key=k1&k%65y=k2")),
        ] {
            assert_eq!(presented(pairs, query), Err(CredentialError::Disagree), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn nothing_and_empty_are_missing() {
        for (pairs, query) in [
            (&[][..], None),
            (&[], Some("")),
            (&[], Some("key=")),
            (&[], Some("key")),
            (&[], Some("Key=k1&keys=k1&api_key=k1&%256Bey=k1")),
            (&[("x-api-key", "")], None),
            (&[("x-api-key", "  ")], None),
            (&[("authorization", "")], None),
            (&[("authorization", "Bearer")], None),
            (&[("authorization", "Bearer  ")], None),
            (&[("api-key", "k1")], None),
        ] {
            assert_eq!(presented(pairs, query), Err(CredentialError::Missing), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_malformed() {
        let long = "k".repeat(MAX_CREDENTIAL + 1);
        let long_query = format!("key={long}");
        for (pairs, query) in [
            (&[("authorization", "Basic dTpw")][..], None),
            (&[("authorization", "sk-raw")], None),
            (&[("x-api-key", long.as_str())], None),
            (&[], Some(long_query.as_str())),
            (&[], Some("key=%FF")),
            (&[], Some("key=%6")),
            (&[], Some("key=%zz")),
        ] {
            assert_eq!(presented(pairs, query), Err(CredentialError::Malformed), "{query:?}");
        }
        let mut not_text = HeaderMap::new();
        not_text.insert("x-api-key", HeaderValue::from_bytes(b"k\xff").unwrap());
        assert_eq!(present(&not_text, Some("key=k1")).unwrap_err(), CredentialError::Malformed);
        let longest = "k".repeat(MAX_CREDENTIAL);
        assert_eq!(presented(&[("x-api-key", &longest)], None), Ok(longest));
    }

    #[test]
    fn a_credential_is_never_printed() {
        let headers = headers(&[("x-api-key", "sk-canary")]);
        assert_eq!(format!("{:?}", present(&headers, None).unwrap()), "Credential(…)");
    }

    #[test]
    fn only_the_key_leaves_a_query() {
        for (query, expected) in [
            ("", ""),
            ("alt=sse", "alt=sse"),
            ("key=k", ""),
            ("key", ""),
            ("key=", ""),
            ("alt=sse&key=k", "alt=sse"),
            ("key=k&alt=sse", "alt=sse"),
            ("a=%2f&key=k&b=+&k%65y=k&%6b%65%79=k&c", "a=%2f&b=+&c"),
            ("a=1&key=k1&key=k2&b=key", "a=1&b=key"),
            ("&&key=k&", "&&"),
            ("Key=k&keys=k&monkey=k&ke%=1&%256bey=k", "Key=k&keys=k&monkey=k&ke%=1&%256bey=k"),
        ] {
            assert_eq!(strip_query(query), expected, "{query}");
        }
        assert!(matches!(strip_query("alt=sse"), Cow::Borrowed(_)));
    }

    #[test]
    fn every_form_of_a_credential_header_is_known() {
        for name in ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key"] {
            assert!(is_credential_header(name.as_bytes()), "{name}");
        }
        for name in ["content-type", "cookie", "anthropic-version", "x-api-key-id"] {
            assert!(!is_credential_header(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn each_protocol_has_its_own_header_for_the_key() {
        let secret = Secret::new("sk-canary");
        for (protocol, name, value) in [
            (Protocol::OpenAi, "authorization", "Bearer sk-canary"),
            (Protocol::Anthropic, "x-api-key", "sk-canary"),
            (Protocol::Gemini, "x-goog-api-key", "sk-canary"),
        ] {
            let (found_name, found) = upstream_header(protocol, &secret).unwrap();
            assert_eq!((found_name.as_str(), found.as_bytes()), (name, value.as_bytes()));
            assert!(found.is_sensitive());
            assert_eq!(format!("{found:?}"), "Sensitive");
            assert!(upstream_header(protocol, &Secret::new("a\r\nb")).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_read_as_a_key_is_what_is_stripped(query in "(key|k%65y|%6[bB]ey|=|&|%|[a-z%=&]|%[0-9a-f]{2}|é){0,16}") {
            let stripped = strip_query(&query);
            prop_assert_eq!(present(&HeaderMap::new(), Some(&stripped)).unwrap_err(), CredentialError::Missing);
            prop_assert_eq!(strip_query(&stripped), &*stripped);
            let kept: Vec<&str> = query.split('&').filter(|parameter| !is_key(parameter)).collect();
            prop_assert_eq!(kept.join("&"), &*stripped);
        }
    }
}
