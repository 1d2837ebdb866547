//! The paths of the admin listener.
//!
//! Owns which path does what and which door it is behind. Knows nothing of sockets (`server`), nor of how the
//! state comes by its answers.

pub(crate) mod answer;
mod body;
mod catalog;
mod changes;
mod document;
mod drain;
mod events;
mod expected;
mod follow;
mod me;
mod monitor;
mod overview;
mod pages;
mod parameters;
mod problem;
pub mod requests;
mod session;
mod table;
mod trial;
pub mod usage;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use self::document::schemas::{count, exactly, of, text};
use self::table::{API, Access, Endpoint, OWN};
use super::server::{Failed, Shared};
use super::{AdminState, caller};
use crate::changes::Actor;
use crate::metrics;

/// Bytes of a request's body. What people write here is a key or a channel, not a document.
const MAX_BODY: usize = 64 * 1024;

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// TCP: the admin token opens it, or a session.
    Network,
    /// The socket in the data directory: who may open the file may come in.
    Socket,
}

/// Every endpoint there is: the router and the document are made from nothing else.
fn table() -> Vec<Endpoint> {
    let mut table =
        vec![
            Endpoint::open(Method::GET, "/healthz", "healthz", healthz)
                .about("Says that the process answers.")
                .gives_as(200, "It does.", Some(("text/plain; charset=utf-8", text()))),
            Endpoint::open(Method::GET, "/readyz", "readyz", readyz)
                .about("Says whether traffic is welcome here.")
                .gives(200, "It is.", of("Readiness"))
                .gives(503, "It is not, and why.", of("Readiness")),
            Endpoint::metrics(Method::GET, "/metrics", "metrics", encode)
                .about("The metrics, in the text format of Prometheus.")
                .gives_as(200, "All of them.", Some((metrics::CONTENT_TYPE, text())))
                .asks(),
            Endpoint::admin(Method::POST, "/admin/api/reload", "reload", reload)
                .about("Reads the configuration file anew and serves it, if it has no mistakes.")
                .gives(200, "It is in force.", exactly(json!({ "version": count() })))
                .refuses(&[problem::TOO_LARGE, problem::REFUSED])
                .asks(),
        ];
    for rows in [
        usage::endpoints,
        requests::endpoints,
        follow::endpoints,
        events::endpoints,
        catalog::endpoints,
        changes::endpoints,
        overview::endpoints,
        trial::endpoints,
        monitor::endpoints,
        drain::endpoints,
        session::endpoints,
        me::endpoints,
        document::endpoints,
    ] {
        table.extend(rows());
    }
    table
}

/// All paths, as seen through a door.
pub(crate) fn router(door: Door, shared: Arc<Shared>) -> Router {
    let (mut open, mut metrics, mut api) = (Router::new(), Router::new(), Router::new());
    let (mut people, mut own) = (Router::new(), Router::new());
    for row in table() {
        let access = row.access;
        let (path, route) = row.into_route();
        let below = |folder| path.strip_prefix(folder).unwrap_or(path);
        match access {
            Access::Open => open = open.route(path, route),
            Access::Metrics => metrics = metrics.route(path, route),
            Access::Admin => api = api.route(below(API), route),
            Access::Person => people = people.route(below(API), route),
            Access::Own => own = own.route(below(OWN), route),
        }
    }
    metrics = metrics.method_not_allowed_fallback(answer::wrong_method);
    api = api.fallback(answer::not_found).method_not_allowed_fallback(answer::wrong_method);
    match door {
        Door::Network => {
            api = api.layer(middleware::from_fn_with_state(Arc::clone(&shared), caller::require_admin));
            metrics = metrics.layer(middleware::from_fn_with_state(Arc::clone(&shared), require_metrics_token));
        }
        Door::Socket => api = api.layer(middleware::from_fn(caller::through_socket)),
    }
    open.method_not_allowed_fallback(answer::wrong_method)
        .merge(metrics)
        .nest(API, people.method_not_allowed_fallback(answer::wrong_method).merge(api))
        .nest(OWN, own.method_not_allowed_fallback(answer::wrong_method))
        .fallback(answer::not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), limit_time))
        .layer(middleware::from_fn(answer::guard_headers))
        .with_state(shared)
}

async fn healthz() -> Response {
    answer::with(StatusCode::OK, "text/plain; charset=utf-8", "ok".into())
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let reasons = shared.state().readiness();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reasons: Vec<_> =
        reasons.iter().map(|reason| json!({ "part": reason.part, "message": reason.message })).collect();
    answer::json(status, &json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}

async fn encode(State(shared): State<Arc<Shared>>) -> Response {
    match shared.scrape(AdminState::metrics).await {
        Ok(text) => answer::with(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(Failed) => answer::failed(),
    }
}

async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Actor>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // Nothing is asked of the body, but one that is sent is read, within the limit.
    if let Err(rejection) = body {
        return answer::error(rejection.status(), "the body could not be read, or is larger than 64 KiB");
    }
    match shared.change(move |state| state.reload(&who)).await {
        Ok(Ok(version)) => answer::ok(&json!({ "version": version })),
        Ok(Err(mistakes)) => {
            let message = "the configuration was not taken; the one before it is still served";
            let error = json!({ "error": { "code": "invalid", "message": message, "mistakes": mistakes } });
            answer::json(StatusCode::UNPROCESSABLE_ENTITY, &error)
        }
        Err(Failed) => answer::failed(),
    }
}

async fn require_metrics_token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if shared.metrics_token().is_some_and(|token| !token.admits(&headers)) {
        return answer::unauthorized("the metrics token is needed, as Authorization: Bearer");
    }
    next.run(request).await
}

async fn limit_time(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(shared.request_timeout(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => answer::unavailable("this takes too long; what was started goes on"),
    }
}
