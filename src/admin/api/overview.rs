//! `GET /admin/api/overview`, `GET /admin/api/config`, `POST /admin/api/config/check`: how the gateway is, and what it is
//! told to be.
//!
//! Owns the paths. What is shown it leaves to the state.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use http::Method;

use super::document::schemas::of;
use super::table::Endpoint;
use super::{answer, problem};
use crate::admin::server::{Failed, Shared};

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::admin(Method::GET, "/admin/api/overview", "overview", overview)
            .about("How the gateway is: what needs somebody, what happens now, today and in the last 24 hours.")
            .gives(200, "It is so.", of("Overview"))
            .asks(),
        Endpoint::admin(Method::GET, "/admin/api/config", "config", config)
            .about("The configuration in force, and what its file says now, without secrets.")
            .gives(200, "Both.", of("Configuration"))
            .asks(),
        Endpoint::admin(Method::POST, "/admin/api/config/check", "checkConfig", check)
            .about("Looks for mistakes in the configuration file, and does not take it.")
            .gives(200, "What was found.", of("ConfigurationCheck"))
            .refuses(&[problem::TOO_LARGE])
            .asks(),
    ]
}

async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    // Not behind the queries, which may be long: whoever looks after the gateway looks here first.
    said(shared.scrape(|state| answer::ok(&state.overview())).await)
}

async fn config(State(shared): State<Arc<Shared>>) -> Response {
    said(shared.query(|state| answer::ok(&state.config())).await)
}

async fn check(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    // Nothing is asked of the body, but one that is sent is read, within the limit.
    if let Err(rejection) = body {
        return answer::error(rejection.status(), "the body could not be read, or is larger than 64 KiB");
    }
    said(shared.query(|state| answer::ok(&state.check_config())).await)
}

fn said(shown: Result<Response, Failed>) -> Response {
    shown.unwrap_or_else(|Failed| answer::failed())
}
