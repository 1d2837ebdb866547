//! What a browser says of a request: its cookies, and whose page asks.
//!
//! Owns the reading of both. Refuses to know what a cookie is good for.

use http::HeaderMap;
use http::header::{COOKIE, HOST, HeaderName, ORIGIN};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The values of every cookie of that name, in the order in which they were sent. There may be several: what listens
/// on another port of the host, or on a part of its name, can set cookies here too.
pub fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// Whether a request that changes something may come from a page of this host, or from no page at all. What a browser
/// says of itself counts (<https://www.w3.org/TR/fetch-metadata/>); one that does not say it, as over plain HTTP, names
/// the page's origin. `trusts_forwarded`: who sent the request may say which host it was sent to at first.
pub fn is_from_own_page(headers: &HeaderMap, trusts_forwarded: bool) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    if let Some(site) = sites.next() {
        return sites.next().is_none() && matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is = |host: &HeaderName| {
        let mut hosts = headers.get_all(host).iter();
        let (host, more) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
        more.is_none() && host.zip(authority).is_some_and(|(host, origin)| host.eq_ignore_ascii_case(origin))
    };
    origins.next().is_none() && (is(&HOST) || (trusts_forwarded && is(&X_FORWARDED_HOST)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn every_cookie_of_the_name_is_found() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&["s=1"], &["1"]),
            (&["a=x; s=1;s=2 ; ss=3; S=4", "s=5"], &["1", "2", "5"]),
            (&["s", "s=", "=s", "s=a=b"], &["", "a=b"]),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let headers = headers(&lines);
            assert_eq!(cookies(&headers, "s").collect::<Vec<_>>(), expected, "{lines:?}");
        }
        let mut bytes = HeaderMap::new();
        bytes.insert(COOKIE, HeaderValue::from_bytes(b"s=\xff").expect("a value"));
        assert_eq!(cookies(&bytes, "s").count(), 0);
    }

    #[test]
    fn only_a_page_of_the_same_host_may_change_something() {
        for (lines, is_own) in [
            (&[][..], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "")], false),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site"), ("host", "h"), ("origin", "http://h")], false),
            (&[("host", "h:8515"), ("origin", "http://h:8515")], true),
            (&[("host", "H:8515"), ("origin", "https://h:8515")], true),
            (&[("host", "h:8515"), ("origin", "http://h")], false),
            (&[("host", "h:8515"), ("origin", "http://h:9000")], false),
            (&[("host", "h"), ("origin", "null")], false),
            (&[("host", "h"), ("origin", "h")], false),
            (&[("host", "h"), ("origin", "")], false),
            (&[("origin", "http://")], false),
            (&[("host", "h"), ("origin", "http://h"), ("origin", "http://h")], false),
            (&[("host", "h"), ("host", "h"), ("origin", "http://h")], false),
            (&[("host", "h"), ("origin", "http://w"), ("x-forwarded-host", "w")], false),
        ] {
            assert_eq!(is_from_own_page(&headers(lines), false), is_own, "{lines:?}");
        }
        let behind =
            [("host", "127.0.0.1:8515"), ("x-forwarded-host", "weir.example"), ("origin", "https://weir.example")];
        assert!(is_from_own_page(&headers(&behind), true));
        assert!(!is_from_own_page(&headers(&behind), false));
    }
}
