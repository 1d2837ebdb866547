//! `If-Match` of a request that would change something.

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::header::IF_MATCH;
use http::request::Parts;
use serde_json::json;
use weir_filters::etag::IfMatch;

use super::answer;
use super::table::Parameter;

/// What somebody has seen of what they want to change, if they say so.
pub(super) struct Expected(pub(super) Option<IfMatch>);

impl<S: Sync> FromRequestParts<S> for Expected {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let values = parts.headers.get_all(IF_MATCH).iter().map(http::HeaderValue::as_bytes);
        let read = IfMatch::read(values);
        read.map(Self)
            .map_err(|_| answer::bad_parameter("if-match", "must be the etag of an answer, with its quotes, or *"))
    }
}

/// The header.
pub(super) fn parameter() -> Parameter {
    let about = "The `etag` of what was seen: the change is made only if it is still the same. `*` for anything.";
    Parameter::header("If-Match", about, json!({ "type": "string", "examples": ["*"] }))
}
