//! `POST /admin/api/events/import`: lines of other gateways, and of Weir's own records.
//!
//! Owns how much is taken at once and the status of each answer. What a line is, and what becomes of it, it leaves to
//! the state.

use std::sync::Arc;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::json;

use super::document::schemas::{of, text};
use super::table::{Endpoint, Parameter};
use super::{answer, problem};
use crate::admin::server::{Failed, Shared};
use crate::changes::Actor;
use crate::import::{GZIP, MAX_LINE};

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let line = json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
    vec![
        Endpoint::admin(Method::POST, "/admin/api/events/import", "importEvents", import)
            .about("Counts requests that other gateways, or Weir itself, wrote down: a JSON object a line, up to 64 MiB, each counted once however often it is sent.")
            .takes(Parameter::query("first_line", "The number of the first line, for the report.", line))
            .reads_as("application/x-ndjson", text(), false)
            .gives(200, "What became of the lines.", of("ImportReport"))
            .refuses(&[problem::BAD_REQUEST])
            .asks()
            // The body is read here and not by an extractor.
            .limits_itself(),
    ]
}

type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

async fn import(
    State(shared): State<Arc<Shared>>,
    Extension(actor): Extension<Actor>,
    parameters: Parameters,
    request: Request,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let first_line = match first_line(&parameters) {
        Ok(first_line) => first_line,
        Err((parameter, message)) => return answer::bad_parameter(parameter, message),
    };
    // One at a time from the first byte of a body: it is the largest thing that is held here.
    let Ok(_turn) = shared.imports().acquire().await else { return answer::failed() };
    let Ok(lines) = to_bytes(request.into_body(), MAX_LINE).await else {
        let message = "the body could not be read, or is larger than 64 MiB; send a file in parts of whole lines";
        return answer::error(StatusCode::PAYLOAD_TOO_LARGE, message);
    };
    if lines.starts_with(GZIP) {
        return answer::error(
            StatusCode::BAD_REQUEST,
            "the body is packed by gzip; `weir events import` unpacks files",
        );
    }
    match shared.change(move |state| state.import(&lines, first_line, &actor)).await {
        Ok(Ok(report)) => answer::ok(&json!(report)),
        Ok(Err(error)) => {
            log::error!("an import broke off: {error}");
            answer::unavailable("the ledger takes no more; what was written is known when the lines are sent again")
        }
        Err(Failed) => answer::failed(),
    }
}

fn first_line(parameters: &[(String, String)]) -> Result<u64, (&str, &'static str)> {
    match parameters {
        [] => Ok(1),
        [(name, value)] if name == "first_line" => {
            let number = value.parse().ok().filter(|number| (1..=u64::from(u32::MAX)).contains(number));
            number.ok_or((name.as_str(), "must be the number of the first line, from 1"))
        }
        [(name, _), ..] if name != "first_line" => Err((name, "unknown parameter; there is first_line")),
        [(name, _), ..] => Err((name, "given more than once, or beside another")),
    }
}
