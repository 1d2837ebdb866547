//! `POST /admin/api/channels/{name}/drain`: a channel is taken out of service, or back.
//!
//! Owns the body: `{"drain":bool}`. What becomes of requests it leaves to the state.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::document::schemas::{exactly, of};
use super::table::{Endpoint, Parameter};
use super::{answer, body, catalog, problem};
use crate::admin::server::{Failed, Shared};
use crate::catalog::Refused;
use crate::changes::Actor;

/// The row of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let name = json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" });
    vec![
        Endpoint::admin(Method::POST, "/admin/api/channels/{name}/drain", "drainChannel", drain)
            .about("Sends nothing new to a channel, or again; what is open ends. It survives restarts.")
            .takes(Parameter::path("name", "The channel's name.", name))
            .reads(exactly(json!({ "drain": { "type": "boolean" } })))
            .gives_tagged(200, "The channel.", of("Channel"))
            .refuses(&[problem::INVALID, problem::NOT_FOUND, problem::NOT_KEPT, problem::UPGRADING])
            .asks(),
    ]
}

async fn drain(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Actor>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(Path(name)) = name else { return answer::not_found().await };
    let is_drained = match body::object(body) {
        Ok(fields) => read(&fields),
        Err(unfit) => return unfit.answer(),
    };
    let is_drained = match is_drained {
        Ok(is_drained) => is_drained,
        Err(refused) => return catalog::refused(&refused),
    };
    match shared.change(move |state| state.drain(&name, is_drained, &who)).await {
        Ok(Ok(row)) => answer::tagged(StatusCode::OK, &row),
        Ok(Err(refused)) => catalog::refused(&refused),
        Err(Failed) => answer::failed(),
    }
}

/// Reads `{"drain":bool}`.
fn read(fields: &Map<String, Value>) -> Result<bool, Refused> {
    if let Some(unknown) = fields.keys().find(|field| *field != "drain") {
        return Err(Refused::invalid(unknown, "unknown field; there is `drain`"));
    }
    let drain = fields.get("drain").and_then(Value::as_bool);
    drain.ok_or_else(|| Refused::invalid("drain", "`drain` must be true or false"))
}
