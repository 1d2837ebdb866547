//! `GET /admin/api/monitor`, `GET /admin/api/channels/{name}/runs` and `POST /admin/api/monitor/{name}/run`: how channels
//! answer when they are probed.
//!
//! Owns the meaning of the query strings and the form of the pages. Knows nothing of how probes are made and kept.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::document::schemas::{count, cursor, exactly, limit, of, or_null};
use super::parameters::{self, Mistake, Parameters};
use super::table::{Endpoint, Parameter};
use super::{answer, catalog, pages, problem};
use crate::admin::console::{MonitorAsked, MonitorPage};
use crate::admin::server::{Failed, Shared};

/// Channels or runs of a page: a channel has sixty results of each of its models.
const MAX_LIMIT: usize = 200;
const DEFAULT_LIMIT: usize = 50;
/// Bytes of what is looked for: a name has at most 128.
const MAX_WORD: usize = 256;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let name = || {
        let schema = json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" });
        Parameter::path("name", "The channel's name.", schema)
    };
    let limit = || Parameter::query("limit", "How many at most; 50 if nothing is said.", limit(MAX_LIMIT));
    let cursor_of_page = || Parameter::query("cursor", "The `next` of the page before.", cursor());
    let word = json!({ "type": "string", "minLength": 1, "maxLength": MAX_WORD });
    let page = json!({ "rows": { "type": "array", "items": of("MonitoredChannel") }, "next": or_null(cursor()), "total": count() });
    vec![
        Endpoint::admin(Method::GET, "/admin/api/monitor", "listMonitored", list)
            .about("The channels, and how their models answered when they were probed last.")
            .takes(limit())
            .takes(cursor_of_page())
            .takes(Parameter::query("q", "Only channels with this in their names.", word))
            .gives(200, "A page.", exactly(page))
            .asks(),
        Endpoint::admin(Method::GET, "/admin/api/channels/{name}/runs", "listRuns", runs)
            .about("The runs of a channel, newest first: what came of each model.")
            .takes(name())
            .takes(limit())
            .takes(cursor_of_page())
            .gives(200, "A page.", pages::schema(of("MonitorRun"), or_null(cursor())))
            .refuses(&[problem::NOT_FOUND])
            .asks(),
        Endpoint::admin(Method::POST, "/admin/api/monitor/{name}/run", "runMonitor", run)
            .about("Has all models of a channel asked now, as at their times; it goes on by itself.")
            .takes(name())
            .gives(202, "It begins.", exactly(json!({ "id": { "type": "string", "pattern": "^[0-9a-f]{16}$" } })))
            .refuses(&[problem::NOT_FOUND, problem::BUSY, problem::NOT_PROBED]),
    ]
}

async fn list(State(shared): State<Arc<Shared>>, parameters: Parameters) -> Response {
    let asked = match parameters::parsed(parameters, parse) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let asked = shared.query(move |state| answer::ok(&page(state.monitored(&asked))));
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

async fn runs(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Response {
    let Ok(Path(name)) = name else { return answer::not_found().await };
    let read = |parameters: &[(String, String)]| {
        let [limit, cursor] = parameters::values(parameters, ["limit", "cursor"])?;
        asked(limit, cursor, None)
    };
    let asked = match parameters::parsed(parameters, read) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let asked = shared.query(move |state| match state.runs(&name, &asked) {
        Ok(found) => {
            let mut page = page(found);
            // Old runs give way to new ones: how many there are is nothing to count on.
            if let Some(fields) = page.as_object_mut() {
                fields.remove("total");
            }
            answer::ok(&page)
        }
        Err(refused) => catalog::refused(&refused),
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

async fn run(State(shared): State<Arc<Shared>>, name: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = name else { return answer::not_found().await };
    // A lock that it takes may be held for as long as the disk takes.
    match shared.query(move |state| state.monitor_now(&name)).await {
        Ok(Ok(id)) => answer::json(StatusCode::ACCEPTED, &json!({ "id": id })),
        Ok(Err(refused)) => catalog::refused(&refused),
        Err(Failed) => answer::failed(),
    }
}

fn page(MonitorPage { rows, next, total }: MonitorPage) -> Value {
    json!({ "rows": rows, "next": next.map(|next| next.to_string()), "total": total })
}

fn parse(parameters: &[(String, String)]) -> Result<MonitorAsked, Mistake> {
    let [limit, cursor, q] = parameters::values(parameters, ["limit", "cursor", "q"])?;
    asked(limit, cursor, q)
}

fn asked(limit: Option<&str>, cursor: Option<&str>, q: Option<&str>) -> Result<MonitorAsked, Mistake> {
    Ok(MonitorAsked {
        limit: parameters::limit(limit, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        skip: parameters::cursor(cursor)?.unwrap_or_default(),
        q: parameters::word("q", q, MAX_WORD)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood() {
        let parse = |parameters: &[(&str, &str)]| {
            let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
            super::parse(&owned)
        };
        assert_eq!(parse(&[]), Ok(MonitorAsked { limit: 50, skip: 0, q: None }));
        let all = [("q", "open"), ("limit", "200"), ("cursor", "50")];
        assert_eq!(parse(&all), Ok(MonitorAsked { limit: 200, skip: 50, q: Some("open".into()) }));
        for (name, value) in [("limit", "201"), ("cursor", "-1"), ("x", "a"), ("q", &"k".repeat(257))] {
            assert_eq!(parse(&[(name, value)]).unwrap_err().into_parts().0, name);
        }
    }
}
