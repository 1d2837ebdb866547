//! `/admin/api/{keys,users,channels,prices}`: what may be made, changed and removed while the gateway runs.
//!
//! Owns which request means which command, and the status of each answer. What a command does, and what an
//! object's fields are, it leaves to the state.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::StatusCode;
use serde_json::{Value, json};

use super::{answer, body};
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Command, Kind, Refused};

/// Bytes of a price table: all models that LiteLLM lists are a tenth of it.
const MAX_PRICES: usize = 8 << 20;

type Body = Result<Bytes, BytesRejection>;
type Handle = Result<Path<String>, PathRejection>;

/// Every path, below `/admin/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    let prices = get(show_prices).put(set_prices).delete(unset_prices);
    let prices = Router::new().route("/prices", prices).layer(DefaultBodyLimit::max(MAX_PRICES));
    let kinds = Kind::ALL.into_iter().fold(Router::new(), |router, kind| router.merge(routes(kind)));
    kinds
        .route("/keys/{handle}/rotate", post(rotate))
        .route("/users/price-rate", post(set_rates))
        .route("/channels/order", put(order))
        .merge(prices)
}

fn routes(kind: Kind) -> Router<Arc<Shared>> {
    let list = move |State(shared): State<Arc<Shared>>| async move { run(&shared, Command::List(kind), rows).await };
    let make = move |State(shared): State<Arc<Shared>>, body: Body| async move {
        match body::object(body) {
            Ok(fields) => run(&shared, Command::Make(kind, fields), created).await,
            Err(unfit) => unfit.answer(),
        }
    };
    let show = move |State(shared): State<Arc<Shared>>, handle: Handle| async move {
        match handle {
            Ok(Path(handle)) => run(&shared, Command::Show(kind, handle), one).await,
            Err(_) => answer::not_found().await,
        }
    };
    let change = move |State(shared): State<Arc<Shared>>, handle: Handle, body: Body| async move {
        match (handle, body::object(body)) {
            (Ok(Path(handle)), Ok(patch)) => run(&shared, Command::Change(kind, handle, patch), one).await,
            (Err(_), _) => answer::not_found().await,
            (_, Err(unfit)) => unfit.answer(),
        }
    };
    let remove = move |State(shared): State<Arc<Shared>>, handle: Handle| async move {
        match handle {
            Ok(Path(handle)) => run(&shared, Command::Remove(kind, handle), nothing).await,
            Err(_) => answer::not_found().await,
        }
    };
    Router::new()
        .route(&format!("/{}", kind.plural()), get(list).post(make))
        .route(&format!("/{}/{{handle}}", kind.plural()), get(show).patch(change).delete(remove))
}

async fn rotate(State(shared): State<Arc<Shared>>, handle: Handle, body: Body) -> Response {
    match (handle, body::object(body)) {
        (Ok(Path(id)), Ok(fields)) => run(&shared, Command::Rotate(id, fields), one).await,
        (Err(_), _) => answer::not_found().await,
        (_, Err(unfit)) => unfit.answer(),
    }
}

async fn set_rates(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    match body::object(body) {
        Ok(fields) => run(&shared, Command::Rates(fields), rows).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn order(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    match body::names(body) {
        Ok(names) => run(&shared, Command::Order(names), rows).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn show_prices(State(shared): State<Arc<Shared>>) -> Response {
    run(&shared, Command::Prices, one).await
}

async fn set_prices(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    match body::object(body) {
        Ok(fields) => run(&shared, Command::SetPrices(fields), one).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn unset_prices(State(shared): State<Arc<Shared>>) -> Response {
    run(&shared, Command::UnsetPrices, nothing).await
}

async fn run(shared: &Shared, command: Command, said: impl FnOnce(Value) -> Response) -> Response {
    let done = if command.is_change() {
        shared.change(move |state| state.catalog(command)).await
    } else {
        shared.query(move |state| state.catalog(command)).await
    };
    match done {
        Ok(Ok(value)) => said(value),
        Ok(Err(refused)) => self::refused(&refused),
        Err(Failed) => answer::failed(),
    }
}

fn rows(rows: Value) -> Response {
    answer::ok(&json!({ "rows": rows }))
}

fn one(object: Value) -> Response {
    answer::ok(&object)
}

fn nothing(_: Value) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn created(object: Value) -> Response {
    answer::json(StatusCode::CREATED, &object)
}

pub(super) fn refused(refused: &Refused) -> Response {
    match refused {
        Refused::Invalid(wrong) => answer::invalid(wrong.iter().map(|wrong| (&*wrong.field, &*wrong.message))),
        Refused::NotFound(kind) => answer::error(StatusCode::NOT_FOUND, &format!("there is no such {}", kind.name())),
        Refused::NoPrices => answer::error(StatusCode::NOT_FOUND, "no price table was made over the API"),
        Refused::Conflict { code, message } => answer::coded(StatusCode::CONFLICT, code, message),
        Refused::NotKept(message) => answer::coded(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message),
        Refused::NoRandomness => answer::failed(),
    }
}
