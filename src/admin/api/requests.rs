//! `GET /admin/api/requests` and `/admin/api/requests/{id}`: the recent records.
//!
//! Owns the meaning of the query string and the form of a page. Knows nothing of where records are kept; it passes each
//! on as it was written.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use weir_filters::moment::parse_ms;

use super::answer;
use crate::admin::server::{Failed, Shared};
use crate::audit::{self, MAX_LIMIT, Page};

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

/// A parameter, and what is wrong with it.
pub(super) type Mistake = (String, String);

/// Both paths, below `/admin/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/requests", get(list)).route("/requests/{id}", get(show))
}

async fn list(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let query = match parse(&parameters) {
        Ok(query) => query,
        Err((parameter, message)) => return answer::bad_parameter(&parameter, &message),
    };
    match shared.query(move |state| state.requests(&query)).await {
        Ok(Ok(page)) => json(write(&page)),
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

async fn show(State(shared): State<Arc<Shared>>, id: Result<Path<String>, PathRejection>) -> Response {
    let Some(id) = id.ok().and_then(|Path(text)| parse_id(&text)) else {
        return answer::bad_parameter("id", "must be 32 hexadecimal digits, as x-weir-request-id has them");
    };
    match shared.query(move |state| state.request(id)).await {
        Ok(Ok(Some(record))) => json(record),
        Ok(Ok(None)) => answer::error(StatusCode::NOT_FOUND, "there is no record of this request, or none any more"),
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

/// Reads the parameters of a query string, decoded. Unknown and repeated ones are mistakes, and so are empty ones: a
/// form's field that was left empty would otherwise be answered with nothing.
pub(super) fn parse(parameters: &[(String, String)]) -> Result<audit::Query, Mistake> {
    const NAMES: [&str; 9] = ["key", "user", "model", "channel", "status", "from", "to", "limit", "cursor"];
    let mistake = |name: &str, message: &str| Err((name.to_owned(), message.to_owned()));
    let mut values: [Option<&str>; NAMES.len()] = [None; NAMES.len()];
    for (name, value) in parameters {
        let Some(at) = NAMES.iter().position(|known| known == name) else {
            let message = "unknown parameter; there are key, user, model, channel, status, from, to, limit and cursor";
            return mistake(name, message);
        };
        if values[at].replace(value).is_some() {
            return mistake(name, "given more than once");
        }
        if value.is_empty() {
            return mistake(name, "is empty; leave it out to ask for all");
        }
    }
    let [key, user, model, channel, status, from, to, limit, cursor] = values;
    let [key, user, model, channel] = [key, user, model, channel].map(|name| name.map(str::to_owned));
    let status = read("status", status, "must be a status such as 429, a class such as 4xx, or none")?;
    let time = |parameter: &str, value: Option<&str>| {
        let message = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        value.map(|value| parse_ms(value).ok_or((parameter.to_owned(), message.to_owned()))).transpose()
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return mistake("to", "is before from");
    }
    let limit = read("limit", limit, "must be a number from 1 to 1000")?.unwrap_or(audit::DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return mistake("limit", "must be a number from 1 to 1000");
    }
    let cursor = read("cursor", cursor, "must be the `next` of an answer, as it was")?;
    Ok(audit::Query { key, key_id: None, user, model, channel, status, from, to, limit, cursor })
}

fn read<T: std::str::FromStr>(parameter: &str, value: Option<&str>, message: &str) -> Result<Option<T>, Mistake> {
    value.map(|value| value.parse().map_err(|_| (parameter.to_owned(), message.to_owned()))).transpose()
}

fn parse_id(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// `{"rows":[…],"next":…}`. Each row is JSON already.
pub(super) fn write(page: &Page) -> String {
    let next = page.next.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
    let size: usize = page.rows.iter().map(|row| row.len() + 1).sum();
    let mut body = String::with_capacity(size + next.len() + 32);
    body.push_str("{\"rows\":[");
    for (at, row) in page.rows.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(row);
    }
    body.push_str("],\"next\":");
    body.push_str(&next);
    body.push('}');
    body
}

pub(super) fn json(body: String) -> Response {
    answer::with(StatusCode::OK, "application/json", body)
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

    fn parse(parameters: &[(&str, &str)]) -> Result<audit::Query, Mistake> {
        let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        super::parse(&owned)
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
    fn rows_are_passed_on_as_they_are() {
        let rows = [r#"{ "a" : 1.0 }"#, "{}"].map(str::to_owned).to_vec();
        let mut page = Page { rows, next: "01000000000000000100000002018c".parse().ok() };
        assert_eq!(write(&page), r#"{"rows":[{ "a" : 1.0 },{}],"next":"01000000000000000100000002018c"}"#);
        page = Page::default();
        assert_eq!(write(&page), r#"{"rows":[],"next":null}"#);
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
