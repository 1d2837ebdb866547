//! The paths of the admin listener.
//!
//! Owns which path does what and which door it is behind. Knows nothing of sockets (`server`), nor of how the
//! state comes by its answers.

pub(crate) mod answer;
mod body;
mod catalog;
mod drain;
mod events;
mod follow;
mod overview;
pub mod requests;
mod trial;
pub mod usage;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::AdminState;
use super::server::{Failed, Shared};
use crate::metrics;

/// Bytes of a request's body. What people write here is a key or a channel, not a document.
const MAX_BODY: usize = 64 * 1024;

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// TCP: a token opens it.
    Network,
    /// The socket in the data directory: who may open the file may come in.
    Socket,
}

/// All paths, as seen through a door.
pub(crate) fn router(door: Door, shared: Arc<Shared>) -> Router {
    let mut api = Router::new()
        .route("/usage", get(usage::get))
        .route("/reload", post(reload))
        .merge(catalog::router())
        .merge(requests::router())
        .merge(follow::router())
        .merge(events::router())
        .merge(drain::router())
        .merge(overview::router())
        .merge(trial::router())
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method);
    let mut metrics = Router::new().route("/metrics", get(encode)).method_not_allowed_fallback(answer::wrong_method);
    if door == Door::Network {
        api = api.layer(middleware::from_fn_with_state(Arc::clone(&shared), require_token));
        metrics = metrics.layer(middleware::from_fn_with_state(Arc::clone(&shared), require_metrics_token));
    }
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(answer::wrong_method)
        .merge(metrics)
        .nest("/admin/api", api)
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

async fn reload(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    // Nothing is asked of the body, but one that is sent is read, within the limit.
    if let Err(rejection) = body {
        return answer::error(rejection.status(), "the body could not be read, or is larger than 64 KiB");
    }
    match shared.change(AdminState::reload).await {
        Ok(Ok(version)) => answer::ok(&json!({ "version": version })),
        Ok(Err(mistakes)) => {
            let message = "the configuration was not taken; the one before it is still served";
            let error = json!({ "error": { "code": "invalid", "message": message, "mistakes": mistakes } });
            answer::json(StatusCode::UNPROCESSABLE_ENTITY, &error)
        }
        Err(Failed) => answer::failed(),
    }
}

async fn require_token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if !shared.token().admits(&headers) {
        return answer::unauthorized("the admin token is needed, as Authorization: Bearer");
    }
    next.run(request).await
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
