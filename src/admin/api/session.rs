//! `/admin/api/{login,logout,session,password}`: signing in and out.
//!
//! Owns the cookie, and what is said to whoever is not let in: the same for a name that nobody has as for a wrong
//! password. Passwords are looked at elsewhere, and on a thread of their own.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};
use weir_filters::calendar;
use weir_filters::secret::Secret;

use super::catalog::refused;
use super::document::schemas::{exactly, of, text};
use super::problem::{self, CHANGE};
use super::table::Endpoint;
use super::{answer, body};
use crate::admin::caller::{self, COOKIE, Peer};
use crate::admin::server::{Failed, Shared};
use crate::catalog::Refused;
use crate::config::Wrong;
use crate::identity::{Begun, NotIn, Session, TOTAL_MS};

type Body = Result<Bytes, BytesRejection>;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let secret = || json!({ "type": "string", "writeOnly": true });
    let by_token = exactly(json!({ "token": secret() }));
    let by_password = exactly(json!({ "username": text(), "password": secret() }));
    let passwords = exactly(json!({ "old": secret(), "new": secret() }));
    vec![
        Endpoint::person(Method::POST, "/admin/api/login", "login", login)
            .about("Signs in, by name and password or by the admin token; sets a cookie.")
            .reads(json!({ "anyOf": [by_token, by_password] }))
            .gives(200, "Who has signed in, until when, and what changes must show.", of("Session"))
            .refuses(&[problem::INVALID, problem::CSRF, problem::THROTTLED, problem::UPGRADING, problem::FAILED])
            .asks(),
        Endpoint::person(Method::GET, "/admin/api/session", "session", show)
            .about("Says who has signed in.")
            .gives(200, "They have.", of("Session"))
            .asks(),
        Endpoint::person(Method::POST, "/admin/api/logout", "logout", logout)
            .about("Signs out.")
            .gives_as(204, "It is done, and the cookie is taken back.", None)
            .refuses(&[problem::CSRF, problem::UPGRADING])
            .asks(),
        Endpoint::person(Method::POST, "/admin/api/password", "changePassword", change_password)
            .about("Changes one's own password, which ends one's other sessions.")
            .reads(passwords)
            .gives_as(204, "It is done.", None)
            .refuses(&[problem::INVALID, problem::CSRF, problem::WRONG_PASSWORD, problem::NO_USER])
            .refuses(&[problem::THROTTLED, problem::NOT_FOUND, problem::DECLARED])
            .refuses(&CHANGE)
            .asks(),
    ]
}

/// Somebody who has signed in, whatever their role.
struct SignedIn(Session);

impl FromRequestParts<Arc<Shared>> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        match caller::session(shared, parts)? {
            Some(session) => Ok(Self(session)),
            None => Err(answer::unauthorized("nobody has signed in")),
        }
    }
}

/// Where a request comes from, and whether a page of ours asks.
struct From {
    peer: Peer,
    headers: HeaderMap,
}

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { peer: Peer::of(parts), headers: parts.headers.clone() })
    }
}

async fn login(State(shared): State<Arc<Shared>>, from: From, body: Body) -> Response {
    // Otherwise somebody's page could sign its visitor in under a name of its own.
    if !from.peer.is_own_page(&from.headers, shared.proxies()) {
        return caller::csrf();
    }
    let fields = match body::object(body) {
        Ok(fields) => fields,
        Err(unfit) => return unfit.answer(),
    };
    let credential = match Presented::read(&fields) {
        Ok(credential) => credential,
        Err(wrong) => return answer::invalid(wrong.iter().map(|wrong| (&*wrong.field, &*wrong.message))),
    };
    let address = from.peer.address(&from.headers, shared.proxies());
    let identity = shared.state().identity();
    let entered = match &credential {
        Presented::Token(token) => identity.sign_in_by_token(|| shared.token().accepts(token.expose()), address).await,
        Presented::Password(name, password) => identity.sign_in(name, password.clone(), address).await,
    };
    match entered {
        Ok(Begun { token, session }) => {
            log::info!("{} signed in from {address}", session.user.as_deref().unwrap_or("who has the admin token"));
            let mut response = answer::ok(&shown(&session));
            set_cookie(
                &mut response,
                token.expose(),
                TOTAL_MS / 1000,
                from.peer.is_secure(&from.headers, shared.proxies()),
            );
            response
        }
        Err(why) => {
            // Not the name: people type passwords there.
            log::warn!("a sign-in from {address} was refused: {why:?}");
            not_in(why, "the name or the password, or the token, is not right")
        }
    }
}

async fn logout(State(shared): State<Arc<Shared>>, SignedIn(session): SignedIn, from: From) -> Response {
    match shared.state().identity().sign_out(session.id).await {
        Ok(()) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            set_cookie(&mut response, "", 0, from.peer.is_secure(&from.headers, shared.proxies()));
            response
        }
        Err(why) => not_in(why, ""),
    }
}

async fn show(SignedIn(session): SignedIn) -> Response {
    answer::ok(&shown(&session))
}

async fn change_password(
    State(shared): State<Arc<Shared>>,
    SignedIn(session): SignedIn,
    from: From,
    body: Body,
) -> Response {
    let Some(user) = session.user.as_deref().map(str::to_owned) else {
        return answer::coded(StatusCode::CONFLICT, "no_user", "who has the admin token has no password");
    };
    let fields = match body::object(body) {
        Ok(fields) => fields,
        Err(unfit) => return unfit.answer(),
    };
    let (old, new) = match texts(&fields, ["old", "new"]) {
        Ok([old, new]) => (Secret::new(old), new),
        Err(wrong) => return answer::invalid(wrong.iter().map(|wrong| (&*wrong.field, &*wrong.message))),
    };
    let identity = shared.state().identity();
    let seen = match identity.confirm(&user, old, from.peer.address(&from.headers, shared.proxies())).await {
        Ok(seen) => seen,
        Err(NotIn::Wrong) => return wrong_password("`old` is not the password"),
        Err(why) => return not_in(why, ""),
    };
    let moving = identity.moving(session.id);
    let who = caller::actor(&session);
    match shared.change(move |state| state.change_password(&user, &new, seen, &who)).await {
        Ok(Ok(stamp)) => match moving.arrive(stamp).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(why) => not_in(why, ""),
        },
        Ok(Err(Refused::Changed)) => wrong_password("`old` is not the password any more; sign in anew"),
        Ok(Err(Refused::Invalid(wrong))) => {
            // It has another name here.
            let wrong = wrong.into_iter().map(|wrong| match wrong.field.as_str() {
                "password" => Wrong::new("new", wrong.message.replace("`password`", "`new`")),
                _ => wrong,
            });
            refused(&Refused::Invalid(wrong.collect()))
        }
        Ok(Err(why)) => refused(&why),
        Err(Failed) => answer::failed(),
    }
}

fn wrong_password(message: &str) -> Response {
    answer::coded(StatusCode::FORBIDDEN, "wrong_password", message)
}

/// What somebody signs in with.
enum Presented {
    Token(Secret),
    Password(String, Secret),
}

impl Presented {
    fn read(fields: &Map<String, Value>) -> Result<Self, Vec<Wrong>> {
        if fields.contains_key("token") {
            return texts(fields, ["token"]).map(|[token]| Self::Token(Secret::new(token)));
        }
        texts(fields, ["username", "password"]).map(|[name, password]| Self::Password(name, Secret::new(password)))
    }
}

/// Exactly these fields, each a text.
fn texts<const N: usize>(fields: &Map<String, Value>, names: [&'static str; N]) -> Result<[String; N], Vec<Wrong>> {
    let unknown = fields.keys().filter(|field| !names.contains(&field.as_str()));
    // Its name is not repeated: it may be a secret in the wrong place.
    let message = || format!("unknown field; there are {}", names.join(" and "));
    let mut wrong: Vec<Wrong> = unknown.map(|_| Wrong::new("", message())).collect();
    let texts = names.map(|name| match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(_) => {
            wrong.push(Wrong::new(name, format!("`{name}` must be text")));
            String::new()
        }
        None => {
            wrong.push(Wrong::new(name, format!("`{name}` is missing")));
            String::new()
        }
    });
    if wrong.is_empty() { Ok(texts) } else { Err(wrong) }
}

fn shown(session: &Session) -> Value {
    json!({
        "role": session.role.name(),
        "user": session.user.as_deref(),
        "csrf": session.csrf.expose(),
        "expires": calendar::rfc3339(session.expires_ms),
    })
}

fn set_cookie(response: &mut Response, token: &str, max_age: u64, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}");
    if let Ok(mut value) = HeaderValue::from_str(&cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, value);
    }
}

fn not_in(why: NotIn, wrong: &str) -> Response {
    match why {
        NotIn::Wrong => answer::unauthorized(wrong),
        NotIn::Throttled { retry_s } => {
            answer::throttled(retry_s, &format!("too many tries; there is another one in {retry_s} s"))
        }
        NotIn::Upgrading => {
            let message = "an upgrade is under way: ask again when the new process serves";
            answer::coded(StatusCode::CONFLICT, "upgrading", message)
        }
        NotIn::Failed => answer::failed(),
    }
}
