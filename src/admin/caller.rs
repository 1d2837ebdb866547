//! Who asks: the admin token, somebody who has signed in, or somebody on this machine.
//!
//! Owns how that is told of a request, and what a page of a browser must show before it changes something. Knows
//! nothing of what is asked for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use weir_filters::browser::{cookies, is_from_own_page};
use weir_filters::network::Network;
use weir_filters::secret::Secret;

use super::api::answer;
use super::server::Shared;
use crate::changes::Actor;
use crate::config::Role;
use crate::identity::Session;

/// The cookie that holds a session's token.
pub(super) const COOKIE: &str = "weir_session";

const CSRF: HeaderName = HeaderName::from_static("x-weir-csrf");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a connection comes from; `None`: from the socket in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Option<IpAddr>);

/// Who was let in. It is an extension of every request to the API that was.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Who presents the admin token.
    Token,
    /// Who may open the socket.
    Socket,
    /// Who has signed in.
    Session(Session),
}

impl Caller {
    /// What records of changes call this one.
    fn actor(&self) -> Actor {
        match self {
            Self::Token => Actor::Token,
            Self::Socket => Actor::Socket,
            Self::Session(session) => actor(session),
        }
    }
}

/// What records of changes call who has signed in.
pub(super) fn actor(session: &Session) -> Actor {
    session.user.as_deref().map_or(Actor::Token, |user| Actor::User(user.to_owned()))
}

impl Peer {
    /// The peer of a request.
    pub(super) fn of(parts: &Parts) -> Self {
        parts.extensions.get().copied().unwrap_or(Self(None))
    }

    /// Whether it may say where a request came from at first: a proxy that is trusted, or who may open the socket.
    fn is_trusted(self, proxies: &[Network]) -> bool {
        self.0.is_none_or(|address| is_one_of(proxies, address))
    }

    /// Whose tries are counted together. Each proxy adds whom it was asked by behind those who are there already, of which
    /// anybody may have made up the first: the last one who is no trusted proxy is the one.
    pub(super) fn address(self, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
        let mut asks = self.0.unwrap_or(Ipv4Addr::LOCALHOST.into());
        if !self.is_trusted(proxies) {
            return asks;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        for said in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
            let Ok(address) = said.trim().parse() else { break };
            asks = address;
            if !is_one_of(proxies, address) {
                break;
            }
        }
        asks
    }

    /// Whether the request came over TLS, to a trusted proxy: this listener speaks none.
    pub(super) fn is_secure(self, headers: &HeaderMap, proxies: &[Network]) -> bool {
        self.is_trusted(proxies) && headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes() == b"https")
    }

    /// Whether nothing says that a page of somebody else has a browser ask this.
    pub(super) fn is_own_page(self, headers: &HeaderMap, proxies: &[Network]) -> bool {
        is_from_own_page(headers, self.is_trusted(proxies))
    }
}

fn is_one_of(proxies: &[Network], address: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(address))
}

/// The session that a request shows; what changes something has to show more than a cookie, which browsers send along
/// whoever asks them to.
///
/// # Errors
/// The answer, if it must not be done. `Ok(None)`: there is no session.
#[expect(clippy::result_large_err, reason = "it is the answer, and passed on at once")]
pub(super) fn session(shared: &Shared, parts: &Parts) -> Result<Option<Session>, Response> {
    let identity = shared.state().identity();
    let mut found: Option<Session> = None;
    for token in cookies(&parts.headers, COOKIE) {
        let Some(session) = identity.session(token) else { continue };
        if found.as_ref().is_some_and(|other| other.id != session.id) {
            return Err(answer::unauthorized("two sessions are shown; sign in anew"));
        }
        found = Some(session);
    }
    let Some(session) = found else { return Ok(None) };
    if is_safe(&parts.method) {
        return Ok(Some(session));
    }
    let mut shown = parts.headers.get_all(CSRF).iter();
    let is_shown = match (shown.next().and_then(|value| value.to_str().ok()), shown.next()) {
        (Some(value), None) => Secret::new(value) == session.csrf,
        _ => false,
    };
    if !is_shown || !Peer::of(parts).is_own_page(&parts.headers, shared.proxies()) {
        return Err(csrf());
    }
    Ok(Some(session))
}

/// 403: another page may have asked.
pub(super) fn csrf() -> Response {
    let message = "a change by a session needs the header x-weir-csrf, and a page of this address that asks";
    answer::coded(StatusCode::FORBIDDEN, "csrf", message)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a token is presented. What else is in the header is for a proxy on the way.
fn presents_bearer(headers: &HeaderMap) -> bool {
    let is_bearer = |value: &http::HeaderValue| {
        value.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    headers.get_all(AUTHORIZATION).iter().any(is_bearer)
}

/// Lets administrators in. Who presents a token is judged by that alone.
pub(super) async fn require_admin(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let caller = if presents_bearer(&parts.headers) {
        if !shared.token().admits(&parts.headers) {
            return answer::unauthorized("the admin token is needed, as Authorization: Bearer, or a session");
        }
        Caller::Token
    } else {
        match session(&shared, &parts) {
            Ok(Some(session)) if session.role == Role::Admin => Caller::Session(session),
            Ok(Some(_)) => return answer::error(StatusCode::FORBIDDEN, "this is for administrators"),
            Ok(None) => {
                return answer::unauthorized("the admin token is needed, as Authorization: Bearer, or a session");
            }
            Err(response) => return response,
        }
    };
    let session = if let Caller::Session(session) = &caller { Some(session.id) } else { None };
    let response = ask(caller, Request::from_parts(parts, body), next).await;
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    match session {
        // What is followed ends with the session: each piece is passed on only while there is one.
        Some(id) if is_stream => response.map(|body| {
            let pieces = body.into_data_stream();
            Body::from_stream(pieces.take_while(move |_| {
                let is_open = shared.state().identity().is_open(id);
                async move { is_open }
            }))
        }),
        _ => response,
    }
}

/// Who comes through the socket needs nothing more.
pub(super) async fn through_socket(request: Request, next: Next) -> Response {
    ask(Caller::Socket, request, next).await
}

/// Passes a request on, and leaves in the log who has changed something.
async fn ask(caller: Caller, mut request: Request, next: Next) -> Response {
    let change = (!is_safe(request.method())).then(|| (request.method().clone(), request.uri().path().to_owned()));
    let actor = caller.actor();
    request.extensions_mut().insert(actor.clone());
    let response = next.run(request).await;
    if let Some((method, path)) = change.filter(|_| response.status().is_success()) {
        log::info!("{method} {path} by {}", actor.name());
    }
    response
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

    fn networks(all: &[&str]) -> Vec<Network> {
        all.iter().map(|network| network.parse().expect("a network")).collect()
    }

    fn peer(address: &str) -> Peer {
        Peer(Some(address.parse().expect("an address")))
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn only_a_proxy_that_is_trusted_is_believed() {
        let said = headers(&[("x-forwarded-for", "198.51.100.1, 203.0.113.9"), ("x-forwarded-proto", "https")]);
        let local = networks(&["127.0.0.0/8", "::1"]);
        for (peer, address, secure) in [
            (peer("127.0.0.1"), "203.0.113.9", true),
            (peer("::ffff:127.0.0.1"), "203.0.113.9", true),
            (peer("::1"), "203.0.113.9", true),
            (Peer(None), "203.0.113.9", true),
            (peer("192.0.2.1"), "192.0.2.1", false),
        ] {
            assert_eq!(peer.address(&said, &local), ip(address), "{peer:?}");
            assert_eq!(peer.is_secure(&said, &local), secure, "{peer:?}");
        }
        for said in [&[][..], &[("x-forwarded-for", "unknown")], &[("x-forwarded-for", "")]] {
            assert_eq!(peer("127.0.0.1").address(&headers(said), &local), Ipv4Addr::LOCALHOST);
        }
        assert!(!peer("127.0.0.1").is_secure(&headers(&[("x-forwarded-proto", "http")]), &local));
        let nobody = (peer("127.0.0.1").address(&said, &[]), peer("127.0.0.1").is_secure(&said, &[]));
        assert_eq!(nobody, (ip("127.0.0.1"), false));
    }

    #[test]
    fn behind_several_proxies_the_last_who_is_none_of_them_asks() {
        let proxies = networks(&["127.0.0.0/8", "10.0.0.0/8"]);
        for (said, address) in [
            (&["198.51.100.1, 203.0.113.9, 10.0.0.7"][..], "203.0.113.9"),
            (&["198.51.100.1, 203.0.113.9", "10.0.0.8, 10.0.0.7"], "203.0.113.9"),
            (&["10.0.0.8", "10.0.0.7"], "10.0.0.8"),
            (&["203.0.113.9, nonsense, 10.0.0.7"], "10.0.0.7"),
        ] {
            let lines: Vec<_> = said.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let mut all = HeaderMap::new();
            for (name, value) in &lines {
                all.append(*name, HeaderValue::from_str(value).expect("a value"));
            }
            assert_eq!(peer("127.0.0.1").address(&all, &proxies), ip(address), "{said:?}");
        }
    }
}
