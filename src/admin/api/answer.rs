//! The shape of what the API says: JSON, and an error that names what is wrong.
//!
//! Owns status, body and the headers of an answer. Knows nothing of what is asked.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// A body of text or JSON.
pub(crate) fn with(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON with this status.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    with(status, "application/json", body.to_string())
}

/// The same, whose `etag` is in the header too.
pub(crate) fn tagged(status: StatusCode, body: &Value) -> Response {
    let mut response = json(status, body);
    if let Some(etag) = body["etag"].as_str().and_then(|etag| HeaderValue::from_str(etag).ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// 200 with JSON.
pub(crate) fn ok(body: &Value) -> Response {
    json(StatusCode::OK, body)
}

/// `{"error":{"code":…,"message":…}}` with the code that goes with the status.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    coded(status, code_of(status), message)
}

/// The same with a code of its own: a word for programs, which stays the same.
pub(crate) fn coded(status: StatusCode, code: &str, message: &str) -> Response {
    json(status, &json!({ "error": { "code": code, "message": message } }))
}

fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        status if status.is_client_error() => "bad_request",
        _ => "failed",
    }
}

/// 400: an object's fields, each with what is wrong. The first is the error; several are listed too.
pub(crate) fn invalid<'w>(wrong: impl Iterator<Item = (&'w str, &'w str)> + Clone) -> Response {
    let (field, message) = wrong.clone().next().unwrap_or(("", "the object cannot be read"));
    let mut error = json!({ "code": "invalid", "message": message });
    if !field.is_empty() {
        error["field"] = field.into();
    }
    if wrong.clone().count() > 1 {
        error["mistakes"] = wrong.map(|(field, message)| json!({ "field": field, "message": message })).collect();
    }
    json(StatusCode::BAD_REQUEST, &json!({ "error": error }))
}

/// 400, naming the parameter.
pub(crate) fn bad_parameter(parameter: &str, message: &str) -> Response {
    let message = format!("{parameter}: {message}");
    json(
        StatusCode::BAD_REQUEST,
        &json!({ "error": { "code": "bad_request", "message": message, "parameter": parameter } }),
    )
}

/// 503: ask again later.
pub(crate) fn unavailable(message: &str) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// 500: the log knows more.
pub(crate) fn failed() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed to answer; see its log")
}

/// 429: there is another try in so many seconds.
pub(crate) fn throttled(retry_s: u64, message: &str) -> Response {
    let mut response = coded(StatusCode::TOO_MANY_REQUESTS, "throttled", message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_s));
    response
}

/// 401 that says how to do it right.
pub(crate) fn unauthorized(message: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="weir""#));
    response
}

/// 404.
pub(crate) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// 405; the router adds `Allow`.
pub(crate) async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// Headers that every answer has: nothing here is to be cached, sniffed, framed or run.
pub(crate) async fn guard_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}
