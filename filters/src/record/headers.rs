//! Header lines as a record shows them: each name, and the values that are known to hold no secret.
//!
//! Refuses to guess: a name that is not listed here keeps its value to itself, whatever it is.

use std::borrow::Cow;

use http::HeaderMap;
use memchr::memmem;

use crate::credential::{is_blank, is_credential_header, is_key, percent_decoded};
use crate::json::put_bytes_lossy;

/// What stands in place of a value that is not shown, and of a credential in one that is.
pub(super) const HIDDEN: &str = "[redacted]";

/// The longest value that is shown whole, in bytes.
const MAX_VALUE: usize = 1024;
/// The most lines that are shown; heads with more are refused, or are an upstream's oddity.
const MAX_LINES: usize = 128;
/// The shortest credential that is looked for: a shorter one would be found in dates and lengths.
const MIN_CREDENTIAL: usize = 8;
/// Credentials that are kept without asking for memory; heads with more are rare, and odd.
const USUAL: usize = 6;

/// What a request presents as credentials, to be found again in what it says elsewhere.
#[derive(Clone, Default)]
pub struct Credentials<'a> {
    found: [Cow<'a, [u8]>; USUAL],
    count: usize,
    more: Vec<Cow<'a, [u8]>>,
}

impl<'a> Credentials<'a> {
    /// Those of a head: the values of every header that can carry one, without their scheme, and `?key=`, as it is
    /// spelled and as it is meant.
    pub fn of(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, query: Option<&'a str>) -> Self {
        let mut all = Self::default();
        for (name, value) in lines {
            if is_credential_header(name) {
                let value = value.trim_ascii();
                let token = value.iter().position(|b| is_blank(*b)).map_or(value, |at| value[at..].trim_ascii_start());
                all.add(Cow::Borrowed(token));
            }
        }
        for parameter in query.into_iter().flat_map(|query| query.split('&')).filter(|parameter| is_key(parameter)) {
            let value = parameter.split_once('=').map_or("", |(_, value)| value);
            all.add(Cow::Borrowed(value.as_bytes()));
            if let Some(Cow::Owned(meant)) = percent_decoded(value) {
                all.add(Cow::Owned(meant.into_bytes()));
            }
        }
        all
    }

    fn add(&mut self, credential: Cow<'a, [u8]>) {
        if credential.len() < MIN_CREDENTIAL || self.all().any(|known| *known == *credential) {
            return;
        }
        if self.count < USUAL {
            self.found[self.count] = credential;
            self.count += 1;
        } else {
            self.more.push(credential);
        }
    }

    /// Each once.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.found[..self.count].iter().chain(&self.more).map(AsRef::as_ref)
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

    /// The same for a path, in which they may be spelled with `%`: then none of it is shown.
    pub fn hide_in_path<'t>(&self, path: &'t str) -> Cow<'t, [u8]> {
        let meant = percent_decoded(path);
        let is_spelled = meant.as_ref().is_none_or(|meant| matches!(self.hide(meant.as_bytes()), Cow::Owned(_)));
        if path.contains('%') && is_spelled && self.count > 0 {
            return Cow::Borrowed(HIDDEN.as_bytes());
        }
        self.hide(path.as_bytes())
    }

    /// Whether a name is long enough to hold one of them.
    fn may_be_in(&self, name: &str) -> bool {
        self.all().any(|credential| name.len() >= credential.len())
    }

    /// The length of the shortest; text that is shorter holds none.
    pub fn shortest(&self) -> usize {
        self.all().map(<[u8]>::len).min().unwrap_or(usize::MAX)
    }

    /// Whether one of them is in a name, in whatever case: clients choose names, too.
    fn is_in_name(&self, name: &[u8]) -> bool {
        self.all().any(|credential| {
            name.len() >= credential.len()
                && name.windows(credential.len()).any(|part| part.eq_ignore_ascii_case(credential))
        })
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
/// space, as RFC 9110, section 5.3 allows. `lines` gives the lines, each time that it is asked; those of one name may
/// stand apart, which is looked for: they must be few.
pub fn put_headers<'a, I>(out: &mut Vec<u8>, lines: impl Fn() -> I, credentials: &Credentials<'_>)
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    // Which lengths and first letters come twice: only then it is asked whether two names are the same.
    let (mut seen, mut twice) = (0_u64, 0_u64);
    for (name, _) in lines().take(MAX_LINES) {
        twice |= seen & sketch(name);
        seen |= sketch(name);
    }
    let rest = |n: usize, name: &[u8]| {
        let mut same = lines().take(MAX_LINES).enumerate().filter(|(_, (other, _))| other.eq_ignore_ascii_case(name));
        same.next().is_some_and(|(first, _)| first == n).then(|| same.map(|(_, (_, value))| value).collect::<Vec<_>>())
    };
    let mut object = Object::begin(out, credentials);
    for (n, (name, value)) in lines().enumerate().take(MAX_LINES) {
        if twice & sketch(name) == 0 {
            object.put(name, value, &[]);
        } else if let Some(more) = rest(n, name) {
            object.put(name, value, &more);
        }
    }
    object.end();
}

/// One bit of 64, the same for a name in any case.
fn sketch(name: &[u8]) -> u64 {
    let letter = name.first().map_or(0, |letter| usize::from(letter | 0x20));
    1 << ((name.len() + letter * 7) % 64)
}

/// The same for a map of header lines, whose names are in small letters and hold nothing to escape.
pub fn put_header_map(out: &mut Vec<u8>, map: &HeaderMap, credentials: &Credentials<'_>) {
    let mut object = Object::begin(out, credentials);
    let mut lines = map.iter().take(MAX_LINES).peekable();
    // Values of one name follow each other in a map.
    while let Some((name, value)) = lines.next() {
        if lines.peek().is_some_and(|(other, _)| *other == name) || object.credentials.may_be_in(name.as_str()) {
            let mut more = Vec::new();
            while let Some((_, value)) = lines.next_if(|(other, _)| *other == name) {
                more.push(value.as_bytes());
            }
            object.put(name.as_str().as_bytes(), value.as_bytes(), &more);
        } else {
            object.put_plain(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    object.end();
}

/// An object of header lines that is being put.
struct Object<'o, 'c> {
    out: &'o mut Vec<u8>,
    begun: usize,
    credentials: &'o Credentials<'c>,
    has_hidden: bool,
}

impl<'o, 'c> Object<'o, 'c> {
    fn begin(out: &'o mut Vec<u8>, credentials: &'o Credentials<'c>) -> Self {
        out.push(b'{');
        let begun = out.len();
        Self { out, begun, credentials, has_hidden: false }
    }

    fn put(&mut self, name: &[u8], value: &[u8], more: &[&[u8]]) {
        let is_secret = self.credentials.is_in_name(name);
        if is_secret && std::mem::replace(&mut self.has_hidden, true) {
            return;
        }
        let out = &mut *self.out;
        if out.len() > self.begun {
            out.push(b',');
        }
        let from = out.len();
        put_bytes_lossy(out, if is_secret { HIDDEN.as_bytes() } else { name });
        out[from..].make_ascii_lowercase();
        out.push(b':');
        if !is_shown(&out[from + 1..out.len() - 2]) {
            out.push(b'"');
            out.extend_from_slice(HIDDEN.as_bytes());
            out.push(b'"');
        } else if more.is_empty() {
            put_value(out, value, self.credentials);
        } else {
            let mut joined = value.to_vec();
            for value in more {
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(value);
            }
            put_value(out, &joined, self.credentials);
        }
    }

    /// A name that holds nothing to escape and no secret, with its only value.
    #[inline]
    fn put_plain(&mut self, name: &[u8], value: &[u8]) {
        let out = &mut *self.out;
        out.extend_from_slice(if out.len() > self.begun { b",\"" } else { b"\"" });
        out.extend_from_slice(name);
        if is_shown(name) {
            out.extend_from_slice(b"\":");
            put_value(out, value, self.credentials);
        } else {
            out.extend_from_slice(b"\":\"[redacted]\"");
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }
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
