//! `/api/keys`: one's own keys.
//!
//! Owns which request means which command. What a user may do with a key is decided by the catalogue.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::catalog::refused;
use super::super::document::schemas::{of, or_null, rows};
use super::super::problem::{self, CHANGE};
use super::super::table::{Endpoint, Parameter};
use super::super::{answer, body, parameters};
use super::{Asker, ask};
use crate::admin::AdminState;
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Own, Owner};

type Body = Result<Bytes, BytesRejection>;
type Handle = Result<Path<String>, PathRejection>;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let id =
        || Parameter::path("id", "The key's id.", json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" }));
    let overlap = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "overlap": or_null(json!({ "type": "string", "examples": ["24h"] })) },
    });
    let refusals = [problem::INVALID, problem::CSRF, problem::DECLARED, problem::NOT_GRANTED];
    vec![
        Endpoint::own(Method::GET, "/api/keys", "listOwnKeys", list)
            .about("One's own keys; by a key itself that one alone.")
            .gives(200, "All of them.", rows(of("OwnKey")))
            .asks(),
        Endpoint::own(Method::POST, "/api/keys", "createOwnKey", make)
            .about("Makes a key of one's own, like one that one has: an administrator makes the first.")
            .reads(of("OwnKeyNew"))
            .gives(201, "It is in force and on the disk; its secret is shown this once.", of("OwnKeyMade"))
            .refuses(&refusals)
            .refuses(&[problem::NAME_TAKEN, problem::TOO_MANY_KEYS])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::own(Method::PATCH, "/api/keys/{id}", "updateOwnKey", change)
            .about("Changes the name, the end or the use of a key of one's own.")
            .takes(id())
            .reads(of("OwnKeyChange"))
            .gives(200, "It, as it is now.", of("OwnKey"))
            .refuses(&refusals)
            .refuses(&[problem::NOT_FOUND, problem::NAME_TAKEN])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::own(Method::DELETE, "/api/keys/{id}", "deleteOwnKey", remove)
            .about("Removes a key of one's own, but for the last.")
            .takes(id())
            .gives_as(204, "It is gone.", None)
            .refuses(&[problem::CSRF, problem::NOT_FOUND, problem::DECLARED, problem::NOT_GRANTED])
            .refuses(&[problem::NOT_KEPT, problem::UPGRADING])
            .asks(),
        Endpoint::own(Method::POST, "/api/keys/{id}/rotate", "rotateOwnKey", rotate)
            .about("Gives a key of one's own another secret, which is shown this once.")
            .takes(id())
            .may_read(overlap)
            .gives(200, "The key, with its new secret.", of("OwnKeyMade"))
            .refuses(&refusals)
            .refuses(&[problem::NOT_FOUND])
            .refuses(&CHANGE)
            .asks(),
    ]
}

async fn list(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err(mistake) = parameters::values(&asker.parameters, []) {
        return mistake.answer();
    }
    run(&shared, asker.owner, Own::Keys, |rows| answer::ok(&json!({ "rows": rows }))).await
}

async fn make(State(shared): State<Arc<Shared>>, asker: Asker, body: Body) -> Response {
    match fields(&asker, body) {
        Ok(fields) => {
            run(&shared, asker.owner, Own::MakeKey(fields), |made| answer::json(StatusCode::CREATED, &made)).await
        }
        Err(response) => response,
    }
}

async fn change(State(shared): State<Arc<Shared>>, asker: Asker, id: Handle, body: Body) -> Response {
    match (id, fields(&asker, body)) {
        (_, Err(response)) => response,
        (Ok(Path(id)), Ok(patch)) => run(&shared, asker.owner, Own::ChangeKey(id, patch), |key| answer::ok(&key)).await,
        (Err(_), _) => answer::not_found().await,
    }
}

async fn rotate(State(shared): State<Arc<Shared>>, asker: Asker, id: Handle, body: Body) -> Response {
    match (id, fields(&asker, body)) {
        (_, Err(response)) => response,
        (Ok(Path(id)), Ok(fields)) => {
            run(&shared, asker.owner, Own::RotateKey(id, fields), |key| answer::ok(&key)).await
        }
        (Err(_), _) => answer::not_found().await,
    }
}

async fn remove(State(shared): State<Arc<Shared>>, asker: Asker, id: Handle) -> Response {
    if let Owner::Key { .. } = asker.owner {
        return by_session();
    }
    match id {
        Ok(Path(id)) => run(&shared, asker.owner, Own::RemoveKey(id), |_| StatusCode::NO_CONTENT.into_response()).await,
        Err(_) => answer::not_found().await,
    }
}

/// The fields of a change, which only who has signed in may make.
#[expect(clippy::result_large_err, reason = "it is the answer, and passed on at once")]
fn fields(asker: &Asker, body: Body) -> Result<Map<String, Value>, Response> {
    match asker.owner {
        Owner::Key { .. } => Err(by_session()),
        Owner::User(_) => body::object(body).map_err(|unfit| unfit.answer()),
    }
}

fn by_session() -> Response {
    answer::error(StatusCode::FORBIDDEN, "a key cannot change keys; sign in")
}

async fn run(
    shared: &Shared,
    owner: Owner,
    own: Own,
    said: impl FnOnce(Value) -> Response + Send + 'static,
) -> Response {
    let is_change = own.is_change();
    let run = move |state: &dyn AdminState| match ask(state, &owner, own) {
        Ok(value) => said(value),
        Err(why) => refused(&why),
    };
    let answered = if is_change { shared.change(run).await } else { shared.query_own(run).await };
    answered.unwrap_or_else(|Failed| answer::failed())
}
