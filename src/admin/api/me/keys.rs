//! `/api/keys`: one's own keys.
//!
//! Owns which request means which command. What a user may do with a key is decided by the catalogue.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::catalog::refused;
use super::super::{answer, body};
use super::{Asker, named};
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Command, Own, Owner};

type Body = Result<Bytes, BytesRejection>;
type Handle = Result<Path<String>, PathRejection>;

/// Every path, below `/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/keys", get(list).post(make))
        .route("/keys/{id}", patch(change).delete(remove))
        .route("/keys/{id}/rotate", post(rotate))
}

async fn list(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err((parameter, message)) = named(&asker.parameters, []) {
        return answer::bad_parameter(&parameter, &message);
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

async fn run(shared: &Shared, owner: Owner, own: Own, said: impl FnOnce(Value) -> Response) -> Response {
    let command = Command::Own(owner, own);
    let done = if command.is_change() {
        shared.change(move |state| state.catalog(command)).await
    } else {
        shared.query(move |state| state.catalog(command)).await
    };
    match done {
        Ok(Ok(value)) => said(value),
        Ok(Err(why)) => refused(&why),
        Err(Failed) => answer::failed(),
    }
}
