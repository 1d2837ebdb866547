//! Which headers pass between client and upstream.
//!
//! Knows nothing of who the client is, and leaves framing (`content-length`, `transfer-encoding` of
//! an answer) to whoever writes the bytes.

use std::collections::HashSet;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::credential::is_credential_header;
use crate::secret::Secret;
use crate::sketch::Sketch;

/// The shortest key that is looked for in other text, in bytes: a shorter one would be found in
/// dates and lengths. Providers' keys have forty and more.
pub(crate) const MIN_ECHO: usize = 8;

/// What concerns one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
];
/// How the names begin of what Weir says itself.
const OF_WEIR: &str = "x-weir-";

/// What is stripped and set beside what always is.
#[derive(Debug, Clone, Default)]
pub struct HeaderPolicy {
    /// Removed from what the upstream gets.
    pub strip_request: Vec<HeaderName>,
    /// Removed from what the client gets.
    pub strip_response: Vec<HeaderName>,
    /// Set on what the upstream gets, in place of the client's.
    pub set_request: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderPolicy {
    /// Calls `put` for each header that goes upstream: the client's in its order, without credentials,
    /// without what concerns only the connection (RFC 9110, section 7.6.1) or Weir, and without what
    /// Weir's own upstream leg writes; then those that the policy sets. A client cannot strike those
    /// out by naming them in `Connection`.
    pub fn request(&self, client: &HeaderMap, mut put: impl FnMut(&HeaderName, &HeaderValue)) {
        let nominated = nominated(client);
        let mut of_policy = Sketch::default();
        for name in self.strip_request.iter().chain(self.set_request.iter().map(|(name, _)| name)) {
            of_policy.add(name.as_str().as_bytes());
        }
        for (name, value) in client {
            let text = name.as_str();
            let dropped = is_never_sent(text)
                || (of_policy.may_have(text.as_bytes()) && self.replaces(name))
                || text.starts_with(OF_WEIR)
                || nominated.contains(name);
            if !dropped {
                put(name, value);
            }
        }
        for (name, value) in &self.set_request {
            put(name, value);
        }
    }

    /// Whether the policy strips a client's header or sets its own in its place.
    fn replaces(&self, name: &HeaderName) -> bool {
        self.strip_request.contains(name) || self.set_request.iter().any(|(set, _)| set == name)
    }

    /// Whether a header of the upstream's answer is kept from the client. Case does not matter.
    pub fn strips_response(&self, name: &[u8]) -> bool {
        let named = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        HOP_BY_HOP.iter().any(|other| named(other))
            || name.get(..OF_WEIR.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(OF_WEIR.as_bytes()))
            || self.strip_response.iter().any(|other| named(other.as_str()))
    }
}

/// Looks for an upstream's key in what it answers: some repeat it in a header.
pub struct Echo(Option<memmem::Finder<'static>>);

impl Echo {
    /// Of this key. A key that is too short to be told from other text is not looked for.
    pub fn of(secret: &Secret) -> Self {
        let secret = secret.expose().as_bytes();
        Self((secret.len() >= MIN_ECHO).then(|| memmem::Finder::new(secret).into_owned()))
    }

    /// Whether the key is in a header's value.
    pub fn is_in(&self, value: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|key| value.len() >= key.needle().len() && key.find(value).is_some())
    }
}

// It holds a secret.
impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Echo(…)")
    }
}

/// The names that `Connection` makes hop-by-hop; nearly always none, and then nothing is allocated.
fn nominated(headers: &HeaderMap) -> HashSet<HeaderName> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

/// What no policy can let pass: a credential, what concerns the connection (the same as [`HOP_BY_HOP`],
/// spelled out so that it compiles to a choice by length), and what Weir's own upstream leg writes.
/// `accept-encoding` is among that because only what Weir can decode can be metered; `expect` because
/// Weir reads the body whatever the upstream thinks of the head.
fn is_never_sent(name: &str) -> bool {
    is_credential_header(name.as_bytes())
        || matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "http2-settings"
                | "proxy-authenticate"
                | "host"
                | "content-length"
                | "accept-encoding"
                | "expect"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(policy: &HeaderPolicy, client: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in client {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut sent = Vec::new();
        policy.request(&headers, |name, value| sent.push((name.to_string(), value.to_str().unwrap().to_owned())));
        sent
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_concerns_the_request_passes_verbatim_and_in_order() {
        let client = [
            ("user-agent", "OpenAI/Python 1.2"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("openai-organization", "org-1"),
            ("x-stainless-lang", "python"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-unknown", " kept, as it is "),
            ("content-type", "application/json"),
            ("x-forwarded-for", "10.0.0.1"),
            ("cookie", "a=b"),
            ("x-weird", "not of Weir"),
        ];
        assert_eq!(sent(&HeaderPolicy::default(), &client), pairs(&client));
    }

    #[test]
    fn every_credential_is_dropped() {
        let client = [
            ("authorization", "Bearer k"),
            ("authorization", "Bearer k"),
            ("proxy-authorization", "Basic k"),
            ("x-api-key", "k"),
            ("x-goog-api-key", "k"),
            ("api-key", "k"),
            ("accept", "*/*"),
        ];
        assert_eq!(sent(&HeaderPolicy::default(), &client), pairs(&[("accept", "*/*")]));
    }

    #[test]
    fn what_concerns_only_the_connection_or_weir_is_dropped() {
        let client = [
            ("host", "weir.example"),
            ("content-length", "3"),
            ("accept-encoding", "br"),
            ("expect", "100-continue"),
            ("connection", "keep-alive, Upgrade"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authenticate", "Basic"),
            ("x-weir-request-id", "forged"),
            ("x-weir-anything", "forged"),
            ("accept", "*/*"),
        ];
        assert_eq!(sent(&HeaderPolicy::default(), &client), pairs(&[("accept", "*/*")]));
    }

    #[test]
    fn what_is_hop_by_hop_is_so_in_both_directions() {
        for name in HOP_BY_HOP {
            assert!(is_never_sent(name), "{name}");
            assert!(HeaderPolicy::default().strips_response(name.to_ascii_uppercase().as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_connection_names_is_dropped_but_not_what_the_policy_sets() {
        let policy = HeaderPolicy {
            set_request: vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("edge"))],
            ..HeaderPolicy::default()
        };
        let client = [
            ("connection", "close, X-Hop ,,\"bad name\""),
            ("connection", "x-other, x-tenant, authorization"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x-other", "3"),
            ("x-tenant", "forged"),
            ("x-kept", "4"),
        ];
        assert_eq!(sent(&policy, &client), pairs(&[("x-kept", "4"), ("x-tenant", "edge")]));
    }

    #[test]
    fn the_policy_strips_and_sets() {
        let policy = HeaderPolicy {
            strip_request: vec![HeaderName::from_static("cookie"), HeaderName::from_static("x-forwarded-for")],
            set_request: vec![
                (HeaderName::from_static("user-agent"), HeaderValue::from_static("weir")),
                (HeaderName::from_static("cookie"), HeaderValue::from_static("ours=1")),
            ],
            ..HeaderPolicy::default()
        };
        let client =
            [("user-agent", "curl"), ("cookie", "a=b"), ("cookie", "c=d"), ("x-forwarded-for", "1"), ("accept", "*/*")];
        let expected = [("accept", "*/*"), ("user-agent", "weir"), ("cookie", "ours=1")];
        assert_eq!(sent(&policy, &client), pairs(&expected));
    }

    #[test]
    fn an_answer_loses_what_concerns_only_its_connection() {
        let policy =
            HeaderPolicy { strip_response: vec![HeaderName::from_static("set-cookie")], ..HeaderPolicy::default() };
        for (name, stripped) in [
            ("set-cookie", true),
            ("connection", true),
            ("keep-alive", true),
            ("proxy-connection", true),
            ("te", true),
            ("trailer", true),
            ("upgrade", true),
            ("http2-settings", true),
            ("proxy-authenticate", true),
            ("x-weir-channel", true),
            ("transfer-encoding", true),
            ("content-length", false),
            ("content-encoding", false),
            ("server", false),
            ("retry-after", false),
            ("anthropic-ratelimit-requests-remaining", false),
            ("x-request-id", false),
        ] {
            assert_eq!(policy.strips_response(name.as_bytes()), stripped, "{name}");
        }
    }

    #[test]
    fn an_echoed_key_is_seen_anywhere_in_a_value() {
        let secret = Secret::new("sk-canary");
        for (value, expected) in
            [("sk-canary", true), ("Bearer sk-canary; x", true), ("sk-canar", false), ("SK-CANARY", false), ("", false)]
        {
            assert_eq!(Echo::of(&secret).is_in(value.as_bytes()), expected, "{value}");
        }
        assert!(!Echo::of(&Secret::new("1234567")).is_in(b"1234567"));
        assert!(Echo::of(&Secret::new("12345678")).is_in(b"12345678"));
        assert!(!Echo::of(&Secret::new("")).is_in(b"anything"));
        assert_eq!(format!("{:?}", Echo::of(&secret)), "Echo(…)");
    }
}
