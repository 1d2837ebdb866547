//! `/api`: what users, and whoever has a client key, see of themselves.
//!
//! Owns whose figures are shown: those of the user who has signed in, or of the key alone that is presented, in any
//! form that the data plane takes. Whoever asks cannot ask for another's, because nobody is asked whose they want. The
//! rate at which somebody is charged, channels and upstreams are in no answer here.

mod keys;
mod records;
mod usage;

pub(in crate::admin::api) use records::OWN_RECORD_FIELDS;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use weir_filters::credential::{CredentialError, present};
use weir_filters::refusal::Refusal;

use super::answer;
use super::table::Endpoint;
use crate::admin::AdminState;
use crate::admin::caller;
use crate::admin::server::Shared;
use crate::catalog::{Command, Own, Owner, Refused};
use crate::changes::Actor;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [usage::endpoints, records::endpoints, keys::endpoints].into_iter().flat_map(|rows| rows()).collect()
}

/// Who asks, and the parameters of the question.
struct Asker {
    owner: Owner,
    parameters: Vec<(String, String)>,
}

impl FromRequestParts<Arc<Shared>> for Asker {
    type Rejection = Response;

    /// A key in a header counts first, then a session, then a key in the query: beside one of the others `key` is a
    /// parameter like any other.
    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        let Ok(Query(mut parameters)) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) else {
            return Err(answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read"));
        };
        let foreign = match client(shared, &parts.headers, None) {
            Ok(Some(owner)) => return Ok(Self { owner, parameters }),
            Ok(None) => None,
            Err(Denied::Malformed) => Some(unknown()),
            Err(Denied::Answered(response)) => return Err(response),
        };
        if let Some(session) = caller::session(shared, parts)? {
            let Some(user) = session.user else {
                let message = "the admin token has no usage and no keys of its own; sign in as a user";
                return Err(answer::error(StatusCode::FORBIDDEN, message));
            };
            return Ok(Self { owner: Owner::User(user.to_string()), parameters });
        }
        match client(shared, &HeaderMap::new(), parts.uri.query()) {
            Ok(Some(owner)) => {
                parameters.retain(|(name, _)| name != "key");
                Ok(Self { owner, parameters })
            }
            Ok(None) => Err(foreign.unwrap_or_else(|| answer::unauthorized("a client key is needed, or a session"))),
            Err(Denied::Malformed) => Err(unknown()),
            Err(Denied::Answered(response)) => Err(response),
        }
    }
}

/// Why there is no owner.
enum Denied {
    /// What is presented cannot be a key. It may be meant for a proxy on the way.
    Malformed,
    /// This is the answer.
    Answered(Response),
}

fn unknown() -> Response {
    answer::unauthorized("this is no client key")
}

/// Whose key is presented, as on the data plane; `None`: none is.
#[expect(clippy::result_large_err, reason = "it is the answer, and passed on at once")]
fn client(shared: &Shared, headers: &HeaderMap, query: Option<&str>) -> Result<Option<Owner>, Denied> {
    let denied = |status, message| Err(Denied::Answered(answer::error(status, message)));
    let credential = match present(headers, query) {
        Ok(credential) => credential,
        Err(CredentialError::Missing) => return Ok(None),
        Err(CredentialError::Malformed) => return Err(Denied::Malformed),
        Err(CredentialError::Disagree) => {
            return denied(StatusCode::BAD_REQUEST, "two client keys are presented that differ");
        }
    };
    match shared.state().client(&credential) {
        Ok(owner) => Ok(Some(owner)),
        Err(Refusal::KeyDisabled) => denied(StatusCode::FORBIDDEN, "this key is disabled"),
        Err(Refusal::KeyExpired) => denied(StatusCode::FORBIDDEN, "this key has expired"),
        Err(_) => Err(Denied::Answered(unknown())),
    }
}

/// Has `own` done for its owner. What a key asks for changes nothing.
fn ask(state: &dyn AdminState, owner: &Owner, own: Own) -> Result<serde_json::Value, Refused> {
    let (Owner::User(name) | Owner::Key { name, .. }) = owner;
    state.catalog(Command::Own(owner.clone(), own), &Actor::User(name.clone()), None)
}
