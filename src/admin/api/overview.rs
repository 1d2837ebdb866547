//! `GET /admin/api/overview`, `GET /admin/api/config`, `POST /admin/api/config/check`: how the gateway is, and what it is
//! told to be.
//!
//! Owns the paths. What is shown it leaves to the state.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::Value;

use super::answer;
use crate::admin::console::Console;
use crate::admin::server::{Failed, Shared};

/// Every path, below `/admin/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/overview", get(overview)).route("/config", get(config)).route("/config/check", post(check))
}

async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    // Not behind the queries, which may be long: whoever looks after the gateway looks here first.
    said(shared.scrape(Console::overview).await)
}

async fn config(State(shared): State<Arc<Shared>>) -> Response {
    said(shared.query(Console::config).await)
}

async fn check(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    // Nothing is asked of the body, but one that is sent is read, within the limit.
    if let Err(rejection) = body {
        return answer::error(rejection.status(), "the body could not be read, or is larger than 64 KiB");
    }
    said(shared.query(Console::check_config).await)
}

fn said(shown: Result<Value, Failed>) -> Response {
    match shown {
        Ok(shown) => answer::ok(&shown),
        Err(Failed) => answer::failed(),
    }
}
