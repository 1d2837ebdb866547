//! `POST /admin/api/channels/{name}/drain`: a channel is taken out of service, or back.
//!
//! Owns the body: `{"drain":bool}`. What becomes of requests it leaves to the state.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Map, Value};

use super::{answer, body, catalog};
use crate::admin::server::{Failed, Shared};
use crate::catalog::Refused;

/// The path, below `/admin/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/channels/{name}/drain", post(drain))
}

async fn drain(
    State(shared): State<Arc<Shared>>,
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
    match shared.change(move |state| state.drain(&name, is_drained)).await {
        Ok(Ok(row)) => answer::ok(&row),
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
