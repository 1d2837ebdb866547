//! `GET /admin/api/requests` and `/admin/api/requests/{id}`: the recent records.
//!
//! Owns the meaning of the query string and the form of a page. Knows nothing of where records are kept; it passes each
//! on as it was written.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::json;
use weir_filters::moment::parse_ms;

use super::document::schemas::{cursor, limit, moment, of, or_null};
use super::parameters::{self, Mistake, Parameters};
use super::table::{Endpoint, Parameter};
use super::{answer, pages, problem};
use crate::admin::server::{Failed, Shared};
use crate::audit::{self, MAX_LIMIT};

/// Why a question about records was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestsError {
    /// None are kept: 409.
    #[error("no records are kept here; set audit.history.enabled: true")]
    Disabled,
    /// They cannot be read now: 503.
    #[error("{0}")]
    Unavailable(String),
}

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let exact = || json!({ "type": "string", "minLength": 1 });
    let status = json!({ "type": "string", "pattern": "^([1-9][0-9]{2}|[1-9]xx|none)$" });
    let id = json!({ "type": "string", "pattern": "^[0-9a-fA-F]{32}$" });
    vec![
        Endpoint::admin(Method::GET, "/admin/api/requests", "listRequests", list)
            .about("The recent records, newest first. What is asked for may lie far back: a page may be short, and yet have a next one.")
            .takes(Parameter::query("key", "Only those of the key with this name.", exact()))
            .takes(Parameter::query("user", "Only those of this user.", exact()))
            .takes(Parameter::query("model", "Only those that asked for this model.", exact()))
            .takes(Parameter::query("channel", "Only those that this channel served.", exact()))
            .takes(Parameter::query("status", "Only those with this status, this class, or none.", status))
            .takes(Parameter::query("from", "The first moment.", moment()))
            .takes(Parameter::query("to", "The moment after the last.", moment()))
            .takes(Parameter::query("limit", "How many at most; 50 if nothing is said.", limit(MAX_LIMIT)))
            .takes(Parameter::query("cursor", "The `next` of the page before.", cursor()))
            .gives(200, "A page.", pages::schema(of("Record"), or_null(cursor())))
            .refuses(&[problem::HISTORY_DISABLED])
            .asks(),
        Endpoint::admin(Method::GET, "/admin/api/requests/{id}", "getRequest", show)
            .about("The record of one request.")
            .takes(Parameter::path("id", "As `x-weir-request-id` has it.", id))
            .gives(200, "The record.", of("Record"))
            .refuses(&[problem::BAD_REQUEST, problem::NOT_FOUND, problem::HISTORY_DISABLED])
            .asks(),
    ]
}

async fn list(State(shared): State<Arc<Shared>>, parameters: Parameters) -> Response {
    let query = match parameters::parsed(parameters, parse) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let asked = shared.query(move |state| match state.requests(&query) {
        Ok(page) => pages::answer(&page.rows, page.next),
        Err(error) => refused(&error),
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

async fn show(State(shared): State<Arc<Shared>>, id: Result<Path<String>, PathRejection>) -> Response {
    let Some(id) = id.ok().and_then(|Path(text)| parse_id(&text)) else {
        return answer::bad_parameter("id", "must be 32 hexadecimal digits, as x-weir-request-id has them");
    };
    match shared.query(move |state| state.request(id)).await {
        Ok(Ok(Some(record))) => answer::with(StatusCode::OK, "application/json", record),
        Ok(Ok(None)) => answer::error(StatusCode::NOT_FOUND, "there is no record of this request, or none any more"),
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

/// Reads the parameters of a query string.
pub(super) fn parse(parameters: &[(String, String)]) -> Result<audit::Query, Mistake> {
    const NAMES: [&str; 9] = ["key", "user", "model", "channel", "status", "from", "to", "limit", "cursor"];
    let [key, user, model, channel, status, from, to, limit, cursor] = parameters::values(parameters, NAMES)?;
    let [key, user, model, channel] = [key, user, model, channel].map(|name| name.map(str::to_owned));
    let status = parameters::value("status", status, "must be a status such as 429, a class such as 4xx, or none")?;
    let time = |parameter: &str, value: Option<&str>| {
        let message = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        value.map(|value| parse_ms(value).ok_or(Mistake::new(parameter, message))).transpose()
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Mistake::new("to", "is before from"));
    }
    let limit = parameters::limit(limit, MAX_LIMIT)?.unwrap_or(audit::DEFAULT_LIMIT);
    Ok(audit::Query {
        key,
        key_id: None,
        user,
        model,
        channel,
        status,
        from,
        to,
        limit,
        cursor: parameters::cursor(cursor)?,
    })
}

fn parse_id(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

pub(super) fn refused(error: &RequestsError) -> Response {
    let message = error.to_string();
    match error {
        RequestsError::Disabled => answer::coded(StatusCode::CONFLICT, "history_disabled", &message),
        RequestsError::Unavailable(_) => answer::unavailable(&message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::StatusFilter;

    fn parse(parameters: &[(&str, &str)]) -> Result<audit::Query, (String, String)> {
        let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        super::parse(&owned).map_err(Mistake::into_parts)
    }

    #[test]
    fn every_parameter_is_understood() {
        assert_eq!(parse(&[]), Ok(audit::Query::default()));
        let cursor = "01000000000000000100000002018c";
        let query = parse(&[
            ("cursor", cursor),
            ("limit", "1000"),
            ("to", "2025-12-03T00:00:00Z"),
            ("from", "1764633600"),
            ("status", "4xx"),
            ("channel", "openai"),
            ("model", "gpt-4o"),
            ("user", "alice"),
            ("key", "alice laptop"),
        ]);
        let name = |name: &str| Some(name.to_owned());
        let expected = audit::Query {
            key: name("alice laptop"),
            key_id: None,
            user: name("alice"),
            model: name("gpt-4o"),
            channel: name("openai"),
            status: Some(StatusFilter::Class(4)),
            from: Some(1_764_633_600_000),
            to: Some(1_764_720_000_000),
            limit: 1000,
            cursor: cursor.parse().ok(),
        };
        assert!(expected.cursor.is_some());
        assert_eq!(query, Ok(expected));
    }

    #[test]
    fn the_wrong_parameter_is_named() {
        let limit = "must be a number from 1 to 1000";
        let cursor = "must be the `next` of an answer, as it was";
        let status = "must be a status such as 429, a class such as 4xx, or none";
        let time = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        let unknown = "unknown parameter; there are key, user, model, channel, status, from, to, limit and cursor";
        for (parameters, parameter, message) in [
            (&[("key", "a"), ("key", "a")][..], "key", "given more than once"),
            (&[("user", "")], "user", "is empty; leave it out to ask for all"),
            (&[("keys", "a")], "keys", unknown),
            (&[("Key", "a")], "Key", unknown),
            (&[("status", "ok")], "status", status),
            (&[("status", "4XX")], "status", status),
            (&[("from", "noon")], "from", time),
            (&[("from", "2"), ("to", "1")], "to", "is before from"),
            (&[("limit", "0")], "limit", limit),
            (&[("limit", "1001")], "limit", limit),
            (&[("limit", "-1")], "limit", limit),
            (&[("limit", "99999999999999999999")], "limit", limit),
            (&[("cursor", "1")], "cursor", cursor),
            (&[("cursor", "02000000000000000100000002018c")], "cursor", cursor),
        ] {
            assert_eq!(parse(parameters), Err((parameter.into(), message.into())), "{parameters:?}");
        }
    }

    #[test]
    fn an_id_is_32_digits() {
        assert_eq!(parse_id("000000000000000000000000000000Ff"), Some(255));
        for text in ["", "ff", "+0000000000000000000000000000001", "0000000000000000000000000000000g", &"0".repeat(33)]
        {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
