//! Header lines as a record shows them: each name, and the values that are known to hold no secret.
//!
//! Refuses to guess: a name that is not listed here keeps its value to itself, whatever it is.

use std::borrow::Cow;

use memchr::memmem;

use crate::credential::is_credential_header;
use crate::json::put_bytes_lossy;

/// What stands in place of a value that is not shown, and of a credential in one that is.
pub(super) const HIDDEN: &str = "[redacted]";

/// The longest value that is shown whole, in bytes.
const MAX_VALUE: usize = 1024;
/// The most lines that are shown; heads with more are refused, or are an upstream's oddity.
const MAX_LINES: usize = 128;
/// The shortest credential that is looked for: a shorter one would be found in dates and lengths.
const MIN_CREDENTIAL: usize = 8;
/// Ways to present a credential that a head is searched for; one of each is what clients send.
const MAX_CREDENTIALS: usize = 6;

/// What a request presents as credentials, to be found again in what it says elsewhere.
#[derive(Clone, Default)]
pub struct Credentials<'a> {
    found: [&'a [u8]; MAX_CREDENTIALS],
    count: usize,
}

impl<'a> Credentials<'a> {
    /// Those of a head: the values of every header that can carry one, without their scheme, and `?key=`.
    pub fn of(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, query: Option<&'a str>) -> Self {
        let mut all = Self::default();
        for (name, value) in lines {
            if std::str::from_utf8(name).is_ok_and(is_credential_header) {
                let value = value.trim_ascii();
                let token = value.iter().position(|b| *b == b' ').map_or(value, |at| value[at..].trim_ascii_start());
                all.add(token);
            }
        }
        for parameter in query.into_iter().flat_map(|query| query.split('&')) {
            if let Some((name, value)) = parameter.split_once('=')
                && (name == "key" || name.contains('%'))
            {
                all.add(value.as_bytes());
            }
        }
        all
    }

    fn add(&mut self, credential: &'a [u8]) {
        if credential.len() >= MIN_CREDENTIAL && self.count < MAX_CREDENTIALS && !self.all().contains(&credential) {
            self.found[self.count] = credential;
            self.count += 1;
        }
    }

    /// Each once.
    pub fn all(&self) -> &[&'a [u8]] {
        &self.found[..self.count]
    }

    /// The text without them. Most texts are shorter than any credential, and are not looked through.
    pub fn hide<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut hidden = Cow::Borrowed(text);
        for credential in self.all() {
            if text.len() >= credential.len() && memmem::find(&hidden, credential).is_some() {
                hidden = Cow::Owned(replace(&hidden, credential));
            }
        }
        hidden
    }
}

// It holds secrets.
impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

fn replace(text: &[u8], credential: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = 0;
    for at in memmem::find_iter(text, credential) {
        out.extend_from_slice(&text[rest..at]);
        out.extend_from_slice(HIDDEN.as_bytes());
        rest = at + credential.len();
    }
    out.extend_from_slice(&text[rest..]);
    out
}

/// Puts lines as an object of texts by their names in small letters. Values of one name are joined by a comma and a
/// space, as RFC 9110, section 5.3 allows. `lines` gives the lines, each time that it is asked.
pub fn put_headers<'a, I>(out: &mut Vec<u8>, lines: impl Fn() -> I, credentials: &Credentials<'_>)
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    out.push(b'{');
    let begun = out.len();
    for (n, (name, value)) in lines().enumerate().take(MAX_LINES) {
        let mut same = lines().take(MAX_LINES).enumerate().filter(|(_, (other, _))| {
            // The length tells most names apart.
            other.len() == name.len() && other.eq_ignore_ascii_case(name)
        });
        if same.next().is_some_and(|(first, _)| first < n) {
            continue;
        }
        if out.len() > begun {
            out.push(b',');
        }
        let from = out.len();
        put_bytes_lossy(out, name);
        out[from..].make_ascii_lowercase();
        out.push(b':');
        if !is_shown(&out[from + 1..out.len() - 2]) {
            out.push(b'"');
            out.extend_from_slice(HIDDEN.as_bytes());
            out.push(b'"');
            continue;
        }
        match same.next() {
            None => put_value(out, value, credentials),
            Some((_, (_, second))) => {
                let mut joined = value.to_vec();
                for value in std::iter::once(second).chain(same.map(|(_, (_, value))| value)) {
                    joined.extend_from_slice(b", ");
                    joined.extend_from_slice(value);
                }
                put_value(out, &joined, credentials);
            }
        }
    }
    out.push(b'}');
}

fn put_value(out: &mut Vec<u8>, value: &[u8], credentials: &Credentials<'_>) {
    let value = credentials.hide(value);
    put_bytes_lossy(out, &value[..value.len().min(MAX_VALUE)]);
}

/// Whether the value of a header may be shown. Everything else, a provider's new header included, is hidden until it
/// is known.
fn is_shown(name: &[u8]) -> bool {
    matches!(
        name,
        b"accept"
            | b"accept-charset"
            | b"accept-encoding"
            | b"accept-language"
            | b"age"
            | b"allow"
            | b"anthropic-beta"
            | b"anthropic-dangerous-direct-browser-access"
            | b"anthropic-organization-id"
            | b"anthropic-version"
            | b"cache-control"
            | b"cf-ray"
            | b"connection"
            | b"content-disposition"
            | b"content-encoding"
            | b"content-language"
            | b"content-length"
            | b"content-type"
            | b"date"
            | b"expect"
            | b"expires"
            | b"host"
            | b"keep-alive"
            | b"last-modified"
            | b"openai-beta"
            | b"openai-organization"
            | b"openai-processing-ms"
            | b"openai-project"
            | b"openai-version"
            | b"origin"
            | b"request-id"
            | b"retry-after"
            | b"retry-after-ms"
            | b"server"
            | b"server-timing"
            | b"traceparent"
            | b"transfer-encoding"
            | b"user-agent"
            | b"vary"
            | b"via"
            | b"x-app"
            | b"x-client-request-id"
            | b"x-envoy-upstream-service-time"
            | b"x-goog-api-client"
            | b"x-request-id"
            | b"x-should-retry"
    ) || name.starts_with(b"x-ratelimit-")
        || name.starts_with(b"anthropic-ratelimit-")
        || name.starts_with(b"x-stainless-")
        || name.starts_with(b"x-weir-")
}
