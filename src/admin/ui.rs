//! The console's files: what the browser is given, and what it may do with it.
//!
//! Owns their paths, their caching and their policy. Knows nothing of what the console shows: it asks the API, like
//! everybody. They are built by `make ui` and are part of this program; without them a page says so.

use std::borrow::Cow;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use rust_embed::RustEmbed;

/// Where the console is.
const BASE: &str = "/admin/ui/";

/// Nothing inline, nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Files whose names have a digest of what is in them never change.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// The page of a program that was built without the console.
const MISSING: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Weir</title>\
    <h1>The console is not built in</h1>\
    <p>This program was compiled without it. In the source folder, with Node 18 or later:\
    <pre>make ui &amp;&amp; make build</pre>\
    <p>Everything else works: the API below <code>/admin/api</code>, <code>/metrics</code>, and the commands of\
    <code>weir</code>.</html>";

#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Built;

/// A file, and a digest of it.
struct File {
    bytes: Cow<'static, [u8]>,
    digest: [u8; 32],
}

/// Where files are.
trait Files {
    fn find(&self, path: &str) -> Option<File>;
}

impl Files for Built {
    fn find(&self, path: &str) -> Option<File> {
        let file = Built::get(path)?;
        Some(File { bytes: file.data, digest: file.metadata.sha256_hash() })
    }
}

/// The console's paths, beside those of `others`.
pub(super) fn beside(others: Router) -> Router {
    let to_console = || async { redirect() };
    let show = |request: Request| async move { answer(&Built, &request) };
    let console = Router::new()
        .route("/", get(to_console))
        .route("/admin", get(to_console))
        .route("/admin/ui", get(to_console))
        .route(BASE, axum::routing::any(show))
        .route("/admin/ui/{*path}", axum::routing::any(show))
        .route("/docs/proxy", axum::routing::any(show));
    others.merge(console)
}

fn redirect() -> Response {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(BASE));
    response
}

fn answer(files: &impl Files, request: &Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this path is only read");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path().strip_prefix(BASE).unwrap_or_default();
    if !path.is_empty()
        && let Some(file) = files.find(path)
    {
        return serve(files, path, &file, request.headers());
    }
    // A file of another version; a page in its place would be run as a script.
    if path.starts_with("assets/") {
        return plain(StatusCode::NOT_FOUND, "there is no such file");
    }
    // Which page it is, the console reads from the address itself.
    match files.find("index.html") {
        Some(index) => serve(files, "index.html", &index, request.headers()),
        None => with(StatusCode::SERVICE_UNAVAILABLE, "text/html; charset=utf-8", Body::from(MISSING)),
    }
}

fn serve(files: &impl Files, path: &str, file: &File, headers: &HeaderMap) -> Response {
    // What is packed has a tag of its own, for it is other bytes.
    let packed = takes_gzip(headers).then(|| files.find(&format!("{path}.gz"))).flatten();
    let digest = packed.as_ref().map_or(&file.digest, |packed| &packed.digest);
    let tag = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| knows(known, &tag));
    let mut response = if is_known {
        plain(StatusCode::NOT_MODIFIED, "")
    } else {
        let bytes = packed.as_ref().map_or_else(|| file.bytes.clone(), |packed| packed.bytes.clone());
        let body = match bytes {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        };
        with(StatusCode::OK, kind(path), body)
    };
    let caching = if path.starts_with("assets/") { FOREVER } else { "no-cache" };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(ETAG, tag);
    if packed.is_some() && !is_known {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn knows(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let known = known.to_str().unwrap_or_default();
    known.split(',').any(|one| one.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    with(status, "text/plain; charset=utf-8", Body::from(text))
}

fn with(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (opener, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sha2::{Digest, Sha256};

    use super::*;

    impl Files for BTreeMap<&'static str, &'static str> {
        fn find(&self, path: &str) -> Option<File> {
            let text = self.get(path)?;
            Some(File { bytes: text.as_bytes().into(), digest: Sha256::digest(text).into() })
        }
    }

    fn built() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("index.html", "<p>index"),
            ("assets/main-1a2b.js", "run()"),
            ("assets/main-1a2b.js.gz", "packed"),
            ("weir.svg", "<svg>"),
        ])
    }

    fn ask(files: &impl Files, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        answer(files, &request.body(Body::empty()).unwrap())
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    async fn text(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_page_is_the_index_and_is_asked_for_anew() {
        for path in ["/admin/ui/", "/admin/ui/keys", "/admin/ui/keys/a%2Fb", "/docs/proxy"] {
            let response = ask(&built(), path, &[]);
            assert_eq!((response.status(), header(&response, CACHE_CONTROL)), (StatusCode::OK, "no-cache"), "{path}");
            assert_eq!(header(&response, CONTENT_TYPE), "text/html; charset=utf-8");
            let policy = header(&response, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
            assert_eq!(text(response).await, "<p>index", "{path}");
        }
    }

    #[tokio::test]
    async fn hashed_files_are_kept_for_ever_and_packed_for_who_takes_it() {
        let path = "/admin/ui/assets/main-1a2b.js";
        for (accepted, encoding, body) in [
            (&[][..], "", "run()"),
            (&[(ACCEPT_ENCODING, "br, gzip;q=0.5")], "gzip", "packed"),
            (&[(ACCEPT_ENCODING, "gzip;q=0, br")], "", "run()"),
        ] {
            let response = ask(&built(), path, accepted);
            assert_eq!(header(&response, CACHE_CONTROL), "public, max-age=31536000, immutable");
            assert_eq!(header(&response, CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!((header(&response, CONTENT_ENCODING), header(&response, VARY)), (encoding, "accept-encoding"));
            assert_eq!(text(response).await, body);
        }
        let gone = ask(&built(), "/admin/ui/assets/main-0000.js", &[]);
        assert_eq!(gone.status(), StatusCode::NOT_FOUND, "no page may stand for a script");
    }

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let first = ask(&built(), "/admin/ui/", &[]);
        let tag = header(&first, ETAG).to_owned();
        assert_eq!(tag.len(), 34);
        for (known, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", W/{tag}"), StatusCode::NOT_MODIFIED),
            ("\"other\"".to_owned(), StatusCode::OK),
        ] {
            let response = ask(&built(), "/admin/ui/", &[(IF_NONE_MATCH, &known)]);
            assert_eq!((response.status(), header(&response, ETAG)), (status, &*tag), "{known}");
        }
    }

    #[tokio::test]
    async fn without_the_console_a_page_says_how_it_is_built() {
        let response = ask(&BTreeMap::new(), "/admin/ui/keys", &[]);
        assert_eq!(
            (response.status(), header(&response, CACHE_CONTROL)),
            (StatusCode::SERVICE_UNAVAILABLE, "no-store")
        );
        assert!(text(response).await.contains("make ui"));
    }

    #[test]
    fn files_are_only_read() {
        let request = Request::builder().method(Method::POST).uri("/admin/ui/").body(Body::empty()).unwrap();
        let response = answer(&built(), &request);
        assert_eq!((response.status(), header(&response, ALLOW)), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
        let root = redirect();
        assert_eq!((root.status(), header(&root, LOCATION)), (StatusCode::SEE_OTHER, "/admin/ui/"));
    }
}
