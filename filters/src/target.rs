//! Where a request goes at the upstream: a base URL's path, a path and a query, joined.

use std::borrow::Cow;

/// First segments that are versions of an API.
const VERSIONS: [&str; 2] = ["/v1", "/v1beta"];

/// Joins a base path (without a trailing slash, often empty) and a path. A base that already ends in
/// the path's first segment does not get it twice: people write `https://host/v1` as often as
/// `https://host`. A base that ends in another version has decided which one is asked.
pub fn join<'p>(base: &str, path: &'p str) -> Cow<'p, str> {
    if base.is_empty() {
        return Cow::Borrowed(path);
    }
    let end = path[1..].find('/').map_or(path.len(), |at| at + 1);
    let (first, rest) = path.split_at(end);
    let is_versioned = VERSIONS.contains(&first) && VERSIONS.iter().any(|version| base.ends_with(version));
    Cow::Owned(if (base.ends_with(first) || is_versioned) && !rest.is_empty() {
        format!("{base}{rest}")
    } else {
        format!("{base}{path}")
    })
}

/// A path of Gemini's: where the models are (such as `/v1beta/models`), the model, and what is asked
/// of it. The model may come from a body, so it is encoded: no name of a model can become another path.
pub fn gemini(models: &str, model: &str, verb: &str) -> String {
    use std::fmt::Write;
    let mut path = format!("{models}/");
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path.push(':');
    path.push_str(verb);
    path
}

/// A target in origin form.
pub fn with_query(path: &str, query: Option<&str>, also: Option<&str>) -> String {
    let mut target = String::with_capacity(path.len() + query.map_or(0, str::len) + also.map_or(0, str::len) + 2);
    target.push_str(path);
    let parts = [query, also].into_iter().flatten().filter(|part| !part.is_empty());
    for (i, part) in parts.enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(part);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_goes_in_front_but_no_segment_doubles() {
        for (base, path, expected) in [
            ("", "/v1/messages", "/v1/messages"),
            ("/v1", "/v1/messages", "/v1/messages"),
            ("/openai/v1", "/v1/chat/completions", "/openai/v1/chat/completions"),
            ("/gateway", "/v1/messages", "/gateway/v1/messages"),
            ("/apiv1", "/v1/messages", "/apiv1/v1/messages"),
            ("/a", "/a", "/a/a"),
            ("/v1beta", "/v1/models/g:embedContent", "/v1beta/models/g:embedContent"),
            ("/v1", "/v1beta/models/g:embedContent", "/v1/models/g:embedContent"),
            ("/v1beta", "/x/y", "/v1beta/x/y"),
            ("/x", "/x/v1/y", "/x/v1/y"),
        ] {
            assert_eq!(join(base, path), expected, "{base} {path}");
        }
    }

    #[test]
    fn a_models_name_cannot_become_another_path() {
        let generate = gemini("/v1/models", "gemini-2.5-flash", "generateContent");
        assert_eq!(generate, "/v1/models/gemini-2.5-flash:generateContent");
        assert_eq!(gemini("/v1beta/models", "a/../b?c\n:d", "x"), "/v1beta/models/a%2F..%2Fb%3Fc%0A%3Ad:x");
    }

    #[test]
    fn queries_are_joined_once() {
        assert_eq!(with_query("/a", None, None), "/a");
        assert_eq!(with_query("/a", Some("x=1&y"), None), "/a?x=1&y");
        assert_eq!(with_query("/a", Some(""), Some("alt=sse")), "/a?alt=sse");
        assert_eq!(with_query("/a", Some("x=1"), Some("alt=sse")), "/a?x=1&alt=sse");
    }
}
